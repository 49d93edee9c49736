//! GetObjectAttributes.

use cairn_meta::slot::query::{OfUpload, Parts, Query, Reply};
use cairn_meta::version::{Content, Payload};

use super::get::{shown, sum_type};
use crate::s3::access::acl::Permission;
use crate::s3::answer::Answer;
use crate::s3::call::{Bucket, Call};
use crate::s3::date;
use crate::s3::error::{Code, Result, S3Error};
use crate::s3::hash::Algorithm;
use crate::s3::head::number;
use crate::s3::xml::Xml;

const NAMES: [&str; 5] = ["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"];
const PARTS_MAX: u32 = 1000;

/// What is asked of an object.
pub async fn attributes(call: &Call) -> Result<Answer> {
    let values = call.head.headers.get_all("x-amz-object-attributes").iter();
    let texts: Vec<&str> = values.filter_map(|value| value.to_str().ok()).collect();
    let asked: Vec<String> = texts
        .iter()
        .flat_map(|text| text.split(','))
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .collect();
    if asked.is_empty() {
        return Err(S3Error::argument(
            "x-amz-object-attributes",
            "",
            "The x-amz-object-attributes header specifying the attributes to be retrieved is either missing or empty",
        ));
    }
    if let Some(name) = asked.iter().find(|name| !NAMES.contains(&name.as_str())) {
        return Err(S3Error::argument("x-amz-object-attributes", name.as_str(), "Invalid attribute name specified."));
    }
    let has = |name: &str| asked.iter().any(|asked| asked == name);
    let (bucket, found) = shown(call, Permission::Read).await?;
    let content = &found.version.content;
    let mut xml = Xml::root("GetObjectAttributesResponse");
    if has("ETag") {
        xml.text("ETag", &content.etag);
    }
    if has("Checksum") && !content.checksums.is_empty() {
        xml.open("Checksum");
        for sum in &content.checksums {
            xml.maybe(Algorithm::find(&sum.algorithm).map_or("Other", Algorithm::element), Some(&sum.value));
            xml.text("ChecksumType", sum_type(sum));
        }
        xml.close("Checksum");
    }
    if has("ObjectParts") && !content.parts.is_empty() {
        parts(call, &bucket, content, &mut xml).await?;
    }
    if has("StorageClass") {
        xml.text("StorageClass", "STANDARD");
    }
    if has("ObjectSize") {
        xml.plain("ObjectSize", content.size);
    }
    let answer =
        Answer::xml(xml.end("GetObjectAttributesResponse")).with("last-modified", date::http(found.version.modified));
    Ok(call.about(answer, &bucket, &found))
}

async fn parts(call: &Call, bucket: &Bucket, content: &Content, xml: &mut Xml) -> Result<()> {
    let Payload::Parts(upload) = content.payload else { return Ok(()) };
    let limit = number(call.head.only("x-amz-max-parts")?, "x-amz-max-parts")?.unwrap_or(PARTS_MAX).min(PARTS_MAX);
    let behind = number(call.head.only("x-amz-part-number-marker")?, "x-amz-part-number-marker")?.unwrap_or(0);
    let of = OfUpload { bucket: bucket.record().id, key: call.key().to_owned(), upload };
    let reply = call.query(bucket, call.key(), &Query::Parts { of, behind, limit }).await?;
    let Reply::Parts(Parts { parts, more }) = reply else { return Err(Code::InternalError.into()) };
    xml.open("ObjectParts").plain("PartsCount", content.parts.len()).plain("PartNumberMarker", behind);
    if let Some((last, _)) = parts.last() {
        xml.plain("NextPartNumberMarker", last);
    }
    xml.plain("MaxParts", limit).plain("IsTruncated", more);
    for (number, part) in parts.iter().filter(|(_, part)| !part.checksums.is_empty()) {
        xml.open("Part").plain("PartNumber", number).plain("Size", part.size);
        for sum in &part.checksums {
            xml.maybe(Algorithm::find(&sum.algorithm).map_or("Other", Algorithm::element), Some(&sum.value));
        }
        xml.close("Part");
    }
    xml.close("ObjectParts");
    Ok(())
}
