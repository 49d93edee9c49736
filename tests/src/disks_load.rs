//! A program that fills the disks of a node, and checks what is left on them.
//!
//! ```text
//!   disks-load fill SEED COUNT DIR,...    says when it has the disks, stores chunks made of SEED and the numbers from 0 to
//!                                         COUNT, and waits for the end of its standard input before it lets go of them
//!   disks-load check SEED COUNT DIR,...   reads each of them, and counts: nothing else may be there, and nothing twice
//! ```

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a program of tests, no part of a node")]

use std::process::ExitCode;

use bytes::Bytes;
use cairn_daemon::disks::{Disks, Hub, Options};
use cairn_io::log::Payload;
use cairn_io::{Config, run_one};
use cairn_meta::index::{ChunkId, Digest};
use futures_util::stream::{FuturesUnordered, StreamExt};

/// Chunks stored at once.
const DEPTH: usize = 16;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [what, seed, count, data] = &args[..] else { return usage() };
    let (Ok(seed), Ok(count)) = (seed.parse(), count.parse()) else { return usage() };
    let data: Vec<String> = data.split(',').map(str::to_owned).collect();
    let is_fill = match what.as_str() {
        "fill" => true,
        "check" => false,
        _ => return usage(),
    };
    let done = run_one(&Config::single(), move || async move {
        let disks = Disks::open(&Hub::new(1), options(data)).await.map_err(|error| error.to_string())?;
        let done = if is_fill { fill(&disks, seed, count).await } else { check(&disks, seed, count).await };
        disks.close().await.map_err(|error| error.to_string())?;
        done
    });
    match done.map_err(|error| error.to_string()).and_then(|done| done) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("BAD {error}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: disks-load fill|check SEED COUNT DIR,...");
    ExitCode::FAILURE
}

fn options(data: Vec<String>) -> Options {
    let mut options = Options::new(data);
    options.lane.ballast = 0;
    options
}

fn content(seed: u64, number: u64) -> Bytes {
    let mut bytes = vec![0; if number.is_multiple_of(10) { 200_000 } else { 2_000 + number as usize % 9_000 }];
    let pair = [seed.to_le_bytes(), number.to_le_bytes()].concat();
    blake3::Hasher::new().update(&pair).finalize_xof().fill(&mut bytes);
    bytes.into()
}

fn id(bytes: &[u8]) -> ChunkId {
    ChunkId(*blake3::hash(bytes).as_bytes())
}

async fn fill(disks: &Disks, seed: u64, count: u64) -> Result<(), String> {
    println!("open");
    let mut puts = FuturesUnordered::new();
    for number in 0..count {
        let bytes = content(seed, number);
        puts.push(disks.put(id(&bytes), Payload::Bytes(bytes)));
        while puts.len() >= DEPTH {
            puts.next().await.expect("some").map_err(|error| error.to_string())?;
        }
    }
    while let Some(put) = puts.next().await {
        put.map_err(|error| error.to_string())?;
    }
    // Whoever tries the disks meanwhile finds them in use, however fast they were filled.
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).map_err(|error| error.to_string())?;
    Ok(())
}

async fn check(disks: &Disks, seed: u64, count: u64) -> Result<(), String> {
    let mut all = Digest::default();
    for number in 0..count {
        let bytes = content(seed, number);
        let id = id(&bytes);
        all.add(&id, bytes.len() as u32);
        match disks.get(&id).await {
            Ok(Some(read)) if read == bytes => {}
            Ok(Some(_)) => return Err(format!("chunk {number} has other bytes")),
            Ok(None) => return Err(format!("chunk {number} isn't there")),
            Err(error) => return Err(format!("chunk {number}: {error}")),
        }
    }
    let digests = disks.digests().await.map_err(|error| error.to_string())?;
    let mut counted = Digest::default();
    for digest in digests {
        counted.count += digest.count;
        counted.bytes += digest.bytes;
        counted.xor.iter_mut().zip(digest.xor).for_each(|(all, more)| *all ^= more);
    }
    if counted == all { Ok(()) } else { Err(format!("there is {counted:?} and should be {all:?}")) }
}
