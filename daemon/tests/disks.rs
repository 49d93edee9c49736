//! The disks of a node on real files and real drivers: what any core stores is found by every core, wherever it lies and
//! while it is moved; disks come and go.

#![allow(clippy::disallowed_methods, reason = "it looks at files behind the disks' back")]

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use cairn_daemon::disks::map::Membership;
use cairn_daemon::disks::{Disks, DisksError, Format, Hub, LaneState, Options, Uid, format};
use cairn_daemon::lane::{Named, Options as LaneOptions, Put};
use cairn_io::log::{Options as LogOptions, Payload};
use cairn_io::time::{self, Duration};
use cairn_io::{Config, CoreId, DriverChoice, run};
use cairn_meta::index::{ChunkId, Digest};
use cairn_placement::PartitionId;

const PARTITIONS: u32 = 16;
const ONE_LANE: Format = Format { lanes: 1, segment_bytes: 1 << 20 };

/// Directories for disks, removed at the end.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        // Under the target directory: a temporary file system may not know direct I/O.
        Self(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory"))
    }

    fn disk(&self, number: usize) -> String {
        self.0.path().join(format!("disk{number}")).to_str().expect("UTF-8").to_owned()
    }

    fn disks(&self, count: usize) -> Vec<String> {
        (0..count).map(|number| self.disk(number)).collect()
    }
}

fn options(data: Vec<String>) -> Options {
    let log = LogOptions { keep_free: 0, batch_bytes: 128 << 10, segments_max: 40, ..LogOptions::default() };
    let lane = LaneOptions { log, partitions: PARTITIONS, ballast: 0, ..LaneOptions::default() };
    Options { lane, ..Options::new(data) }
}

/// What the cores of a test share.
#[derive(Clone)]
struct Team {
    hub: Hub,
    cores: usize,
    here: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
    sum: Arc<AtomicUsize>,
}

impl Team {
    /// Waits until all cores have come to the same point.
    async fn meet(&self) {
        let seen = self.here.fetch_add(1, Ordering::SeqCst);
        let all = (seen / self.cores + 1) * self.cores;
        while self.here.load(Ordering::SeqCst) < all {
            time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Opens the disks on so many cores of a driver and runs `test` on each; the first closes them.
fn on_cores<F: Future<Output = ()> + 'static>(
    driver: DriverChoice,
    cores: usize,
    options: &Options,
    test: impl Fn(CoreId, Disks, Team) -> F + Clone + Send + Sync + 'static,
) {
    let config = Config { driver, cores, block_bytes_max: 64 << 20, ..Config::default() };
    let team = Team { hub: Hub::new(cores), cores, here: Arc::default(), is_over: Arc::default(), sum: Arc::default() };
    let options = options.clone();
    let program = move |core: CoreId| {
        let (team, options, test) = (team.clone(), options.clone(), test.clone());
        async move {
            let disks = Disks::open(&team.hub, options).await.expect("it opens");
            let done = time::timeout(Duration::from_secs(120), test(core, disks.clone(), team.clone())).await;
            done.expect("it ends within two minutes");
            team.meet().await;
            if core.index() == 0 {
                disks.close().await.expect("closed");
                team.is_over.store(true, Ordering::SeqCst);
            }
            while !team.is_over.load(Ordering::SeqCst) {
                time::sleep(Duration::from_millis(1)).await;
            }
        }
    };
    let ended = run(&config, program).expect("it runs");
    ended.results.into_iter().for_each(|ended| ended.expect("no core panics"));
}

/// On one core of whatever driver there is.
fn on_one<F: Future<Output = ()> + 'static>(
    options: &Options,
    test: impl Fn(Disks) -> F + Clone + Send + Sync + 'static,
) {
    on_cores(DriverChoice::Auto, 1, options, move |_, disks, _| test(disks));
}

fn made(data: &[String], how: Format) {
    let data = data.to_vec();
    let program = move |_| {
        let data = data.clone();
        async move { drop(format(&data, Uid::default(), how).await.expect("made")) }
    };
    run(&Config::single(), program).expect("it runs").results.remove(0).expect("no panic");
}

fn content(number: u64, len: usize) -> Bytes {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes.into()
}

fn id(bytes: &[u8]) -> ChunkId {
    ChunkId(*blake3::hash(bytes).as_bytes())
}

fn len(number: u64) -> usize {
    if number.is_multiple_of(50) { 150_000 } else { 100 + number as usize % 3000 }
}

async fn put(disks: &Disks, numbers: impl IntoIterator<Item = u64>) {
    for number in numbers {
        let bytes = content(number, len(number));
        disks.put(id(&bytes), Payload::Bytes(bytes)).await.expect("stored");
    }
}

async fn check(disks: &Disks, numbers: impl IntoIterator<Item = u64>) {
    for number in numbers {
        let bytes = content(number, len(number));
        assert_eq!(disks.get(&id(&bytes)).await.expect("read").as_ref(), Some(&bytes), "chunk {number}");
        let part = disks.get_range(&id(&bytes), 10..50).await.expect("read").expect("here");
        assert_eq!(part, bytes.slice(10..50));
        assert!(disks.has(&id(&bytes)).await.expect("asked"));
    }
}

/// Listings and digests are those of exactly these chunks.
async fn check_counts(disks: &Disks, numbers: impl IntoIterator<Item = u64>) {
    let mut all = vec![Digest::default(); PARTITIONS as usize];
    for number in numbers {
        let id = id(&content(number, len(number)));
        all[PartitionId::of_chunk(&id.0, PARTITIONS).0 as usize].add(&id, len(number) as u32);
    }
    assert_eq!(disks.digests().await.expect("counted"), all);
    for (partition, expected) in (0..).map(PartitionId).zip(&all) {
        assert_eq!(disks.digest(partition).await.expect("counted"), *expected);
        let (mut listed, mut after) = (Digest::default(), None);
        loop {
            let page = disks.list(partition, after.as_ref(), 7).await.expect("listed");
            page.iter().for_each(|chunk| listed.add(&chunk.id, chunk.length));
            match page.last() {
                Some(last) => after = Some(last.id),
                None => break,
            }
        }
        assert_eq!(listed, *expected);
    }
}

/// Goes through this core's lanes until everything is at home; returns how many chunks it moved.
async fn settle(disks: &Disks) -> u64 {
    let mut moved = 0;
    for _ in 0..2000 {
        for (lane, _) in disks.own_lanes() {
            moved += disks.pass(lane).await.expect("passed").map_or(0, |passed| passed.moved);
        }
        if disks.is_settled() {
            return moved;
        }
        time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it never settles: {:?}", disks.status().await);
}

fn stored_and_found(driver: DriverChoice) {
    for (before, after, lanes) in [(1, 2, 1), (3, 1, 2), (2, 3, 3)] {
        let place = Place::new();
        let data = place.disks(2);
        made(&data, Format { lanes, ..ONE_LANE });
        on_cores(driver, before, &options(data.clone()), move |core, disks, team| async move {
            let first = core.index() as u64 * 1000;
            put(&disks, first..first + 200).await;
            team.meet().await;
            for core in 0..before as u64 {
                check(&disks, core * 1000..core * 1000 + 200).await;
            }
            check_counts(&disks, (0..before as u64).flat_map(|core| core * 1000..core * 1000 + 200)).await;
            team.meet().await;
            // The same chunk from every core at once is stored once.
            put(&disks, 9000..9020).await;
            team.meet().await;
            let gone = id(&content(first, len(first)));
            assert!(disks.drop_chunk(&gone).await.expect("dropped"));
            assert!(!disks.drop_chunk(&gone).await.expect("asked"));
            assert_eq!(disks.get(&gone).await.expect("read"), None);
        });
        on_cores(driver, after, &options(data), move |_, disks, _| async move {
            let all = (0..before as u64).flat_map(|core| core * 1000 + 1..core * 1000 + 200).chain(9000..9020);
            check(&disks, all.clone()).await;
            check_counts(&disks, all).await;
            let status = disks.status().await.expect("asked");
            assert!(disks.is_settled() && status.troubles.is_empty());
            assert_eq!(status.lanes.len(), 2 * lanes as usize);
            for lane in status.lanes {
                let LaneState::Open { chunks, core, .. } = lane.state else { panic!("it is open") };
                assert!(chunks > 0 && core.index() < after);
            }
        });
    }
}

#[test]
fn any_core_stores_and_finds_on_glommio() {
    stored_and_found(DriverChoice::Glommio);
}

#[test]
fn any_core_stores_and_finds_on_monoio() {
    stored_and_found(DriverChoice::Monoio);
}

fn grown_and_shrunk(driver: DriverChoice, cores: usize) {
    const CHUNKS: u64 = 1500;
    let place = Place::new();
    let (data, new) = (place.disks(3), place.disk(3));
    made(&data, ONE_LANE);
    let added = new.clone();
    on_cores(driver, cores, &options(data.clone()), move |core, disks, team| {
        let new = added.clone();
        async move {
            let mine = (0..CHUNKS).filter(move |number| *number as usize % cores == core.index());
            put(&disks, mine.clone()).await;
            team.meet().await;
            let before = disks.map();
            if core.index() == 0 {
                disks.add(&new, ONE_LANE).await.expect("added");
            }
            team.meet().await;
            let after = disks.map();
            assert!(after.epoch > before.epoch && after.lanes.len() == 4);
            let homes = |number: u64| {
                let id = id(&content(number, len(number)));
                (before.ranked().home(&id.0), after.ranked().home(&id.0))
            };
            let must: Vec<u64> = (0..CHUNKS).filter(|number| homes(*number).0 != homes(*number).1).collect();
            assert!(must.iter().all(|number| homes(*number).1 == Some(3)), "what moves moves to the new disk");
            // A quarter, give or take five standard deviations.
            assert!((must.len() as u64).abs_diff(CHUNKS / 4) < 85, "{} of {CHUNKS} must move", must.len());
            // Served and counted while it moves.
            check_counts(&disks, 0..CHUNKS).await;
            let moved = Arc::new(AtomicUsize::new(0));
            let settling = {
                let (disks, moved) = (disks.clone(), moved.clone());
                cairn_io::task::spawn(cairn_io::task::Class::Maintenance, async move {
                    moved.store(settle(&disks).await as usize, Ordering::SeqCst);
                })
            };
            check(&disks, mine).await;
            check_counts(&disks, 0..CHUNKS).await;
            settling.await.expect("it settles");
            team.here_sum(moved.load(Ordering::SeqCst), must.len()).await;
            check_counts(&disks, 0..CHUNKS).await;
            if core.index() == 0 {
                let first = disks.map().disks[0].id;
                disks.evacuate(first).await.expect("begun");
            }
            team.meet().await;
            settle(&disks).await;
            team.meet().await;
            assert_eq!(disks.map().disks.len(), 3);
            check_counts(&disks, 0..CHUNKS).await;
        }
    });
    let label = std::fs::read(Path::new(&data[0]).join("disk")).expect("there");
    let label = cairn_daemon::disks::map::Label::decode(&label).expect("a label");
    assert_eq!(label.membership, Membership::Removed);
    let mut named = data;
    named.push(new);
    on_one(&options(named), |disks| async move {
        check(&disks, 0..CHUNKS).await;
        let troubles = disks.status().await.expect("asked").troubles;
        assert!(troubles.len() == 1 && troubles[0].1.contains("was removed from this node"), "{troubles:?}");
    });
}

impl Team {
    /// The cores' parts add up to this.
    async fn here_sum(&self, part: usize, sum: usize) {
        self.sum.fetch_add(part, Ordering::SeqCst);
        self.meet().await;
        assert_eq!(self.sum.load(Ordering::SeqCst), sum, "only what must move moves");
    }
}

#[test]
fn a_new_disk_takes_its_share_and_an_emptied_one_leaves() {
    grown_and_shrunk(DriverChoice::Glommio, 2);
    grown_and_shrunk(DriverChoice::Monoio, 3);
    grown_and_shrunk(DriverChoice::Monoio, 1);
}

#[test]
fn a_drop_during_a_move_is_not_undone() {
    let place = Place::new();
    let (data, new) = (place.disks(2), place.disk(2));
    made(&data, ONE_LANE);
    on_cores(DriverChoice::Auto, 2, &options(data), move |core, disks, team| {
        let new = new.clone();
        async move {
            if core.index() == 0 {
                put(&disks, 0..800).await;
                disks.add(&new, ONE_LANE).await.expect("added");
            }
            team.meet().await;
            let dropping = {
                let disks = disks.clone();
                let odd = (0..800).filter(move |number| number % 4 == 1 + 2 * core.index() as u64);
                cairn_io::task::spawn(cairn_io::task::Class::Foreground, async move {
                    for number in odd {
                        assert!(disks.drop_chunk(&id(&content(number, len(number)))).await.expect("dropped"));
                    }
                })
            };
            settle(&disks).await;
            dropping.await.expect("all dropped");
            team.meet().await;
            check_counts(&disks, (0..800).filter(|number| number % 2 == 0)).await;
        }
    });
}

/// The lanes that chunks of a node without this disk can be on.
fn is_on(disks: &Disks, disk: usize, number: u64) -> bool {
    let map = disks.map();
    let home = map.ranked().home(&id(&content(number, len(number))).0);
    home.and_then(|lane| map.lane(lane)).is_some_and(|lane| lane.disk == map.disks[disk].id)
}

#[test]
fn a_missing_disk_takes_nobody_with_it() {
    let place = Place::new();
    let data = place.disks(3);
    made(&data, ONE_LANE);
    on_one(&options(data.clone()), |disks| async move { put(&disks, 0..300).await });
    on_one(&options(data[..2].to_vec()), |disks| async move {
        let (away, here): (Vec<u64>, Vec<u64>) = (0..300).partition(|number| is_on(&disks, 2, *number));
        assert!(away.len() > 50 && here.len() > 100);
        check(&disks, here.iter().copied()).await;
        for number in &away {
            let id = id(&content(*number, len(*number)));
            assert!(matches!(disks.get(&id).await, Err(DisksError::Unavailable { .. })));
            assert!(matches!(disks.has(&id).await, Err(DisksError::Unavailable { .. })));
            assert!(matches!(disks.drop_chunk(&id).await, Err(DisksError::Unavailable { .. })));
        }
        assert!(disks.drop_chunk(&id(&content(here[0], len(here[0])))).await.expect("it is here"));
        assert!(disks.map().is_settled, "nothing has gone elsewhere yet");
        // What belongs on the missing disk goes elsewhere, old chunks and new ones.
        put(&disks, away[..10].iter().copied().chain(1000..1100)).await;
        assert!(!disks.map().is_settled);
        check(&disks, away[..10].iter().copied().chain(1000..1100)).await;
        check(&disks, here[1..].iter().copied()).await;
        let elsewhere = id(&content(away[0], len(away[0])));
        assert!(
            matches!(disks.drop_chunk(&elsewhere).await, Err(DisksError::Unavailable { .. })),
            "it would come back with the disk"
        );
        let disk = disks.map().disks[2].id;
        assert!(matches!(disks.evacuate(disk).await, Err(DisksError::Refused(_))), "nothing can be moved off it");
    });
    let dropped = on_all(data, 300);
    assert_eq!(dropped, 1);
}

/// Everything but one chunk is there again when all disks are, and once only.
fn on_all(data: Vec<String>, chunks: u64) -> usize {
    let gone = Arc::new(AtomicUsize::new(0));
    let count = gone.clone();
    on_one(&options(data), move |disks| {
        let gone = count.clone();
        async move {
            let mut here = Vec::new();
            for number in (0..chunks).chain(1000..1100) {
                if disks.has(&id(&content(number, len(number)))).await.expect("asked") {
                    here.push(number);
                } else {
                    gone.fetch_add(1, Ordering::SeqCst);
                }
            }
            check_counts(&disks, here.iter().copied()).await;
            settle(&disks).await;
            check_counts(&disks, here.iter().copied()).await;
            check(&disks, here).await;
        }
    });
    gone.load(Ordering::SeqCst)
}

#[test]
fn a_poisoned_lane_is_gone_round_and_settles_after_a_restart() {
    let place = Place::new();
    let data = place.disks(3);
    made(&data, ONE_LANE);
    on_one(&options(data.clone()), |disks| async move {
        put(&disks, 0..300).await;
        let (_, lane) = disks.own_lanes().remove(0);
        lane.log().poison("the test says so");
        put(&disks, 1000..1100).await;
        check(&disks, (0..300).chain(1000..1100)).await;
        let held = (0..300).find(|number| is_on(&disks, 0, *number)).expect("one");
        assert!(disks.drop_chunk(&id(&content(held, len(held)))).await.is_err(), "the lane can't drop it durably");
        let other = (0..300).find(|number| !is_on(&disks, 0, *number)).expect("one");
        assert!(disks.drop_chunk(&id(&content(other, len(other)))).await.expect("nothing of it is on that lane"));
    });
    assert_eq!(on_all(data, 300), 1);
}

#[test]
fn a_lost_disk_can_be_given_up_and_does_not_come_back() {
    let place = Place::new();
    let data = place.disks(3);
    made(&data, ONE_LANE);
    on_one(&options(data.clone()), |disks| async move { put(&disks, 0..300).await });
    on_one(&options(data[..2].to_vec()), |disks| async move {
        let here: Vec<u64> = (0..300).filter(|number| !is_on(&disks, 2, *number)).collect();
        disks.give_up(disks.map().disks[2].id).await.expect("given up");
        assert!(disks.is_settled(), "the others' chunks are where they were");
        check(&disks, here.iter().copied()).await;
        check_counts(&disks, here).await;
        put(&disks, 0..300).await;
        check_counts(&disks, 0..300).await;
    });
    on_one(&options(data), |disks| async move {
        check_counts(&disks, 0..300).await;
        let troubles = disks.status().await.expect("asked").troubles;
        assert!(troubles.len() == 1 && troubles[0].1.contains("was removed"), "{troubles:?}");
    });
}

/// The only disk that took data was lost while the others were being emptied (simulation: disks-lost, seed 37). It couldn't be
/// given up as the last one that takes data, none could be added or kept while it was missing, and the others' chunks had
/// nowhere to go.
#[test]
fn a_lost_disk_can_be_given_up_while_all_others_are_leaving() {
    let place = Place::new();
    let data = place.disks(2);
    made(&data, ONE_LANE);
    on_one(&options(data.clone()), |disks| async move {
        put(&disks, 0..300).await;
        disks.evacuate(disks.map().disks[0].id).await.expect("begun");
    });
    on_one(&options(data[..1].to_vec()), |disks| async move {
        let lane = disks.own_lanes().remove(0).1;
        let has = |number: &u64| lane.has(&id(&content(*number, len(*number)))).expect("read");
        let here: Vec<u64> = (0..300).filter(has).collect();
        drop(lane);
        assert!(here.len() > 100, "{}", here.len());
        let leaving = disks.map().disks[0].id;
        disks.give_up(disks.map().disks[1].id).await.expect("given up");
        let left = &disks.map().disks;
        assert!(left.len() == 1 && left[0].state == cairn_daemon::disks::DiskState::Active, "{left:?}");
        settle(&disks).await;
        check(&disks, here.iter().copied()).await;
        check_counts(&disks, here).await;
        put(&disks, 0..300).await;
        check_counts(&disks, 0..300).await;
        assert!(matches!(disks.give_up(leaving).await, Err(DisksError::Refused(_))), "it is there");
    });
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("made");
    for entry in std::fs::read_dir(from).expect("there") {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name())).expect("read");
        if path.is_dir() {
            copy(&path, &to.join(name));
        } else {
            std::fs::copy(&path, to.join(name)).expect("copied");
        }
    }
}

#[test]
fn disks_that_can_not_be_used_are_told_and_contained() {
    let place = Place::new();
    let (data, stranger, twice) = (place.disks(4), place.disk(10), place.disk(11));
    made(&data, ONE_LANE);
    made(std::slice::from_ref(&stranger), ONE_LANE);
    on_one(&options(data.clone()), |disks| async move { put(&disks, 0..200).await });
    copy(Path::new(&data[1]), Path::new(&twice));
    // A newer Cairn has written the label of one disk; the lanes of another were mixed up.
    let label = PathBuf::from(&data[2]).join("disk");
    let mut bytes = std::fs::read(&label).expect("there");
    bytes[8] = 7;
    std::fs::write(&label, bytes).expect("written");
    std::fs::rename(PathBuf::from(&data[3]).join("lane-0003"), PathBuf::from(&data[3]).join("lane-0009"))
        .expect("moved");
    copy(&PathBuf::from(&stranger).join("lane-0000"), &PathBuf::from(&data[3]).join("lane-0003"));
    let mut named = data;
    named.extend([stranger, twice, place.disk(12)]);
    on_one(&options(named), |disks| async move {
        let status = disks.status().await.expect("asked");
        let troubles = format!("{:?}", status.troubles);
        for part in ["belongs to node", "the same disk as", "format version 7", "disk12"] {
            assert!(troubles.contains(part), "{part}: {troubles}");
        }
        let missing: Vec<&String> = status
            .lanes
            .iter()
            .filter_map(|lane| match &lane.state {
                LaneState::Missing(reason) => Some(reason),
                LaneState::Open { .. } => None,
            })
            .collect();
        assert_eq!(missing.len(), 3, "{missing:?}");
        assert!(missing.iter().any(|reason| reason.contains("put the right directory back")), "{missing:?}");
        check(&disks, (0..200).filter(|number| is_on(&disks, 0, *number))).await;
        put(&disks, 500..520).await;
        check(&disks, 500..520).await;
    });
}

#[test]
fn a_disk_with_other_records_stays_until_they_are_gone() {
    let place = Place::new();
    let data = place.disks(2);
    made(&data, ONE_LANE);
    on_one(&options(data), |disks| async move {
        put(&disks, 0..100).await;
        let (_, lane) = disks.own_lanes().remove(0);
        lane.put_named(Named::Version, [7; 32], Bytes::from_static(b"version")).await.expect("stored");
        let first = disks.map().disks[0].id;
        let leaving = disks.map().with_state(first, cairn_daemon::disks::DiskState::Leaving);
        let plan = disks.plan(&leaving).await.expect("planned");
        let is_told =
            |reasons: &[String]| matches!(reasons, [one] if one.starts_with("lane 0 has versions, which don't move"));
        assert!(is_told(&plan.obstacles), "{plan:?}");
        assert!(disks.status().await.expect("asked").disks[0].held_by.is_empty(), "nobody wants it to go");
        let must = (0..100).filter(|number| is_on(&disks, 0, *number)).count() as u64;
        assert_eq!(plan.to_move().0, must);
        disks.evacuate(first).await.expect("begun");
        for _ in 0..4 {
            for (lane, _) in disks.own_lanes() {
                disks.pass(lane).await.expect("passed");
            }
        }
        assert!(disks.map().is_settled && disks.map().disks.len() == 2 && !disks.is_settled(), "{:?}", disks.map());
        check_counts(&disks, 0..100).await;
        let status = disks.status().await.expect("asked");
        assert!(is_told(&status.disks[0].held_by) && status.disks[1].held_by.is_empty(), "{status:?}");
        let (_, other) = disks.own_lanes().remove(1);
        assert_eq!(other.metadata().expect("read"), None);
        other.append_raft(3, vec![(1, 1, Bytes::new())]).await.expect("stored");
        other.set_raft_state(70, 1, b"vote").await.expect("stored");
        other.put_named(Named::Provisional, [8; 32], Bytes::new()).await.expect("stored");
        let told = other.metadata().expect("read").map(|metadata| metadata.to_string());
        assert_eq!(told.as_deref(), Some("the Raft logs of slots 3, 70, and versions"));
        drop(other);
        assert!(lane.drop_named(Named::Version, &[7; 32]).await.expect("dropped"));
        drop(lane);
        settle(&disks).await;
        assert_eq!(disks.map().disks.len(), 1);
        check(&disks, 0..100).await;
        let last = disks.map().disks[0].id;
        assert!(matches!(disks.evacuate(last).await, Err(DisksError::Refused(_))), "the last one stays");
    });
}

#[test]
fn weights_that_are_set_count() {
    let place = Place::new();
    let data = place.disks(2);
    made(&data, ONE_LANE);
    on_one(&options(data), |disks| async move {
        let bytes = content(1, len(1));
        assert_eq!(disks.put(id(&bytes), Payload::Bytes(bytes.clone())).await.expect("stored"), Put::New);
        assert_eq!(disks.put(id(&bytes), Payload::Bytes(bytes)).await.expect("stored"), Put::Existing);
        put(&disks, 0..600).await;
        let (one, other) = (disks.map().disks[0].id, disks.map().disks[1].id);
        disks.weigh(one, Some(30 << 30)).await.expect("weighed");
        disks.weigh(other, Some(10 << 30)).await.expect("weighed");
        settle(&disks).await;
        let status = disks.status().await.expect("asked");
        let LaneState::Open { chunks, .. } = status.lanes[0].state else { panic!("it is open") };
        // 450, give or take five standard deviations.
        assert!(chunks.abs_diff(450) < 54, "{chunks} of 600");
        assert!(!disks.follow_capacities().await.expect("asked"), "set weights stay");
        disks.weigh(one, None).await.expect("weighed");
        disks.weigh(other, None).await.expect("weighed");
        settle(&disks).await;
        check_counts(&disks, 0..600).await;
    });
}
