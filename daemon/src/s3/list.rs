//! ListObjects, ListObjectsV2 and ListObjectVersions; and Cairn's own list of conflicts.

use std::borrow::Cow;

use cairn_meta::slot::command::Which;
use cairn_meta::slot::list::{ConflictEntry, Item, Listed, ObjectEntry, Page, Position, Query, VersionEntry};
use cairn_meta::version::{Kind, VersionId};

use super::access::acl::{Permission, owner};
use super::answer::Answer;
use super::call::{Bucket, Call, version_name, which};
use super::date;
use super::error::{Code, Result, S3Error};
use super::hash::{base64, unbase64};
use super::head::{Head, number};
use super::object::quoted;
use super::uri::{Slash, encode};
use super::xml::Xml;
use crate::cluster::ClusterError;

/// The most items of a page, and as many as clients get that don't say.
const LIMIT_MAX: u32 = 1000;

/// How many items a client wants.
///
/// # Errors
/// If it says no number.
pub fn limit(head: &Head, name: &str) -> Result<u32> {
    let wanted: Option<u64> = number(head.query.filled(name), name)?;
    if wanted.is_some_and(|wanted| wanted > u64::from(u32::MAX >> 1)) {
        return Err(S3Error::argument(
            name,
            head.query.get(name).unwrap_or_default(),
            format!("Argument {name} must be an integer between 0 and 2147483647"),
        ));
    }
    Ok(wanted.map_or(LIMIT_MAX, |wanted| (wanted as u32).min(LIMIT_MAX)))
}

/// How keys are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// As XML has them.
    Plain,
    /// As in a URL.
    Url,
}

impl Encoding {
    /// What a client wants.
    ///
    /// # Errors
    /// If it is none that S3 has.
    pub fn read(head: &Head) -> Result<Self> {
        match head.query.get("encoding-type") {
            None | Some("") => Ok(Self::Plain),
            Some("url") => Ok(Self::Url),
            Some(other) => {
                Err(S3Error::argument("encoding-type", other, "Invalid Encoding Method specified in Request"))
            }
        }
    }

    /// Its name, if it has one.
    pub fn name(self) -> Option<&'static str> {
        (self == Self::Url).then_some("url")
    }

    /// A key as it is written.
    pub fn of(self, text: &str) -> Cow<'_, str> {
        match self {
            Self::Plain => Cow::Borrowed(text),
            Self::Url => Cow::Owned(encode(text, Slash::Kept)),
        }
    }
}

/// What all lists of a bucket are asked with.
struct Asked {
    bucket: Bucket,
    prefix: String,
    delimiter: String,
    limit: u32,
    encoding: Encoding,
}

impl Asked {
    fn read(call: &Call) -> Result<Self> {
        let bucket = call.bucket()?;
        call.allow_bucket(&bucket, Some(Permission::Read))?;
        let text = |name: &str| call.head.query.get(name).unwrap_or_default().to_owned();
        let (limit, encoding) = (limit(&call.head, "max-keys")?, Encoding::read(&call.head)?);
        Ok(Self { bucket, prefix: text("prefix"), delimiter: text("delimiter"), limit, encoding })
    }

    fn query(&self, after: Option<Position>) -> Query {
        let (prefix, delimiter) = (self.prefix.clone(), self.delimiter.clone());
        Query { bucket: self.bucket.record().id, prefix, delimiter, after, limit: self.limit, upto: None }
    }

    /// Fills a page; slots may give less than is asked for although there is more.
    async fn page<T>(
        &self,
        after: Option<Position>,
        list: impl AsyncFn(Query) -> std::result::Result<Page<T>, ClusterError>,
    ) -> Result<Page<T>> {
        let mut page = list(self.query(after)).await?;
        while (page.items.len() as u32) < self.limit && page.next.is_some() {
            let rest = Query { limit: self.limit - page.items.len() as u32, ..self.query(page.next.take()) };
            let more = list(rest).await?;
            page.items.extend(more.items);
            page.next = more.next;
        }
        Ok(page)
    }

    async fn objects(&self, call: &Call, after: Option<Position>) -> Result<Page<ObjectEntry>> {
        self.page(after, async |query| call.cluster().list_objects(query).await).await
    }

    fn begin(&self, xml: &mut Xml) {
        xml.text("Name", self.bucket.name()).text("Prefix", &self.encoding.of(&self.prefix));
    }

    fn end(&self, xml: &mut Xml, is_cut: bool) {
        xml.plain("MaxKeys", self.limit);
        if !self.delimiter.is_empty() {
            xml.text("Delimiter", &self.encoding.of(&self.delimiter));
        }
        xml.maybe("EncodingType", self.encoding.name()).plain("IsTruncated", is_cut);
    }

    fn object(&self, xml: &mut Xml, entry: &ObjectEntry, with_owner: bool) {
        xml.open("Contents").text("Key", &self.encoding.of(&entry.key));
        xml.text("LastModified", &date::iso(entry.modified))
            .text("ETag", &quoted(&entry.etag))
            .plain("Size", entry.size);
        if with_owner {
            owner(xml, "Owner", &self.bucket.record().owner);
        }
        xml.text("StorageClass", "STANDARD").close("Contents");
    }

    fn items(&self, xml: &mut Xml, page: &Page<ObjectEntry>, with_owner: bool) {
        for item in &page.items {
            if let Item::Entry(entry) = item {
                self.object(xml, entry, with_owner);
            }
        }
        self.prefixes(xml, &page.items);
    }

    fn prefixes<T>(&self, xml: &mut Xml, items: &[Item<T>]) {
        for item in items {
            if let Item::Prefix(prefix) = item {
                xml.open("CommonPrefixes").text("Prefix", &self.encoding.of(prefix)).close("CommonPrefixes");
            }
        }
    }
}

/// The name that a list has come to.
fn last_name<T: Listed>(items: &[Item<T>]) -> String {
    items.last().map(|item| item.position().name).unwrap_or_default()
}

/// The first version of the list.
pub async fn objects(call: &Call) -> Result<Answer> {
    let asked = Asked::read(call)?;
    let marker = call.head.query.get("marker").unwrap_or_default();
    let after = (!marker.is_empty()).then(|| Position::behind(marker));
    let page = asked.objects(call, after).await?;
    let is_cut = page.next.is_some() && asked.limit > 0;
    let mut xml = Xml::root("ListBucketResult");
    asked.begin(&mut xml);
    xml.text("Marker", &asked.encoding.of(marker));
    if is_cut && !asked.delimiter.is_empty() {
        xml.text("NextMarker", &asked.encoding.of(&last_name(&page.items)));
    }
    asked.end(&mut xml, is_cut);
    asked.items(&mut xml, &page, true);
    Ok(Answer::xml(xml.end("ListBucketResult")))
}

/// The second version of the list.
pub async fn objects_v2(call: &Call) -> Result<Answer> {
    let asked = Asked::read(call)?;
    let query = &call.head.query;
    let start = query.get("start-after").unwrap_or_default();
    let token = query.get("continuation-token");
    let wrong = || {
        S3Error::argument(
            "continuation-token",
            token.unwrap_or_default(),
            "The continuation token provided is incorrect",
        )
    };
    let from = match token {
        None | Some("") => start.to_owned(),
        Some(token) => unbase64(token)
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .filter(|name| !name.is_empty())
            .ok_or_else(wrong)?,
    };
    let page = asked.objects(call, (!from.is_empty()).then(|| Position::behind(from.as_str()))).await?;
    let is_cut = page.next.is_some() && asked.limit > 0;
    let with_owner = query.get("fetch-owner") == Some("true");
    let mut xml = Xml::root("ListBucketResult");
    asked.begin(&mut xml);
    if !start.is_empty() {
        xml.text("StartAfter", &asked.encoding.of(start));
    }
    xml.maybe("ContinuationToken", token);
    if is_cut {
        xml.text("NextContinuationToken", &base64(last_name(&page.items).as_bytes()));
    }
    xml.plain("KeyCount", page.items.len());
    asked.end(&mut xml, is_cut);
    asked.items(&mut xml, &page, with_owner);
    Ok(Answer::xml(xml.end("ListBucketResult")))
}

/// Keys with several heads of which one is an object. S3 has no such list: it is Cairn's own.
pub async fn conflicts(call: &Call) -> Result<Answer> {
    let asked = Asked::read(call)?;
    let start = call.head.query.get("start-after").unwrap_or_default();
    let after = (!start.is_empty()).then(|| Position::behind(start));
    let page = asked.page(after, async |query| call.cluster().list_conflicts(query).await).await?;
    let is_cut = page.next.is_some() && asked.limit > 0;
    let mut xml = Xml::root("ListConflictsResult");
    asked.begin(&mut xml);
    xml.text("StartAfter", &asked.encoding.of(start));
    if is_cut {
        xml.text("NextStartAfter", &asked.encoding.of(&last_name(&page.items)));
    }
    asked.end(&mut xml, is_cut);
    for item in &page.items {
        if let Item::Entry(ConflictEntry { key, heads }) = item {
            xml.open("Conflict").text("Key", &asked.encoding.of(key)).plain("Heads", heads).close("Conflict");
        }
    }
    asked.prefixes(&mut xml, &page.items);
    Ok(Answer::xml(xml.end("ListConflictsResult")))
}

/// All versions and delete markers.
pub async fn versions(call: &Call) -> Result<Answer> {
    let asked = Asked::read(call)?;
    let text = |name: &str| call.head.query.get(name).unwrap_or_default();
    let (key_marker, version_marker) = (text("key-marker"), text("version-id-marker"));
    let after = match (key_marker, version_marker) {
        ("", "") => None,
        ("", _) => {
            return Err(S3Error::argument(
                "version-id-marker",
                version_marker,
                "A version-id marker cannot be specified without a key marker.",
            ));
        }
        (key, "") => Some(Position::behind(key)),
        (key, id) => Some(Position::version(key, marked(call, &asked.bucket, key, id).await?)),
    };
    let page = asked.page(after, async |query| call.cluster().list_versions(query).await).await?;
    let is_cut = page.next.is_some() && asked.limit > 0;
    let mut xml = Xml::root("ListVersionsResult");
    asked.begin(&mut xml);
    xml.text("KeyMarker", &asked.encoding.of(key_marker)).text("VersionIdMarker", version_marker);
    if is_cut {
        match page.items.last() {
            Some(Item::Entry(entry)) => {
                xml.text("NextKeyMarker", &asked.encoding.of(&entry.key))
                    // By its own id also where it is called `null`: clients that delete page by page name it when it is gone.
                    .text("NextVersionIdMarker", &entry.id.to_string());
            }
            Some(Item::Prefix(prefix)) => {
                xml.text("NextKeyMarker", &asked.encoding.of(prefix));
            }
            None => {}
        }
    }
    asked.end(&mut xml, is_cut);
    for item in &page.items {
        if let Item::Entry(entry) = item {
            version(&asked, &mut xml, entry);
        }
    }
    asked.prefixes(&mut xml, &page.items);
    Ok(Answer::xml(xml.end("ListVersionsResult")))
}

/// Above all versions of a key: behind it, the list goes on with the first of them.
const ABOVE_ALL: VersionId = VersionId(u128::MAX);

/// The version that a marker names: `null` is looked up. One that is gone by now may have stood anywhere: better twice than not at all.
async fn marked(call: &Call, bucket: &Bucket, key: &str, id: &str) -> Result<VersionId> {
    match which(id).map_err(|_| S3Error::argument("version-id-marker", id, "Invalid version id specified"))? {
        Which::Id(id) => Ok(id),
        null => match call.read(bucket, key, Some(null)).await {
            Ok(found) => Ok(found.version.id),
            Err(error) if error.code() == Code::NoSuchVersion => Ok(ABOVE_ALL),
            Err(error) => Err(error),
        },
    }
}

fn version(asked: &Asked, xml: &mut Xml, entry: &VersionEntry) {
    let element = if entry.kind == Kind::Data { "Version" } else { "DeleteMarker" };
    xml.open(element).text("Key", &asked.encoding.of(&entry.key));
    xml.text("VersionId", &version_name(entry.id, entry.is_null)).plain("IsLatest", entry.is_latest);
    xml.text("LastModified", &date::iso(entry.modified));
    if entry.kind == Kind::Data {
        xml.text("ETag", &quoted(&entry.etag)).plain("Size", entry.size).text("StorageClass", "STANDARD");
    }
    owner(xml, "Owner", &asked.bucket.record().owner);
    xml.close(element);
}
