//! Taps: who reads the log as it is written, through the management API.
//!
//! An event is handed to each tap without waiting and without a lock. A reader that is too slow loses lines and is told
//! how many. There are a few taps only; one who comes when all are taken is refused.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;

use crossbeam::queue::ArrayQueue;
use futures_util::task::AtomicWaker;

/// Readers there can be at a time.
pub const TAPS_MAX: usize = 8;
/// Lines that wait for one reader.
pub const LINES_MAX: usize = 1024;

static TAPS: [Slot; TAPS_MAX] = [const { Slot::new() }; TAPS_MAX];
/// How many are taken, so that an event finds out at once that nobody reads.
static TAKEN: AtomicUsize = AtomicUsize::new(0);

struct Slot {
    is_taken: AtomicBool,
    lines: OnceLock<ArrayQueue<Arc<str>>>,
    lost: AtomicU64,
    reader: AtomicWaker,
}

impl Slot {
    const fn new() -> Self {
        Self {
            is_taken: AtomicBool::new(false),
            lines: OnceLock::new(),
            lost: AtomicU64::new(0),
            reader: AtomicWaker::new(),
        }
    }

    fn lines(&self) -> &ArrayQueue<Arc<str>> {
        self.lines.get_or_init(|| ArrayQueue::new(LINES_MAX))
    }
}

/// A reader's place. It is free again when this is dropped.
#[derive(Debug)]
pub struct Tap(usize);

/// What a reader is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tapped {
    /// A line.
    Line(Arc<str>),
    /// So many lines were lost before the next one.
    Lost(u64),
}

impl Tap {
    /// Takes a place; `None` if there is none.
    pub fn open() -> Option<Self> {
        let at = TAPS.iter().position(|slot| !slot.is_taken.swap(true, Ordering::SeqCst))?;
        // What an earlier reader left.
        while TAPS[at].lines().pop().is_some() {}
        TAPS[at].lost.store(0, Ordering::SeqCst);
        TAKEN.fetch_add(1, Ordering::SeqCst);
        Some(Self(at))
    }

    /// The next line, or how many were lost.
    pub async fn next(&self) -> Tapped {
        let slot = &TAPS[self.0];
        std::future::poll_fn(|cx| {
            if let Some(tapped) = take(slot) {
                return Poll::Ready(tapped);
            }
            slot.reader.register(cx.waker());
            // Looked at again: a line may have come before the waker was registered.
            take(slot).map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        TAKEN.fetch_sub(1, Ordering::SeqCst);
        TAPS[self.0].is_taken.store(false, Ordering::SeqCst);
    }
}

fn take(slot: &Slot) -> Option<Tapped> {
    let lost = slot.lost.swap(0, Ordering::SeqCst);
    if lost > 0 {
        return Some(Tapped::Lost(lost));
    }
    slot.lines().pop().map(Tapped::Line)
}

/// Whether anybody reads.
pub fn is_anybody_there() -> bool {
    TAKEN.load(Ordering::Relaxed) > 0
}

/// Hands a line to everybody who reads.
pub fn hand_out(line: &Arc<str>) {
    for slot in TAPS.iter().filter(|slot| slot.is_taken.load(Ordering::Relaxed)) {
        if slot.lines().push(line.clone()).is_err() {
            slot.lost.fetch_add(1, Ordering::SeqCst);
        }
        slot.reader.wake();
    }
}

#[test]
fn a_slow_reader_loses_lines_and_is_told_how_many() {
    use futures_util::FutureExt;
    let tap = Tap::open().expect("a place");
    let line: Arc<str> = "a line".into();
    (0..LINES_MAX + 7).for_each(|_| hand_out(&line));
    assert_eq!(tap.next().now_or_never(), Some(Tapped::Lost(7)));
    for _ in 0..LINES_MAX {
        assert_eq!(tap.next().now_or_never(), Some(Tapped::Line(line.clone())));
    }
    assert_eq!(tap.next().now_or_never(), None);
    let others: Vec<Tap> = std::iter::from_fn(Tap::open).collect();
    assert_eq!(others.len(), TAPS_MAX - 1, "then there is no place left");
    drop(tap);
    assert!(Tap::open().is_some());
}
