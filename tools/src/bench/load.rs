//! What our `io` does under the loads that `io::reference` does bare. Every function runs on a core.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;

use cairn_io::fs::{Dir, File, Mode};
use cairn_io::net::{Listener, Reuse, Stream};
use cairn_io::reference::{Laps, Load, MESSAGE_BYTES, Offsets, Operation, Order, Place, Stop, Tally, Watch};
use cairn_io::task::{self, Class, JoinHandle};
use cairn_io::{Block, block, rng};
use futures_util::{AsyncReadExt, AsyncWriteExt};

/// What the tasks of one load share.
struct Shared {
    file: File,
    load: Load,
    offsets: RefCell<Offsets>,
    watch: Watch,
}

/// Does `load` on the file at `place`, one task for each operation under way.
///
/// # Errors
/// If the disk fails.
pub async fn disk(place: Place, load: Load, stop: Stop) -> io::Result<Tally> {
    let file = open(&place).await?;
    let offsets = RefCell::new(Offsets::new(&load, file.len().await?));
    let mut payloads = Vec::with_capacity(load.depth);
    for _ in 0..load.depth {
        payloads.push(payload(load.bytes).await?);
    }
    let shared = Rc::new(Shared { file, load, offsets, watch: Watch::start(stop) });
    let start = |payload| task::spawn(Class::Foreground, work(shared.clone(), payload));
    let workers: Vec<JoinHandle<_>> = payloads.into_iter().map(start).collect();
    for worker in workers {
        worker.await.map_err(io::Error::other)??;
    }
    Ok(shared.watch.finish())
}

async fn work(shared: Rc<Shared>, payload: Block) -> io::Result<()> {
    while shared.watch.another() {
        let offset = shared.offsets.borrow_mut().next_offset();
        match shared.load.operation {
            Operation::Read => drop(shared.file.read_at(offset, shared.load.bytes).await?),
            Operation::Write => shared.file.write_at(payload.clone(), offset).await?,
        }
    }
    Ok(())
}

/// Reads `bytes` at random offsets, one at a time.
///
/// # Errors
/// If the disk fails.
pub async fn read_laps(place: Place, bytes: usize, stop: Stop) -> io::Result<Tally> {
    let file = open(&place).await?;
    let load = Load { operation: Operation::Read, order: Order::Random, bytes, depth: 1 };
    let mut offsets = Offsets::new(&load, file.len().await?);
    let mut laps = Laps::start(stop);
    while laps.another() {
        file.read_at(offsets.next_offset(), bytes).await?;
    }
    Ok(laps.finish())
}

/// Starts an echo server on a free port of the loopback; it goes on until the core ends.
///
/// # Errors
/// If there is no port left.
pub async fn serve_echo() -> io::Result<SocketAddr> {
    let listener = Listener::bind(([127, 0, 0, 1], 0).into(), Reuse::Exclusive)?;
    let addr = listener.local_addr()?;
    let serve = async move {
        // Ends with the listener; clients then report a broken connection.
        while let Ok((stream, _)) = listener.accept().await {
            task::spawn(Class::Foreground, echo(stream)).detach();
        }
    };
    task::spawn(Class::Foreground, serve).detach();
    Ok(addr)
}

async fn echo(mut stream: Stream) -> io::Result<()> {
    let mut buffer = [0; 4 * MESSAGE_BYTES];
    loop {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..read]).await?;
    }
}

/// Writes `len` bytes to `sink` again and again.
///
/// # Errors
/// If the connection breaks.
pub async fn send(sink: SocketAddr, len: usize, stop: Stop) -> io::Result<Tally> {
    let stream = Stream::connect(sink).await?;
    let mut stream = pin!(stream);
    let payload = payload(len).await?;
    let watch = Watch::start(stop);
    while watch.another() {
        stream.write_all(&payload).await?;
    }
    Ok(watch.finish())
}

async fn open(place: &Place) -> io::Result<File> {
    Dir::open(&place.dir).await?.open_file(&place.name, Mode::Write).await
}

/// Bytes like no others, so that nothing on the way can leave them out.
async fn payload(len: usize) -> io::Result<Block> {
    let mut block = block::alloc(len).await?;
    for word in block.chunks_exact_mut(8) {
        word.copy_from_slice(&rng::next_u64().to_le_bytes());
    }
    Ok(block.freeze())
}
