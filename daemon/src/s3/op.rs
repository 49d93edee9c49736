//! Operations: which one a request asks for, and what policies call it. The tables here are the ones `docs/s3.md` is checked with.

use hyper::Method;

use super::error::{Code, Result, S3Error};
use super::head::{Head, Target};

/// What a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Nothing: all buckets.
    Service,
    /// A bucket.
    Bucket,
    /// An object.
    Object,
}

/// One way of asking for an operation.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// What is asked for.
    pub op: Op,
    /// Its method.
    pub method: &'static str,
    /// What the path names.
    pub level: Level,
    /// The parameter of the query that asks for it; empty: none does.
    pub param: &'static str,
    /// What policies call it; empty: policies don't speak of it.
    pub action: &'static str,
}

macro_rules! operations {
    ($($op:ident $method:ident $level:ident $param:literal $action:literal;)*) => {
        /// An operation that is there.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[expect(missing_docs, reason = "S3's reference has them")]
        pub enum Op { $($op),* }

        /// How each is asked for; where several fit, the first.
        pub const ROWS: &[Row] = &[$(Row {
            op: Op::$op, method: stringify!($method), level: Level::$level, param: $param, action: $action,
        }),*];

        impl Op {
            /// As S3 calls it.
            pub fn name(self) -> &'static str {
                match self { $(Self::$op => stringify!($op)),* }
            }
        }
    };
}

operations! {
    ListBuckets GET Service "" "s3:ListAllMyBuckets";
    GetBucketAccelerateConfiguration GET Bucket "accelerate" "s3:GetAccelerateConfiguration";
    GetBucketAck GET Bucket "x-cairn-ack" "s3:GetBucketAck";
    GetBucketAcl GET Bucket "acl" "s3:GetBucketAcl";
    GetBucketCors GET Bucket "cors" "s3:GetBucketCORS";
    GetBucketEncryption GET Bucket "encryption" "s3:GetEncryptionConfiguration";
    GetBucketLifecycleConfiguration GET Bucket "lifecycle" "s3:GetLifecycleConfiguration";
    GetBucketLocation GET Bucket "location" "s3:GetBucketLocation";
    GetBucketLogging GET Bucket "logging" "s3:GetBucketLogging";
    GetBucketNotificationConfiguration GET Bucket "notification" "s3:GetBucketNotification";
    GetBucketOffline GET Bucket "x-cairn-offline" "s3:GetBucketOffline";
    GetBucketOwnershipControls GET Bucket "ownershipControls" "s3:GetBucketOwnershipControls";
    GetBucketPolicyStatus GET Bucket "policyStatus" "s3:GetBucketPolicyStatus";
    GetBucketPolicy GET Bucket "policy" "s3:GetBucketPolicy";
    GetBucketRead GET Bucket "x-cairn-read" "s3:GetBucketRead";
    GetBucketReplication GET Bucket "replication" "s3:GetReplicationConfiguration";
    GetBucketRequestPayment GET Bucket "requestPayment" "s3:GetBucketRequestPayment";
    GetBucketTagging GET Bucket "tagging" "s3:GetBucketTagging";
    GetBucketVersioning GET Bucket "versioning" "s3:GetBucketVersioning";
    GetBucketWebsite GET Bucket "website" "s3:GetBucketWebsite";
    GetObjectLockConfiguration GET Bucket "object-lock" "s3:GetBucketObjectLockConfiguration";
    GetPublicAccessBlock GET Bucket "publicAccessBlock" "s3:GetBucketPublicAccessBlock";
    ListConflicts GET Bucket "x-cairn-conflicts" "s3:ListBucketVersions";
    ListMultipartUploads GET Bucket "uploads" "s3:ListBucketMultipartUploads";
    ListObjectVersions GET Bucket "versions" "s3:ListBucketVersions";
    ListObjectsV2 GET Bucket "list-type" "s3:ListBucket";
    ListObjects GET Bucket "" "s3:ListBucket";
    HeadBucket HEAD Bucket "" "s3:ListBucket";
    PutBucketAck PUT Bucket "x-cairn-ack" "s3:PutBucketAck";
    PutBucketAcl PUT Bucket "acl" "s3:PutBucketAcl";
    PutBucketCors PUT Bucket "cors" "s3:PutBucketCORS";
    PutBucketLifecycleConfiguration PUT Bucket "lifecycle" "s3:PutLifecycleConfiguration";
    PutBucketOffline PUT Bucket "x-cairn-offline" "s3:PutBucketOffline";
    PutBucketOwnershipControls PUT Bucket "ownershipControls" "s3:PutBucketOwnershipControls";
    PutBucketPolicy PUT Bucket "policy" "s3:PutBucketPolicy";
    PutBucketRead PUT Bucket "x-cairn-read" "s3:PutBucketRead";
    PutBucketTagging PUT Bucket "tagging" "s3:PutBucketTagging";
    PutBucketVersioning PUT Bucket "versioning" "s3:PutBucketVersioning";
    PutBucketWebsite PUT Bucket "website" "s3:PutBucketWebsite";
    PutObjectLockConfiguration PUT Bucket "object-lock" "s3:PutBucketObjectLockConfiguration";
    PutPublicAccessBlock PUT Bucket "publicAccessBlock" "s3:PutBucketPublicAccessBlock";
    CreateBucket PUT Bucket "" "s3:CreateBucket";
    DeleteBucketCors DELETE Bucket "cors" "s3:PutBucketCORS";
    DeleteBucketEncryption DELETE Bucket "encryption" "s3:PutEncryptionConfiguration";
    DeleteBucketLifecycle DELETE Bucket "lifecycle" "s3:PutLifecycleConfiguration";
    DeleteBucketOwnershipControls DELETE Bucket "ownershipControls" "s3:PutBucketOwnershipControls";
    DeleteBucketPolicy DELETE Bucket "policy" "s3:DeleteBucketPolicy";
    DeleteBucketTagging DELETE Bucket "tagging" "s3:PutBucketTagging";
    DeleteBucketWebsite DELETE Bucket "website" "s3:DeleteBucketWebsite";
    DeletePublicAccessBlock DELETE Bucket "publicAccessBlock" "s3:PutBucketPublicAccessBlock";
    DeleteBucket DELETE Bucket "" "s3:DeleteBucket";
    DeleteObjects POST Bucket "delete" "s3:DeleteObject";
    PostObject POST Bucket "" "s3:PutObject";
    GetObjectAcl GET Object "acl" "s3:GetObjectAcl";
    GetObjectAttributes GET Object "attributes" "s3:GetObjectAttributes";
    GetObjectLegalHold GET Object "legal-hold" "s3:GetObjectLegalHold";
    GetObjectRetention GET Object "retention" "s3:GetObjectRetention";
    GetObjectTagging GET Object "tagging" "s3:GetObjectTagging";
    ListParts GET Object "uploadId" "s3:ListMultipartUploadParts";
    GetObject GET Object "" "s3:GetObject";
    HeadObject HEAD Object "" "s3:GetObject";
    PutObjectAcl PUT Object "acl" "s3:PutObjectAcl";
    PutObjectLegalHold PUT Object "legal-hold" "s3:PutObjectLegalHold";
    PutObjectRetention PUT Object "retention" "s3:PutObjectRetention";
    PutObjectTagging PUT Object "tagging" "s3:PutObjectTagging";
    UploadPartCopy PUT Object "uploadId" "s3:PutObject";
    UploadPart PUT Object "uploadId" "s3:PutObject";
    CopyObject PUT Object "" "s3:PutObject";
    PutObject PUT Object "" "s3:PutObject";
    DeleteObjectTagging DELETE Object "tagging" "s3:DeleteObjectTagging";
    AbortMultipartUpload DELETE Object "uploadId" "s3:AbortMultipartUpload";
    DeleteObject DELETE Object "" "s3:DeleteObject";
    CreateMultipartUpload POST Object "uploads" "s3:PutObject";
    CompleteMultipartUpload POST Object "uploadId" "s3:PutObject";
}

/// Operations of S3's that are answered 501, by what asks for them: method (`*`: any), level, parameter, name.
pub const MISSING: &[(&str, Level, &str, &str)] = &[
    ("*", Level::Bucket, "analytics", "BucketAnalyticsConfiguration"),
    ("*", Level::Bucket, "intelligent-tiering", "BucketIntelligentTieringConfiguration"),
    ("*", Level::Bucket, "inventory", "BucketInventoryConfiguration"),
    ("*", Level::Bucket, "metrics", "BucketMetricsConfiguration"),
    ("*", Level::Bucket, "metadataTable", "BucketMetadataTableConfiguration"),
    ("*", Level::Bucket, "metadataConfiguration", "BucketMetadataConfiguration"),
    ("*", Level::Bucket, "abac", "BucketAbac"),
    ("*", Level::Bucket, "session", "CreateSession"),
    ("PUT", Level::Bucket, "accelerate", "PutBucketAccelerateConfiguration"),
    ("PUT", Level::Bucket, "encryption", "PutBucketEncryption"),
    ("PUT", Level::Bucket, "logging", "PutBucketLogging"),
    ("PUT", Level::Bucket, "notification", "PutBucketNotificationConfiguration"),
    ("PUT", Level::Bucket, "replication", "PutBucketReplication"),
    ("DELETE", Level::Bucket, "replication", "DeleteBucketReplication"),
    ("PUT", Level::Bucket, "requestPayment", "PutBucketRequestPayment"),
    ("*", Level::Object, "torrent", "GetObjectTorrent"),
    ("*", Level::Object, "restore", "RestoreObject"),
    ("*", Level::Object, "select", "SelectObjectContent"),
    ("*", Level::Object, "renameObject", "RenameObject"),
];

/// Whose presence makes a request another one than without: never ignored.
pub fn is_meaningful(param: &str) -> bool {
    let rows = ROWS.iter().any(|row| row.param == param && param != "list-type");
    rows || MISSING.iter().any(|(_, _, missing, _)| *missing == param)
}

impl Op {
    /// The operation that a request asks for.
    ///
    /// # Errors
    /// 501 with its name if it is one that is missing; `MethodNotAllowed` if there is none.
    pub fn of(head: &Head) -> Result<Self> {
        let level = match head.target {
            Target::Service => Level::Service,
            Target::Bucket(_) => Level::Bucket,
            Target::Object(..) => Level::Object,
        };
        let method = head.method.as_str();
        if let Some((.., name)) = MISSING.iter().find(|(missing_method, missing_level, param, _)| {
            (*missing_method == "*" || *missing_method == method) && *missing_level == level && head.query.has(param)
        }) {
            return Err(S3Error::not_implemented(name));
        }
        let asked = |row: &&Row| row.method == method && row.level == level && row.is_asked(head);
        let found = ROWS.iter().find(asked).ok_or(Code::MethodNotAllowed)?;
        let strange = || head.query.pairs().iter().find(|(name, _)| name != found.param && is_meaningful(name));
        match strange().filter(|_| found.param.is_empty()) {
            Some((name, _)) => Err(Code::MethodNotAllowed.says(format!("{method} with ?{name} means nothing here"))),
            None => Ok(found.op),
        }
    }

    /// How it is asked for.
    pub fn row(self) -> &'static Row {
        ROWS.iter().find(|row| row.op == self).expect("each operation has a row")
    }

    /// What policies call it, for a version that is named or not.
    pub fn action(self, names_version: bool) -> &'static str {
        match self {
            Self::GetObject | Self::HeadObject if names_version => "s3:GetObjectVersion",
            Self::DeleteObject if names_version => "s3:DeleteObjectVersion",
            Self::GetObjectTagging if names_version => "s3:GetObjectVersionTagging",
            Self::PutObjectTagging if names_version => "s3:PutObjectVersionTagging",
            Self::DeleteObjectTagging if names_version => "s3:DeleteObjectVersionTagging",
            Self::GetObjectAcl if names_version => "s3:GetObjectVersionAcl",
            Self::PutObjectAcl if names_version => "s3:PutObjectVersionAcl",
            _ => self.row().action,
        }
    }
}

impl Row {
    fn is_asked(&self, head: &Head) -> bool {
        let copies = head.headers.contains_key("x-amz-copy-source");
        match self.op {
            Op::CopyObject => copies,
            Op::UploadPartCopy => copies && head.query.has(self.param),
            Op::ListObjectsV2 => head.query.get("list-type") == Some("2"),
            Op::PostObject => is_form(head),
            _ => self.param.is_empty() || head.query.has(self.param),
        }
    }
}

fn is_form(head: &Head) -> bool {
    let kind = head.header("content-type").unwrap_or_default();
    head.method == Method::POST && kind.trim_start().to_ascii_lowercase().starts_with("multipart/form-data")
}

#[test]
fn each_row_is_found_by_what_it_says() {
    for row in ROWS {
        let path = match row.level {
            Level::Service => "/",
            Level::Bucket => "/bucket",
            Level::Object => "/bucket/key",
        };
        let value = if row.op == Op::ListObjectsV2 { "2" } else { "x" };
        let query = if row.param.is_empty() { String::new() } else { format!("?{}={value}", row.param) };
        let mut request = hyper::Request::builder().method(row.method).uri(format!("{path}{query}"));
        if matches!(row.op, Op::CopyObject | Op::UploadPartCopy) {
            request = request.header("x-amz-copy-source", "/a/b");
        }
        if row.op == Op::PostObject {
            request = request.header("content-type", "multipart/form-data; boundary=x");
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let head = Head::read(parts, &[]).unwrap();
        assert_eq!(Op::of(&head).unwrap(), row.op, "{row:?}");
    }
}
