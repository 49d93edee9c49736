//! What a client says that its bytes hash to, in headers before or behind them.

use crate::s3::answer::Answer;
use crate::s3::data::{Stored, Sums};
use crate::s3::error::{Code, Result, S3Error};
use crate::s3::hash::{Algorithm, base64, unbase64};
use crate::s3::head::Head;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Checks {
    md5: Option<[u8; 16]>,
    /// What is to be made, and kept with the object.
    pub algorithm: Option<Algorithm>,
    /// What it must be; `None`: it comes behind the bytes, or isn't said.
    value: Option<Vec<u8>>,
    comes_behind: bool,
}

impl Checks {
    /// Reads them off a head.
    ///
    /// # Errors
    /// If one can't be, or there are several.
    pub fn read(head: &Head) -> Result<Self> {
        let mut checks = Self::of_md5(head)?;
        for algorithm in Algorithm::ALL {
            let Some(text) = head.only(algorithm.header())? else { continue };
            let value = unbase64(text).filter(|value| value.len() == algorithm.length());
            let value = value.ok_or_else(|| {
                Code::InvalidRequest.says(format!("Value for {} header is invalid.", algorithm.header()))
            })?;
            checks.take(algorithm)?;
            checks.value = Some(value);
        }
        for name in
            head.only("x-amz-trailer")?.unwrap_or_default().split(',').map(str::trim).filter(|name| !name.is_empty())
        {
            let algorithm = Algorithm::ALL.into_iter().find(|one| one.header().eq_ignore_ascii_case(name));
            let algorithm = algorithm.ok_or_else(|| {
                Code::InvalidRequest.says("The value specified in the x-amz-trailer header is not supported")
            })?;
            checks.take(algorithm)?;
            checks.comes_behind = true;
        }
        for name in ["x-amz-sdk-checksum-algorithm", "x-amz-checksum-algorithm"] {
            let Some(text) = head.only(name)?.filter(|_| checks.algorithm.is_none()) else { continue };
            let algorithm = Algorithm::find(text);
            checks.algorithm = Some(algorithm.ok_or_else(|| Code::InvalidRequest.says("Checksum algorithm provided is unsupported. Please try again with any of the valid types: [CRC32, CRC32C, CRC64NVME, SHA1, SHA256]"))?);
        }
        Ok(checks)
    }

    /// Reads off MD5 alone.
    ///
    /// # Errors
    /// If it can't be.
    pub fn of_md5(head: &Head) -> Result<Self> {
        let md5 = head.only("content-md5")?.map(|text| {
            let bytes = unbase64(text).and_then(|bytes| bytes.try_into().ok());
            bytes.ok_or_else(|| S3Error::from(Code::InvalidDigest).with("Content-MD5", text))
        });
        Ok(Self { md5: md5.transpose()?, ..Self::default() })
    }

    fn take(&mut self, algorithm: Algorithm) -> Result<()> {
        match self.algorithm.replace(algorithm) {
            None => Ok(()),
            Some(_) => Err(Code::InvalidRequest
                .says("Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.")),
        }
    }

    /// Another algorithm where the client asked for none.
    #[must_use]
    pub fn or(mut self, algorithm: Option<Algorithm>) -> Self {
        self.algorithm = self.algorithm.or(algorithm);
        self
    }

    /// Whether the client proves its bytes at all.
    pub fn proves(&self) -> bool {
        self.md5.is_some() || self.value.is_some() || self.comes_behind
    }

    /// The hashes to make.
    pub fn sums(&self) -> Sums {
        Sums::new(self.algorithm.as_slice())
    }

    /// Whether bytes are those that the client meant.
    ///
    /// # Errors
    /// `BadDigest` if not.
    pub fn verify(&self, stored: &Stored, trailers: &[(String, String)]) -> Result<()> {
        if self.md5.is_some_and(|md5| md5 != stored.md5) {
            return Err(Code::BadDigest.into());
        }
        let Some((algorithm, found)) = stored.sums.first() else { return Ok(()) };
        let behind = trailers.iter().find(|(name, _)| name == algorithm.header()).map(|(_, value)| value);
        let stated = match (&self.value, behind) {
            (Some(value), _) => Some(value.clone()),
            (None, Some(text)) => Some(unbase64(text).ok_or(Code::MalformedTrailerError)?),
            (None, None) if self.comes_behind => return Err(Code::MalformedTrailerError.into()),
            (None, None) => None,
        };
        match stated {
            Some(stated) if stated != *found => Err(Code::BadDigest
                .says(format!("The {} you specified did not match the calculated checksum.", algorithm.name()))),
            _ => Ok(()),
        }
    }

    /// Whether a document is the one that the client meant.
    ///
    /// # Errors
    /// `BadDigest` if not.
    pub fn verify_document(&self, bytes: &[u8], trailers: &[(String, String)]) -> Result<()> {
        let mut sums = self.sums();
        sums.update(bytes);
        self.verify(&sums.stored(bytes.len() as u64, cairn_meta::version::Payload::default()), trailers)
    }
}

impl Answer {
    /// With the checksums that were made.
    #[must_use]
    pub fn with_sums(mut self, sums: &[(Algorithm, Vec<u8>)]) -> Self {
        for (algorithm, value) in sums {
            self = self.with(algorithm.header(), base64(value)).with("x-amz-checksum-type", "FULL_OBJECT");
        }
        self
    }
}
