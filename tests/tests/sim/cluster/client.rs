//! Clients: each asks one thing after the other, of any core of any node, and repeats itself until it is answered.

use std::net::SocketAddr;

use cairn_daemon::cluster::{Ask as Question, Calls, Freshness, Told};
use cairn_daemon::rpc::{Backoff, Limits, Pool};
use cairn_io::rng;
use cairn_io::task::{Class, spawn};
use cairn_io::time::{self, sleep};
use cairn_meta::slot::query::{Query, Reply};
use cairn_meta::slot::read::Mode;
use cairn_placement::{NodeId, SlotId};
use futures_util::future::join_all;

use super::history::Ask;
use super::node::{identity, key_name, rpc_address};
use super::{Books, CLIENTS, KEYS, Rc, SLOTS, below, millis, public, small};
use crate::wire;

/// Where a core of a node answers clients.
pub fn address(node: usize, core: usize) -> SocketAddr {
    let small = |number: usize| u8::try_from(number).expect("a small world");
    SocketAddr::from(([10, 0, 0, small(node + 1)], 8000 + u16::from(small(core))))
}

/// A request: what (a letter), key, two values, token.
pub type Request = (u8, u64, u64, u64, u128);

pub fn encode((what, key, one, other, token): Request) -> Vec<u8> {
    let words = [key, one, other].into_iter().flat_map(u64::to_le_bytes);
    std::iter::once(what).chain(words).chain(token.to_le_bytes()).collect()
}

pub fn decode(bytes: &[u8]) -> Option<Request> {
    let (what, rest) = bytes.split_first()?;
    let word = |at: usize| Some(u64::from_le_bytes(rest.get(at * 8..at * 8 + 8)?.try_into().ok()?));
    let token = u128::from_le_bytes(rest.get(24..40)?.try_into().ok()?);
    Some((*what, word(0)?, word(1)?, word(2)?, token))
}

/// The first byte of an answer.
pub const SAID: u8 = b's';
pub const AGAIN: u8 = b'a';

/// What reaches each node by RPC, in the name of somebody who is no node.
pub fn pool(books: &Books, name: u64) -> Pool {
    let pool = Pool::new(identity(name), Limits::default(), Backoff { first: millis(10), max: millis(100) });
    (0..books.replicas).for_each(|node| pool.set(node as u64 + 1, rpc_address(node)));
    pool
}

pub async fn run(books: Rc<Books>, client: usize) {
    let user = public::pool(&books);
    let (mut number, mut calm, mut last) = ((client as u64 + 1) << 32, 0, 0);
    while calm < 10 {
        sleep(millis(below(80))).await;
        calm += u32::from(books.is_storm_over.get());
        number += 1;
        if below(8) == 0 {
            list(&books, &user).await;
            continue;
        }
        let key = below(KEYS);
        let ask = match below(10) {
            0..3 => Ask::Put(number),
            3..6 => Ask::Get,
            6 => Ask::Delete,
            7 => Ask::PutNew(number),
            _ => Ask::Replace(last, number),
        };
        let request = match ask {
            Ask::Put(value) => (b'p', key, value, 0, token()),
            Ask::Get => (b'g', key, 0, 0, 0),
            Ask::Delete => (b'd', key, 0, 0, token()),
            Ask::PutNew(value) => (b'n', key, value, 0, token()),
            Ask::Replace(old, new) => (b'r', key, old, new, token()),
        };
        let begun = books.history.moment();
        let said = insist_somehow(&books, &user, request).await;
        let said = said.and_then(|said| Some(u64::from_le_bytes(said.try_into().ok()?)));
        books.history.end(begun, key, ask, said);
        if ask == Ask::Get {
            last = said.unwrap_or(last);
        }
    }
    books.done.set(books.done.get() + 1);
}

/// A list is a read of every key.
async fn list(books: &Books, user: &Pool) {
    let begun = books.history.moment();
    let Some(said) = insist_somehow(books, user, (b'l', 0, 1 + below(KEYS), 0, 0)).await else { return };
    let values: Vec<u64> =
        said.chunks_exact(8).filter_map(|word| Some(u64::from_le_bytes(word.try_into().ok()?))).collect();
    for (key, value) in (0..KEYS).zip(values) {
        books.history.end(begun, key, Ask::Get, Some(value));
    }
}

/// Asks each node what it has itself, all the time: it is right after a start that one shows too little.
pub async fn look_on(books: Rc<Books>) {
    let pool = Rc::new(pool(&books, 98));
    let looking = (0..books.replicas).map(|node| {
        let (books, pool) = (books.clone(), pool.clone());
        spawn(Class::Foreground, async move {
            while books.done.get() < CLIENTS {
                sleep(millis(below(40))).await;
                look(&books, &pool, node, below(2)).await;
            }
        })
    });
    join_all(looking).await;
}

async fn look(books: &Books, pool: &Pool, node: usize, key: u64) {
    let (Some(bucket), name) = (books.bucket(), key_name(key)) else { return };
    let slot = SlotId::of_key(bucket, name.as_bytes(), SLOTS).0;
    let query = Query::Read { bucket, key: name, mode: Mode::Preferred, local: vec![] };
    let asked = Question::Slot(query, Freshness::Local).encode();
    let begun = books.history.moment();
    // It may be down, or have no part in that slot.
    let Ok(told) = pool.ask(NodeId(node as u64 + 1), slot, asked.into(), millis(1_000)).await else { return };
    let Ok(Told::Slot(Reply::Read(found))) = Told::decode(&told) else { panic!("another answer") };
    books.shown.end((begun, books.history.moment()), (node, key), found.map(|found| found.version.id));
}

/// The name of an intent.
pub fn token() -> u128 {
    u128::from(rng::next_u64()) << 64 | u128::from(rng::next_u64())
}

/// Asks until there is an answer, one way or the other: they name an intent differently, so each request takes one.
async fn insist_somehow(books: &Books, user: &Pool, request: Request) -> Option<Vec<u8>> {
    if below(2) == 0 {
        return insist(books, request).await;
    }
    let begun = time::now();
    while begun.elapsed() < millis(6_000) {
        if let Some(said) = public::ask(books, user, request).await {
            books.answered.set(books.answered.get() + 1);
            books.answered_publicly.set(books.answered_publicly.get() + 1);
            return Some(said);
        }
        sleep(millis(5 + below(60))).await;
    }
    None
}

/// Asks until there is an answer, for a while.
pub async fn insist(books: &Books, request: Request) -> Option<Vec<u8>> {
    let asked = encode(request);
    let begun = time::now();
    while begun.elapsed() < millis(6_000) {
        let to = address(small(below(books.replicas as u64)), small(below(books.cores as u64)));
        let answer = wire::ask(to, &asked, millis(2_500)).await.unwrap_or_default();
        if let Some((&SAID, said)) = answer.split_first() {
            books.answered.set(books.answered.get() + 1);
            return Some(said.to_vec());
        }
        sleep(millis(5 + below(60))).await;
    }
    None
}
