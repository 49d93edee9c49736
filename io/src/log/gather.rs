//! Gathering a batch: small records are packed, large payloads go in as they are.

use std::mem;

use futures_channel::oneshot;

use super::format::{BLOCK, BatchHeader, HEADER, RECORD_ALIGN, RecordHeader};
use super::{Id, Kind, Location, LogError, Payload, Placed};
use crate::{Block, BlockMut};

/// Memory that records are packed into, one piece.
pub const FILL: usize = 32 << 10;

/// A batch that is being put together.
pub struct Gather {
    /// Where in its segment it begins.
    pub offset: u32,
    /// The sequence number of its first record.
    pub first: u64,
    pieces: Vec<Piece>,
    /// What is filled next: at most one with something in it, the others empty.
    fills: Vec<BlockMut>,
    /// Bytes used of the first of `fills`.
    used: usize,
    /// Bytes so far.
    len: usize,
    pub entries: Vec<Gathered>,
}

enum Piece {
    Packed(BlockMut),
    InPlace(Block),
}

/// A record in a batch, until it is durable and applied.
pub struct Gathered {
    pub kind: Kind,
    pub id: Id,
    pub location: Location,
    pub length: u32,
    /// What is applied: not a chunk's bytes.
    pub payload: Payload,
    pub answer: oneshot::Sender<Result<Placed, LogError>>,
}

impl Gather {
    pub fn new(offset: u32, first: u64) -> Self {
        Self { offset, first, pieces: vec![], fills: vec![], used: 0, len: 0, entries: vec![] }
    }

    /// Its length so far, without padding at the end.
    pub fn len(&self) -> usize {
        self.len.max(HEADER)
    }

    /// Where in the segment a record added now would begin.
    pub fn record_at(&self) -> usize {
        self.offset as usize + self.len()
    }

    /// Memory to pack into.
    pub fn give(&mut self, mut fill: BlockMut) {
        fill.set_len(fill.capacity());
        self.fills.push(fill);
    }

    /// The memory of a batch that nothing was added to.
    pub fn into_memory(self) -> Vec<BlockMut> {
        self.fills
    }

    /// Whether adding this record now takes more memory than was given.
    pub fn wants_memory(&self, record: &RecordHeader) -> bool {
        let start = self.len() - self.len;
        let first = self.fills.first().map_or(0, |fill| fill.capacity() - self.used);
        if record.is_aligned {
            // What is left of the piece that holds the head is cut off; the end of the payload needs another.
            let head = start + record.payload_at(self.record_at());
            self.fills.len() < if first >= head { 2 } else { 3 }
        } else {
            let room = first + self.fills.iter().skip(1).map(BlockMut::capacity).sum::<usize>();
            room < start + record.extent(self.record_at()) + BLOCK
        }
    }

    /// Adds a record. The caller has given the memory it takes and seen to room in the segment.
    pub fn add(&mut self, header: &RecordHeader, head: &[u8], payload: &Payload) -> (u32, u32) {
        if self.len == 0 {
            // Filled in when the batch is closed.
            self.pack(&[0; HEADER]);
        }
        let offset = self.record_at();
        let extent = header.extent(offset);
        self.pack(head);
        match payload {
            Payload::Bytes(bytes) => self.pack(bytes),
            Payload::Blocks(blocks) if header.is_aligned => {
                self.pad_to(BLOCK);
                for block in blocks {
                    self.place(block);
                }
            }
            Payload::Blocks(blocks) => blocks.iter().for_each(|block| self.pack(block)),
        }
        self.pad_to(RECORD_ALIGN);
        (offset as u32, extent as u32)
    }

    /// Closes the batch: what to write at [`Gather::offset`], the memory that was packed, and the memory left over.
    pub fn close(&mut self, header: &BatchHeader, salt: u64) -> (Vec<Block>, Vec<Block>, Vec<BlockMut>) {
        if self.len == 0 {
            self.pack(&[0; HEADER]);
        }
        self.pad_to(BLOCK);
        self.cut();
        let mut pieces = mem::take(&mut self.pieces);
        if let Some(Piece::Packed(first)) = pieces.first_mut() {
            first[..HEADER].copy_from_slice(&header.encode(salt));
        }
        let (mut all, mut packed) = (Vec::with_capacity(pieces.len() + 1), Vec::new());
        for piece in pieces {
            match piece {
                Piece::Packed(block) => {
                    packed.push(block.freeze());
                    all.extend(packed.last().cloned());
                }
                Piece::InPlace(block) => all.push(block),
            }
        }
        (all, packed, mem::take(&mut self.fills))
    }

    /// The length with padding.
    pub fn padded(&self) -> usize {
        self.len().next_multiple_of(BLOCK)
    }

    fn pack(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let Some(fill) = self.fills.first_mut() else {
                unreachable!("the caller gave memory for all that is packed");
            };
            let part = bytes.len().min(fill.capacity() - self.used);
            fill[self.used..self.used + part].copy_from_slice(&bytes[..part]);
            self.used += part;
            self.len += part;
            bytes = &bytes[part..];
            if self.used == fill.capacity() {
                self.cut();
            }
        }
    }

    fn pad_to(&mut self, align: usize) {
        const ZEROS: [u8; BLOCK] = [0; BLOCK];
        self.pack(&ZEROS[..self.len.next_multiple_of(align) - self.len]);
    }

    /// Whole blocks are written from where they are; a part block at the end is packed.
    fn place(&mut self, block: &Block) {
        let whole = block.len() / BLOCK * BLOCK;
        if whole > 0 {
            self.cut();
            self.pieces.push(Piece::InPlace(block.slice(..whole)));
            self.len += whole;
        }
        self.pack(&block[whole..]);
    }

    /// Ends the piece that is being filled; the caller has padded it to whole blocks.
    fn cut(&mut self) {
        if self.used > 0 {
            let mut fill = self.fills.remove(0);
            fill.set_len(self.used);
            self.used = 0;
            self.pieces.push(Piece::Packed(fill));
        }
    }
}

impl Gathered {
    /// The payload as one slice; records that are applied with a payload have it in one piece.
    pub fn bytes(&self) -> &[u8] {
        match &self.payload {
            Payload::Bytes(bytes) => bytes,
            Payload::Blocks(blocks) => blocks.first().map_or(&[], |block| block),
        }
    }
}
