//! MD5 of the bodies that one core takes: chunks of several are hashed side by side, as many as wait.
//!
//! Bodies hand chunks over when they are full, in their order, and go on; a task hashes while there is something to hash, a
//! little at a time, and lets others have their turn in between. The more bodies there are, the less each costs.

mod lanes;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use cairn_io::Block;
use cairn_io::task::{Class, spawn, yield_now};
use futures_channel::oneshot;

use super::error::{Code, Result};
use lanes::{BLOCK, LANES, State};

/// Bytes of each body that are hashed before others get their turn on the core.
const STEP: usize = 32 << 10;

/// What hashes on one core. Clones share it.
#[derive(Clone, Default)]
pub struct Hashing(Rc<Inner>);

#[derive(Default)]
struct Inner {
    waiting: RefCell<VecDeque<Job>>,
    is_running: Cell<bool>,
}

/// A chunk of a body.
struct Job {
    state: State,
    chunk: Block,
    done: usize,
    answer: oneshot::Sender<State>,
}

/// The MD5 of one body.
pub struct BodyMd5 {
    hashing: Hashing,
    /// Of what comes before the chunk that is under way.
    state: State,
    under_way: Option<oneshot::Receiver<State>>,
    /// Behind the last whole block.
    rest: Vec<u8>,
    length: u64,
}

impl Hashing {
    /// Begins with a body.
    pub fn begin(&self) -> BodyMd5 {
        BodyMd5 { hashing: self.clone(), state: State::default(), under_way: None, rest: Vec::new(), length: 0 }
    }

    fn add(&self, job: Job) {
        self.0.waiting.borrow_mut().push_back(job);
        if !self.0.is_running.replace(true) {
            // Behind what others do on the core, so that more bodies are there when it goes on, and it does more at once.
            spawn(Class::Replication, work(self.0.clone())).detach();
        }
    }
}

impl BodyMd5 {
    /// Takes the next chunk, once the one before is hashed.
    ///
    /// # Errors
    /// If the core stops.
    pub async fn update(&mut self, chunk: Block) -> Result<()> {
        self.wait().await?;
        self.length += chunk.len() as u64;
        if !self.rest.is_empty() {
            // Only the last chunk of a body has an odd end, unless it is longer than it said.
            self.rest.extend_from_slice(&chunk);
            let odd = self.rest.split_off(self.rest.len() / BLOCK * BLOCK);
            self.state.update(&std::mem::replace(&mut self.rest, odd));
            return Ok(());
        }
        let whole = chunk.len() / BLOCK * BLOCK;
        self.rest = chunk[whole..].to_vec();
        let (answer, answered) = oneshot::channel();
        self.under_way = Some(answered);
        self.hashing.add(Job { state: self.state, chunk: chunk.slice(..whole), done: 0, answer });
        Ok(())
    }

    /// The value, once everything is hashed.
    ///
    /// # Errors
    /// If the core stops.
    pub async fn finish(mut self) -> Result<[u8; 16]> {
        self.wait().await?;
        Ok(self.state.finish(&self.rest, self.length))
    }

    async fn wait(&mut self) -> Result<()> {
        if let Some(answered) = self.under_way.take() {
            self.state = answered.await.map_err(|_| Code::InternalError)?;
        }
        Ok(())
    }
}

/// Hashes until nothing waits any more.
async fn work(inner: Rc<Inner>) {
    loop {
        step(&mut inner.waiting.borrow_mut());
        if inner.waiting.borrow().is_empty() {
            break;
        }
        yield_now().await;
    }
    inner.is_running.set(false);
}

/// Hashes a little of those that wait longest, and answers for what is done.
fn step(waiting: &mut VecDeque<Job>) {
    // Whoever gave up waits for nothing.
    waiting.retain(|job| !job.answer.is_canceled());
    let count = waiting.len().min(LANES);
    let jobs = &mut waiting.make_contiguous()[..count];
    let length = jobs.iter().map(|job| job.chunk.len() - job.done).min().unwrap_or(0).min(STEP);
    let mut all: Vec<(State, &[u8])> =
        jobs.iter().map(|job| (job.state, &job.chunk[job.done..job.done + length])).collect();
    State::update_all(&mut all);
    let states: Vec<State> = all.into_iter().map(|(state, _)| state).collect();
    jobs.iter_mut().zip(states).for_each(|(job, state)| job.state = state);
    jobs_done(waiting, count, length);
}

/// Counts what was hashed of the first so many, and answers for those of which nothing is left.
fn jobs_done(waiting: &mut VecDeque<Job>, count: usize, length: usize) {
    waiting.iter_mut().take(count).for_each(|job| job.done += length);
    while let Some(at) = waiting.iter().take(count).position(|job| job.done == job.chunk.len()) {
        let Some(Job { state, answer, .. }) = waiting.remove(at) else { break };
        // Whoever asked may have gone.
        let _ = answer.send(state);
    }
}

#[cfg(test)]
mod tests {
    use cairn_io::block::alloc;
    use cairn_io::rng::Rng;
    use cairn_io::{Config, DriverChoice, run_one};
    use futures_util::future::join_all;
    use md5::{Digest, Md5};

    use super::*;

    async fn hashed(hashing: &Hashing, chunks: &[Vec<u8>]) -> [u8; 16] {
        let mut md5 = hashing.begin();
        for chunk in chunks {
            let mut block = alloc(chunk.len()).await.expect("there is memory");
            block.copy_from_slice(chunk);
            md5.update(block.freeze()).await.expect("the core goes on");
        }
        md5.finish().await.expect("the core goes on")
    }

    #[test]
    fn bodies_of_all_lengths_are_hashed_side_by_side() {
        let lengths: [&[usize]; 11] = [
            &[1],
            &[55],
            &[56],
            &[63],
            &[64],
            &[65],
            &[100_000],
            &[128 << 10, 70_001],
            &[64 << 10, 64 << 10, 64],
            &[130, 70, 1, 64],
            &[200_000, 3],
        ];
        let config = Config { driver: DriverChoice::Monoio, ..Config::single() };
        let run = run_one(&config, move || async move {
            let (hashing, mut random) = (Hashing::default(), Rng::from_seed(5));
            let mut chunk = |length: &usize| (0..*length).map(|_| random.below(256) as u8).collect::<Vec<u8>>();
            let bodies: Vec<Vec<Vec<u8>>> =
                lengths.iter().map(|lengths| lengths.iter().map(&mut chunk).collect()).collect();
            let found = join_all(bodies.iter().map(|chunks| hashed(&hashing, chunks))).await;
            for (chunks, found) in bodies.iter().zip(found) {
                let expected: [u8; 16] = Md5::digest(chunks.concat()).into();
                assert_eq!(found, expected, "{:?}", chunks.iter().map(Vec::len).collect::<Vec<_>>());
            }
            // Nobody waits, and nothing does: one whose client has gone is in nobody's way.
            let mut gone = hashing.begin();
            gone.update(alloc(100_000).await.expect("there is memory").freeze()).await.expect("the core goes on");
            drop(gone);
            assert_eq!(hashed(&hashing, &[b"abc".to_vec()]).await, <[u8; 16]>::from(Md5::digest(b"abc")));
            assert!(hashing.0.waiting.borrow().is_empty());
        });
        run.expect("it runs");
    }
}
