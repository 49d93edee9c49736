//! The state machine of the scenario: registers that are put, swapped and deleted, each client's last command answered again when
//! it is repeated.

use cairn_meta::index::Error;
use cairn_meta::rows::{Batch, Machine, Rows};

/// What is asked of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ask {
    Put(u64),
    Get,
    /// Sets the second if the first is there; 0: nothing is.
    Swap(u64, u64),
    Delete,
}

/// What it answers: the value that was there (0: none), and whether it did as asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Said {
    pub before: u64,
    pub is_done: bool,
}

/// What a register does. 0 is no value.
pub fn step(value: u64, ask: Ask) -> (u64, Said) {
    let after = match ask {
        Ask::Put(new) => new,
        Ask::Get => value,
        Ask::Swap(old, new) if old == value => new,
        Ask::Swap(..) => return (value, Said { before: value, is_done: false }),
        Ask::Delete => 0,
    };
    (after, Said { before: value, is_done: true })
}

/// A command: who asks for the how manieth time, which key, what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    pub client: u64,
    pub number: u64,
    pub key: u64,
    pub ask: Ask,
}

impl Request {
    pub fn encode(self) -> Vec<u8> {
        let (kind, a, b) = match self.ask {
            Ask::Put(value) => (0, value, 0),
            Ask::Get => (1, 0, 0),
            Ask::Swap(old, new) => (2, old, new),
            Ask::Delete => (3, 0, 0),
        };
        [self.client, self.number, self.key, kind, a, b].iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let words: Vec<u64> =
            bytes.chunks_exact(8).filter_map(|word| Some(u64::from_le_bytes(word.try_into().ok()?))).collect();
        let [client, number, key, kind, a, b] = words[..] else { return None };
        let ask = match kind {
            0 => Ask::Put(a),
            1 => Ask::Get,
            2 => Ask::Swap(a, b),
            3 => Ask::Delete,
            _ => return None,
        };
        Some(Self { client, number, key, ask })
    }
}

impl Said {
    pub fn encode(self) -> Vec<u8> {
        [&self.before.to_le_bytes()[..], &[u8::from(self.is_done)]].concat()
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (before, rest) = bytes.split_first_chunk()?;
        Some(Self { before: u64::from_le_bytes(*before), is_done: *rest.first()? == 1 })
    }
}

pub fn read(rows: &dyn Rows, key: u64) -> Result<u64, Error> {
    let value = rows.get(&place(b'k', key))?;
    Ok(value.and_then(|value| value.get(..8)?.try_into().ok()).map_or(0, u64::from_le_bytes))
}

fn place(kind: u8, number: u64) -> Vec<u8> {
    [&[kind][..], &number.to_be_bytes()].concat()
}

/// The machine. Values are padded: snapshots shall have several parts.
pub struct Registers;

impl Machine for Registers {
    fn apply(&self, rows: &mut Batch<'_>, _: u64, command: &[u8]) -> Result<Vec<u8>, Error> {
        let Some(Request { client, number, key, ask }) = Request::decode(command) else { return Ok(vec![]) };
        let session = place(b'c', client);
        if let Some(last) = rows.get(&session)? {
            let (seen, said) = last.split_at(8);
            match number.to_be_bytes().as_slice().cmp(seen) {
                std::cmp::Ordering::Less => return Ok(vec![]),
                std::cmp::Ordering::Equal => return Ok(said.to_vec()),
                std::cmp::Ordering::Greater => {}
            }
        }
        let (after, said) = step(read(rows, key)?, ask);
        if after == 0 {
            rows.delete(place(b'k', key));
        } else {
            let padded = [&after.to_le_bytes()[..], &vec![after as u8; 300]].concat();
            rows.put(place(b'k', key), padded);
            // And something that only ever grows.
            rows.put(place(b'v', after), vec![after as u8; 40]);
        }
        rows.put(session, [&number.to_be_bytes()[..], &said.encode()].concat());
        Ok(said.encode())
    }

    fn too_large(&self, bytes: usize, max: usize) -> Vec<u8> {
        format!("{bytes} bytes of rows, at most {max}").into_bytes()
    }
}
