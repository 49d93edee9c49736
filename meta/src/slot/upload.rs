//! Uploads in parts: begun, filled in any order, then completed or aborted, one of both.
//!
//! Completing copies no bytes and no lists of chunks: the rows of the parts stay where they are and belong to the version.

use std::ops::ControlFlow;

use minicbor::{Decode, Encode};

use super::command::{AbortUpload, CompleteUpload, CreateUpload, PARTS_MAX, Part, Place, PutPart, Refusal};
use super::commit::{New, make};
use super::layout::{self, BucketId, end_of, of_part, of_parts, of_upload};
use super::{Stepped, admit, note_released};
use crate::encoding::{encode, row};
use crate::index::{Error, Order};
use crate::rows::{Batch, Rows};
use crate::slot::command::Committed;
use crate::version::content::{WORDS_MAX, chunk_bytes};
use crate::version::{BadContent, Content, PartInfo, Payload, UploadId};

/// An upload under way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct UploadRow {
    /// What is said about the object to be.
    #[n(0)]
    pub content: Content,
    /// The bytes of its parts.
    #[n(1)]
    pub bytes: u64,
    /// When it began, in milliseconds since the Unix epoch. For display.
    #[n(2)]
    pub created: u64,
}

/// A part, as its row has it.
pub type PartRow = Part;

/// An upload under way; `None`: there is none of that name.
pub fn load(rows: &dyn Rows, bucket: BucketId, key: &str, upload: UploadId) -> Result<Option<UploadRow>, Error> {
    let at = of_upload(bucket, key, upload);
    rows.get(&at)?.map(|bytes| row(&at, &bytes)).transpose()
}

/// A part of an upload under way, or of an object made of it.
pub fn part(
    rows: &dyn Rows,
    (bucket, key, upload): (BucketId, &str, UploadId),
    number: u16,
) -> Result<Option<PartRow>, Error> {
    let at = of_part(bucket, key, upload, number);
    rows.get(&at)?.map(|bytes| row(&at, &bytes)).transpose()
}

/// Calls `visit` with the parts behind a number, in order, until it breaks.
pub fn visit_parts(
    rows: &dyn Rows,
    (bucket, key, upload): (BucketId, &str, UploadId),
    behind: u16,
    visit: &mut dyn FnMut(u16, PartRow) -> ControlFlow<()>,
) -> Result<(), Error> {
    let Some(first) = behind.checked_add(1) else { return Ok(()) };
    let begin = of_part(bucket, key, upload, first);
    let end = end_of(&of_parts(bucket, key, upload));
    let mut bad = None;
    rows.walk(layout::range(&begin, end.as_ref()), Order::Forward, &mut |at, bytes| {
        let number = layout::read(at).and_then(|found| layout::read_upload(found.rest?)?.1);
        match (number, row(at, bytes)) {
            (Some(number), Ok(part)) => return visit(number, part),
            (_, part) => bad = part.err().or_else(|| Some(Error::row(at, "no key of a part"))),
        }
        ControlFlow::Break(())
    })?;
    bad.map_or(Ok(()), Err)
}

/// Begins an upload.
pub(super) fn create(rows: &mut Batch<'_>, now: u64, create: &CreateUpload) -> Stepped<()> {
    let CreateUpload { place, upload, content } = create;
    let mut tally = admit(rows, place)?;
    content.check()?;
    let bucket = place.bucket.id;
    if load(rows, bucket, &place.key, *upload)?.is_some() || has_parts(rows, (bucket, &place.key, *upload))? {
        return Err(Refusal::UploadExists.into());
    }
    let upload_row = UploadRow { content: content.clone(), bytes: 0, created: now };
    rows.put(of_upload(bucket, &place.key, *upload), encode(&upload_row));
    tally.uploads += 1;
    tally.store(rows, bucket);
    Ok(())
}

fn has_parts(rows: &dyn Rows, upload: (BucketId, &str, UploadId)) -> Result<bool, Error> {
    let mut any = false;
    visit_parts(rows, upload, 0, &mut |_, _| {
        any = true;
        ControlFlow::Break(())
    })?;
    Ok(any)
}

fn find(rows: &dyn Rows, place: &Place, upload: UploadId) -> Stepped<UploadRow> {
    load(rows, place.bucket.id, &place.key, upload)?.ok_or(Refusal::NoUpload.into())
}

/// Adds a part or replaces it.
pub(super) fn put_part(rows: &mut Batch<'_>, now: u64, put: &PutPart) -> Stepped<()> {
    let PutPart { place, upload, number, part } = put;
    let mut tally = admit(rows, place)?;
    check(*number, part)?;
    let mut of = find(rows, place, *upload)?;
    let bucket = place.bucket.id;
    let old = self::part(rows, (bucket, &place.key, *upload), *number)?;
    let old_size = old.as_ref().map_or(0, |old| old.size);
    of.bytes = of.bytes - old_size + part.size;
    tally.bytes = tally.bytes - old_size + part.size;
    rows.put(of_part(bucket, &place.key, *upload, *number), encode(part));
    rows.put(of_upload(bucket, &place.key, *upload), encode(&of));
    tally.store(rows, bucket);
    let mut released = old.map(|old| old.chunks).unwrap_or_default();
    released.retain(|chunk| !part.chunks.contains(chunk));
    Ok(note_released(rows, now, released)?)
}

fn check(number: u16, part: &Part) -> Result<(), Refusal> {
    if number == 0 || number > PARTS_MAX {
        return Err(Refusal::PartNumber(number));
    }
    let sums: usize = part.checksums.iter().map(|sum| sum.algorithm.len() + sum.value.len()).sum();
    let words = part.etag.len() + sums;
    if words > WORDS_MAX {
        return Err(BadContent::Words(words as u64).into());
    }
    let found = chunk_bytes(&part.chunks)?;
    if found == part.size { Ok(()) } else { Err(BadContent::Size { stated: part.size, found }.into()) }
}

/// Makes an object of the parts named; parts that aren't named go.
pub(super) fn complete(rows: &mut Batch<'_>, now: u64, complete: &CompleteUpload) -> Stepped<Committed> {
    let CompleteUpload { place, upload, .. } = complete;
    let mut tally = admit(rows, place)?;
    let of = find(rows, place, *upload)?;
    let parts = named_parts(rows, complete)?;
    let mut content = of.content.clone();
    content.size = parts.iter().map(|part| part.size).sum();
    content.etag.clone_from(&complete.etag);
    content.checksums.clone_from(&complete.checksums);
    content.check_words()?;
    content.payload = Payload::Parts(*upload);
    content.parts = parts;
    tally.uploads -= 1;
    tally.bytes -= of.bytes;
    let new = New { id: complete.id, mode: &complete.mode, content: Some(content) };
    let committed = make(rows, now, (place.bucket, &place.key), tally, new)?;
    let bucket = place.bucket.id;
    rows.delete(of_upload(bucket, &place.key, *upload));
    let is_left_out = |number: u16| complete.parts.binary_search_by_key(&number, |(named, _)| *named).is_err();
    remove_parts(rows, now, (bucket, &place.key, *upload), &is_left_out)?;
    Ok(committed)
}

/// The parts that a completion names, if they are as it says.
fn named_parts(rows: &dyn Rows, complete: &CompleteUpload) -> Stepped<Vec<PartInfo>> {
    let numbers: Vec<u16> = complete.parts.iter().map(|(number, _)| *number).collect();
    if numbers.is_empty() || !numbers.is_sorted_by(|one, next| one < next) {
        return Err(Refusal::PartOrder.into());
    }
    let of = (complete.place.bucket.id, complete.place.key.as_str(), complete.upload);
    let mut infos = Vec::new();
    for (number, etag) in &complete.parts {
        let part = part(rows, of, *number)?.filter(|part| part.etag == *etag).ok_or(Refusal::Part(*number))?;
        infos.push(PartInfo { number: *number, size: part.size });
    }
    let short = infos.split_last().and_then(|(_, rest)| rest.iter().find(|part| part.size < complete.part_min));
    match short {
        Some(&PartInfo { number, size }) => Err(Refusal::PartTooSmall { number, size, min: complete.part_min }.into()),
        None => Ok(infos),
    }
}

/// Ends an upload without an object.
pub(super) fn abort(rows: &mut Batch<'_>, now: u64, abort: &AbortUpload) -> Stepped<()> {
    let AbortUpload { place, upload } = abort;
    let mut tally = admit(rows, place)?;
    let of = find(rows, place, *upload)?;
    let bucket = place.bucket.id;
    rows.delete(of_upload(bucket, &place.key, *upload));
    tally.uploads -= 1;
    tally.bytes -= of.bytes;
    tally.store(rows, bucket);
    Ok(remove_parts(rows, now, (bucket, &place.key, *upload), &|_| true)?)
}

/// Removes parts and notes their chunks for GC.
pub(super) fn remove_parts(
    rows: &mut Batch<'_>,
    now: u64,
    (bucket, key, upload): (BucketId, &str, UploadId),
    which: &dyn Fn(u16) -> bool,
) -> Result<(), Error> {
    let mut gone = Vec::new();
    visit_parts(rows, (bucket, key, upload), 0, &mut |number, part| {
        if which(number) {
            gone.push((number, part.chunks));
        }
        ControlFlow::Continue(())
    })?;
    for (number, chunks) in gone {
        rows.delete(of_part(bucket, key, upload, number));
        note_released(rows, now, chunks)?;
    }
    Ok(())
}
