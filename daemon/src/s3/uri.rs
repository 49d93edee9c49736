//! Paths and queries: percent signs taken away and put back as signatures want them.

use std::borrow::Cow;
use std::fmt::Write;

use percent_encoding::percent_decode_str;

use super::error::{Code, Result};

/// A text with `%XX` taken away.
///
/// # Errors
/// `InvalidURI` if a percent sign isn't followed by two digits, or what comes out is no UTF-8.
pub fn decode(text: &str) -> Result<Cow<'_, str>> {
    let mut after = text.split('%').skip(1);
    let is_sound = after.all(|rest| rest.len() >= 2 && rest.as_bytes()[..2].iter().all(u8::is_ascii_hexdigit));
    if !is_sound {
        return Err(Code::InvalidURI.into());
    }
    percent_decode_str(text).decode_utf8().map_err(|_| Code::InvalidURI.into())
}

/// What an encoder leaves as it is beside letters, digits and `-_.~`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slash {
    /// Slashes stay.
    Kept,
    /// Slashes are encoded.
    Encoded,
}

/// Adds a text as signatures want it: all but unreserved characters as `%XX`.
pub fn encode_into(into: &mut String, text: &str, slash: Slash) {
    for &byte in text.as_bytes() {
        let is_plain = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
        if is_plain || (byte == b'/' && slash == Slash::Kept) {
            into.push(char::from(byte));
        } else {
            // Writing into a string never fails.
            let _ = write!(into, "%{byte:02X}");
        }
    }
}

/// A text as signatures and lists with `encoding-type=url` want it.
pub fn encode(text: &str, slash: Slash) -> String {
    let mut encoded = String::with_capacity(text.len());
    encode_into(&mut encoded, text, slash);
    encoded
}

/// The parameters of a request, decoded, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads what is behind the question mark.
    ///
    /// # Errors
    /// `InvalidURI`.
    pub fn parse(text: &str) -> Result<Self> {
        let part = |text: &str| -> Result<String> {
            let spaced = if text.contains('+') { Cow::Owned(text.replace('+', " ")) } else { Cow::Borrowed(text) };
            Ok(decode(&spaced)?.into_owned())
        };
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((part(name)?, part(value)?))
        });
        pairs.collect::<Result<_>>().map(Self)
    }

    /// The first value of a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The first value of a name, unless it is empty.
    pub fn filled(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// Whether a name is there.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// All of them.
    pub fn pairs(&self) -> &[(String, String)] {
        &self.0
    }

    /// As signatures want them: encoded and sorted, without `left_out`.
    pub fn canonical(&self, left_out: &str) -> String {
        let mut pairs: Vec<(String, String)> = self
            .0
            .iter()
            .filter(|(name, _)| name != left_out)
            .map(|(name, value)| (encode(name, Slash::Encoded), encode(value, Slash::Encoded)))
            .collect();
        pairs.sort_unstable();
        let mut text = String::new();
        for (name, value) in &pairs {
            if !text.is_empty() {
                text.push('&');
            }
            text.extend([name, "=", value]);
        }
        text
    }
}

#[test]
fn queries_are_read_and_made_canonical() {
    let query = Query::parse("b=2&a=x%20y+z&uploads&X-Sig=s&a=%2F").unwrap();
    assert_eq!(query.get("a"), Some("x y z"));
    assert!(query.has("uploads") && query.filled("uploads").is_none() && !query.has("c"));
    assert_eq!(query.canonical("X-Sig"), "a=%2F&a=x%20y%20z&b=2&uploads=");
    for bad in ["a=%", "a=%2", "a=%zz", "%ff=1"] {
        assert!(Query::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn texts_are_encoded_as_signatures_want_them() {
    assert_eq!(encode("a b/ü~*", Slash::Kept), "a%20b/%C3%BC~%2A");
    assert_eq!(encode("/", Slash::Encoded), "%2F");
    assert_eq!(decode("a%20b%C3%BC").unwrap(), "a bü");
}
