//! Answers in XML, as far as this client reads them. Names that a listing encodes are decoded here.

use serde::Deserialize;

/// A page of a listing of objects.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ObjectPage {
    encoding_type: Option<String>,
    /// Whether there is another page.
    pub is_truncated: bool,
    /// Where that begins.
    pub next_continuation_token: Option<String>,
    /// The objects.
    pub contents: Vec<ObjectEntry>,
    /// What keys have in common up to the delimiter.
    pub common_prefixes: Vec<CommonPrefix>,
}

/// An object in a listing.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ObjectEntry {
    /// Its name.
    pub key: String,
    /// When it was stored.
    pub last_modified: String,
    /// Its tag, in quotes.
    #[serde(rename = "ETag")]
    pub etag: String,
    /// Its length.
    pub size: u64,
}

/// Keys summed up by what they begin with.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CommonPrefix {
    /// That.
    pub prefix: String,
}

/// A page of a listing of versions.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct VersionPage {
    encoding_type: Option<String>,
    /// Whether there is another page.
    pub is_truncated: bool,
    /// Where that begins.
    pub next_key_marker: Option<String>,
    /// See `next_key_marker`.
    pub next_version_id_marker: Option<String>,
    /// Versions and delete markers, in order.
    #[serde(rename = "$value")]
    entries: Vec<VersionItem>,
}

/// What stands in a listing of versions.
#[derive(Debug, Deserialize)]
enum VersionItem {
    Version(VersionEntry),
    DeleteMarker(VersionEntry),
    #[serde(other)]
    Other,
}

/// A version or a delete marker in a listing.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct VersionEntry {
    /// The name of its object.
    pub key: String,
    /// Which version.
    pub version_id: String,
    /// Whether it is what a reader gets who names none.
    pub is_latest: bool,
    /// When it was stored.
    pub last_modified: String,
    /// Its tag, in quotes; a marker has none.
    #[serde(rename = "ETag")]
    pub etag: String,
    /// Its length.
    pub size: u64,
    /// Whether it says that the object was deleted.
    #[serde(skip)]
    pub is_delete_marker: bool,
}

/// The buckets of a key's owner.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct BucketList {
    buckets: Buckets,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Buckets {
    bucket: Vec<BucketEntry>,
}

/// A bucket in a listing.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct BucketEntry {
    /// Its name.
    pub name: String,
    /// When it was made.
    pub creation_date: String,
}

/// An upload that was begun.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Begun {
    /// Its name.
    pub upload_id: String,
}

/// A page of a listing of uploads.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct UploadPage {
    encoding_type: Option<String>,
    /// Whether there is another page.
    pub is_truncated: bool,
    /// Where that begins.
    pub next_key_marker: Option<String>,
    /// See `next_key_marker`.
    pub next_upload_id_marker: Option<String>,
    /// The uploads.
    pub upload: Vec<UploadEntry>,
}

/// A page of a listing of conflicts.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ConflictPage {
    encoding_type: Option<String>,
    /// Where the next page begins, if there is one.
    pub next_start_after: Option<String>,
    /// The conflicts.
    pub conflict: Vec<ConflictEntry>,
}

/// A conflict in a listing.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ConflictEntry {
    /// The name of the object.
    pub key: String,
    /// How many heads it has.
    pub heads: u32,
}

/// An upload in a listing.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct UploadEntry {
    /// The name of the object that it is to be.
    pub key: String,
    /// Its own name.
    pub upload_id: String,
    /// When it was begun.
    pub initiated: String,
}

/// A page of a listing of parts.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PartPage {
    /// Whether there is another page.
    pub is_truncated: bool,
    /// Where that begins.
    pub next_part_number_marker: Option<String>,
    /// The parts.
    pub part: Vec<PartEntry>,
}

/// A part in a listing.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PartEntry {
    /// Its number, from 1.
    pub part_number: u32,
    /// Its tag, in quotes.
    #[serde(rename = "ETag")]
    pub etag: String,
    /// Its length.
    pub size: u64,
}

/// What came of a completion or a copy.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Made {
    /// The tag of the object or part, in quotes.
    #[serde(rename = "ETag")]
    pub etag: String,
}

/// What came of deleting many.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Deleted {
    /// What could not be deleted.
    pub error: Vec<DeleteFailure>,
}

/// Why one of many was not deleted.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DeleteFailure {
    /// The object.
    pub key: String,
    /// As `AccessDenied`.
    pub code: String,
    /// The server's words.
    pub message: String,
}

impl ObjectPage {
    /// With names as they are.
    #[must_use]
    pub fn decoded(mut self) -> Self {
        if is_encoded(self.encoding_type.as_ref()) {
            self.contents.iter_mut().for_each(|entry| decode(&mut entry.key));
            self.common_prefixes.iter_mut().for_each(|entry| decode(&mut entry.prefix));
        }
        self
    }
}

impl VersionPage {
    /// What it lists, with names as they are.
    pub fn decoded(self) -> (Vec<VersionEntry>, Option<(String, String)>) {
        let is_encoded = is_encoded(self.encoding_type.as_ref());
        let entry = |item| match item {
            VersionItem::Version(entry) => Some(entry),
            VersionItem::DeleteMarker(entry) => Some(VersionEntry { is_delete_marker: true, ..entry }),
            VersionItem::Other => None,
        };
        let mut entries: Vec<VersionEntry> = self.entries.into_iter().filter_map(entry).collect();
        let mut next = self.next_key_marker.filter(|_| self.is_truncated);
        if is_encoded {
            entries.iter_mut().for_each(|entry| decode(&mut entry.key));
            next.iter_mut().for_each(decode);
        }
        (entries, next.map(|key| (key, self.next_version_id_marker.unwrap_or_default())))
    }
}

impl BucketList {
    /// What it lists.
    pub fn buckets(self) -> Vec<BucketEntry> {
        self.buckets.bucket
    }
}

impl UploadPage {
    /// With names as they are.
    #[must_use]
    pub fn decoded(mut self) -> Self {
        if is_encoded(self.encoding_type.as_ref()) {
            self.upload.iter_mut().for_each(|entry| decode(&mut entry.key));
            self.next_key_marker.iter_mut().for_each(decode);
        }
        self
    }
}

impl ConflictPage {
    /// With names as they are.
    #[must_use]
    pub fn decoded(mut self) -> Self {
        if is_encoded(self.encoding_type.as_ref()) {
            self.conflict.iter_mut().for_each(|entry| decode(&mut entry.key));
            self.next_start_after.iter_mut().for_each(decode);
        }
        self
    }
}

fn is_encoded(encoding: Option<&String>) -> bool {
    encoding.is_some_and(|encoding| encoding == "url")
}

/// Percent-encoding with `+` for a space, as listings have it. What isn't encoded so stays as it is.
fn decode(text: &mut String) {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let byte = digits.filter(|_| first == b'%').and_then(|two| u8::from_str_radix(two, 16).ok());
        bytes.push(byte.unwrap_or(if first == b'+' { b' ' } else { first }));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    if let Ok(decoded) = String::from_utf8(bytes) {
        *text = decoded;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_listings_are_decoded() {
        for (text, is) in [("a%2Fb+c", "a/b c"), ("%E2%82%AC%2B", "€+"), ("50%", "50%"), ("%zz", "%zz"), ("%ff", "%ff")]
        {
            let mut text = text.to_owned();
            decode(&mut text);
            assert_eq!(text, is);
        }
    }

    #[test]
    fn versions_and_markers_keep_their_order() {
        let xml = "<ListVersionsResult><Name>b</Name><IsTruncated>true</IsTruncated><NextKeyMarker>a%20b</NextKeyMarker>\
                   <NextVersionIdMarker>3</NextVersionIdMarker><EncodingType>url</EncodingType>\
                   <Version><Key>a+b</Key><VersionId>1</VersionId><IsLatest>false</IsLatest><Size>7</Size>\
                   <Owner><ID>x</ID></Owner></Version>\
                   <DeleteMarker><Key>a+b</Key><VersionId>2</VersionId><IsLatest>true</IsLatest></DeleteMarker>\
                   <Version><Key>c</Key><VersionId>3</VersionId></Version></ListVersionsResult>";
        let page: VersionPage = quick_xml::de::from_str(xml).expect("it is a listing");
        let (entries, next) = page.decoded();
        let shown: Vec<_> =
            entries.iter().map(|it| (it.key.as_str(), it.version_id.as_str(), it.is_delete_marker)).collect();
        assert_eq!(shown, [("a b", "1", false), ("a b", "2", true), ("c", "3", false)]);
        assert_eq!(next, Some(("a b".to_owned(), "3".to_owned())));
    }

    #[test]
    fn a_listing_of_objects_is_read() {
        let xml = "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>b</Name><KeyCount>2</KeyCount>\
                   <Contents><Key>x&amp;y</Key><ETag>&quot;ab&quot;</ETag><Size>3</Size><StorageClass>STANDARD</StorageClass>\
                   </Contents><CommonPrefixes><Prefix>p/</Prefix></CommonPrefixes><IsTruncated>false</IsTruncated>\
                   <Contents><Key>z</Key></Contents></ListBucketResult>";
        let page: ObjectPage = quick_xml::de::from_str(xml).expect("it is a listing");
        let page = page.decoded();
        assert_eq!(page.contents[0].key, "x&y");
        assert_eq!((page.contents[0].etag.as_str(), page.contents[0].size), ("\"ab\"", 3));
        assert_eq!((page.contents.len(), page.common_prefixes[0].prefix.as_str()), (2, "p/"));
    }
}
