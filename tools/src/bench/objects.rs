//! What `cairn bench meta` measures: versions of objects, in the slots of a cluster of one. Every function runs on a core,
//! and a subject belongs to the core that opened it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::io;
use std::rc::Rc;

use cairn_daemon::cluster::{Cluster, Freshness, Options, Seal, new_version};
use cairn_daemon::disks::{Disks, Format, Hub, Options as DiskOptions, Uid, format};
use cairn_daemon::lane::{Lane, Options as LaneOptions};
use cairn_daemon::slot::{Nobody, Options as SlotOptions};
use cairn_io::log::{Options as LogOptions, Payload as Record, Prewrite};
use cairn_io::reference::{Laps, Stop, Tally};
use cairn_io::rng;
use cairn_io::time::Duration;
use cairn_meta::control::bucket::BucketRecord;
use cairn_meta::control::command::{Command as ControlCommand, CreateBucket};
use cairn_meta::control::state::{Cluster as Born, ClusterId};
use cairn_meta::index::ChunkId;
use cairn_meta::slot::command::{Answer, Body, Command, Place, Write};
use cairn_meta::slot::list::{Position, Query as ListQuery};
use cairn_meta::slot::query::{Query, Reply};
use cairn_meta::slot::read::Mode as ReadMode;
use cairn_meta::version::commit::Mode;
use cairn_meta::version::{Content, Payload};
use cairn_placement::{NodeId, SlotId};

use super::crowd::{all, measure};

/// The length of an object.
pub const OBJECT: usize = 1 << 10;
/// Keys of a page.
pub const PAGE: u32 = 1000;
/// Objects that are committed by one command while the subject is filled.
const BATCH: usize = 64;
/// Sets the keys that are written while writes are measured apart from those that are listed.
const NEW: u64 = 1 << 40;

/// Which bucket: what is listed in one is a hundred times more than in the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bucket {
    /// As many objects as were asked for.
    Large,
    /// One of a hundred of them.
    Small,
    /// Those that are written while writes are measured.
    Written,
}

/// What the subject is asked to do.
#[derive(Clone, Copy, Debug)]
pub enum Job {
    /// Commit objects, so many at a time.
    Commit(usize),
    /// Commit objects one at a time, with the time of each.
    CommitLaps,
    /// Put chunks of the same length into the lane that the slots are in, so many at a time.
    Put(usize),
    /// The same one at a time, with the time of each.
    PutLaps,
    /// Read objects, so many at a time.
    Read(Freshness, usize),
    /// Read pages of a list from anywhere in a bucket, one at a time, with the time of each.
    PageLaps(Bucket),
    /// Read a list page after page, from its beginning again behind its end, with the time of each.
    NextPageLaps(Bucket),
}

/// A cluster of one on one directory.
struct Subject {
    cluster: Cluster,
    disks: Disks,
    lane: Lane,
    large: BucketRecord,
    small: BucketRecord,
    written: BucketRecord,
    objects: u64,
    next: Cell<u64>,
    /// The first key of the next page, by its number, of the large bucket and the small one.
    turned: [Cell<u64>; 2],
}

thread_local! {
    /// The subject of this core: its callers come from another thread and can't hold it.
    static OPEN: RefCell<Option<Rc<Subject>>> = const { RefCell::new(None) };
}

fn subject() -> Rc<Subject> {
    OPEN.with_borrow(Clone::clone).expect("made before it is used")
}

fn failed(error: impl Display) -> io::Error {
    io::Error::other(error.to_string())
}

/// Makes the subject.
///
/// # Errors
/// If the disk fails.
pub async fn create(dir: String, slots: u32, objects: u64) -> io::Result<()> {
    let data = vec![dir];
    format(&data, Uid([1; 16]), Format::default()).await.map_err(failed)?;
    let log = LogOptions { prewrite: Prewrite::Always, ..LogOptions::default() };
    let lane = LaneOptions { log, ..LaneOptions::default() };
    let disks = Disks::open(&Hub::new(1), DiskOptions { lane, ..DiskOptions::new(data) }).await.map_err(failed)?;
    let options = Options {
        node: NodeId(1),
        born: Born { id: ClusterId(1), slots, partitions: 4096 },
        seal: Seal::new(&[0; Seal::BYTES]),
        slot: SlotOptions::default(),
        within: Duration::from_secs(60),
    };
    let cluster = Cluster::open(disks.clone(), Rc::new(Nobody), &options).await.map_err(failed)?;
    let lane = disks.own_lanes().into_iter().next().map(|(_, lane)| lane).ok_or(io::ErrorKind::NotFound)?;
    let (large, small) = (make_bucket(&cluster, "large").await?, make_bucket(&cluster, "small").await?);
    let written = make_bucket(&cluster, "written").await?;
    let subject = Subject {
        cluster,
        disks,
        lane,
        large,
        small,
        written,
        objects,
        next: Cell::new(0),
        turned: Default::default(),
    };
    OPEN.with_borrow_mut(|open| *open = Some(Rc::new(subject)));
    Ok(())
}

async fn make_bucket(cluster: &Cluster, name: &str) -> io::Result<BucketRecord> {
    let create = CreateBucket { name: name.to_owned(), owner: "bench".to_owned(), settings: <_>::default() };
    cluster.control("bench", None, ControlCommand::CreateBucket(create)).await.map_err(failed)?;
    cluster.map().bucket(name).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// Commits the objects that are read and listed.
///
/// # Errors
/// If the disk fails.
pub async fn fill() -> io::Result<()> {
    let subject = subject();
    for bucket in [Bucket::Large, Bucket::Small] {
        subject.fill(bucket).await?;
    }
    subject.lane.commit().await.map_err(failed)
}

/// Ends it in order.
///
/// # Errors
/// If the disk fails.
pub async fn close() -> io::Result<()> {
    let Some(subject) = OPEN.with_borrow_mut(Option::take) else { return Ok(()) };
    subject.cluster.close().await;
    subject.disks.close().await.map_err(failed)
}

/// Does a job.
///
/// # Errors
/// If the disk fails.
pub async fn run(job: Job, stop: Stop) -> io::Result<Tally> {
    let subject = subject();
    match job {
        Job::Commit(depth) => {
            measure(&subject, depth, stop, |subject| async move { subject.commit_next().await }).await
        }
        Job::Put(depth) => measure(&subject, depth, stop, |subject| async move { subject.put_next().await }).await,
        Job::Read(freshness, depth) => {
            measure(&subject, depth, stop, move |subject| async move { subject.read_any(freshness).await }).await
        }
        Job::CommitLaps => {
            let mut laps = Laps::start(stop);
            while laps.another() {
                subject.commit_next().await?;
            }
            Ok(laps.finish())
        }
        Job::PutLaps => {
            let mut laps = Laps::start(stop);
            while laps.another() {
                subject.put_next().await?;
            }
            Ok(laps.finish())
        }
        Job::PageLaps(bucket) => {
            let mut laps = Laps::start(stop);
            while laps.another() {
                subject.page_anywhere(bucket).await?;
            }
            Ok(laps.finish())
        }
        Job::NextPageLaps(bucket) => {
            let mut laps = Laps::start(stop);
            while laps.another() {
                subject.next_page(bucket).await?;
            }
            Ok(laps.finish())
        }
    }
}

impl Subject {
    fn bucket(&self, bucket: Bucket) -> (&BucketRecord, u64) {
        match bucket {
            Bucket::Large => (&self.large, self.objects),
            Bucket::Small => (&self.small, (self.objects / 100).max(1)),
            Bucket::Written => (&self.written, 0),
        }
    }

    async fn fill(self: &Rc<Self>, bucket: Bucket) -> io::Result<()> {
        let next = Rc::new(Cell::new(0));
        all(16, || {
            let (subject, next) = (self.clone(), next.clone());
            async move {
                let (record, count) = subject.bucket(bucket);
                let stride = u64::from(subject.cluster.map().born().slots) * BATCH as u64;
                while next.get() < count {
                    let from = next.replace(next.get() + stride);
                    subject.fill_some(record, from..count.min(from + stride)).await?;
                }
                Ok(())
            }
        })
        .await
    }

    /// Commits objects with these numbers, those of each slot at once.
    async fn fill_some(&self, bucket: &BucketRecord, numbers: std::ops::Range<u64>) -> io::Result<()> {
        let slots = self.cluster.map().born().slots;
        let mut by_slot: BTreeMap<SlotId, Vec<Write>> = BTreeMap::new();
        for number in numbers {
            let write = write_of(bucket, number);
            by_slot.entry(SlotId::of_key(bucket.id, write.place.key.as_bytes(), slots)).or_default().push(write);
        }
        for writes in by_slot.into_values() {
            self.commit(bucket, writes).await?;
        }
        Ok(())
    }

    async fn commit(&self, bucket: &BucketRecord, writes: Vec<Write>) -> io::Result<()> {
        let key = writes.first().map(|write| write.place.key.clone()).unwrap_or_default();
        match self.cluster.command((bucket.id, &key), None, Command::Commit(writes)).await.map_err(failed)? {
            Answer::Committed(each) => each.into_iter().try_for_each(|one| one.map(drop).map_err(failed)),
            other => Err(failed(format!("{other:?}"))),
        }
    }

    async fn commit_next(&self) -> io::Result<()> {
        let number = self.next.replace(self.next.get() + 1);
        let bucket = self.bucket(Bucket::Written).0;
        self.commit(bucket, vec![write_of(bucket, NEW | number)]).await
    }

    async fn put_next(&self) -> io::Result<()> {
        let number = self.next.replace(self.next.get() + 1);
        let mut random = rng::Rng::from_seed(NEW | number);
        let mut id = [0; 32];
        for word in id.chunks_exact_mut(8) {
            word.copy_from_slice(&random.below(u64::MAX).to_le_bytes());
        }
        let record = Record::Bytes(bytes_of(number).into());
        self.lane.put(ChunkId(id), record).await.map(drop).map_err(failed)
    }

    async fn read_any(&self, freshness: Freshness) -> io::Result<()> {
        let (bucket, count) = self.bucket(Bucket::Large);
        let key = key_of(rng::next_u64() % count);
        let query = Query::Read { bucket: bucket.id, key: key.clone(), mode: ReadMode::Preferred, local: vec![] };
        match self.cluster.query((bucket.id, &key), &query, freshness).await.map_err(failed)? {
            Reply::Read(Some(found)) if found.version.content.size == OBJECT as u64 => Ok(()),
            other => Err(failed(format!("{key}: {other:?}"))),
        }
    }

    async fn page_anywhere(&self, bucket: Bucket) -> io::Result<()> {
        let (_, count) = self.bucket(bucket);
        // From where a whole page follows.
        self.page_behind(bucket, rng::next_u64() % count.saturating_sub(u64::from(PAGE)).max(1)).await
    }

    async fn next_page(&self, bucket: Bucket) -> io::Result<()> {
        let (_, count) = self.bucket(bucket);
        let turned = &self.turned[usize::from(bucket == Bucket::Small)];
        let from = turned.replace(turned.get() + u64::from(PAGE));
        if turned.get() + u64::from(PAGE) >= count {
            turned.set(0);
        }
        self.page_behind(bucket, from).await
    }

    /// The page that follows the key of this number.
    async fn page_behind(&self, bucket: Bucket, number: u64) -> io::Result<()> {
        let (record, count) = self.bucket(bucket);
        let after = Some(Position::behind(key_of(number)));
        let query = ListQuery { bucket: record.id, after, limit: PAGE, ..ListQuery::default() };
        let page = self.cluster.list_objects(query).await.map_err(failed)?;
        let wanted = count.saturating_sub(number + 1).min(u64::from(PAGE)) as usize;
        if page.items.len() == wanted { Ok(()) } else { Err(failed(format!("a page of {}", page.items.len()))) }
    }
}

fn key_of(number: u64) -> String {
    format!("photos/2026/{number:014}")
}

fn bytes_of(number: u64) -> Vec<u8> {
    number.to_le_bytes().repeat(OBJECT / 8)
}

fn write_of(bucket: &BucketRecord, number: u64) -> Write {
    let content = Content {
        size: OBJECT as u64,
        etag: format!("{number:032x}"),
        headers: vec![("content-type".to_owned(), "image/jpeg".to_owned())],
        payload: Payload::Inline(bytes_of(number)),
        ..Content::default()
    };
    let place = Place { bucket: bucket.stamp(), key: key_of(number) };
    Write { place, id: new_version(), mode: Mode::Overwrite, body: Body::Object(content) }
}
