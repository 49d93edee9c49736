//! Whatever one does to an index, reads, scans and digests are those of a plain map, and a crash leaves what the last
//! commit had.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow, RangeBounds};

use cairn_meta::index::{
    Checkpoint, ChunkEntry, ChunkId, Commit, Digest, Fault, Index, Memory, Scan, Step, Store, Table,
};
use cairn_placement::PartitionId;
use proptest::prelude::*;

const PARTITIONS: u32 = 4;

#[derive(Clone, Debug)]
enum Operation {
    Put {
        key: Vec<u8>,
        length: usize,
    },
    Delete {
        key: Vec<u8>,
    },
    PutChunk {
        id: u8,
        length: u32,
    },
    DropChunk {
        id: u8,
    },
    Touch {
        id: u8,
        touched: u32,
    },
    /// Freezes; the commit stays in flight.
    Freeze,
    /// Runs and finishes what is in flight.
    Commit,
    /// The same, but the store fails; only memory can be told to.
    FailCommit,
    /// The helper died with the commit.
    Abandon,
    /// Opens the index anew: the overlay is gone.
    Crash,
    Scan {
        low: Vec<u8>,
        high: Vec<u8>,
        inclusive: bool,
        budget: usize,
    },
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    let short = prop::collection::vec(0..4_u8, 1..4);
    prop_oneof![4 => short, 1 => (1..4_u8, 36..45_usize).prop_map(|(byte, length)| vec![byte; length])]
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        6 => (key(), 0..60_usize).prop_map(|(key, length)| Operation::Put { key, length }),
        3 => key().prop_map(|key| Operation::Delete { key }),
        6 => (any::<u8>(), 0..100_u32).prop_map(|(id, length)| Operation::PutChunk { id: id % 32, length }),
        3 => any::<u8>().prop_map(|id| Operation::DropChunk { id: id % 32 }),
        1 => (any::<u8>(), 0..100_u32).prop_map(|(id, touched)| Operation::Touch { id: id % 32, touched }),
        2 => Just(Operation::Freeze),
        2 => Just(Operation::Commit),
        1 => Just(Operation::FailCommit),
        1 => Just(Operation::Abandon),
        1 => Just(Operation::Crash),
        2 => (key(), key(), any::<bool>(), 1..20_usize)
            .prop_map(|(low, high, inclusive, budget)| Operation::Scan { low, high, inclusive, budget }),
    ]
}

/// What an index should hold.
#[derive(Clone, Default)]
struct Model {
    records: BTreeMap<Vec<u8>, Vec<u8>>,
    chunks: BTreeMap<ChunkId, ChunkEntry>,
    checkpoint: Option<Checkpoint>,
}

impl Model {
    fn digest(&self, partition: PartitionId) -> Digest {
        let mut digest = Digest::default();
        let inside = |id: &ChunkId| PartitionId::of_chunk(&id.0, PARTITIONS) == partition;
        self.chunks.iter().filter(|(id, _)| inside(id)).for_each(|(id, entry)| digest.add(id, entry.length));
        digest
    }
}

struct Run {
    store: Store,
    memory: Option<Memory>,
    index: Index,
    now: Model,
    /// As it was frozen: what a successful commit leaves.
    frozen: Option<Model>,
    stored: Model,
    in_flight: Option<Commit>,
    sequence: u64,
}

impl Run {
    fn new(store: Store, memory: Option<Memory>) -> Self {
        let index = Index::open(&store, PARTITIONS).unwrap();
        let (now, stored) = (Model::default(), Model::default());
        Self { store, memory, index, now, frozen: None, stored, in_flight: None, sequence: 0 }
    }

    fn apply(&mut self, operation: Operation) {
        match operation {
            Operation::Put { key, length } => {
                let value = vec![length as u8; length];
                self.index.put(Table::Records, &key, &value).unwrap();
                self.now.records.insert(key, value);
            }
            Operation::Delete { key } => {
                self.index.delete(Table::Records, &key).unwrap();
                self.now.records.remove(&key);
            }
            Operation::PutChunk { id, length } => {
                let entry = ChunkEntry { segment: 1, offset: 2, stored: length + 64, length, flags: 0, touched: 50 };
                let before = self.index.put_chunk(&name(id), &entry).unwrap();
                assert_eq!(before, self.now.chunks.insert(name(id), entry));
            }
            Operation::DropChunk { id } => {
                assert_eq!(self.index.drop_chunk(&name(id)).unwrap(), self.now.chunks.remove(&name(id)));
            }
            Operation::Touch { id, touched } => {
                let entry = self.now.chunks.get_mut(&name(id));
                assert_eq!(self.index.touch(&name(id), touched).unwrap(), entry.is_some());
                entry.into_iter().for_each(|entry| entry.touched = entry.touched.max(touched));
            }
            Operation::Freeze => self.freeze(),
            Operation::Commit => self.commit(),
            Operation::FailCommit => self.fail_commit(),
            Operation::Abandon => self.in_flight = None,
            Operation::Crash => self.crash(),
            Operation::Scan { low, high, inclusive, budget } => self.scan(&low, &high, inclusive, budget),
        }
    }

    fn freeze(&mut self) {
        self.sequence += 1;
        let checkpoint = Checkpoint { segment: 1, offset: self.sequence, sequence: self.sequence };
        let commit = self.index.freeze(checkpoint);
        assert_eq!(commit.is_none(), self.in_flight.is_some(), "the checkpoint is another each time");
        let Some(commit) = commit else { return };
        self.in_flight = Some(commit);
        if self.frozen.is_none() {
            self.now.checkpoint = Some(checkpoint);
            self.frozen = Some(self.now.clone());
        }
    }

    fn commit(&mut self) {
        let Some(commit) = self.in_flight.take() else { return };
        self.index.finish(commit.run()).unwrap();
        self.stored = self.frozen.take().unwrap();
    }

    fn fail_commit(&mut self) {
        let Some(memory) = &self.memory else { return };
        let Some(commit) = self.in_flight.take() else { return };
        memory.fail_commits(1, if self.sequence.is_multiple_of(2) { Fault::NoRoom } else { Fault::Broken });
        let error = self.index.finish(commit.run()).err().unwrap();
        assert_eq!(error.is_no_room(), self.sequence.is_multiple_of(2));
    }

    fn crash(&mut self) {
        (self.in_flight, self.frozen) = (None, None);
        let Self { store, memory, stored, sequence, .. } = std::mem::replace(self, Self::nothing());
        let index = Index::open(&store, PARTITIONS).unwrap();
        assert_eq!(index.checkpoint(), stored.checkpoint);
        *self = Self { store, memory, index, now: stored.clone(), frozen: None, stored, in_flight: None, sequence };
    }

    /// Stands in while the real index is closed.
    fn nothing() -> Self {
        Self::new(Store::memory(), None)
    }

    fn scan(&self, low: &[u8], high: &[u8], inclusive: bool, budget: usize) {
        let bound = |key| if inclusive { Bound::Included(key) } else { Bound::Excluded(key) };
        let (low, high) = (bound(low), bound(high));
        let inside = |key: &[u8]| RangeBounds::<[u8]>::contains(&(low, high), key);
        let expected: Vec<_> = self.now.records.iter().filter(|(key, _)| inside(key)).map(pair).collect();
        let scan = Scan::range(Table::Records, low, high);
        assert_eq!(self.collect(scan.clone(), budget), expected);
        assert_eq!(self.index.first(scan.clone()).unwrap().as_ref(), expected.first());
        assert_eq!(self.index.first(scan.clone().backward()).unwrap().as_ref(), expected.last());
        let backward = self.collect(scan.backward(), budget);
        assert!(backward.iter().eq(expected.iter().rev()));
    }

    fn collect(&self, mut scan: Scan, budget: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut found = Vec::new();
        let mut visit = |key: &[u8], value: &[u8]| {
            found.push((key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        };
        while self.index.step(&mut scan, budget, &mut visit).unwrap() == Step::More {}
        found
    }

    fn check(&self) {
        let everything = self.collect(Scan::all(Table::Records), 7);
        assert!(everything.iter().cloned().eq(self.now.records.iter().map(pair)));
        for key in (0..4).map(|byte| vec![byte]) {
            assert_eq!(self.index.get(Table::Records, &key).unwrap().as_ref(), self.now.records.get(&key));
        }
        for id in (0..32).map(name) {
            assert_eq!(self.index.chunk(&id).unwrap().as_ref(), self.now.chunks.get(&id));
        }
        for partition in (0..PARTITIONS).map(PartitionId) {
            assert_eq!(self.index.digest(partition), self.now.digest(partition));
            assert_eq!(self.index.recount(partition).unwrap(), self.now.digest(partition));
        }
    }
}

fn pair((key, value): (&Vec<u8>, &Vec<u8>)) -> (Vec<u8>, Vec<u8>) {
    (key.clone(), value.clone())
}

/// Names spread over all partitions.
fn name(number: u8) -> ChunkId {
    let mut name = [number; 32];
    name[0] = number.wrapping_mul(37);
    ChunkId(name)
}

fn run(mut run: Run, operations: Vec<Operation>) {
    for operation in operations {
        run.apply(operation);
        run.check();
    }
    run.crash();
    run.check();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_index_in_memory_is_a_map(operations in prop::collection::vec(operation(), 1..60)) {
        let memory = Memory::default();
        run(Run::new(Store::Memory(memory.clone()), Some(memory)), operations);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_index_in_lmdb_is_a_map(operations in prop::collection::vec(operation(), 1..60)) {
        let dir = tempfile::tempdir().unwrap();
        run(Run::new(Store::lmdb(dir.path()), None), operations);
    }
}
