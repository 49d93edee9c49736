//! Ranges: which bytes of an object a reader wants.

use cairn_meta::version::Content;

use crate::s3::data::Span;
use crate::s3::error::{Code, Result, S3Error};
use crate::s3::head::{Head, number};

/// What a header asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// From one byte to another, inclusive; `None`: to the end.
    From(u64, Option<u64>),
    /// So many at the end.
    Last(u64),
}

impl Range {
    /// Reads `bytes=…`. What isn't one range is none: S3 ignores it.
    pub fn read(text: &str) -> Option<Self> {
        let (first, last) = text.trim().strip_prefix("bytes=")?.split_once('-')?;
        let digits = |text: &str| -> Option<u64> {
            let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then(|| text.parse().unwrap_or(u64::MAX))
        };
        match (first.trim(), last.trim()) {
            ("", last) => digits(last).map(Self::Last),
            (first, "") => Some(Self::From(digits(first)?, None)),
            (first, last) => {
                let (first, last) = (digits(first)?, digits(last)?);
                (first <= last).then_some(Self::From(first, Some(last)))
            }
        }
    }

    /// The bytes of an object of some size.
    ///
    /// # Errors
    /// `InvalidRange` if it has none of them.
    pub fn of(self, size: u64, text: &str) -> Result<Span> {
        let span = match self {
            Self::From(first, last) => first..last.map_or(size, |last| size.min(last.saturating_add(1))),
            Self::Last(0) => size..size,
            Self::Last(count) => size.saturating_sub(count)..size,
        };
        if span.start < span.end {
            return Ok(span);
        }
        Err(S3Error::from(Code::InvalidRange).with("RangeRequested", text).with("ActualObjectSize", size.to_string()))
    }
}

/// What a reader gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// All of it.
    Whole,
    /// A range.
    Range(Span),
    /// A part, and how many there are.
    Part(Span, usize),
}

impl Wanted {
    /// The bytes.
    pub fn span(&self, size: u64) -> Span {
        match self {
            Self::Whole => 0..size,
            Self::Range(span) | Self::Part(span, _) => span.clone(),
        }
    }
}

/// What a request wants of an object.
///
/// # Errors
/// If the object hasn't got it, or it can't be meant.
pub fn wanted(head: &Head, content: &Content) -> Result<Wanted> {
    let range = head.only("range")?;
    let part: Option<u16> = number(head.query.get("partNumber"), "partNumber")?;
    match (range, part) {
        (Some(_), Some(_)) => {
            Err(Code::InvalidRequest.says("Cannot specify both Range header and partNumber query parameter"))
        }
        (None, Some(number)) => of_part(content, number),
        (Some(text), None) => match Range::read(text) {
            Some(range) => range.of(content.size, text).map(Wanted::Range),
            None => Ok(Wanted::Whole),
        },
        (None, None) => Ok(Wanted::Whole),
    }
}

fn of_part(content: &Content, number: u16) -> Result<Wanted> {
    if number == 0 || number > 10_000 {
        return Err(S3Error::argument(
            "partNumber",
            number.to_string(),
            "Part number must be an integer between 1 and 10000, inclusive",
        ));
    }
    let count = content.parts.len().max(1);
    // What was uploaded whole is its own first part.
    let missing = || {
        S3Error::from(Code::InvalidPartNumber)
            .with("PartNumberRequested", number.to_string())
            .with("ActualPartCount", count.to_string())
    };
    if content.parts.is_empty() {
        return if number == 1 { Ok(Wanted::Part(0..content.size, 0)) } else { Err(missing()) };
    }
    let mut at = 0;
    for part in &content.parts {
        if part.number == number {
            return Ok(Wanted::Part(at..at + part.size, count));
        }
        at += part.size;
    }
    Err(missing())
}

#[test]
fn ranges_are_read_as_http_has_them() {
    let of = |text: &str, size| Range::read(text).map(|range| range.of(size, text).ok());
    assert_eq!(of("bytes=0-4", 10), Some(Some(0..5)));
    assert_eq!(of("bytes=3-", 10), Some(Some(3..10)));
    assert_eq!(of("bytes=-3", 10), Some(Some(7..10)));
    assert_eq!(of("bytes=-30", 10), Some(Some(0..10)));
    assert_eq!(of("bytes=5-99999999999999999999999", 10), Some(Some(5..10)));
    assert_eq!(of("bytes=10-", 10), Some(None));
    assert_eq!(of("bytes=-0", 10), Some(None));
    assert_eq!(of("bytes=0-", 0), Some(None));
    for ignored in ["bytes=", "bytes=a-b", "bytes=5-3", "bytes=0-1,3-4", "items=0-1", "", "bytes=+1-2"] {
        assert_eq!(of(ignored, 10), None, "{ignored}");
    }
}
