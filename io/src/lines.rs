//! Lines for standard error, from any thread, without waiting for whoever reads them.
//!
//! Each thread has a bounded queue of its own; one thread of the process writes what is in them. A line for which there
//! is no room is lost and counted, and a line says so later: a pipe that nobody empties must not stop a core.
//!
//! It knows no levels and no format.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;

use crossbeam::queue::ArrayQueue;

use crate::core;
use crate::runtime::CoreId;
use crate::time::WallTime;

/// Lines of one thread that wait to be written.
const WAITING_MAX: usize = 4096;

/// The process's writer, once there is one.
static WRITER: OnceLock<Writer> = OnceLock::new();

struct Writer {
    thread: OnceLock<Thread>,
    /// Of each thread that ever wrote. Locked when a thread writes its first line, and by the writer.
    queues: Mutex<Vec<Arc<Queue>>>,
    /// Whether the writer is about to sleep.
    is_asleep: AtomicBool,
    lost: AtomicU64,
}

struct Queue {
    lines: ArrayQueue<String>,
    /// Lines put in and lines written, ever: equal when all is written.
    put: AtomicU64,
    written: AtomicU64,
}

thread_local! {
    static QUEUE: OnceLock<Arc<Queue>> = const { OnceLock::new() };
}

/// Writes a line, without its line break. The first starts the thread that writes.
pub fn write(line: String) {
    let writer = writer();
    let pushed = QUEUE.try_with(|queue| {
        let queue = queue.get_or_init(|| writer.register());
        queue.lines.push(line).map(|()| queue.put.fetch_add(1, Ordering::SeqCst))
    });
    if !matches!(pushed, Ok(Ok(_))) {
        writer.lost.fetch_add(1, Ordering::Relaxed);
    }
    if writer.is_asleep.swap(false, Ordering::SeqCst)
        && let Some(thread) = writer.thread.get()
    {
        thread.unpark();
    }
}

/// Waits, for a short while at most, until all lines so far are written: for the end of a program.
pub fn flush() {
    let Some(writer) = WRITER.get() else { return };
    for _ in 0..200 {
        if writer.is_drained() {
            return;
        }
        if let Some(thread) = writer.thread.get() {
            thread.unpark();
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Lines that were lost so far because nobody took them.
pub fn lost() -> u64 {
    WRITER.get().map_or(0, |writer| writer.lost.load(Ordering::Relaxed))
}

/// Where and when a line is written: its core, if it is written on one, and the wall clock.
pub fn stamp() -> (Option<CoreId>, WallTime) {
    match core::try_current() {
        Some(core) => (Some(core.id), core.backend.wall()),
        None => (None, crate::driver::real_wall()),
    }
}

fn writer() -> &'static Writer {
    WRITER.get_or_init(|| {
        let started = thread::Builder::new().name("lines".to_owned()).spawn(|| {
            let writer = writer();
            let _ = writer.thread.set(thread::current());
            writer.run();
        });
        drop(started);
        Writer {
            thread: OnceLock::new(),
            queues: Mutex::default(),
            is_asleep: AtomicBool::new(false),
            lost: AtomicU64::new(0),
        }
    })
}

impl Writer {
    fn register(&self) -> Arc<Queue> {
        let (put, written) = (AtomicU64::new(0), AtomicU64::new(0));
        let queue = Arc::new(Queue { lines: ArrayQueue::new(WAITING_MAX), put, written });
        self.queues().push(queue.clone());
        queue
    }

    fn run(&self) {
        let mut told = 0;
        loop {
            let wrote = self.write_waiting();
            let lost = self.lost.load(Ordering::Relaxed);
            if lost > told {
                print(&format!("{} lines were lost: standard error was not read fast enough", lost - told));
                told = lost;
            }
            if wrote == 0 {
                // Announced before it looks once more: who puts a line in after that look sees that it must wake this.
                self.is_asleep.store(true, Ordering::SeqCst);
                if self.is_drained() {
                    thread::park();
                }
                self.is_asleep.store(false, Ordering::SeqCst);
            }
        }
    }

    /// Writes what waits and returns how many lines that was.
    fn write_waiting(&self) -> usize {
        let queues: Vec<Arc<Queue>> = self.queues().clone();
        let mut wrote = 0;
        for queue in queues {
            while let Some(line) = queue.lines.pop() {
                print(&line);
                queue.written.fetch_add(1, Ordering::SeqCst);
                wrote += 1;
            }
        }
        // Threads end; their queues go with them, once they are empty.
        self.queues().retain(|queue| Arc::strong_count(queue) > 1 || !queue.is_drained());
        wrote
    }

    fn is_drained(&self) -> bool {
        self.queues().iter().all(|queue| queue.is_drained())
    }

    fn queues(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Queue>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn is_drained(&self) -> bool {
        self.written.load(Ordering::SeqCst) >= self.put.load(Ordering::SeqCst) && self.lines.is_empty()
    }
}

fn print(line: &str) {
    // If standard error is gone there is nobody to tell.
    let _ = writeln!(io::stderr().lock(), "{line}");
}
