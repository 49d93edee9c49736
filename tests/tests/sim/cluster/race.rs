//! Rounds of writers that each create the same key if it isn't there.

use cairn_io::task::{Class, spawn};
use cairn_io::time::sleep;
use futures_util::future::join_all;

use super::client::{insist, token};
use super::{Books, KEYS, Rc, below, millis};

const ROUNDS: u64 = 10;
const WRITERS: u64 = 50;

/// Runs the rounds, one after the other: their verdict is the scenario's.
pub async fn run(books: Rc<Books>) {
    let mut verdict = Ok(());
    for round in 0..ROUNDS {
        let writers = (0..WRITERS).map(|writer| spawn(Class::Foreground, write(books.clone(), round, writer + 1)));
        let wrote = join_all(writers).await;
        let first: Vec<u64> = (1..).zip(wrote).filter(|(_, wrote)| matches!(wrote, Ok(1))).map(|(it, _)| it).collect();
        let shown = read(&books, round).await;
        if first != [shown] {
            verdict = Err(format!("round {round}: writers {first:?} were told that they were first, {shown} is there"));
            break;
        }
    }
    books.verdict.replace(Some(verdict));
}

/// Until it is answered, with one token: whether this one was first.
async fn write(books: Rc<Books>, round: u64, writer: u64) -> u64 {
    sleep(millis(below(30))).await;
    until_said(&books, (b'n', KEYS + round, writer, 0, token())).await
}

async fn read(books: &Books, round: u64) -> u64 {
    until_said(books, (b'g', KEYS + round, 0, 0, 0)).await
}

async fn until_said(books: &Books, request: super::client::Request) -> u64 {
    loop {
        let said = insist(books, request).await;
        if let Some(said) = said.and_then(|said| Some(u64::from_le_bytes(said.try_into().ok()?))) {
            return said;
        }
    }
}
