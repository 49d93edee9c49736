//! What can be asked of a server, one function each. Nothing here decides; transfers and commands do.

use bytes::Bytes;
use hyper::header::HeaderMap;
use hyper::{Method, StatusCode};
use quick_xml::escape::escape;
use sha2::{Digest, Sha256};

use super::client::{Answer, Ask, Client, text};
use super::error::S3Error;
use super::shapes::{
    Begun, BucketEntry, BucketList, ConflictPage, DeleteFailure, Deleted, Made, ObjectPage, PartEntry, PartPage,
    UploadEntry, UploadPage, VersionEntry, VersionPage,
};
use super::words::base64;

const XMLNS: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

/// An object in a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its bucket.
    pub bucket: String,
    /// Its name there.
    pub key: String,
}

/// What a server says of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Its length.
    pub len: u64,
    /// Its tag, in quotes.
    pub etag: String,
    /// Its version, where there are versions.
    pub version: Option<String>,
}

/// What came of storing an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// Its tag, in quotes.
    pub etag: String,
    /// Its version, where there are versions.
    pub version: Option<String>,
    /// Whether its order is confirmed, as a node says it.
    pub state: Option<String>,
}

impl Stored {
    fn new(headers: &HeaderMap, etag: String) -> Self {
        let own = |name| text(headers, name).map(str::to_owned);
        Self { etag, version: own("x-amz-version-id"), state: own("x-cairn-state") }
    }
}

/// A part of an object to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// From 1.
    pub number: u32,
    /// Its tag, in quotes.
    pub etag: String,
}

fn etag(headers: &HeaderMap) -> String {
    text(headers, "etag").unwrap_or_default().to_owned()
}

impl Client {
    /// The buckets of the key's owner.
    pub async fn buckets(&self) -> Result<Vec<BucketEntry>, S3Error> {
        let list: BucketList = self.xml(&Ask::bucket(Method::GET, "")).await?;
        Ok(list.buckets())
    }

    /// Makes a bucket.
    pub async fn create_bucket(&self, bucket: &str, headers: &[(String, String)]) -> Result<(), S3Error> {
        self.whole(&Ask::bucket(Method::PUT, bucket).headers(headers)).await.map(drop)
    }

    /// The document that says whether a bucket keeps the versions that others supersede.
    pub fn versioning(status: &str) -> Bytes {
        format!("<VersioningConfiguration xmlns=\"{XMLNS}\"><Status>{status}</Status></VersioningConfiguration>").into()
    }

    /// A document of a bucket, by the parameter that names it; `None`: it has none.
    pub async fn bucket_setting(&self, bucket: &str, name: &'static str) -> Result<Option<Bytes>, S3Error> {
        match self.whole(&Ask::bucket(Method::GET, bucket).query(name, "")).await {
            Ok((_, body)) => Ok(Some(body)),
            Err(S3Error::Refused(no)) if no.status == StatusCode::NOT_FOUND && no.code != "NoSuchBucket" => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts a document of a bucket.
    pub async fn set_bucket(&self, bucket: &str, name: &'static str, document: Bytes) -> Result<(), S3Error> {
        self.whole(&with_sum(Ask::bucket(Method::PUT, bucket).query(name, ""), document)).await.map(drop)
    }

    /// Removes a document of a bucket.
    pub async fn unset_bucket(&self, bucket: &str, name: &'static str) -> Result<(), S3Error> {
        self.whole(&Ask::bucket(Method::DELETE, bucket).query(name, "")).await.map(drop)
    }

    /// Deletes a bucket that holds nothing.
    pub async fn delete_bucket(&self, bucket: &str) -> Result<(), S3Error> {
        self.whole(&Ask::bucket(Method::DELETE, bucket)).await.map(drop)
    }

    /// What is known of an object, and its headers.
    pub async fn head(&self, object: &Object, version: Option<&str>) -> Result<(Facts, HeaderMap), S3Error> {
        let ask = Ask::object(Method::HEAD, &object.bucket, &object.key).maybe_query("versionId", version);
        let (headers, _) = self.whole(&ask).await?;
        let len = text(&headers, "content-length").and_then(|len| len.parse().ok());
        let Some(len) = len else { return Err(self.nonsense("an object without a length")) };
        let version = text(&headers, "x-amz-version-id").or(version).map(str::to_owned);
        Ok((Facts { len, etag: etag(&headers), version }, headers))
    }

    /// Begins to read bytes `from..to` of an object as `facts` describe it; it is an error if it is another by now.
    pub async fn get(&self, object: &Object, facts: &Facts, from: u64, to: u64) -> Result<Answer, S3Error> {
        let mut ask =
            Ask::object(Method::GET, &object.bucket, &object.key).maybe_query("versionId", facts.version.as_deref());
        if !facts.etag.is_empty() {
            ask = ask.header("if-match", &facts.etag);
        }
        if from > 0 || to < facts.len {
            // HTTP counts the last byte in.
            ask = ask.header("range", format!("bytes={from}-{}", to.saturating_sub(1)));
        }
        self.send(&ask).await
    }

    /// Stores an object.
    pub async fn put(&self, object: &Object, headers: &[(String, String)], body: Bytes) -> Result<Stored, S3Error> {
        let ask = Ask::object(Method::PUT, &object.bucket, &object.key).headers(headers).body(body);
        let (headers, _) = self.whole(&ask).await?;
        Ok(Stored::new(&headers, etag(&headers)))
    }

    /// Copies an object without moving its bytes through here.
    pub async fn copy(
        &self,
        from: &Object,
        version: Option<&str>,
        to: &Object,
        headers: &[(String, String)],
    ) -> Result<Stored, S3Error> {
        let ask = Ask::object(Method::PUT, &to.bucket, &to.key)
            .headers(headers)
            .header("x-amz-copy-source", copy_source(from, version));
        let (headers, body) = self.whole(&ask).await?;
        let made: Made = self.made(&ask, &body)?;
        Ok(Stored::new(&headers, made.etag))
    }

    /// Deletes an object, or one version of it. Returns the version that this left, where the bucket keeps them.
    pub async fn delete(
        &self,
        object: &Object,
        version: Option<&str>,
        headers: &[(String, String)],
    ) -> Result<Option<String>, S3Error> {
        let ask = Ask::object(Method::DELETE, &object.bucket, &object.key).headers(headers);
        let (headers, _) = self.whole(&ask.maybe_query("versionId", version)).await?;
        Ok(text(&headers, "x-amz-version-id").map(str::to_owned))
    }

    /// Deletes up to 1000 objects, or versions of them; returns what failed.
    pub async fn delete_many(
        &self,
        bucket: &str,
        objects: &[(String, Option<String>)],
    ) -> Result<Vec<DeleteFailure>, S3Error> {
        let objects: String = objects.iter().map(to_delete).collect();
        let body = Bytes::from(format!("<Delete xmlns=\"{XMLNS}\"><Quiet>true</Quiet>{objects}</Delete>"));
        let ask = with_sum(Ask::bucket(Method::POST, bucket).query("delete", ""), body);
        Ok(self.xml::<Deleted>(&ask).await?.error)
    }

    /// A page of objects from a place in the order of keys on, or from where a page ended.
    pub async fn list(
        &self,
        bucket: &str,
        prefix: &str,
        delimiter: Option<&str>,
        token: Option<&str>,
    ) -> Result<ObjectPage, S3Error> {
        let ask = Ask::bucket(Method::GET, bucket)
            .query("list-type", "2")
            .query("encoding-type", "url")
            .query("prefix", prefix)
            .maybe_query("delimiter", delimiter)
            .maybe_query("continuation-token", token);
        Ok(self.xml::<ObjectPage>(&ask).await?.decoded())
    }

    /// A page of versions, and where the next begins.
    pub async fn list_versions(
        &self,
        bucket: &str,
        prefix: &str,
        from: Option<&(String, String)>,
    ) -> Result<(Vec<VersionEntry>, Option<(String, String)>), S3Error> {
        let mut ask = Ask::bucket(Method::GET, bucket)
            .query("versions", "")
            .query("encoding-type", "url")
            .query("prefix", prefix);
        if let Some((key, version)) = from {
            ask = ask.query("key-marker", key).query("version-id-marker", version);
        }
        Ok(self.xml::<VersionPage>(&ask).await?.decoded())
    }

    /// A page of conflicts.
    pub async fn list_conflicts(
        &self,
        bucket: &str,
        prefix: &str,
        from: Option<&str>,
    ) -> Result<ConflictPage, S3Error> {
        let mut ask = Ask::bucket(Method::GET, bucket)
            .query("x-cairn-conflicts", "")
            .query("encoding-type", "url")
            .query("prefix", prefix);
        if let Some(from) = from {
            ask = ask.query("start-after", from);
        }
        Ok(self.xml::<ConflictPage>(&ask).await?.decoded())
    }

    /// Begins an object in parts.
    pub async fn begin_upload(&self, object: &Object, headers: &[(String, String)]) -> Result<String, S3Error> {
        let ask = Ask::object(Method::POST, &object.bucket, &object.key).query("uploads", "").headers(headers);
        let begun: Begun = self.xml(&ask).await?;
        if begun.upload_id.is_empty() {
            return Err(self.nonsense("an upload without a name"));
        }
        Ok(begun.upload_id)
    }

    /// Stores a part.
    pub async fn put_part(&self, object: &Object, upload: &str, number: u32, body: Bytes) -> Result<Part, S3Error> {
        let ask = part(object, upload, number).body(body);
        let (headers, _) = self.whole(&ask).await?;
        Ok(Part { number, etag: etag(&headers) })
    }

    /// Makes a part of bytes `from..to` of another object.
    pub async fn copy_part(
        &self,
        source: (&Object, &Facts),
        (from, to): (u64, u64),
        object: &Object,
        upload: &str,
        number: u32,
    ) -> Result<Part, S3Error> {
        let (copied, facts) = source;
        let ask = part(object, upload, number)
            .header("x-amz-copy-source", copy_source(copied, facts.version.as_deref()))
            .header("x-amz-copy-source-if-match", &facts.etag)
            .header("x-amz-copy-source-range", format!("bytes={from}-{}", to - 1));
        let (_, body) = self.whole(&ask).await?;
        Ok(Part { number, etag: self.made(&ask, &body)?.etag })
    }

    /// Makes an object of its parts, which are in order.
    pub async fn complete_upload(
        &self,
        object: &Object,
        upload: &str,
        parts: &[Part],
        headers: &[(String, String)],
    ) -> Result<Stored, S3Error> {
        let part = |Part { number, etag }: &Part| {
            format!("<Part><PartNumber>{number}</PartNumber><ETag>{}</ETag></Part>", escape(etag.as_str()))
        };
        let parts: String = parts.iter().map(part).collect();
        let body = format!("<CompleteMultipartUpload xmlns=\"{XMLNS}\">{parts}</CompleteMultipartUpload>");
        let ask = Ask::object(Method::POST, &object.bucket, &object.key)
            .query("uploadId", upload)
            .headers(headers)
            .body(body.into());
        let (headers, body) = self.whole(&ask).await?;
        let made = self.made(&ask, &body)?;
        Ok(Stored::new(&headers, made.etag))
    }

    /// Gives up an object in parts.
    pub async fn abort_upload(&self, object: &Object, upload: &str) -> Result<(), S3Error> {
        let ask = Ask::object(Method::DELETE, &object.bucket, &object.key).query("uploadId", upload);
        self.whole(&ask).await.map(drop)
    }

    /// The uploads of an object that were begun and not ended, oldest first.
    pub async fn uploads(&self, object: &Object) -> Result<Vec<UploadEntry>, S3Error> {
        let (mut found, mut from) = (Vec::new(), None);
        loop {
            let (page, next) = self.upload_page(&object.bucket, &object.key, from.as_ref()).await?;
            // Keys come in order, and the shortest with this prefix is the key itself.
            let is_over = page.iter().any(|entry| entry.key != object.key);
            found.extend(page.into_iter().filter(|entry| entry.key == object.key));
            if is_over || next.is_none() || next == from {
                break;
            }
            from = next;
        }
        found.sort_by(|a, b| a.initiated.cmp(&b.initiated));
        Ok(found)
    }

    /// Gives up all uploads of a bucket.
    pub async fn abort_uploads(&self, bucket: &str) -> Result<(), S3Error> {
        let mut from = None;
        loop {
            let (page, next) = self.upload_page(bucket, "", from.as_ref()).await?;
            for UploadEntry { key, upload_id, .. } in page {
                self.abort_upload(&Object { bucket: bucket.to_owned(), key }, &upload_id).await?;
            }
            if next.is_none() || next == from {
                return Ok(());
            }
            from = next;
        }
    }

    async fn upload_page(
        &self,
        bucket: &str,
        prefix: &str,
        from: Option<&(String, String)>,
    ) -> Result<(Vec<UploadEntry>, Option<(String, String)>), S3Error> {
        let mut ask =
            Ask::bucket(Method::GET, bucket).query("uploads", "").query("encoding-type", "url").query("prefix", prefix);
        if let Some((key, upload)) = from {
            ask = ask.query("key-marker", key).query("upload-id-marker", upload);
        }
        let page = self.xml::<UploadPage>(&ask).await?.decoded();
        let next = page.next_key_marker.zip(page.next_upload_id_marker).filter(|_| page.is_truncated);
        Ok((page.upload, next))
    }

    /// The parts of an upload that are there.
    pub async fn parts(&self, object: &Object, upload: &str) -> Result<Vec<PartEntry>, S3Error> {
        let mut found = Vec::new();
        let mut from: Option<String> = None;
        loop {
            let ask = Ask::object(Method::GET, &object.bucket, &object.key)
                .query("uploadId", upload)
                .maybe_query("part-number-marker", from.as_deref());
            let page: PartPage = self.xml(&ask).await?;
            found.extend(page.part);
            if !page.is_truncated || page.next_part_number_marker.is_none() || page.next_part_number_marker == from {
                return Ok(found);
            }
            from = page.next_part_number_marker;
        }
    }

    /// Reads what came of a request that may fail after it was answered 200.
    fn made(&self, ask: &Ask, body: &[u8]) -> Result<Made, S3Error> {
        let made: Made = self.parse(body)?;
        if made.etag.is_empty() { Err(ask.failed_late(body)) } else { Ok(made) }
    }
}

/// A document, with a checksum: AWS wants one or the other with most.
fn with_sum(ask: Ask, document: Bytes) -> Ask {
    ask.header("x-amz-sdk-checksum-algorithm", "SHA256")
        .header("x-amz-checksum-sha256", base64(&Sha256::digest(&document)))
        .body(document)
}

fn to_delete((key, version): &(String, Option<String>)) -> String {
    let version = version.as_deref().map(|version| format!("<VersionId>{}</VersionId>", escape(version)));
    format!("<Object><Key>{}</Key>{}</Object>", escape(key.as_str()), version.unwrap_or_default())
}

fn part(object: &Object, upload: &str, number: u32) -> Ask {
    Ask::object(Method::PUT, &object.bucket, &object.key)
        .query("uploadId", upload)
        .query("partNumber", number.to_string())
}

fn copy_source(from: &Object, version: Option<&str>) -> String {
    let path = super::sign::path(&from.bucket, &from.key);
    match version {
        Some(version) => format!("{path}?{}", super::sign::query(&[("versionId", version.to_owned())])),
        None => path,
    }
}
