//! Who looks, after the storm, whether all replicas of a slot have the same versions, whether these are the ones that were
//! answered, and whether lists show what reads show.

use cairn_daemon::cluster::{Ask, Calls, Freshness, Told};
use cairn_daemon::rpc::Pool;
use cairn_io::time::sleep;
use cairn_meta::slot::list::{Item, Query as ListQuery, VersionEntry};
use cairn_meta::slot::query::{Query, Reply};
use cairn_placement::NodeId as Id;

use super::client::{self, insist};
use super::history::Said;
use super::node::key_name;
use super::{Books, CLIENTS, COPIES, KEYS, Rc, SLOTS, millis};

/// Looks again until all is as it should be, or it has looked for long.
pub const LOOKS: u32 = 400;

pub async fn run(books: Rc<Books>) {
    while books.done.get() < CLIENTS {
        sleep(millis(50)).await;
    }
    let pool = client::pool(&books, 99);
    let mut seen = Ok(());
    for _ in 0..LOOKS {
        seen = look(&books, &pool).await;
        let Err(why) = &seen else { break };
        why.clone_into(&mut books.seen.borrow_mut());
        sleep(millis(100)).await;
    }
    books.verdict.replace(Some(seen));
}

async fn look(books: &Books, pool: &Pool) -> Result<(), String> {
    let versions = versions(books, pool).await?;
    super::evacuate::check(books)?;
    check_versions(books, &versions)?;
    let listed = insist(books, (b'l', 0, 2, 0, 0)).await.ok_or("nobody lists")?;
    let mut read = Vec::new();
    for key in 0..KEYS {
        read.extend(insist(books, (b'g', key, 0, 0, 0)).await.ok_or("nobody reads")?);
    }
    if listed == read { Ok(()) } else { Err(format!("a list shows {listed:?}, reads {read:?}")) }
}

/// All versions, if every replica of a slot has the same.
pub async fn versions(books: &Books, pool: &Pool) -> Result<Vec<VersionEntry>, String> {
    let bucket = books.bucket().ok_or("no node has the bucket")?;
    let mut versions = Vec::new();
    for slot in 0..SLOTS {
        let (mut first, mut missed) = (None, Vec::new());
        for node in 1..=books.replicas as u64 {
            let (prefix, delimiter) = (String::new(), String::new());
            let query = ListQuery { bucket, prefix, delimiter, limit: 10_000, ..ListQuery::default() };
            let ask = Ask::Slot(Query::Versions(query), Freshness::Local);
            let told = match pool.ask(Id(node), slot, ask.encode().into(), millis(2_000)).await {
                Ok(told) => told,
                Err(why) => {
                    missed.push(why);
                    continue;
                }
            };
            let Ok(Told::Slot(Reply::Versions(page))) = Told::decode(&told) else {
                return Err("another answer".to_owned());
            };
            let first = first.get_or_insert_with(|| page.clone());
            if *first != page {
                return Err(format!(
                    "slot {slot} of node {node} has other versions than the first:\n{first:?}\n{page:?}"
                ));
            }
        }
        if books.replicas - missed.len() != books.replicas.min(COPIES) {
            return Err(format!("slot {slot} is on too few nodes: {missed:?}"));
        }
        let page = first.ok_or("nobody has the slot")?;
        assert_eq!(page.next, None, "a page for all");
        versions.extend(page.items.into_iter().filter_map(|item| match item {
            Item::Entry(entry) => Some(entry),
            Item::Prefix(_) => None,
        }));
    }
    Ok(versions)
}

/// Whether these are the versions that clients were answered for.
fn check_versions(books: &Books, versions: &[VersionEntry]) -> Result<(), String> {
    for key in 0..KEYS {
        let of_key: Vec<_> = versions.iter().filter(|entry| entry.key == key_name(key)).collect();
        let is_in_order = of_key.windows(2).all(|pair| pair[0].id > pair[1].id);
        let is_first_latest = of_key.iter().enumerate().all(|(at, entry)| entry.is_latest == (at == 0));
        if !is_in_order || !is_first_latest || !books.are_versions_kept && of_key.len() > 1 {
            return Err(format!("versions of key {key}: {of_key:?}"));
        }
    }
    for (key, value, said) in books.history.writes() {
        let (name, etag) = (key_name(key), value.to_string());
        let count = versions.iter().filter(|entry| entry.key == name && entry.etag == etag).count();
        check_count(books, (key, value, said), count)?;
    }
    Ok(())
}

/// Whether a value may be there so many times, for what clients heard of it.
pub fn check_count(books: &Books, (key, value, said): (u64, u64, Option<Said>), count: usize) -> Result<(), String> {
    let is_fine = match said {
        Some(0) => count == 0,
        Some(_) if books.are_versions_kept => count == 1,
        _ => count <= 1,
    };
    if is_fine { Ok(()) } else { Err(format!("key {key} has {value} {count} times, and clients heard {said:?}")) }
}
