//! A record of rows in bytes, little-endian:
//!
//! | bytes | what |
//! | --- | --- |
//! | 1 | version: 1 |
//! | 1 | 0 flush, 1 carried, 2 part of a snapshot, 3 end of a snapshot |
//! | 16 | the entry that the rows have: term, index |
//! | 4, n | who belongs to the group then |
//! | ... | rows: 1 byte (0 put, 1 gone), for those gone the segment that said so first or 0 for this one (8), length of the key (2), for those put of the value (4), key, value |
//!
//! Its id is the slot (4 bytes), a number (8), of parts of a snapshot their own (4), and the slot's life in this lane (4), all big-endian.

use cairn_io::log::Id;

use super::At;

/// What a record of rows is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// All rows that were marked.
    Flush,
    /// Rows of older records that are still so.
    Carried,
    /// Rows that are staged.
    Part,
    /// What was staged is the slot's.
    End,
}

/// A row, or that there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Row<B = Vec<u8>> {
    /// Key and value.
    Put(B, B),
    /// The key of a row that is gone, and the segment whose record said so first; 0: the one it stands in.
    Gone(B, u64),
}

impl<B: AsRef<[u8]>> Row<B> {
    /// Its key.
    pub fn key(&self) -> &[u8] {
        match self {
            Self::Put(key, _) | Self::Gone(key, _) => key.as_ref(),
        }
    }

    /// Its bytes in a record.
    pub fn weight(&self) -> usize {
        match self {
            Self::Put(key, value) => weight(key.as_ref(), value.as_ref().len()),
            Self::Gone(key, _) => weight(key.as_ref(), 0),
        }
    }
}

/// Bytes that a row takes at most besides key and value.
const AROUND: usize = 11;

/// Bytes of a row in a record, at most.
pub fn weight(key: &[u8], value: usize) -> usize {
    AROUND + key.len() + value
}

/// A record of rows, as it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowsRecord<'b> {
    pub what: What,
    pub at: At,
    pub members: &'b [u8],
    pub rows: Vec<Row<&'b [u8]>>,
}

const VERSION: u8 = 1;
const PUT: u8 = 0;
const GONE: u8 = 1;

/// A record of rows that is being written.
pub struct Encoder(Vec<u8>);

impl Encoder {
    /// For rows of so many bytes, about.
    pub fn new(what: What, at: At, members: &[u8], rows: usize) -> Self {
        let mut bytes = Vec::with_capacity(22 + members.len() + rows);
        bytes.push(VERSION);
        bytes.push(what as u8);
        bytes.extend(at.encode());
        bytes.extend((members.len() as u32).to_le_bytes());
        bytes.extend(members);
        Self(bytes)
    }

    pub fn push<B: AsRef<[u8]>>(&mut self, row: &Row<B>) {
        let Self(bytes) = self;
        let key = row.key();
        let length = (key.len() as u16).to_le_bytes();
        match row {
            Row::Put(_, value) => {
                let value = value.as_ref();
                bytes.push(PUT);
                bytes.extend(length);
                bytes.extend((value.len() as u32).to_le_bytes());
                bytes.extend(key);
                bytes.extend(value);
            }
            Row::Gone(_, since) => {
                bytes.push(GONE);
                bytes.extend(since.to_le_bytes());
                bytes.extend(length);
                bytes.extend(key);
            }
        }
    }

    pub fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// A record of all of these rows.
pub fn encode<B: AsRef<[u8]>>(what: What, at: At, members: &[u8], rows: &[Row<B>]) -> Vec<u8> {
    let mut record = Encoder::new(what, at, members, rows.iter().map(Row::weight).sum());
    rows.iter().for_each(|row| record.push(row));
    record.finish()
}

impl<'b> RowsRecord<'b> {
    /// `None` if these bytes are none of a version known here.
    pub fn decode(bytes: &'b [u8]) -> Option<Self> {
        let ([VERSION, what], rest) = bytes.split_first_chunk()? else { return None };
        let what = [What::Flush, What::Carried, What::Part, What::End].into_iter().find(|it| *it as u8 == *what)?;
        let (at, rest) = rest.split_at_checked(16)?;
        let (length, rest) = rest.split_first_chunk()?;
        let (members, mut rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        let mut rows = Vec::new();
        while !rest.is_empty() {
            rows.push(decode_row(&mut rest)?);
        }
        Some(Self { what, at: At::decode(at)?, members, rows })
    }
}

fn decode_row<'b>(rest: &mut &'b [u8]) -> Option<Row<&'b [u8]>> {
    let mut take = |length: usize| {
        let (taken, behind) = rest.split_at_checked(length)?;
        *rest = behind;
        Some(taken)
    };
    match take(1)?[0] {
        PUT => {
            let key = u16::from_le_bytes(take(2)?.try_into().ok()?);
            let value = u32::from_le_bytes(take(4)?.try_into().ok()?);
            Some(Row::Put(take(usize::from(key))?, take(value as usize)?))
        }
        GONE => {
            let since = u64::from_le_bytes(take(8)?.try_into().ok()?);
            let key = u16::from_le_bytes(take(2)?.try_into().ok()?);
            Some(Row::Gone(take(usize::from(key))?, since))
        }
        _ => None,
    }
}

/// The id of a record of rows, which a slot wrote in this life of its.
pub fn rows_id((slot, life): (u32, u32), number: u64, part: u32) -> Id {
    let mut id = [0; 32];
    id[..4].copy_from_slice(&slot.to_be_bytes());
    id[4..12].copy_from_slice(&number.to_be_bytes());
    id[12..16].copy_from_slice(&part.to_be_bytes());
    id[16..20].copy_from_slice(&life.to_be_bytes());
    id
}

/// The life that such an id says.
pub fn life_of(id: &Id) -> u32 {
    u32::from_be_bytes([id[16], id[17], id[18], id[19]])
}

/// Slot and number of such an id.
pub fn slot_and_number(id: &Id) -> (u32, u64) {
    let slot = u32::from_be_bytes([id[0], id[1], id[2], id[3]]);
    let number = [id[4], id[5], id[6], id[7], id[8], id[9], id[10], id[11]];
    (slot, u64::from_be_bytes(number))
}

#[test]
fn a_record_of_rows_comes_back() {
    let rows: Vec<Row<&[u8]>> = vec![Row::Put(&[1, 2], &[3; 300]), Row::Gone(&[9], 7), Row::Put(&[], &[])];
    let record = RowsRecord { what: What::Carried, at: At { term: 3, index: 9 }, members: &[5; 7], rows };
    let bytes = encode(record.what, record.at, record.members, &record.rows);
    assert_eq!(RowsRecord::decode(&bytes), Some(record));
    let cut = (0..bytes.len()).filter(|length| RowsRecord::decode(&bytes[..*length]).is_some()).count();
    // Cut between two rows it is a record with fewer rows: the log's checksum says that it isn't whole.
    assert_eq!(cut, 3, "other cuts are seen");
    let id = rows_id((7, 3), 8, 9);
    assert_eq!((slot_and_number(&id), life_of(&id)), ((7, 8), 3));
}

/// What nodes have stored: it is read for ever.
#[test]
fn a_record_of_version_1_is_these_bytes() {
    let rows: Vec<Row<&[u8]>> = vec![Row::Put(&[1, 2], &[3]), Row::Gone(&[9], 0x0107)];
    let bytes: &[&[u8]] = &[
        &[1, 1],
        &[4, 3, 0, 0, 0, 0, 0, 0],
        &[9, 8, 7, 0, 0, 0, 0, 0],
        &[2, 0, 0, 0, 5, 6],
        &[0, 2, 0, 1, 0, 0, 0, 1, 2, 3],
        &[1, 7, 1, 0, 0, 0, 0, 0, 0, 1, 0, 9],
    ];
    let at = At { term: 0x0304, index: 0x07_0809 };
    assert_eq!(encode(What::Carried, at, &[5, 6], &rows), bytes.concat());
    let record = RowsRecord { what: What::Carried, at, members: &[5, 6], rows };
    assert_eq!(RowsRecord::decode(&bytes.concat()), Some(record));
    for (number, what) in (0..).zip([What::Flush, What::Carried, What::Part, What::End]) {
        let mut bytes = bytes.concat();
        bytes[1] = number;
        assert_eq!(RowsRecord::decode(&bytes).map(|record| record.what), Some(what));
    }
    let mut id = [0; 32];
    id[..20].copy_from_slice(&[0, 1, 2, 3, 0, 0, 0, 0, 0, 0, 4, 5, 0, 0, 0, 6, 0, 0, 0, 7]);
    assert_eq!(rows_id((0x01_0203, 7), 0x0405, 6), id);
}
