//! Who asks: clients that repeat themselves until they are answered, and an operator who changes members.

use cairn_io::time::{self, sleep};

use super::node::{ELSEWHERE, MEMBERS, REQUEST, SAID, address};
use super::register::{Ask, Request, Said};
use super::{Books, KEYS, Rc, SLOTS, below, is_complete, millis};
use crate::wire;

/// A client asks one thing after the other until the storm is over, and a little longer.
pub async fn run(books: Rc<Books>, client: usize) {
    let client = client as u64 + 1;
    let mut number = 0;
    let mut leaders = [0_u64; SLOTS as usize];
    let mut calm = 0;
    while calm < 10 {
        sleep(millis(below(books.pause_ms))).await;
        calm += u32::from(books.is_storm_over.get());
        number += 1;
        let slot = below(u64::from(SLOTS)) as u32;
        let value = client << 32 | number;
        let ask = match below(10) {
            0..4 => Ask::Put(value),
            4..7 => Ask::Get,
            7 => Ask::Delete,
            _ => Ask::Swap(if below(3) == 0 { 0 } else { value - below(4) }, value),
        };
        let request = Request { client, number, key: below(KEYS), ask };
        let begun = books.history.moment();
        let said = insist(&books, slot, request, &mut leaders[slot as usize]).await;
        books.history.end(begun, (slot, request.key), ask, said);
    }
    books.done.set(books.done.get() + 1);
}

/// Asks until there is an answer, for a while.
async fn insist(books: &Books, slot: u32, request: Request, leader: &mut u64) -> Option<Said> {
    let asked = [&[REQUEST][..], &slot.to_le_bytes(), &request.encode()].concat();
    let begun = time::now();
    while begun.elapsed() < millis(3_000) {
        let answer = wire::ask(address(books.replicas, *leader), &asked, millis(1_000)).await.unwrap_or_default();
        match answer.split_first() {
            Some((&SAID, said)) => return Said::decode(said),
            Some((&ELSEWHERE, other)) if other.len() == 8 => {
                *leader = u64::from_le_bytes(other.try_into().expect("eight bytes"));
            }
            _ => *leader = below(books.replicas as u64),
        }
        sleep(millis(5 + below(40))).await;
    }
    None
}

/// Takes members out and puts them back while the storm lasts; in the end every node is one, and is left alone.
pub async fn operate(books: Rc<Books>) {
    loop {
        sleep(millis(100 + below(700))).await;
        for slot in 0..SLOTS {
            if books.is_storm_over.get() && is_complete(&books, slot) {
                continue;
            }
            let mut asked = [&[MEMBERS][..], &slot.to_le_bytes()].concat();
            if books.are_members_removed && !books.is_storm_over.get() && below(2) == 0 {
                // Two of five at once: those who were and those who will be have majorities that nobody is in both of.
                let count = if books.replicas == 5 { 1 + below(2) } else { 1 };
                asked.extend((0..count).map(|_| below(books.replicas as u64) as u8));
            }
            let mut leader = below(books.replicas as u64);
            for _ in 0..8 {
                let answer =
                    wire::ask(address(books.replicas, leader), &asked, millis(2_000)).await.unwrap_or_default();
                match answer.split_first() {
                    Some((&SAID, _)) => break,
                    Some((&ELSEWHERE, other)) if other.len() == 8 => {
                        leader = u64::from_le_bytes(other.try_into().expect("eight bytes"));
                    }
                    _ => leader = below(books.replicas as u64),
                }
                sleep(millis(10 + below(50))).await;
            }
        }
    }
}
