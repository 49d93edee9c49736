//! A slot on a plain map: every command is checked to leave what must hold, and to do the same on a second replica.

use std::collections::BTreeMap;

use cairn_meta::rows::{Batch, Machine};
use cairn_meta::slot::Slot;
use cairn_meta::slot::check::check_invariants;
use cairn_meta::slot::command::{
    Answer, Answered, Body, Bucket, Command, Committed, Envelope, Place, Refusal, Token, Versioning, Write, read_answer,
};
use cairn_meta::slot::read::{Found, Mode as ReadMode, read};
use cairn_meta::version::commit::{Caps, Mode};
use cairn_meta::version::retention::Keep;
use cairn_meta::version::{Chunk, Content, Payload, Version, VersionId};

pub type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// The bucket of most tests.
pub const BUCKET: u64 = 7;

pub struct World {
    pub rows: Map,
    replica: Map,
    /// The time of the next command.
    pub now: u64,
    pub bucket: Bucket,
    ids: u128,
    entries: u64,
}

impl World {
    pub fn new(versioning: Versioning) -> Self {
        let bucket = Bucket { id: BUCKET, epoch: 1, versioning, keep: Keep::default(), caps: Caps::default() };
        Self { rows: Map::new(), replica: Map::new(), now: 1000, bucket, ids: 0, entries: 0 }
    }

    /// An id that wasn't there.
    pub fn id(&mut self) -> VersionId {
        self.ids += 1;
        VersionId::new(self.now, self.ids)
    }

    pub fn place(&self, key: &str) -> Place {
        Place { bucket: self.bucket, key: key.to_owned() }
    }

    pub fn apply(&mut self, command: Command) -> Answered {
        self.apply_with(None, command)
    }

    pub fn apply_with(&mut self, token: Option<Token>, command: Command) -> Answered {
        let bytes = Envelope { time: self.now, token, command }.encode();
        let answer = self.apply_bytes(&bytes);
        read_answer(&answer).unwrap()
    }

    pub fn apply_bytes(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.entries += 1;
        let before = self.rows.clone();
        let answer = run(&mut self.rows, self.entries, bytes);
        assert_eq!(answer, run(&mut self.replica, self.entries, bytes), "two replicas, two answers");
        assert_eq!(self.rows, self.replica, "two replicas, two states");
        if let Err(what) = check_invariants(&self.rows) {
            panic!("{what}\nafter {:?}\nanswered {:?}", Envelope::decode(bytes), read_answer(&answer));
        }
        if matches!(read_answer(&answer), Ok(Err(_))) {
            let is_token = |key: &Vec<u8>| matches!(key[0], b't' | b'T');
            let state = |map: &Map| -> Map {
                map.iter().filter(|(key, _)| !is_token(key)).map(|(k, v)| (k.clone(), v.clone())).collect()
            };
            assert_eq!(state(&self.rows), state(&before), "a refused command changed something");
        }
        answer
    }

    pub fn write(&mut self, key: &str, mode: Mode, body: Body) -> Result<Committed, Refusal> {
        let write = Write { place: self.place(key), id: self.id(), mode, body };
        self.commit(Command::Commit(vec![write]))
    }

    /// Applies a command of one write or import.
    pub fn commit(&mut self, command: Command) -> Result<Committed, Refusal> {
        match self.apply(command)? {
            Answer::Committed(mut each) => each.remove(0),
            other => panic!("{other:?}"),
        }
    }

    pub fn put(&mut self, key: &str, text: &str) -> Committed {
        self.write(key, Mode::Overwrite, object(text)).unwrap()
    }

    pub fn delete(&mut self, key: &str) -> Committed {
        self.write(key, Mode::Overwrite, Body::Deletion).unwrap()
    }

    pub fn read(&self, key: &str, mode: ReadMode, local: &[Version]) -> Option<Found> {
        read(&self.rows, (self.bucket.id, key), mode, local).unwrap()
    }

    /// The text of the object that a reader gets.
    pub fn get(&self, key: &str) -> Option<String> {
        let found = self.read(key, ReadMode::Preferred, &[])?;
        found.is_object(self.now).then(|| text(&found.version))
    }
}

/// Bytes that a command may change, as in a lane.
const CHANGED_MAX: usize = 1 << 20;

fn run(rows: &mut Map, at: u64, bytes: &[u8]) -> Vec<u8> {
    let mut batch = Batch::new(rows);
    let answer = Slot.apply(&mut batch, at, bytes).unwrap();
    if batch.bytes() > CHANGED_MAX {
        return Slot.too_large(batch.bytes(), CHANGED_MAX);
    }
    for (key, value) in batch.into_changes() {
        match value {
            Some(value) => rows.insert(key, value),
            None => rows.remove(&key),
        };
    }
    answer
}

pub fn content(text: &str) -> Content {
    let (size, payload) = (text.len() as u64, Payload::Inline(text.as_bytes().to_vec()));
    Content { size, etag: format!("e-{text}"), payload, ..Content::default() }
}

pub fn object(text: &str) -> Body {
    Body::Object(content(text))
}

pub fn text(version: &Version) -> String {
    match &version.content.payload {
        Payload::Inline(bytes) => String::from_utf8(bytes.clone()).unwrap(),
        other => panic!("{other:?}"),
    }
}

pub fn chunk(name: u8, length: u32) -> Chunk {
    Chunk { id: [name; 32], length }
}
