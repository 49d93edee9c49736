//! UploadPart and UploadPartCopy.

use cairn_meta::slot::command::{Command, Part, PutPart};
use cairn_meta::version::{Checksum, Chunk, Payload, UploadId};
use futures_util::StreamExt;

use super::{find, sums_of};
use crate::cluster::Copies;
use crate::s3::answer::{Answer, Out};
use crate::s3::body::Body;
use crate::s3::call::{Bucket, Call, names_versions, version_name};
use crate::s3::data::{CHUNK_BYTES, HELD_BYTES, Inline, Source, Span, Sums, store};
use crate::s3::date;
use crate::s3::error::{Code, Result, S3Error};
use crate::s3::hash::{Algorithm, hex, kept};
use crate::s3::head::number;
use crate::s3::object::{Checks, Origin, Range, origin, payload_chunks, quoted};
use crate::s3::xml::Xml;

fn part_number(call: &Call) -> Result<u16> {
    let text = call.head.query.get("partNumber");
    let wrong = || {
        S3Error::argument(
            "partNumber",
            text.unwrap_or_default(),
            "Part number must be an integer between 1 and 10000, inclusive",
        )
    };
    let number: u64 = number(text, "partNumber").map_err(|_| wrong())?.ok_or_else(wrong)?;
    u16::try_from(number).ok().filter(|number| (1..=10_000).contains(number)).ok_or_else(wrong)
}

/// Stores a part.
pub async fn put_part(call: &Call, body: &mut Body) -> Result<Answer> {
    let bucket = call.bucket()?;
    call.allow_write(&bucket, call.key())?;
    let number = part_number(call)?;
    let (upload, row) = find(call, &bucket).await?;
    let wanted = sums_of(&row.content).map(|(algorithm, _)| algorithm);
    let checks = Checks::read(&call.head)?.or(wanted);
    if let (Some(wanted), Some(stated)) = (wanted, checks.algorithm)
        && wanted != stated
    {
        return Err(Code::InvalidRequest.says(format!(
            "Checksum Type mismatch occurred, expected checksum Type: {}, actual checksum Type: {}",
            wanted.name().to_lowercase(),
            stated.name().to_lowercase()
        )));
    }
    let stored = store(
        body,
        call.cluster().disks(),
        call.gateway.admission(),
        call.gateway.hashing(),
        checks.sums(),
        Inline::Never,
    )
    .await?;
    checks.verify(&stored, body.trailers())?;
    let Payload::Chunks(chunks) = stored.payload else { return Err(Code::InternalError.into()) };
    let etag = hex(&stored.md5);
    let checksums = stored.sums.iter().map(|(algorithm, value)| kept(*algorithm, value)).collect();
    put(call, &bucket, (upload, number), stored.size, &etag, checksums, chunks).await?;
    Ok(Answer::ok().with("etag", quoted(&etag)).with_sums(&stored.sums).with_copies(Copies::ONE))
}

async fn put(
    call: &Call,
    bucket: &Bucket,
    (upload, number): (UploadId, u16),
    size: u64,
    etag: &str,
    checksums: Vec<Checksum>,
    chunks: Vec<Chunk>,
) -> Result<()> {
    let part = Part { size, etag: etag.to_owned(), modified: call.now, checksums, chunks };
    let command = |place| Command::PutPart(PutPart { place, upload, number, part: part.clone() });
    call.command(bucket, call.key(), command).await.map(drop)
}

/// Makes a part of another object's bytes. They aren't moved where the part is made of whole chunks; else the chunks at the ends are
/// stored anew.
pub async fn copy_part(call: &Call) -> Result<Answer> {
    let bucket = call.bucket()?;
    call.allow_write(&bucket, call.key())?;
    let number = part_number(call)?;
    let (upload, row) = find(call, &bucket).await?;
    let (from, found) = origin(call).await?;
    let source = found.version.content;
    let span = match call.head.only("x-amz-copy-source-range")? {
        None => 0..source.size,
        Some(text) => copied_range(text, source.size)?,
    };
    let wanted = sums_of(&row.content).map(|(algorithm, _)| algorithm);
    let key = Origin::read(&call.head)?.key;
    let is_whole = span == (0..source.size);
    let is_known = wanted.is_none() && is_whole && source.parts.is_empty();
    let size = span.end - span.start;
    let (chunks, etag, checksums) = match payload_chunks(call, &from, &key, &source).await? {
        Some(chunks) if is_known => (chunks, source.etag.clone(), vec![]),
        Some(chunks) => {
            let (etag, sums) = hashed(call, &from, &key, source.clone(), span.clone(), wanted).await?;
            (cut(call, &chunks, &span).await?, etag, sums)
        }
        None => inline(call, &source.payload, &span, wanted).await?,
    };
    put(call, &bucket, (upload, number), size, &etag, checksums.clone(), chunks).await?;
    let mut xml = Xml::root("CopyPartResult");
    xml.text("LastModified", &date::iso(call.now)).text("ETag", &quoted(&etag));
    for sum in &checksums {
        xml.maybe(Algorithm::find(&sum.algorithm).map_or("Checksum", Algorithm::element), Some(&sum.value));
    }
    let answer = Answer::xml(xml.end("CopyPartResult"));
    let source_name = names_versions(&from).then(|| version_name(found.version.id, found.version.is_null));
    Ok(answer.maybe("x-amz-copy-source-version-id", source_name))
}

fn copied_range(text: &str, size: u64) -> Result<Span> {
    let wrong = || {
        S3Error::argument(
            "x-amz-copy-source-range",
            text,
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the zero-based offsets of the first and last bytes to copy",
        )
    };
    match Range::read(text) {
        Some(Range::From(first, Some(last))) if last < size => Ok(first..last + 1),
        Some(Range::From(first, Some(last))) => Err(S3Error::from(Code::InvalidRange)
            .with("RangeRequested", format!("{first}-{last}"))
            .with("ActualObjectSize", size.to_string())),
        _ => Err(wrong()),
    }
}

/// Bytes that lie in a version become a chunk.
async fn inline(
    call: &Call,
    payload: &Payload,
    span: &Span,
    wanted: Option<Algorithm>,
) -> Result<(Vec<Chunk>, String, Vec<Checksum>)> {
    let Payload::Inline(bytes) = payload else { return Err(Code::InternalError.into()) };
    let part = bytes.get(span.start as usize..span.end as usize).ok_or(Code::InternalError)?;
    let mut sums = Sums::new(wanted.as_slice());
    sums.update(part);
    let stored = sums.stored(part.len() as u64, Payload::default());
    let chunks =
        if part.is_empty() { vec![] } else { vec![put_chunk(call, bytes::Bytes::copy_from_slice(part)).await?] };
    let checksums = stored.sums.iter().map(|(algorithm, value)| kept(*algorithm, value)).collect();
    Ok((chunks, hex(&stored.md5), checksums))
}

async fn put_chunk(call: &Call, bytes: bytes::Bytes) -> Result<Chunk> {
    let (id, length) = (*blake3::hash(&bytes).as_bytes(), bytes.len() as u32);
    let payload = cairn_io::log::Payload::Bytes(bytes);
    let put = call.cluster().disks().put(cairn_meta::index::ChunkId(id), payload).await;
    put.map_err(|error| crate::s3::data::disk_error(&error))?;
    Ok(Chunk { id, length })
}

/// The chunks of a span: whole ones as they are, those at its ends cut.
async fn cut(call: &Call, chunks: &[Chunk], span: &Span) -> Result<Vec<Chunk>> {
    let mut found = Vec::new();
    let mut at = 0;
    for chunk in chunks {
        let end = at + u64::from(chunk.length);
        let (from, to) = (span.start.max(at), span.end.min(end));
        if (from, to) == (at, end) {
            found.push(*chunk);
        } else if from < to {
            let _permit = call.gateway.admission().admit(CHUNK_BYTES).await?;
            let id = cairn_meta::index::ChunkId(chunk.id);
            let read = call.cluster().disks().get_range(&id, from - at..to - at).await;
            let bytes = read.map_err(|error| crate::s3::data::disk_error(&error))?.ok_or(Code::InternalError)?;
            found.push(put_chunk(call, bytes).await?);
        }
        at = end;
    }
    Ok(found)
}

/// The hashes of a span, which must be read for that.
async fn hashed(
    call: &Call,
    from: &Bucket,
    key: &str,
    source: cairn_meta::version::Content,
    span: Span,
    wanted: Option<Algorithm>,
) -> Result<(String, Vec<Checksum>)> {
    let permit = call.gateway.admission().admit(HELD_BYTES).await?;
    let mut sums = Sums::new(wanted.as_slice());
    let length = span.end - span.start;
    let (cluster, key, freshness) = (call.cluster().clone(), key.to_owned(), call.freshness(from));
    let reader = Source { cluster, bucket: from.record().id, key, freshness };
    match Out::begun(reader.begin(source, span, Some(permit)).await?, length) {
        Out::Empty => {}
        Out::Bytes(bytes) => sums.update(&bytes),
        Out::Reading { first, mut rest, mut left } => {
            if let Some(bytes) = first {
                left -= bytes.len() as u64;
                sums.update(&bytes);
            }
            while let Some(bytes) = rest.next().await {
                let bytes = bytes?;
                left = left.saturating_sub(bytes.len() as u64);
                sums.update(&bytes);
            }
            if left > 0 {
                return Err(Code::InternalError.into());
            }
        }
    }
    let stored = sums.stored(length, Payload::default());
    let checksums = stored.sums.iter().map(|(algorithm, value)| kept(*algorithm, value)).collect();
    Ok((hex(&stored.md5), checksums))
}
