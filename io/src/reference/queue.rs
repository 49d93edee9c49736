//! crossbeam's queue alone between two threads that never sleep: the most a mesh could reach.

use std::thread;
use std::time::{Duration, Instant};

use crossbeam::queue::ArrayQueue;
use crossbeam::utils::Backoff;

/// How long `times` messages take there and back, one at a time.
pub fn queue_round_trips(times: u64) -> Duration {
    let (there, back) = (ArrayQueue::new(8), ArrayQueue::new(8));
    thread::scope(|scope| {
        scope.spawn(|| (0..times).for_each(|_| push(&back, pop(&there))));
        let started = Instant::now();
        for message in 0..times {
            push(&there, message);
            pop(&back);
        }
        started.elapsed()
    })
}

/// How long `times` messages take one way through a queue of `capacity`.
pub fn queue_throughput(times: u64, capacity: usize) -> Duration {
    let queue = ArrayQueue::new(capacity);
    thread::scope(|scope| {
        let started = Instant::now();
        scope.spawn(|| (0..times).for_each(|message| push(&queue, message)));
        for _ in 0..times {
            pop(&queue);
        }
        started.elapsed()
    })
}

fn push(queue: &ArrayQueue<u64>, message: u64) {
    let backoff = Backoff::new();
    while queue.push(message).is_err() {
        backoff.snooze();
    }
}

fn pop(queue: &ArrayQueue<u64>) -> u64 {
    let backoff = Backoff::new();
    loop {
        if let Some(message) = queue.pop() {
            return message;
        }
        backoff.snooze();
    }
}
