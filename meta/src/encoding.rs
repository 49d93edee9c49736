//! How machines write rows, commands and answers: CBOR arrays whose places are the numbers of fields.
//!
//! A field's number is never used for something else. Who reads an older encoding finds the fields that it lacks empty. What
//! an *older* program may meet is held by levels, not by skipping: a slot takes only commands up to the level in its rows,
//! and that is raised when every node knows it (see `slot::level`). So no program ever rewrites a row that it can't
//! read whole, and all replicas give the same answer.

use minicbor::{Decode, Encode};

use crate::index::Error;

/// Bytes that mean nothing here, and what is wrong with them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not understood: {0}")]
pub struct Malformed(pub String);

/// The bytes of a value.
pub fn encode<T: Encode<()>>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_behind(&mut bytes, value);
    bytes
}

/// The bytes of a value that has about so many: memory is asked for once.
pub fn encode_about<T: Encode<()>>(bytes: usize, value: &T) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(bytes);
    encode_behind(&mut encoded, value);
    encoded
}

/// Puts the bytes of a value behind others.
pub fn encode_behind<T: Encode<()>>(bytes: &mut Vec<u8>, value: &T) {
    minicbor::encode(value, bytes).expect("memory takes all that is written");
}

/// The value that all of these bytes are.
///
/// # Errors
/// What is wrong with them. No bytes make it panic, or take more memory than a small multiple of their length.
pub fn decode<'b, T: Decode<'b, ()>>(bytes: &'b [u8]) -> Result<T, Malformed> {
    let mut decoder = minicbor::Decoder::new(bytes);
    let value = decoder.decode().map_err(|error| Malformed(error.to_string()))?;
    match bytes.len() - decoder.position() {
        0 => Ok(value),
        more => Err(Malformed(format!("{more} bytes behind the end"))),
    }
}

/// The value of a row that a machine wrote.
///
/// # Errors
/// If it can't be read: the rows are corrupt then.
pub(crate) fn row<'b, T: Decode<'b, ()>>(key: &[u8], bytes: &'b [u8]) -> Result<T, Error> {
    decode(bytes).map_err(|_| Error::row(key, "not what a machine writes there"))
}

/// A number as small hexadecimal digits.
pub(crate) fn digits(number: u128, into: &mut [u8; 32]) -> &str {
    for (into, byte) in into.as_chunks_mut().0.iter_mut().zip(number.to_be_bytes()) {
        *into = [byte >> 4, byte & 15].map(|digit| b"0123456789abcdef"[usize::from(digit)]);
    }
    std::str::from_utf8(into).unwrap_or_default()
}

/// Makes a number of 128 bits a type of its own: 16 bytes, big-endian, in rows, commands and on the wire.
macro_rules! wide_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u128);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad($crate::encoding::digits(self.0, &mut [0; 32]))
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{self}")
            }
        }

        impl<C> minicbor::Encode<C> for $name {
            fn encode<W: minicbor::encode::Write>(
                &self,
                encoder: &mut minicbor::Encoder<W>,
                _: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                encoder.bytes(&self.0.to_be_bytes())?.ok()
            }
        }

        impl<'b, C> minicbor::Decode<'b, C> for $name {
            fn decode(decoder: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
                let bytes = decoder.bytes()?.try_into();
                let wrong = |_| minicbor::decode::Error::message("an id has 16 bytes");
                bytes.map(u128::from_be_bytes).map(Self).map_err(wrong)
            }
        }
    };
}
pub(crate) use wide_id;
