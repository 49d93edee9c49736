//! Hashes of bodies: MD5 for ETags, and the checksums that clients ask for.

use ::md5::Md5;
use base64_simd::STANDARD as BASE64;
use cairn_meta::version::Checksum;
use crc_fast::{CrcAlgorithm, Digest as Crc};
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// A checksum that clients may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Algorithm {
    Crc32,
    Crc32c,
    Crc64Nvme,
    Sha1,
    Sha256,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Crc32, Self::Crc32c, Self::Crc64Nvme, Self::Sha1, Self::Sha256];

    /// As clients write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Crc32 => "CRC32",
            Self::Crc32c => "CRC32C",
            Self::Crc64Nvme => "CRC64NVME",
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
        }
    }

    /// The header that carries its value.
    pub fn header(self) -> &'static str {
        match self {
            Self::Crc32 => "x-amz-checksum-crc32",
            Self::Crc32c => "x-amz-checksum-crc32c",
            Self::Crc64Nvme => "x-amz-checksum-crc64nvme",
            Self::Sha1 => "x-amz-checksum-sha1",
            Self::Sha256 => "x-amz-checksum-sha256",
        }
    }

    /// The XML element that carries its value.
    pub fn element(self) -> &'static str {
        match self {
            Self::Crc32 => "ChecksumCRC32",
            Self::Crc32c => "ChecksumCRC32C",
            Self::Crc64Nvme => "ChecksumCRC64NVME",
            Self::Sha1 => "ChecksumSHA1",
            Self::Sha256 => "ChecksumSHA256",
        }
    }

    /// By its name, in either case.
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name().eq_ignore_ascii_case(name))
    }

    /// The length of its value in bytes.
    pub fn length(self) -> usize {
        match self {
            Self::Crc32 | Self::Crc32c => 4,
            Self::Crc64Nvme => 8,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }

    fn crc(self) -> Option<CrcAlgorithm> {
        match self {
            Self::Crc32 => Some(CrcAlgorithm::Crc32IsoHdlc),
            Self::Crc32c => Some(CrcAlgorithm::Crc32Iscsi),
            Self::Crc64Nvme => Some(CrcAlgorithm::Crc64Nvme),
            Self::Sha1 | Self::Sha256 => None,
        }
    }

    /// Whether the checksum of a whole can be made of those of its parts.
    pub fn is_linear(self) -> bool {
        self.crc().is_some()
    }

    /// The value of a whole, of the values and lengths of its parts; `None` if it can't be made of those.
    pub fn combine<'a>(self, parts: impl IntoIterator<Item = (&'a [u8], u64)>) -> Option<Vec<u8>> {
        let crc = self.crc()?;
        let mut parts = parts.into_iter();
        let number = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let first = number(parts.next()?.0);
        let whole =
            parts.fold(first, |sum, (value, length)| crc_fast::checksum_combine(crc, sum, number(value), length));
        Some(whole.to_be_bytes()[8 - self.length()..].to_vec())
    }
}

/// One checksum being made.
pub enum Hasher {
    /// See [`Algorithm`].
    Crc(Algorithm, Box<Crc>),
    /// See [`Algorithm`].
    Sha1(Sha1),
    /// See [`Algorithm`].
    Sha256(Sha256),
}

impl Hasher {
    /// Of nothing so far.
    pub fn new(algorithm: Algorithm) -> Self {
        match (algorithm.crc(), algorithm) {
            (Some(crc), _) => Self::Crc(algorithm, Box::new(Crc::new(crc))),
            (None, Algorithm::Sha1) => Self::Sha1(Sha1::new()),
            (None, _) => Self::Sha256(Sha256::new()),
        }
    }

    /// Takes more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Crc(_, crc) => crc.update(bytes),
            Self::Sha1(sha) => sha.update(bytes),
            Self::Sha256(sha) => sha.update(bytes),
        }
    }

    /// The value.
    pub fn finish(self) -> Vec<u8> {
        match self {
            Self::Crc(algorithm, crc) => crc.finalize().to_be_bytes()[8 - algorithm.length()..].to_vec(),
            Self::Sha1(sha) => sha.finalize().to_vec(),
            Self::Sha256(sha) => sha.finalize().to_vec(),
        }
    }
}

/// The checksum of some bytes.
pub fn checksum(algorithm: Algorithm, bytes: &[u8]) -> Vec<u8> {
    let mut hasher = Hasher::new(algorithm);
    hasher.update(bytes);
    hasher.finish()
}

/// MD5 being made.
#[derive(Clone, Default)]
pub struct Md5Hasher(Md5);

impl Md5Hasher {
    /// Takes more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The value.
    pub fn finish(self) -> [u8; 16] {
        self.0.finalize().into()
    }
}

/// SHA-256 of some bytes.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Small hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut digits = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        digits.push(char::from(DIGITS[usize::from(byte >> 4)]));
        digits.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    digits
}

/// Reads hexadecimal digits of either case; `None` if they are none.
pub fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let bytes = text.as_bytes();
    if bytes.len() != 2 * N {
        return None;
    }
    let mut out = [0; N];
    for (into, pair) in out.iter_mut().zip(bytes.chunks_exact(2)) {
        *into = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(out)
}

/// As headers carry bytes.
pub fn base64(bytes: &[u8]) -> String {
    BASE64.encode_to_string(bytes)
}

/// Reads what headers carry; `None` if it is none.
pub fn unbase64(text: &str) -> Option<Vec<u8>> {
    BASE64.decode_to_vec(text).ok()
}

/// A checksum as versions keep it.
pub fn kept(algorithm: Algorithm, value: &[u8]) -> Checksum {
    Checksum { algorithm: algorithm.name().to_owned(), value: base64(value) }
}

#[test]
fn checksums_are_the_known_ones() {
    let of = |algorithm| base64(&checksum(algorithm, b"123456789"));
    assert_eq!(hex(&checksum(Algorithm::Crc32, b"123456789")), "cbf43926");
    assert_eq!(hex(&checksum(Algorithm::Crc32c, b"123456789")), "e3069283");
    assert_eq!(hex(&checksum(Algorithm::Crc64Nvme, b"123456789")), "ae8b14860a799888");
    assert_eq!(of(Algorithm::Sha1), "98O8HYCOBHMq32eZZczDTKeuNEE=");
    assert_eq!(of(Algorithm::Sha256), "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU=");
    let mut md5 = Md5Hasher::default();
    md5.update(b"123456789");
    assert_eq!(hex(&md5.finish()), "25f9e794323b453885f5181f1b624d0b");
    assert_eq!(unhex::<2>("Ab0F"), Some([0xab, 0x0f]));
    assert_eq!((unhex::<2>("ab0"), unhex::<2>("ab0g")), (None, None));
}

#[test]
fn a_whole_is_made_of_its_parts() {
    let (one, two) = (&b"hello "[..], &b"world, how are you"[..]);
    for algorithm in Algorithm::ALL {
        let parts = [one, two].map(|part| (checksum(algorithm, part), part.len() as u64));
        let combined = algorithm.combine(parts.iter().map(|(value, length)| (value.as_slice(), *length)));
        let whole = checksum(algorithm, &[one, two].concat());
        assert_eq!(combined, algorithm.is_linear().then_some(whole), "{algorithm:?}");
    }
}
