//! CompleteMultipartUpload: an object of parts, no byte of which moves.

use cairn_meta::slot::command::{Answer as Done, Command, Committed, CompleteUpload, Part};
use cairn_meta::slot::query::{Parts, Query, Reply};
use cairn_meta::version::{Checksum, Content, Kind, Payload, State, UploadId};
use s3s::dto::{CompletedMultipartUpload, CompletedPart};

use super::{SumType, find, name, sums_of, upload_id};
use crate::cluster::{Commit, Copies, new_version};
use crate::s3::answer::Answer;
use crate::s3::body::Body;
use crate::s3::bucket::document_about;
use crate::s3::call::{Bucket, Call};
use crate::s3::error::{Code, Result};
use crate::s3::hash::{Algorithm, Md5Hasher, base64, checksum, hex, unbase64, unhex};
use crate::s3::head::number;
use crate::s3::object::{quoted, write_mode, written};
use crate::s3::xml::{Xml, read};

/// No part but the last may be shorter.
const PART_MIN: u64 = 5 << 20;
/// Rows of parts that are fetched at once.
const PARTS_AT_ONCE: u32 = 1000;

/// Completes an upload. The same again is answered the same.
pub async fn complete(call: &Call, body: &mut Body) -> Result<Answer> {
    let bucket = call.bucket()?;
    call.allow_write(&bucket, call.key())?;
    let mode = write_mode(&call.head)?;
    let list: CompletedMultipartUpload = read(&document_about(call, body).await?)?;
    let stated = list.parts.unwrap_or_default();
    let parts = stated.iter().map(numbered).collect::<Result<Vec<(u16, String)>>>()?;
    if parts.is_empty() {
        return Err(Code::MalformedXML.into());
    }
    if !parts.is_sorted_by(|(one, _), (next, _)| one < next) {
        return Err(Code::InvalidPartOrder.into());
    }
    let etag = etag_of(&parts);
    let (upload, row) = match find(call, &bucket).await {
        Ok(found) => found,
        Err(error) if error.code() == Code::NoSuchUpload => return again(call, &bucket, &etag).await.ok_or(error),
        Err(error) => return Err(error),
    };
    let checksums = sums(call, &bucket, upload, &row.content, (&parts, &stated)).await?;
    let id = new_version();
    let command = |place| {
        Command::CompleteUpload(CompleteUpload {
            place,
            upload,
            parts: parts.clone(),
            part_min: PART_MIN,
            id,
            mode: mode.clone(),
            etag: etag.clone(),
            checksums: checksums.clone(),
        })
    };
    let Done::Completed(committed) = call.command(&bucket, call.key(), command).await? else {
        return Err(Code::InternalError.into());
    };
    Ok(completed(call, &bucket, &etag, &checksums, committed))
}

fn numbered(part: &CompletedPart) -> Result<(u16, String)> {
    let number = part.part_number.and_then(|number| u16::try_from(number).ok()).filter(|number| *number > 0);
    let etag = part.e_tag.as_ref().map(|etag| etag.value().to_owned());
    number.zip(etag).ok_or_else(|| Code::MalformedXML.into())
}

/// The hash of the parts' hashes, and how many they are.
fn etag_of(parts: &[(u16, String)]) -> String {
    let mut md5 = Md5Hasher::default();
    for (_, etag) in parts {
        match unhex::<16>(etag) {
            Some(bytes) => md5.update(&bytes),
            // A part that was copied whole has the name of what it was copied of.
            None => md5.update(etag.as_bytes()),
        }
    }
    format!("{}-{}", hex(&md5.finish()), parts.len())
}

/// The checksum of the whole, which must be what the client says.
async fn sums(
    call: &Call,
    bucket: &Bucket,
    upload: UploadId,
    content: &Content,
    (parts, stated): (&[(u16, String)], &[CompletedPart]),
) -> Result<Vec<Checksum>> {
    let size: Option<u64> = number(call.head.only("x-amz-mp-object-size")?, "x-amz-mp-object-size")?;
    let wanted = sums_of(content);
    check_kind(call, wanted)?;
    let says_sums = stated.iter().any(|part| Algorithm::ALL.iter().any(|one| stated_sum(part, *one).is_some()));
    if wanted.is_none() && size.is_none() && !says_sums {
        return Ok(Vec::new());
    }
    let rows = rows_of(call, bucket, upload, parts).await?;
    let found: u64 = rows.iter().map(|part| part.size).sum();
    if size.is_some_and(|size| size != found) {
        return Err(Code::InvalidRequest
            .says("The provided 'x-amz-mp-object-size' header value does not match what was computed."));
    }
    for (row, stated) in rows.iter().zip(stated) {
        check_part(row, stated)?;
    }
    let Some((algorithm, kind)) = wanted else { return Ok(Vec::new()) };
    let value = whole(&rows, algorithm, kind)?;
    if let Some(stated) = call.head.only(algorithm.header())?
        && stated != value
        && stated != value.split('-').next().unwrap_or_default()
    {
        return Err(Code::BadDigest.says(format!(
            "The {} you specified did not match the calculated checksum.",
            algorithm.name().to_lowercase()
        )));
    }
    Ok(vec![Checksum { algorithm: algorithm.name().to_owned(), value }])
}

/// Whether the checksum that the request states is of the kind that the upload was begun with.
fn check_kind(call: &Call, wanted: Option<(Algorithm, SumType)>) -> Result<()> {
    let begun = wanted.map(|(algorithm, _)| algorithm);
    for algorithm in Algorithm::ALL {
        if begun != Some(algorithm) && call.head.only(algorithm.header())?.is_some() {
            return Err(Code::InvalidRequest.says(format!(
                "Checksum Type mismatch occurred, expected checksum Type: {}, actual checksum Type: {}",
                begun.map_or("null".to_owned(), |begun| begun.name().to_lowercase()),
                algorithm.name().to_lowercase()
            )));
        }
    }
    let kind = wanted.map_or("null", |(_, kind)| kind.name());
    match call.head.only("x-amz-checksum-type")? {
        Some(stated) if stated != kind => Err(Code::InvalidRequest.says(format!(
            "The upload was created using the {kind} checksum mode. The complete request must use the same checksum mode."
        ))),
        _ => Ok(()),
    }
}

fn stated_sum(part: &CompletedPart, algorithm: Algorithm) -> Option<&str> {
    match algorithm {
        Algorithm::Crc32 => part.checksum_crc32.as_deref(),
        Algorithm::Crc32c => part.checksum_crc32c.as_deref(),
        Algorithm::Crc64Nvme => part.checksum_crc64nvme.as_deref(),
        Algorithm::Sha1 => part.checksum_sha1.as_deref(),
        Algorithm::Sha256 => part.checksum_sha256.as_deref(),
    }
}

fn check_part(row: &Part, stated: &CompletedPart) -> Result<()> {
    let differs = |algorithm: Algorithm| {
        let kept = row.checksums.iter().find(|sum| sum.algorithm == algorithm.name());
        stated_sum(stated, algorithm).is_some_and(|stated| kept.is_none_or(|kept| kept.value != stated))
    };
    if Algorithm::ALL.into_iter().any(differs) { Err(Code::InvalidPart.into()) } else { Ok(()) }
}

/// The checksum of a whole, of those of its parts.
fn whole(rows: &[Part], algorithm: Algorithm, kind: SumType) -> Result<String> {
    let value = |part: &Part| {
        let kept = part.checksums.iter().find(|sum| sum.algorithm == algorithm.name())?;
        Some((unbase64(&kept.value)?, part.size))
    };
    let missing = || Code::InvalidRequest.says("A part has no checksum of the kind that the upload was begun with.");
    let values: Vec<(Vec<u8>, u64)> = rows.iter().map(value).collect::<Option<_>>().ok_or_else(missing)?;
    Ok(match kind {
        SumType::Full => {
            let parts = values.iter().map(|(value, size)| (value.as_slice(), *size));
            base64(&algorithm.combine(parts).ok_or(Code::InternalError)?)
        }
        SumType::Composite => {
            let all: Vec<u8> = values.iter().flat_map(|(value, _)| value.iter().copied()).collect();
            format!("{}-{}", base64(&checksum(algorithm, &all)), rows.len())
        }
    })
}

/// The rows of the parts named.
async fn rows_of(call: &Call, bucket: &Bucket, upload: UploadId, parts: &[(u16, String)]) -> Result<Vec<Part>> {
    let mut rows = Vec::with_capacity(parts.len());
    let mut behind = 0;
    loop {
        let query = Query::Parts { of: name(call, bucket, upload), behind, limit: PARTS_AT_ONCE };
        let Reply::Parts(Parts { parts: found, more }) = call.query(bucket, call.key(), &query).await? else {
            return Err(Code::InternalError.into());
        };
        behind = found.last().map_or(behind, |(number, _)| *number);
        let is_named = |number: u16| parts.binary_search_by_key(&number, |(named, _)| *named).is_ok();
        rows.extend(found.into_iter().filter(|(number, _)| is_named(*number)).map(|(_, part)| part));
        if !more {
            break;
        }
    }
    if rows.len() == parts.len() { Ok(rows) } else { Err(Code::InvalidPart.into()) }
}

fn completed(call: &Call, bucket: &Bucket, etag: &str, checksums: &[Checksum], committed: Committed) -> Answer {
    let mut xml = Xml::root("CompleteMultipartUploadResult");
    let host = call.head.header("host").unwrap_or("localhost");
    let path = crate::s3::uri::encode(call.key(), crate::s3::uri::Slash::Kept);
    xml.text("Location", &format!("http://{host}/{}/{path}", bucket.name()));
    xml.text("Bucket", bucket.name()).text("Key", call.key()).text("ETag", &quoted(etag));
    for sum in checksums {
        xml.maybe(Algorithm::find(&sum.algorithm).map_or("Checksum", Algorithm::element), Some(&sum.value));
        xml.text(
            "ChecksumType",
            if sum.value.contains('-') { SumType::Composite.name() } else { SumType::Full.name() },
        );
    }
    let commit = Commit { committed, state: State::Confirmed, copies: Copies::ONE };
    written(Answer::xml(xml.end("CompleteMultipartUploadResult")), bucket, &commit)
}

/// The answer once more, if the object that is there was made by this very completion.
async fn again(call: &Call, bucket: &Bucket, etag: &str) -> Option<Answer> {
    let upload = upload_id(call).ok()?;
    let found = call.read_object(bucket, call.key(), None).await.ok()?;
    let version = &found.version;
    let is_it = version.content.payload == Payload::Parts(upload) && version.content.etag == etag;
    let committed = Committed {
        id: Some(version.id),
        kind: Kind::Data,
        is_null: version.is_null,
        row: cairn_meta::version::commit::Row::O2,
        heads: found.heads.len() as u32,
        superseded: vec![],
    };
    is_it.then(|| completed(call, bucket, etag, &version.content.checksums, committed))
}

#[test]
fn the_name_of_a_whole_is_made_of_its_parts() {
    let part = |number, text: &str| {
        let mut md5 = Md5Hasher::default();
        md5.update(text.as_bytes());
        (number, hex(&md5.finish()))
    };
    let etag = etag_of(&[part(1, "a"), part(2, "b")]);
    assert_eq!(etag, "96e024ba2074fe77e8e965ba43a704be-2");
    assert_ne!(etag, etag_of(&[part(1, "b"), part(2, "a")]));
}
