//! A program that puts lanes under load and says what they answered, to be killed at any time; or that checks what is left.
//!
//! ```text
//!   lane-load run SEED SECONDS DIR...   loads a lane in each directory, makes those that aren't there
//!   lane-load check DIR                 opens a lane and checks it
//! ```
//!
//! Standard input lists what lanes hold, one line each, in the form of the output; lines of the output begin with the number
//! of the lane:
//!
//! ```text
//!   0 + SEED LENGTH    a chunk is stored, made of this seed       0 full      a put was refused for want of room
//!   0 ? SEED LENGTH    a drop has begun                           0 poisoned  the lane takes no writes any more
//!   0 - SEED LENGTH    it was dropped                             0 got       a chunk was read, and it is right
//!   0 open RECORDS     the lane is open                           0 BAD ...   something is wrong
//! ```

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a program of tests, no part of a node")]

use std::cell::RefCell;
use std::io::{Read, Write};
use std::process::ExitCode;
use std::rc::Rc;

use bytes::Bytes;
use cairn_daemon::lane::{Lane, LaneError, Named, Options, Owner};
use cairn_io::fs::Dir;
use cairn_io::log::{LogError, Options as LogOptions, Payload};
use cairn_io::task::{Class, spawn};
use cairn_io::time::{Duration, now, sleep};
use cairn_io::{Config, rng, run_one};
use cairn_meta::index::{ChunkId, Store};

const SEGMENT: u32 = 8 << 20;
/// Chunks handled at once, for each lane.
const WORKERS: u64 = 8;
/// Chunks a lane holds at most.
const LIVE_MAX: usize = 1500;

type Made = (u64, usize);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mut held = String::new();
    let read = std::io::stdin().read_to_string(&mut held);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match (read, &args[..]) {
        (Err(error), _) => Err(error.to_string()),
        (_, ["run", seed, seconds, dirs @ ..]) if !dirs.is_empty() => match (seed.parse(), seconds.parse()) {
            (Ok(seed), Ok(seconds)) => run(seed, seconds, dirs.iter().map(ToString::to_string).collect(), held),
            _ => Err("seed and seconds are numbers".to_owned()),
        },
        (_, ["check", dir]) => check((*dir).to_owned(), held),
        _ => Err("usage: lane-load run SEED SECONDS DIR... | lane-load check DIR".to_owned()),
    };
    done.map_or_else(
        |error| {
            say(&format!("0 BAD {error}"));
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}

/// A line goes out with one call: it is all there or not at all, whenever we are killed.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush());
}

fn bytes_of((seed, length): Made) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn id_of(bytes: &[u8]) -> ChunkId {
    ChunkId(*blake3::hash(bytes).as_bytes())
}

fn options() -> Options {
    let log = LogOptions { keep_free: 24 << 20, segments_max: 40, spare_max: 4, ..LogOptions::default() };
    let (commit_entries, commit_every) = (500, Duration::from_millis(700));
    // Next to nothing is cached, so that reads are reads of the disk.
    let (cache_bytes, ballast) = (1 << 16, 4 << 20);
    Options { log, commit_entries, commit_every, cache_bytes, ballast, ..Options::default() }
}

async fn open(number: usize, name: &str) -> Result<Lane, String> {
    let dir = Dir::create(name).await.map_err(|error| error.to_string())?;
    match Lane::create(&dir, Owner::default(), number as u32, SEGMENT).await {
        Ok(()) => {}
        Err(LaneError::Log(LogError::Io(error))) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(format!("{name}: {error}")),
    }
    let (lane, recovered) =
        Lane::open(&dir, Store::lmdb(name), options()).await.map_err(|error| format!("{name}: {error}"))?;
    if !recovered.damage.is_empty() {
        return Err(format!("{name}: damage found at start: {:?}", recovered.damage));
    }
    say(&format!("{number} open {}", recovered.records));
    Ok(lane)
}

/// The lines of a lane, in which the last of a chunk counts.
fn lines(held: &str, number: usize) -> Vec<(String, Made)> {
    let parse = |line: &str| {
        let mut words = line.split(' ');
        let is_ours = words.next()?.parse::<usize>().ok()? == number;
        let sign = words.next()?.to_owned();
        let made = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        is_ours.then_some((sign, made))
    };
    held.lines().filter_map(parse).collect()
}

fn run(seed: u64, seconds: u64, dirs: Vec<String>, held: String) -> Result<(), String> {
    let program = move || async move {
        let mut lanes = Vec::new();
        for (number, name) in dirs.iter().enumerate() {
            let lane = open(number, name).await?;
            let live = lines(&held, number).into_iter().filter(|(sign, _)| sign == "+").map(|(_, made)| made).collect();
            lanes.push((lane, Rc::new(RefCell::new(live))));
        }
        let end = now() + Duration::from_secs(seconds);
        let mut tasks = Vec::new();
        for (number, (lane, live)) in lanes.iter().enumerate() {
            for worker in 0..WORKERS {
                let (lane, live) = (lane.clone(), live.clone());
                let first = ((seed << 8 | number as u64) << 8 | worker) << 32;
                let load = async move {
                    let mut next = first;
                    while now() < end {
                        step(number, &lane, &live, &mut next).await;
                    }
                };
                tasks.push(spawn(Class::Foreground, load));
            }
            let lane = lane.clone();
            let compact = async move {
                while now() < end {
                    sleep(Duration::from_millis(50)).await;
                    if let Some(segment) = lane.compaction_plan().first().map(|planned| planned.segment) {
                        let _ = lane.compact(segment).await;
                    }
                }
            };
            tasks.push(spawn(Class::Maintenance, compact));
        }
        for task in tasks {
            task.await.map_err(|error| error.to_string())?;
        }
        for (lane, _) in lanes {
            let _ = lane.close().await;
        }
        Ok(())
    };
    run_one(&Config::single(), program).map_err(|error| error.to_string())?
}

/// Does one thing of those that lanes are for.
async fn step(number: usize, lane: &Lane, live: &RefCell<Vec<Made>>, next: &mut u64) {
    let dice = rng::next_u64() % 100;
    let is_full = live.borrow().len() >= LIVE_MAX;
    if dice < 45 && !is_full {
        *next += 1;
        let length = match rng::next_u64() % 20 {
            0 => 1 << 20,
            1..=3 => 200_000 + (rng::next_u64() % 1000) as usize,
            _ => 1 + (rng::next_u64() % 9000) as usize,
        };
        let made = (*next, length);
        let bytes = bytes_of(made);
        match lane.put(id_of(&bytes), Payload::Bytes(bytes.into())).await {
            Ok(_) => {
                say(&format!("{number} + {} {}", made.0, made.1));
                live.borrow_mut().push(made);
            }
            Err(error) if error.is_no_room() => {
                say(&format!("{number} full"));
                sleep(Duration::from_millis(20)).await;
            }
            Err(error) => failed(number, "put", &error).await,
        }
    } else if dice < 65 {
        let taken = {
            let mut live = live.borrow_mut();
            let count = live.len();
            if count < 20 { None } else { Some(live.swap_remove(rng::next_u64() as usize % count)) }
        };
        let Some(made) = taken else { return };
        say(&format!("{number} ? {} {}", made.0, made.1));
        match lane.drop_chunk(&id_of(&bytes_of(made))).await {
            Ok(true) => say(&format!("{number} - {} {}", made.0, made.1)),
            Ok(false) => say(&format!("{number} BAD chunk {made:?} was gone when it was to be dropped")),
            Err(error) => {
                live.borrow_mut().push(made);
                failed(number, "drop", &error).await;
            }
        }
    } else if dice < 95 {
        let made = {
            let live = live.borrow();
            if live.is_empty() { None } else { Some(live[rng::next_u64() as usize % live.len()]) }
        };
        let Some(made) = made else { return };
        let bytes = bytes_of(made);
        match lane.get(&id_of(&bytes)).await {
            Ok(Some(got)) if *got == bytes => say(&format!("{number} got")),
            // Another worker drops it.
            _ if !live.borrow().contains(&made) => {}
            Err(error @ LaneError::Io(_)) => failed(number, "get", &error).await,
            other => {
                say(&format!("{number} BAD chunk {made:?} reads as {:?}", other.map(|got| got.map(|got| got.len()))));
            }
        }
    } else {
        let mut id = [0; 32];
        id[0] = (rng::next_u64() % 50) as u8;
        let bytes = Bytes::from(vec![id[0]; 300]);
        let slot = u32::from(id[0] % 4);
        let stored = match lane.put_named(Named::Version, id, bytes.clone()).await {
            Ok(()) => lane.append_raft(slot, vec![(1, rng::next_u64() % 100, bytes)]).await,
            error => error,
        };
        match stored {
            Err(error) if !error.is_no_room() => failed(number, "record", &error).await,
            _ => {}
        }
    }
}

async fn failed(number: usize, what: &str, error: &LaneError) {
    if error.is_poisoned() {
        say(&format!("{number} poisoned"));
        sleep(Duration::from_millis(5)).await;
    } else {
        say(&format!("{number} error {what}: {error}"));
        sleep(Duration::from_millis(20)).await;
    }
}

fn check(name: String, held: String) -> Result<(), String> {
    let program = move || async move {
        let lane = open(0, &name).await?;
        let (mut right, mut wrong) = (0, 0);
        for (sign, made) in lines(&held, 0) {
            let bytes = bytes_of(made);
            let got = lane.get(&id_of(&bytes)).await;
            let is_right = match (sign.as_str(), &got) {
                ("+" | "?", Ok(Some(got))) => **got == bytes,
                ("-" | "?", Ok(None)) => true,
                _ => false,
            };
            if is_right {
                right += 1;
            } else {
                wrong += 1;
                say(&format!("0 BAD {sign} {made:?} reads as {:?}", got.map(|got| got.map(|got| got.len()))));
            }
            // What became of it is known now.
            if sign == "?" {
                let sign = if lane.has(&id_of(&bytes)).unwrap_or(false) { "+" } else { "-" };
                say(&format!("0 {sign} {} {}", made.0, made.1));
            }
        }
        for segment in lane.log().segments() {
            let scrubbed = lane.scrub(segment.number).await.map_err(|error| error.to_string())?;
            for id in scrubbed.bad {
                say(&format!("0 quarantined {id:?}"));
            }
            for damage in scrubbed.damage {
                say(&format!("0 damage {} {}", damage.segment, damage.bytes.start));
            }
        }
        lane.close().await.map_err(|error| format!("it can't be closed: {error}"))?;
        if wrong > 0 { Err(format!("{wrong} of {} chunks are wrong", wrong + right)) } else { Ok(()) }
    };
    run_one(&Config::single(), program).map_err(|error| error.to_string())?
}
