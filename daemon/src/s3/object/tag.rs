//! Tags of objects.

use cairn_meta::slot::command::{Amend, Change, Command, Which};
use cairn_meta::version::Pair;
use s3s::dto::Tagging;

use super::get::shown;
use crate::s3::access::acl::Permission;
use crate::s3::answer::Answer;
use crate::s3::body::Body;
use crate::s3::bucket::document;
use crate::s3::call::{Call, version_name};
use crate::s3::error::{Code, Result, S3Error};
use crate::s3::uri::Query;
use crate::s3::xml::{Xml, read};

/// Tags of an object; buckets may have more.
pub const TAGS_MAX: usize = 10;
const KEY_CHARS_MAX: usize = 128;
const VALUE_CHARS_MAX: usize = 256;

/// Tags as headers carry them.
///
/// # Errors
/// If they can't be.
pub fn tags_of_header(text: &str) -> Result<Vec<Pair>> {
    let tags = Query::parse(text).map_err(|_| S3Error::argument("x-amz-tagging", text, "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters without tag name duplicates."))?;
    check_tags(tags.pairs().to_vec(), TAGS_MAX)
}

/// Tags that may be, in the order of their keys: S3 keeps a set.
///
/// # Errors
/// `InvalidTag`, `BadRequest`.
pub fn check_tags(mut tags: Vec<Pair>, max: usize) -> Result<Vec<Pair>> {
    if tags.len() > max {
        return Err(Code::BadRequest.says(format!("Object tags cannot be greater than {max}")));
    }
    for (at, (key, value)) in tags.iter().enumerate() {
        if key.is_empty() || key.chars().count() > KEY_CHARS_MAX {
            return Err(Code::InvalidTag.says("The TagKey you have provided is invalid"));
        }
        if value.chars().count() > VALUE_CHARS_MAX {
            return Err(Code::InvalidTag.says("The TagValue you have provided is invalid"));
        }
        if tags[..at].iter().any(|(other, _)| other == key) {
            return Err(Code::InvalidTag.says("Cannot provide multiple Tags with the same key"));
        }
    }
    tags.sort_unstable();
    Ok(tags)
}

/// Tags of a document.
///
/// # Errors
/// If they can't be.
pub fn tags_of_xml(bytes: &[u8], max: usize) -> Result<Vec<Pair>> {
    let tagging: Tagging = read(bytes)?;
    let pairs = tagging.tag_set.into_iter().map(|tag| Some((tag.key?, tag.value?)));
    check_tags(pairs.collect::<Option<_>>().ok_or(Code::MalformedXML)?, max)
}

/// Tags as they are answered.
pub fn tags_xml(tags: &[Pair]) -> String {
    let mut xml = Xml::root("Tagging");
    xml.open("TagSet");
    for (key, value) in tags {
        xml.open("Tag").text("Key", key).text("Value", value).close("Tag");
    }
    xml.close("TagSet");
    xml.end("Tagging")
}

/// The tags of a version.
pub async fn get_tags(call: &Call) -> Result<Answer> {
    let (bucket, found) = shown(call, Permission::Read).await?;
    let version = &found.version;
    let answer = Answer::xml(tags_xml(&version.content.tags));
    Ok(call.about(answer, &bucket, &found))
}

/// Replaces the tags of a version.
pub async fn put_tags(call: &Call, body: &mut Body) -> Result<Answer> {
    let tags = document(call, body).await?;
    let tags = tags_of_xml(&tags, TAGS_MAX)?;
    change(call, tags, Answer::ok()).await
}

/// Removes the tags of a version.
pub async fn delete_tags(call: &Call) -> Result<Answer> {
    change(call, vec![], Answer::no_content()).await
}

async fn change(call: &Call, tags: Vec<Pair>, answer: Answer) -> Result<Answer> {
    let bucket = call.bucket()?;
    let verdict = call.object_verdict(&bucket).await?;
    call.admit(&bucket, verdict, Some(Permission::Write))?;
    let which = call.which()?.unwrap_or(Which::Preferred);
    let amend = |place| Command::Amend(Amend { place, which, change: Change::Tags(tags.clone()) });
    call.command(&bucket, call.key(), amend).await.map_err(|error| of_amended(error, call))?;
    let named = match which {
        Which::Id(id) => Some(version_name(id, false)),
        Which::Null | Which::Preferred => None,
    };
    Ok(answer.maybe("x-amz-version-id", named))
}

/// What S3 says when there is nothing to change.
pub fn of_amended(error: S3Error, call: &Call) -> S3Error {
    match (error.code(), call.head.query.has("versionId")) {
        (Code::NoSuchVersion | Code::MethodNotAllowed, false) => S3Error::from(Code::NoSuchKey).with("Key", call.key()),
        _ => error,
    }
}

#[test]
fn tags_are_checked() {
    let code = |text: &str| tags_of_header(text).map_err(|error| error.code());
    assert_eq!(code("a=1&b=").map(|tags| tags.len()), Ok(2));
    assert_eq!(code("a=1&a=2"), Err(Code::InvalidTag));
    assert_eq!(code("=1"), Err(Code::InvalidTag));
    assert_eq!(code(&format!("{}=1", "k".repeat(129))), Err(Code::InvalidTag));
    assert_eq!(code(&format!("k={}", "v".repeat(257))), Err(Code::InvalidTag));
    let many: Vec<String> = (0..11).map(|number| format!("k{number}=v")).collect();
    assert_eq!(code(&many.join("&")), Err(Code::BadRequest));
    assert_eq!(code("a=%zz"), Err(Code::InvalidArgument));
}
