//! A lane's actors: compaction and scrub, as a node runs them.

use cairn_daemon::actor::{Rate, Registry, Schedule, Spec, State};
use cairn_daemon::lane::{Compact, CompactMessage, Lane, Options, Owner, Scrub, ScrubMessage};
use cairn_io::fs::Dir;
use cairn_io::log::{Options as LogOptions, Payload};
use cairn_io::time::{self, Duration};
use cairn_io::{Config, run_one};
use cairn_meta::index::{ChunkId, Store};

const SEGMENT: u32 = 1 << 20;
const CHUNKS: u64 = 200;

fn content(number: u64) -> Vec<u8> {
    (0..20_000_u64).map(|at| (at.wrapping_mul(number + 1) >> 3) as u8).collect()
}

fn id(number: u64) -> ChunkId {
    ChunkId(*blake3::hash(&content(number)).as_bytes())
}

/// Runs a test on a lane with chunks in it, every fourth of which is still there.
fn with_lane<F: Future<Output = ()> + 'static>(test: impl Fn(Lane) -> F + Send + Sync + 'static) {
    // Under the target directory: a temporary file system may not know direct I/O.
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let path = place.path().to_str().expect("UTF-8").to_owned();
    let test = std::sync::Arc::new(test);
    let program = move || {
        let (path, test) = (path.clone(), test.clone());
        async move {
            let dir = Dir::open(&path).await.expect("it is there");
            Lane::create(&dir, Owner::default(), 0, SEGMENT).await.expect("made");
            let log = LogOptions { keep_free: 0, batch_bytes: 128 << 10, ..LogOptions::default() };
            let options = Options { log, ballast: 0, ..Options::default() };
            let (lane, _) = Lane::open(&dir, Store::memory(), options).await.expect("opened");
            for number in 0..CHUNKS {
                lane.put(id(number), Payload::Bytes(content(number).into())).await.expect("stored");
            }
            for number in (0..CHUNKS).filter(|number| number % 4 != 0) {
                assert!(lane.drop_chunk(&id(number)).await.expect("dropped"));
            }
            test(lane).await;
        }
    };
    run_one(&Config::single(), program).expect("the program ends well");
}

async fn assert_as_it_was(lane: &Lane) {
    for number in 0..CHUNKS {
        let bytes = lane.get(&id(number)).await.expect("read");
        assert_eq!(bytes.is_some(), number % 4 == 0, "chunk {number}");
        assert!(bytes.is_none_or(|bytes| bytes[..] == content(number)[..]));
    }
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..3000 {
        if done() {
            return;
        }
        time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited in vain until {what}");
}

#[test]
fn compaction_gives_room_back_and_says_why() {
    with_lane(|lane| async move {
        lane.commit().await.expect("committed");
        let before = lane.status().segments.0;
        let plan = lane.compaction_plan();
        assert!(plan.len() >= 2 && plan.iter().all(|planned| planned.kept * 2 < planned.bytes), "{plan:?}");
        let registry = Registry::new();
        // Paid for: it stands still until the budget is raised.
        let spec = Spec { bytes: Rate::PerSecond(0), ..Spec::new("compact") };
        let actor = lane.clone();
        let mailbox = registry.start(&spec, move || Compact { lane: actor.clone() }).expect("the only one");
        mailbox.send(CompactMessage::Look).await.expect("it runs");
        until("it works", || {
            matches!(registry.status("compact").map(|status| status.state), Some(State::Working { .. }))
        })
        .await;
        let Some(State::Working { what, why, .. }) = registry.status("compact").map(|status| status.state) else {
            panic!("it worked just now")
        };
        assert!(what.starts_with("segment ") && why.contains("still needed"), "{what}: {why}");
        time::sleep(Duration::from_millis(50)).await;
        assert_eq!(lane.status().segments.0, before);
        assert!(registry.set_budget("compact", Rate::Unlimited, Rate::Unlimited));
        until("segments are free", || lane.compaction_plan().is_empty()).await;
        assert!(lane.status().segments.0 < before, "{:?}", lane.status());
        registry.stop_all().await;
        assert_as_it_was(&lane).await;
    });
}

#[test]
fn scrub_goes_round_and_finds_nothing_where_nothing_is_bad() {
    with_lane(|lane| async move {
        let registry = Registry::new();
        let spec = Spec { schedule: Schedule::Every(Duration::from_millis(1)), ..Spec::new("scrub") };
        let actor = lane.clone();
        let mailbox = registry.start(&spec, move || Scrub { lane: actor.clone() }).expect("the only one");
        let first = lane.next_to_scrub().expect("known");
        until("it has moved on", || lane.next_to_scrub().expect("known") != first).await;
        mailbox.send(ScrubMessage::All).await.expect("it runs");
        until("it has read the message", || registry.status("scrub").is_some_and(|status| status.mailbox == 0)).await;
        registry.stop_all().await;
        assert_eq!(lane.status().quarantined, 0);
        assert_eq!(registry.status("scrub").map(|status| status.failures), Some(0));
        assert_as_it_was(&lane).await;
    });
}
