//! Errors as S3 writes them: a code, its status, a message for people; in XML.

use std::borrow::Cow;

use hyper::StatusCode;
use hyper::header::{HeaderName, HeaderValue, RETRY_AFTER};

use super::xml::Xml;
use crate::cluster::ClusterError;

/// The codes that are answered, with their status and what they say if nothing better is said.
macro_rules! codes {
    ($($name:ident $status:literal $message:literal;)*) => {
        /// A code of S3's.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[expect(missing_docs, reason = "the message of each says what it means")]
        pub enum Code { $($name),* }

        impl Code {
            /// As it is written.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name)),* }
            }

            /// The status of an answer with this code.
            pub fn status(self) -> u16 {
                match self { $(Self::$name => $status),* }
            }

            fn message(self) -> &'static str {
                match self { $(Self::$name => $message),* }
            }
        }
    };
}

codes! {
    AccessControlListNotSupported 400 "The bucket does not allow ACLs.";
    AccessDenied 403 "Access Denied";
    AuthorizationHeaderMalformed 400 "The authorization header is malformed.";
    AuthorizationQueryParametersError 400 "The query string's parameters for authorization are malformed.";
    BadDigest 400 "The Content-MD5 or checksum value that you specified did not match what the server received.";
    BadRequest 400 "The request is malformed.";
    BucketAlreadyExists 409 "The requested bucket name is not available. Select a different name and try again.";
    BucketAlreadyOwnedByYou 409 "Your previous request to create the named bucket succeeded and you already own it.";
    BucketNotEmpty 409 "The bucket you tried to delete is not empty. Delete all versions in the bucket first.";
    ConditionalRequestConflict 409 "A conflicting operation occurred; try again.";
    EntityTooLarge 400 "Your proposed upload exceeds the maximum allowed object size.";
    EntityTooSmall 400 "Your proposed upload is smaller than the minimum allowed object size.";
    ExpiredToken 400 "The provided token has expired.";
    IllegalLocationConstraintException 400 "The location constraint is not this server's region.";
    IncompleteBody 400 "You did not provide the number of bytes specified by the Content-Length HTTP header.";
    InsufficientStorage 507 "The disks are full; delete something, or add a disk.";
    InternalError 500 "We encountered an internal error. Please try again.";
    InvalidAccessKeyId 403 "The access key ID you provided does not exist in our records.";
    InvalidArgument 400 "Invalid Argument";
    InvalidBucketAclWithObjectOwnership 400 "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting";
    InvalidBucketName 400 "The specified bucket is not valid.";
    InvalidBucketState 409 "The request is not valid for the current state of the bucket.";
    InvalidDigest 400 "The Content-MD5 you specified is not valid.";
    InvalidPart 400 "One or more of the specified parts could not be found, or its entity tag did not match.";
    InvalidPartOrder 400 "The list of parts was not in ascending order.";
    InvalidPartNumber 416 "The requested partnumber is not satisfiable";
    InvalidPolicyDocument 400 "The content of the form does not meet the conditions specified in the policy document.";
    InvalidRange 416 "The requested range is not satisfiable";
    InvalidRequest 400 "Invalid Request";
    InvalidRetentionPeriod 400 "The retention period is not valid.";
    InvalidStorageClass 400 "The storage class you specified is not valid.";
    InvalidTag 400 "The tag provided was not a valid tag.";
    InvalidTargetBucketForLogging 400 "The target bucket for logging does not exist.";
    InvalidURI 400 "Couldn't parse the specified URI.";
    KeyTooLongError 400 "Your key is too long.";
    MalformedACLError 400 "The XML you provided was not well-formed or did not validate against our published schema.";
    MalformedPOSTRequest 400 "The body of your POST request is not well-formed multipart/form-data.";
    MalformedPolicy 400 "The policy is not valid.";
    MalformedTrailerError 400 "The request contained trailing data that was not well-formed or did not conform to our published schema.";
    MalformedXML 400 "The XML you provided was not well-formed or did not validate against our published schema.";
    MaxMessageLengthExceeded 400 "Your request was too big.";
    MetadataTooLarge 400 "Your metadata headers exceed the maximum allowed metadata size.";
    MethodNotAllowed 405 "The specified method is not allowed against this resource.";
    MissingContentLength 411 "You must provide the Content-Length HTTP header.";
    MissingRequestBodyError 400 "Request body is empty.";
    MissingSecurityHeader 400 "Your request was missing a required header.";
    NoSuchBucket 404 "The specified bucket does not exist";
    NoSuchBucketPolicy 404 "The bucket policy does not exist";
    NoSuchCORSConfiguration 404 "The CORS configuration does not exist";
    NoSuchKey 404 "The specified key does not exist.";
    NoSuchLifecycleConfiguration 404 "The lifecycle configuration does not exist";
    NoSuchObjectLockConfiguration 404 "The specified object does not have a ObjectLock configuration";
    NoSuchPublicAccessBlockConfiguration 404 "The public access block configuration was not found";
    NoSuchTagSet 404 "The TagSet does not exist";
    NoSuchUpload 404 "The specified upload does not exist. It may have been aborted or completed.";
    NoSuchVersion 404 "The specified version does not exist.";
    NoSuchWebsiteConfiguration 404 "The specified bucket does not have a website configuration";
    NotImplemented 501 "A header or operation you provided implies functionality that is not implemented";
    NotModified 304 "Not Modified";
    ObjectLockConfigurationNotFoundError 404 "Object Lock configuration does not exist for this bucket";
    OperationAborted 409 "A conflicting conditional operation is currently in progress. Try again.";
    OwnershipControlsNotFoundError 404 "The bucket ownership controls were not found";
    PreconditionFailed 412 "At least one of the preconditions you specified did not hold.";
    ReplicationConfigurationNotFoundError 404 "The replication configuration was not found";
    RequestTimeTooSkewed 403 "The difference between the request time and the current time is too large.";
    RequestTimeout 400 "Your socket connection to the server was not read from or written to within the timeout period.";
    ServerSideEncryptionConfigurationNotFoundError 404 "The server side encryption configuration was not found";
    ServiceUnavailable 503 "The service is not available now. Try again.";
    SignatureDoesNotMatch 403 "The request signature we calculated does not match the signature you provided. Check your key and signing method.";
    SlowDown 503 "Please reduce your request rate.";
    TooManyBuckets 400 "You have attempted to create more buckets than allowed.";
    UnexpectedContent 400 "This request does not support content.";
    UnresolvableGrantByEmailAddress 400 "The email address you provided does not match any account on record.";
    XAmzContentSHA256Mismatch 400 "The provided 'x-amz-content-sha256' header does not match what was computed.";
}

/// An error that is answered.
#[derive(Clone, Debug)]
pub struct S3Error {
    code: Code,
    message: Cow<'static, str>,
    /// Elements of the error's XML beside the usual ones.
    details: Vec<(&'static str, String)>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// What most of the gateway returns.
pub type Result<T, E = S3Error> = std::result::Result<T, E>;

impl From<Code> for S3Error {
    fn from(code: Code) -> Self {
        Self { code, message: Cow::Borrowed(code.message()), details: Vec::new(), headers: Vec::new() }
    }
}

impl Code {
    /// The error, with a message of its own.
    pub fn says(self, message: impl Into<Cow<'static, str>>) -> S3Error {
        S3Error { message: message.into(), ..self.into() }
    }
}

impl S3Error {
    /// That an argument can't be, as S3 says it.
    pub fn argument(name: &str, value: impl Into<String>, message: impl Into<Cow<'static, str>>) -> Self {
        Code::InvalidArgument.says(message).with("ArgumentName", name).with("ArgumentValue", value)
    }

    /// That something is not there yet, by its name.
    pub fn not_implemented(what: &str) -> Self {
        Code::NotImplemented.says(format!("{what} is not implemented; docs/s3.md says what is"))
    }

    /// Another element in its XML.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.details.push((name, value.into()));
        self
    }

    /// Another header of its answer.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Its code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// Its message.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The status of its answer.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The headers of its answer.
    pub fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.headers
    }

    /// The body of its answer.
    pub fn to_xml(&self, resource: &str, request: &str, host: &str) -> String {
        let mut xml = Xml::document();
        xml.open("Error").text("Code", self.code.name()).text("Message", &self.message);
        for (name, value) in &self.details {
            xml.text(name, value);
        }
        xml.text("Resource", resource).text("RequestId", request).text("HostId", host).close("Error");
        xml.finish()
    }

    /// That there is too much to do now.
    pub fn slow_down() -> Self {
        Self::from(Code::SlowDown).header(RETRY_AFTER, HeaderValue::from_static("1"))
    }
}

impl From<ClusterError> for S3Error {
    fn from(error: ClusterError) -> Self {
        use cairn_meta::control::command::Refusal as Control;
        let message = error.to_string();
        match error {
            ClusterError::Refused(refusal) => super::refusal::to_error(&refusal),
            ClusterError::ControlRefused(refusal) => match refusal {
                Control::BucketExists { .. } => Code::BucketAlreadyExists.into(),
                Control::Missing(_) => Code::NoSuchBucket.into(),
                Control::Name(_) => Code::InvalidBucketName.says(message),
                Control::Changed { .. } | Control::State(_) => Code::OperationAborted.into(),
                Control::Settings(_) => Code::InvalidRequest.says(message),
                _ => Code::InternalError.says(message),
            },
            ClusterError::Busy(_) => Self::slow_down(),
            ClusterError::NoRoom(_) => Code::InsufficientStorage.says(message),
            ClusterError::Unreachable(_) | ClusterError::Unknown(_) => {
                Code::ServiceUnavailable.says(message).header(RETRY_AFTER, HeaderValue::from_static("1"))
            }
            ClusterError::Broken(_) => {
                tracing::error!(error = %message, "a request failed");
                Code::InternalError.into()
            }
        }
    }
}

#[test]
fn errors_are_written_as_s3_does() {
    let error = S3Error::argument("max-keys", "<x>", "not an integer");
    let text = error.to_xml("/b/k", "R", "H");
    assert_eq!(
        text,
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>InvalidArgument</Code><Message>not an integer</Message>\
         <ArgumentName>max-keys</ArgumentName><ArgumentValue>&lt;x&gt;</ArgumentValue><Resource>/b/k</Resource>\
         <RequestId>R</RequestId><HostId>H</HostId></Error>"
    );
    assert_eq!(error.status(), StatusCode::BAD_REQUEST);
}
