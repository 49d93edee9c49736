//! Who looks, after the storm, whether all replicas of a slot have the same versions and lists show what reads show.

use cairn_daemon::cluster::{Ask, Calls, Freshness, Told};
use cairn_daemon::rpc::{Backoff, Limits, Pool};
use cairn_io::time::sleep;
use cairn_meta::slot::list::Query as ListQuery;
use cairn_meta::slot::query::{Query, Reply};
use cairn_placement::NodeId as Id;

use super::client::insist;
use super::node::{BUCKET, identity, rpc_address};
use super::{Books, CLIENTS, KEYS, Rc, SLOTS, millis};

/// Looks again until all is as it should be, or it has looked for long.
const LOOKS: u32 = 400;

pub async fn run(books: Rc<Books>) {
    while books.done.get() < CLIENTS {
        sleep(millis(50)).await;
    }
    let pool = Pool::new(identity(99), Limits::default(), Backoff { first: millis(10), max: millis(100) });
    (0..books.replicas).for_each(|node| pool.set(node as u64 + 1, rpc_address(node)));
    let mut seen = Ok(());
    for _ in 0..LOOKS {
        seen = look(&books, &pool).await;
        if seen.is_ok() {
            break;
        }
        sleep(millis(100)).await;
    }
    books.verdict.replace(Some(seen));
}

async fn look(books: &Books, pool: &Pool) -> Result<(), String> {
    let bucket = books.open.iter().find_map(|open| {
        let open = open.borrow();
        Some(open.as_ref()?.map().bucket(BUCKET)?.id)
    });
    let bucket = bucket.ok_or("no node has the bucket")?;
    for slot in 0..SLOTS {
        let mut first = None;
        for node in 1..=books.replicas as u64 {
            let (prefix, delimiter) = (String::new(), String::new());
            let query = ListQuery { bucket, prefix, delimiter, after: None, limit: 10_000 };
            let ask = Ask::Slot(Query::Versions(query), Freshness::Local);
            let told = pool.ask(Id(node), slot, ask.encode().into(), millis(2_000)).await;
            let told = told.map_err(|missed| format!("slot {slot} of node {node}: {missed:?}"))?;
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
    }
    let listed = insist(books, (b'l', 0, 2, 0, 0)).await.ok_or("nobody lists")?;
    let mut read = Vec::new();
    for key in 0..KEYS {
        read.extend(insist(books, (b'g', key, 0, 0, 0)).await.ok_or("nobody reads")?);
    }
    if listed == read { Ok(()) } else { Err(format!("a list shows {listed:?}, reads {read:?}")) }
}
