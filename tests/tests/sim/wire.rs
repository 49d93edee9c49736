//! Frames on a stream: a length, then so many bytes.

use std::io;
use std::net::SocketAddr;

use cairn_io::net::Stream;
use cairn_io::time::{Duration, timeout};
use futures_util::{AsyncReadExt, AsyncWriteExt};

const FRAME_MAX: usize = 1 << 20;

pub async fn send(stream: &mut Stream, payload: &[u8]) -> io::Result<()> {
    let len = u32::try_from(payload.len()).map_err(io::Error::other)?;
    stream.write_all(&len.to_le_bytes()).await?;
    stream.write_all(payload).await
}

/// The next frame; `None` at the end of the stream.
pub async fn receive(stream: &mut Stream) -> io::Result<Option<Vec<u8>>> {
    let mut len = [0; 4];
    if stream.read(&mut len[..1]).await? == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut len[1..]).await?;
    let len = usize::try_from(u32::from_le_bytes(len)).map_err(io::Error::other)?;
    if len > FRAME_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame longer than any we send"));
    }
    let mut payload = vec![0; len];
    stream.read_exact(&mut payload).await?;
    Ok(Some(payload))
}

/// One question, one answer, on a connection of their own.
pub async fn ask(addr: SocketAddr, question: &[u8], limit: Duration) -> io::Result<Vec<u8>> {
    timeout(limit, async {
        let mut stream = Stream::connect(addr).await?;
        send(&mut stream, question).await?;
        receive(&mut stream).await?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    })
    .await?
}
