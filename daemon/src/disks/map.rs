//! The two small files of a disk, as values: its label, and the lane map that every disk of the node has a copy of.
//! `docs/format.md` has the same tables.
//!
//! Pure: no disk, no clock, no randomness. Parsing never panics, whatever the bytes. Each change of a map makes another
//! one with the next epoch; an epoch is never used twice by one node that sees all its disks.

use std::collections::BTreeSet;
use std::fmt;

use cairn_placement::lanes::{LaneKey, Lanes};

/// The version that this code writes; it reads all up to it.
pub const VERSION: u8 = 1;
/// The length of a label's file.
pub const LABEL_BYTES: usize = 4096;
/// The most bytes a map may have; its file has room for two.
pub const MAP_BYTES_MAX: usize = 128 << 10;
/// The most disks of a node.
pub const DISKS_MAX: usize = 256;
/// The most lanes of a node.
pub const LANES_MAX: usize = 1024;
/// The disks removed last are remembered, so that one of them that comes back is told from a new one.
pub const REMOVED_MAX: usize = 1024;

const LABEL_MAGIC: [u8; 8] = *b"CAIRNDSK";
const MAP_MAGIC: [u8; 8] = *b"CAIRNLMP";
const LABEL_SUMMED: usize = 96;
const MAP_HEADER: usize = 96;
const DISK_BYTES: usize = 32;
const LANE_BYTES: usize = 40;
const ID_BYTES: usize = 16;
const SUM_BYTES: usize = 32;
/// In a map's flags.
const SETTLED: u8 = 1;
/// In a disk's flags.
const WEIGHT_SET: u8 = 1;

const _: () = assert!(
    MAP_HEADER + DISKS_MAX * DISK_BYTES + LANES_MAX * LANE_BYTES + REMOVED_MAX * ID_BYTES + SUM_BYTES <= MAP_BYTES_MAX
);

/// Why bytes are no label or no map.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Something else.
    #[error("it is not one of ours")]
    NotOurs,
    /// Written by a newer Cairn.
    #[error("it has format version {0}, and this Cairn knows versions up to {VERSION}; use a newer Cairn")]
    Newer(u8),
    /// Changed, cut short, or not fully written.
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
}

/// The name of a disk, a node or a cluster: drawn at random.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uid(pub [u8; 16]);

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Whether a disk is one of its node's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Membership {
    /// It is, if the map says so too.
    Member,
    /// It was; everything on it had been moved away before.
    Removed,
}

/// Who a disk is: the file `disk`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label {
    /// Its own name.
    pub disk: Uid,
    /// The node that formatted it.
    pub node: Uid,
    /// The cluster; zeros while it belongs to none.
    pub cluster: Uid,
    /// When it was formatted: nanoseconds since the Unix epoch.
    pub created: u64,
    /// Whether it still is one of the node's.
    pub membership: Membership,
}

impl Label {
    /// The file's content.
    pub fn encode(&self) -> [u8; LABEL_BYTES] {
        let mut bytes = [0; LABEL_BYTES];
        bytes[0..8].copy_from_slice(&LABEL_MAGIC);
        bytes[8] = VERSION;
        bytes[9] = match self.membership {
            Membership::Member => 1,
            Membership::Removed => 2,
        };
        bytes[16..32].copy_from_slice(&self.cluster.0);
        bytes[32..48].copy_from_slice(&self.node.0);
        bytes[48..64].copy_from_slice(&self.disk.0);
        bytes[64..72].copy_from_slice(&self.created.to_le_bytes());
        let sum = blake3::hash(&bytes[..LABEL_SUMMED]);
        bytes[LABEL_SUMMED..LABEL_SUMMED + SUM_BYTES].copy_from_slice(sum.as_bytes());
        bytes
    }

    /// Reads the file's content.
    ///
    /// # Errors
    /// If it isn't a label that this code can read.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut read = Reader::new(bytes, LABEL_MAGIC)?;
        let summed = bytes.get(..LABEL_SUMMED).ok_or(FormatError::Damaged("it is cut short"))?;
        check_sum(summed, bytes.get(LABEL_SUMMED..))?;
        let membership = match read.byte()? {
            1 => Membership::Member,
            2 => Membership::Removed,
            _ => return Err(FormatError::Damaged("its state makes no sense")),
        };
        read.skip(6)?;
        let (cluster, node, disk) = (read.uid()?, read.uid()?, read.uid()?);
        Ok(Self { disk, node, cluster, created: read.word()?, membership })
    }
}

/// What a disk is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskState {
    /// Its lanes are given chunks by their weight.
    Active,
    /// Its lanes are given none; what they have is moved to the others.
    Leaving,
}

/// A disk of the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskEntry {
    /// Its name.
    pub id: Uid,
    /// What it is used for.
    pub state: DiskState,
    /// The capacity it counts with.
    pub weight_bytes: u64,
    /// Whether somebody has set that, so that it doesn't follow the disk's true capacity.
    pub is_weight_set: bool,
}

/// A lane of the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneEntry {
    /// Its number on the node; none is ever used twice.
    pub number: u32,
    /// Its name, as its superblock has it; the first 8 bytes are what it is ranked by.
    pub name: Uid,
    /// The disk it is on.
    pub disk: Uid,
}

impl LaneEntry {
    fn key(&self) -> LaneKey {
        LaneKey(u64::from_le_bytes(*self.name.0.first_chunk().expect("16 bytes have 8")))
    }
}

/// Which disks and lanes a node has, and whether every chunk lies where it belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneMap {
    /// The node.
    pub node: Uid,
    /// The cluster; zeros while it belongs to none.
    pub cluster: Uid,
    /// The highest counts.
    pub epoch: u64,
    /// Whether every chunk of the node is in its home lane and nowhere else. If not, it may be in any.
    pub is_settled: bool,
    /// The number of the next new lane.
    pub next_lane: u32,
    /// Its disks.
    pub disks: Vec<DiskEntry>,
    /// Their lanes, in the order of their numbers.
    pub lanes: Vec<LaneEntry>,
    /// Disks that were removed, the last one last.
    pub removed: Vec<Uid>,
}

impl LaneMap {
    /// A node without disks.
    pub fn new(node: Uid, cluster: Uid) -> Self {
        let (disks, lanes, removed) = (Vec::new(), Vec::new(), Vec::new());
        Self { node, cluster, epoch: 0, is_settled: true, next_lane: 0, disks, lanes, removed }
    }

    /// A disk of the map.
    pub fn disk(&self, id: Uid) -> Option<&DiskEntry> {
        self.disks.iter().find(|disk| disk.id == id)
    }

    /// A lane of the map.
    pub fn lane(&self, number: u32) -> Option<&LaneEntry> {
        self.lanes.iter().find(|lane| lane.number == number)
    }

    /// The lanes of a disk.
    pub fn lanes_of(&self, disk: Uid) -> impl Iterator<Item = &LaneEntry> {
        self.lanes.iter().filter(move |lane| lane.disk == disk)
    }

    /// Whether a disk is to be emptied.
    pub fn is_leaving(&self, disk: Uid) -> bool {
        self.disk(disk).is_none_or(|disk| disk.state == DiskState::Leaving)
    }

    /// The lanes that chunks are given to, with their weights: a disk's capacity in MiB, shared by its lanes.
    pub fn ranked(&self) -> Lanes {
        Lanes::new(self.lanes.iter().filter_map(|lane| {
            let disk = self.disk(lane.disk).filter(|disk| disk.state == DiskState::Active)?;
            let shared = (disk.weight_bytes >> 20) / self.lanes_of(lane.disk).count().max(1) as u64;
            Some((lane.key(), u32::try_from(shared.max(1)).unwrap_or(u32::MAX), lane.number))
        }))
    }

    /// With one more disk and its lanes, whose numbers begin at `next_lane`.
    #[must_use]
    pub fn with_disk(&self, id: Uid, weight_bytes: u64, lanes: &[Uid]) -> Self {
        let mut map = self.next(false);
        map.disks.push(DiskEntry { id, state: DiskState::Active, weight_bytes, is_weight_set: false });
        for name in lanes {
            map.lanes.push(LaneEntry { number: map.next_lane, name: *name, disk: id });
            map.next_lane += 1;
        }
        map
    }

    /// With a disk in another state.
    #[must_use]
    pub fn with_state(&self, id: Uid, state: DiskState) -> Self {
        let mut map = self.next(false);
        map.disks.iter_mut().filter(|disk| disk.id == id).for_each(|disk| disk.state = state);
        map
    }

    /// With a disk of another weight: as if it had this capacity (`Some`), or the one it was found to have.
    #[must_use]
    pub fn with_weight(&self, id: Uid, set: Option<u64>, capacity: u64) -> Self {
        let mut map = self.next(false);
        for disk in map.disks.iter_mut().filter(|disk| disk.id == id) {
            (disk.weight_bytes, disk.is_weight_set) = (set.unwrap_or(capacity), set.is_some());
        }
        map
    }

    /// Without these disks and their lanes.
    #[must_use]
    pub fn without(&self, ids: &[Uid]) -> Self {
        let mut map = self.next(self.is_settled);
        map.disks.retain(|disk| !ids.contains(&disk.id));
        map.lanes.retain(|lane| !ids.contains(&lane.disk));
        map.removed.extend(ids);
        let surplus = map.removed.len().saturating_sub(REMOVED_MAX);
        map.removed.drain(..surplus);
        map
    }

    /// With all leaving disks taken back if no other one takes data.
    #[must_use]
    pub fn with_takers(mut self) -> Self {
        if self.disks.iter().all(|disk| disk.state == DiskState::Leaving) {
            self.disks.iter_mut().for_each(|disk| disk.state = DiskState::Active);
            self.is_settled = false;
        }
        self
    }

    /// The same with the next epoch, settled or not.
    #[must_use]
    pub fn next(&self, is_settled: bool) -> Self {
        Self { epoch: self.epoch + 1, is_settled, ..self.clone() }
    }

    /// Bytes that [`LaneMap::decode`] reads, a multiple of 4096.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; MAP_HEADER];
        bytes[0..8].copy_from_slice(&MAP_MAGIC);
        bytes[8] = VERSION;
        bytes[9] = if self.is_settled { SETTLED } else { 0 };
        bytes[12..16].copy_from_slice(&self.next_lane.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.cluster.0);
        bytes[32..48].copy_from_slice(&self.node.0);
        bytes[48..56].copy_from_slice(&self.epoch.to_le_bytes());
        let counts = [self.disks.len(), self.lanes.len(), self.removed.len()];
        for (place, count) in bytes[56..68].chunks_mut(4).zip(counts) {
            place.copy_from_slice(&(count as u32).to_le_bytes());
        }
        for disk in &self.disks {
            bytes.extend(disk.id.0);
            bytes.push(match disk.state {
                DiskState::Active => 1,
                DiskState::Leaving => 2,
            });
            bytes.push(if disk.is_weight_set { WEIGHT_SET } else { 0 });
            bytes.extend([0; 6]);
            bytes.extend(disk.weight_bytes.to_le_bytes());
        }
        for lane in &self.lanes {
            bytes.extend(lane.number.to_le_bytes());
            bytes.extend([0; 4]);
            bytes.extend(lane.name.0);
            bytes.extend(lane.disk.0);
        }
        self.removed.iter().for_each(|id| bytes.extend(id.0));
        let sum = blake3::hash(&bytes);
        bytes.extend(sum.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(4096), 0);
        bytes
    }

    /// Reads a map; what stands behind it is ignored.
    ///
    /// # Errors
    /// If it isn't a map that this code can read, or contradicts itself.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut read = Reader::new(bytes, MAP_MAGIC)?;
        let flags = read.byte()?;
        read.skip(2)?;
        let next_lane = read.half()?;
        let (cluster, node) = (read.uid()?, read.uid()?);
        let epoch = read.word()?;
        let [disk_count, lane_count, removed_count] = [read.half()?, read.half()?, read.half()?].map(|n| n as usize);
        if disk_count > DISKS_MAX || lane_count > LANES_MAX || removed_count > REMOVED_MAX {
            return Err(FormatError::Damaged("it counts more than there may be"));
        }
        let end = MAP_HEADER + disk_count * DISK_BYTES + lane_count * LANE_BYTES + removed_count * ID_BYTES;
        let summed = bytes.get(..end).ok_or(FormatError::Damaged("it is cut short"))?;
        check_sum(summed, bytes.get(end..))?;
        read.skip(MAP_HEADER - 68)?;
        let disks = (0..disk_count).map(|_| read.disk()).collect::<Result<_, _>>()?;
        let lanes = (0..lane_count).map(|_| read.lane()).collect::<Result<_, _>>()?;
        let removed = (0..removed_count).map(|_| read.uid()).collect::<Result<_, _>>()?;
        let is_settled = flags & SETTLED != 0;
        let map = Self { node, cluster, epoch, is_settled, next_lane, disks, lanes, removed };
        map.check().map_err(FormatError::Damaged)?;
        Ok(map)
    }

    fn check(&self) -> Result<(), &'static str> {
        let disks: BTreeSet<Uid> = self.disks.iter().map(|disk| disk.id).collect();
        let names: BTreeSet<Uid> = self.lanes.iter().map(|lane| lane.name).collect();
        if disks.len() != self.disks.len() || names.len() != self.lanes.len() {
            return Err("it has something twice");
        }
        if !self.lanes.is_sorted_by(|one, other| one.number < other.number) {
            return Err("its lanes are out of order");
        }
        if self.lanes.iter().any(|lane| lane.number >= self.next_lane || !disks.contains(&lane.disk)) {
            return Err("it has a lane that can't be");
        }
        Ok(())
    }
}

fn check_sum(summed: &[u8], sum: Option<&[u8]>) -> Result<(), FormatError> {
    let sum = sum.and_then(|rest| rest.get(..SUM_BYTES));
    let holds = sum.is_some_and(|sum| blake3::hash(summed).as_bytes()[..] == *sum);
    if holds { Ok(()) } else { Err(FormatError::Damaged("its checksum doesn't match")) }
}

/// Takes fields from the front of bytes.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Behind magic and version, which are right.
    fn new(bytes: &'a [u8], magic: [u8; 8]) -> Result<Self, FormatError> {
        if bytes.get(..8) != Some(&magic[..]) {
            return Err(FormatError::NotOurs);
        }
        match bytes.get(8) {
            Some(1..=VERSION) => Ok(Self(&bytes[9..])),
            Some(0) | None => Err(FormatError::Damaged("it has no version")),
            Some(newer) => Err(FormatError::Newer(*newer)),
        }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(FormatError::Damaged("it is cut short"))?;
        self.0 = rest;
        Ok(*taken)
    }

    fn skip(&mut self, count: usize) -> Result<(), FormatError> {
        self.0 = self.0.get(count..).ok_or(FormatError::Damaged("it is cut short"))?;
        Ok(())
    }

    fn byte(&mut self) -> Result<u8, FormatError> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn half(&mut self) -> Result<u32, FormatError> {
        self.take().map(u32::from_le_bytes)
    }

    fn word(&mut self) -> Result<u64, FormatError> {
        self.take().map(u64::from_le_bytes)
    }

    fn uid(&mut self) -> Result<Uid, FormatError> {
        self.take().map(Uid)
    }

    fn disk(&mut self) -> Result<DiskEntry, FormatError> {
        let id = self.uid()?;
        let state = match self.byte()? {
            1 => DiskState::Active,
            2 => DiskState::Leaving,
            _ => return Err(FormatError::Damaged("a disk's state makes no sense")),
        };
        let is_weight_set = self.byte()? & WEIGHT_SET != 0;
        self.skip(6)?;
        Ok(DiskEntry { id, state, weight_bytes: self.word()?, is_weight_set })
    }

    fn lane(&mut self) -> Result<LaneEntry, FormatError> {
        let number = self.half()?;
        self.skip(4)?;
        Ok(LaneEntry { number, name: self.uid()?, disk: self.uid()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uid(number: u8) -> Uid {
        Uid([number; 16])
    }

    fn map() -> LaneMap {
        let map = LaneMap::new(uid(1), uid(2)).with_disk(uid(3), 64 << 30, &[uid(10), uid(11)]);
        map.with_disk(uid(4), 32 << 30, &[uid(12)]).with_weight(uid(4), Some(16 << 30), 32 << 30)
    }

    #[test]
    fn maps_and_labels_survive_their_encoding() {
        let map = map().with_state(uid(4), DiskState::Leaving).next(true).without(&[uid(3)]);
        assert_eq!(LaneMap::decode(&map.encode()), Ok(map.clone()));
        assert_eq!((map.epoch, map.is_settled, map.next_lane, map.removed.len()), (6, true, 3, 1));
        let label = Label { disk: uid(1), node: uid(2), cluster: uid(3), created: 4, membership: Membership::Removed };
        assert_eq!(Label::decode(&label.encode()), Ok(label));
    }

    #[test]
    fn no_bytes_panic_and_none_that_changed_pass() {
        let whole = map().encode();
        let end = MAP_HEADER + 2 * DISK_BYTES + 3 * LANE_BYTES + SUM_BYTES;
        for at in 0..end {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x41;
            assert!(LaneMap::decode(&bytes).is_err(), "byte {at}");
            assert!(LaneMap::decode(&whole[..at]).is_err(), "cut at {at}");
        }
        let label = Label { disk: uid(1), node: uid(2), cluster: uid(3), created: 4, membership: Membership::Member };
        for at in 0..LABEL_SUMMED + SUM_BYTES {
            let mut bytes = label.encode();
            bytes[at] ^= 0x41;
            assert!(Label::decode(&bytes).is_err(), "byte {at}");
            assert!(Label::decode(&bytes[..at]).is_err(), "cut at {at}");
        }
        let mut newer = whole;
        newer[8] = 9;
        assert_eq!(LaneMap::decode(&newer), Err(FormatError::Newer(9)));
    }

    #[test]
    fn a_map_that_contradicts_itself_is_refused() {
        let refused = |change: fn(&mut LaneMap)| {
            let mut map = map();
            change(&mut map);
            assert!(matches!(LaneMap::decode(&map.encode()), Err(FormatError::Damaged(_))), "{map:?}");
        };
        refused(|map| map.lanes[0].disk = uid(99));
        refused(|map| map.lanes[1].number = 0);
        refused(|map| map.lanes[1].name = uid(10));
        refused(|map| map.next_lane = 2);
        refused(|map| map.disks[1].id = uid(3));
    }

    #[test]
    fn weights_are_shared_by_the_lanes_of_a_disk_and_a_leaving_disk_has_none() {
        let count = |map: &LaneMap| {
            let ranked = map.ranked();
            let mut won = [0_u32; 3];
            for number in 0..30_000_u64 {
                let chunk: [u8; 32] = *blake3::hash(&number.to_le_bytes()).as_bytes();
                won[ranked.home(&chunk).expect("there are lanes") as usize] += 1;
            }
            won
        };
        let won = count(&map());
        // 64 GiB in two lanes and 16 GiB in one: 12,000, 12,000, 6,000.
        assert!(won[0].abs_diff(12_000) < 500 && won[1].abs_diff(12_000) < 500, "{won:?}");
        let won = count(&map().with_state(uid(3), DiskState::Leaving));
        assert_eq!(won, [0, 0, 30_000]);
    }
}
