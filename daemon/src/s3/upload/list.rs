//! ListParts and ListMultipartUploads.

use cairn_meta::slot::list::{Item, Position, Query as ListQuery};
use cairn_meta::slot::query::{Parts, Query, Reply};
use cairn_meta::version::{Pair, UploadId, VersionId};

use super::{find, initiator, name, sums_of};
use crate::s3::access::acl::{Permission, owner};
use crate::s3::access::headers_acl;
use crate::s3::answer::Answer;
use crate::s3::call::{Bucket, Call};
use crate::s3::date;
use crate::s3::error::{Code, Result};
use crate::s3::hash::Algorithm;
use crate::s3::head::number;
use crate::s3::list::{Encoding, limit};
use crate::s3::object::quoted;
use crate::s3::xml::Xml;

/// The parts of an upload.
pub async fn list_parts(call: &Call) -> Result<Answer> {
    let bucket = call.bucket()?;
    call.allow_expected(&bucket)?;
    call.allow_named(&bucket, "s3:ListMultipartUploadParts", Some(call.key()), Some(Permission::Read))?;
    let max = limit(&call.head, "max-parts")?;
    let behind: u16 = number(call.head.query.filled("part-number-marker"), "part-number-marker")?.unwrap_or(0);
    let (upload, row) = find(call, &bucket).await?;
    let query = Query::Parts { of: name(call, &bucket, upload), behind, limit: max };
    let Reply::Parts(Parts { parts, more }) = call.query(&bucket, call.key(), &query).await? else {
        return Err(Code::InternalError.into());
    };
    let mut xml = Xml::root("ListPartsResult");
    xml.text("Bucket", bucket.name()).text("Key", call.key()).text("UploadId", &upload.to_string());
    people(&mut xml, &bucket, &row.content.headers);
    xml.text("StorageClass", "STANDARD").plain("PartNumberMarker", behind);
    xml.plain("NextPartNumberMarker", parts.last().map_or(behind, |(number, _)| *number));
    xml.plain("MaxParts", max).plain("IsTruncated", more);
    if let Some((algorithm, kind)) = sums_of(&row.content) {
        xml.text("ChecksumAlgorithm", algorithm.name()).text("ChecksumType", kind.name());
    }
    for (number, part) in &parts {
        xml.open("Part").plain("PartNumber", number).text("LastModified", &date::iso(part.modified));
        xml.text("ETag", &quoted(&part.etag)).plain("Size", part.size);
        for sum in &part.checksums {
            xml.maybe(Algorithm::find(&sum.algorithm).map_or("Checksum", Algorithm::element), Some(&sum.value));
        }
        xml.close("Part");
    }
    Ok(Answer::xml(xml.end("ListPartsResult")))
}

/// Who began an upload, and whose the object is to be.
fn people(xml: &mut Xml, bucket: &Bucket, headers: &[Pair]) {
    owner(xml, "Initiator", initiator(headers));
    owner(xml, "Owner", &headers_acl(bucket, headers).owner);
}

/// The uploads of a bucket that are under way.
pub async fn list_uploads(call: &Call) -> Result<Answer> {
    let bucket = call.bucket()?;
    call.allow_bucket(&bucket, Some(Permission::Read))?;
    let query = &call.head.query;
    let encoding = Encoding::read(&call.head)?;
    let max = limit(&call.head, "max-uploads")?;
    let text = |name: &str| query.get(name).unwrap_or_default();
    let (prefix, delimiter) = (text("prefix"), text("delimiter"));
    let (key_marker, upload_marker) = (text("key-marker"), text("upload-id-marker"));
    let marked: Option<VersionId> = upload_marker.parse().ok();
    let after = match (key_marker, marked) {
        ("", _) => None,
        (key, Some(id)) => Some(Position::upload(key, UploadId(id.0))),
        (key, None) => Some(Position::behind(key)),
    };
    let page = call
        .cluster()
        .list_uploads(ListQuery {
            bucket: bucket.record().id,
            prefix: prefix.to_owned(),
            delimiter: delimiter.to_owned(),
            after,
            limit: max,
            upto: None,
        })
        .await?;
    let mut xml = Xml::root("ListMultipartUploadsResult");
    xml.text("Bucket", bucket.name()).text("KeyMarker", &encoding.of(key_marker)).text("UploadIdMarker", upload_marker);
    if page.next.is_some() {
        let last = page.items.last().map(|item| match item {
            Item::Entry(entry) => (entry.key.clone(), entry.upload.to_string()),
            Item::Prefix(prefix) => (prefix.clone(), String::new()),
        });
        let (key, upload) = last.unwrap_or_default();
        xml.text("NextKeyMarker", &encoding.of(&key)).text("NextUploadIdMarker", &upload);
    }
    xml.text("Prefix", &encoding.of(prefix));
    if !delimiter.is_empty() {
        xml.text("Delimiter", &encoding.of(delimiter));
    }
    xml.maybe("EncodingType", encoding.name()).plain("MaxUploads", max).plain("IsTruncated", page.next.is_some());
    for item in &page.items {
        match item {
            Item::Prefix(prefix) => {
                xml.open("CommonPrefixes").text("Prefix", &encoding.of(prefix)).close("CommonPrefixes");
            }
            Item::Entry(entry) => {
                xml.open("Upload").text("Key", &encoding.of(&entry.key)).text("UploadId", &entry.upload.to_string());
                people(&mut xml, &bucket, &entry.headers);
                xml.text("StorageClass", "STANDARD").text("Initiated", &date::iso(entry.created)).close("Upload");
            }
        }
    }
    Ok(Answer::xml(xml.end("ListMultipartUploadsResult")))
}
