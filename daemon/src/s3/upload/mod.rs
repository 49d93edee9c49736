//! Multipart uploads: begun, filled in any order, completed or aborted.

mod complete;
mod list;
mod part;

use cairn_meta::slot::command::{AbortUpload, Command, CreateUpload};
use cairn_meta::slot::query::{OfUpload, Query, Reply};
use cairn_meta::slot::upload::UploadRow;
use cairn_meta::version::{Content, UploadId, VersionId};

use super::answer::Answer;
use super::call::{Bucket, Call};
use super::error::{Code, Result, S3Error};
use super::hash::Algorithm;
use super::object::of_request;
use super::xml::Xml;
use crate::cluster::new_upload;

pub use complete::complete;
pub use list::{list_parts, list_uploads};
pub use part::{copy_part, put_part};

/// Where an upload keeps what its checksums are to be.
const ALGORITHM: &str = "x-cairn-checksum-algorithm";
const TYPE: &str = "x-cairn-checksum-type";
/// Where it keeps who began it.
const INITIATOR: &str = "x-cairn-initiator";

/// How the checksum of a whole is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SumType {
    /// Of its bytes.
    Full,
    /// Of the checksums of its parts.
    Composite,
}

impl SumType {
    fn name(self) -> &'static str {
        match self {
            Self::Full => "FULL_OBJECT",
            Self::Composite => "COMPOSITE",
        }
    }
}

/// What checksums an upload's client asked for.
fn sums_of(content: &Content) -> Option<(Algorithm, SumType)> {
    let kept = |name: &str| content.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let algorithm = Algorithm::find(kept(ALGORITHM)?)?;
    let kind = if kept(TYPE) == Some("FULL_OBJECT") { SumType::Full } else { SumType::Composite };
    Some((algorithm, kind))
}

/// Who began an upload.
fn initiator(headers: &[cairn_meta::version::Pair]) -> &str {
    headers.iter().find(|(known, _)| known == INITIATOR).map_or("", |(_, value)| value)
}

/// Begins an upload.
pub async fn create(call: &Call) -> Result<Answer> {
    let bucket = call.bucket()?;
    call.allow_write(&bucket, call.key())?;
    let mut content = of_request(call, &bucket)?;
    let sums = stated_sums(call)?;
    if let Some((algorithm, kind)) = sums {
        content.headers.push((ALGORITHM.to_owned(), algorithm.name().to_owned()));
        content.headers.push((TYPE.to_owned(), kind.name().to_owned()));
    }
    content.headers.push((INITIATOR.to_owned(), call.who.user().unwrap_or_default().to_owned()));
    content.check_words().map_err(|_| Code::MetadataTooLarge)?;
    let upload = new_upload();
    call.command(&bucket, call.key(), |place| {
        Command::CreateUpload(CreateUpload { place, upload, content: content.clone() })
    })
    .await?;
    let mut xml = Xml::root("InitiateMultipartUploadResult");
    xml.text("Bucket", bucket.name()).text("Key", call.key()).text("UploadId", &upload.to_string());
    let answer = Answer::xml(xml.end("InitiateMultipartUploadResult"));
    Ok(match sums {
        Some((algorithm, kind)) => {
            answer.with("x-amz-checksum-algorithm", algorithm.name()).with("x-amz-checksum-type", kind.name())
        }
        None => answer,
    })
}

fn stated_sums(call: &Call) -> Result<Option<(Algorithm, SumType)>> {
    let kind = call.head.only("x-amz-checksum-type")?;
    let Some(text) = call.head.only("x-amz-checksum-algorithm")? else {
        return match kind {
            None => Ok(None),
            Some(_) => Err(Code::InvalidRequest
                .says("The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.")),
        };
    };
    let algorithm = Algorithm::find(text).ok_or_else(|| Code::InvalidRequest.says("Checksum algorithm provided is unsupported. Please try again with any of the valid types: [CRC32, CRC32C, CRC64NVME, SHA1, SHA256]"))?;
    let unfit = |kind: &str| {
        Code::InvalidRequest.says(format!(
            "The {kind} checksum type cannot be used with the {} checksum algorithm.",
            algorithm.name().to_lowercase()
        ))
    };
    let kind = match kind {
        Some("FULL_OBJECT") if algorithm.is_linear() => SumType::Full,
        Some("COMPOSITE") if algorithm != Algorithm::Crc64Nvme => SumType::Composite,
        Some(other) => return Err(unfit(other)),
        None if algorithm == Algorithm::Crc64Nvme => SumType::Full,
        None => SumType::Composite,
    };
    Ok(Some((algorithm, kind)))
}

/// Ends an upload without an object.
pub async fn abort(call: &Call) -> Result<Answer> {
    let bucket = call.bucket()?;
    call.allow_write(&bucket, call.key())?;
    let upload = upload_id(call)?;
    call.command(&bucket, call.key(), |place| Command::AbortUpload(AbortUpload { place, upload })).await?;
    Ok(Answer::no_content())
}

/// Which upload the request names. What none can be called isn't there.
fn upload_id(call: &Call) -> Result<UploadId> {
    let text = call.head.query.get("uploadId").unwrap_or_default();
    let id: Result<VersionId, _> = text.parse();
    id.map(|id| UploadId(id.0)).map_err(|_| S3Error::from(Code::NoSuchUpload).with("UploadId", text))
}

fn name(call: &Call, bucket: &Bucket, upload: UploadId) -> OfUpload {
    OfUpload { bucket: bucket.record().id, key: call.key().to_owned(), upload }
}

/// The upload that the request names.
async fn find(call: &Call, bucket: &Bucket) -> Result<(UploadId, UploadRow)> {
    let upload = upload_id(call)?;
    let Reply::Upload(row) = call.query(bucket, call.key(), &Query::Upload(name(call, bucket, upload))).await? else {
        return Err(Code::InternalError.into());
    };
    let row = row.ok_or_else(|| S3Error::from(Code::NoSuchUpload).with("UploadId", upload.to_string()))?;
    Ok((upload, row))
}
