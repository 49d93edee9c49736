//! Small texts: base64, tags of contents.

use md5::{Digest, Md5};

use super::sign::hex;

/// Bytes as S3 writes hashes in headers.
pub fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let byte = |at: usize| u32::from(three.get(at).copied().unwrap_or(0));
        let word = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let letter = LETTERS[(word >> (18 - 6 * at)) as usize & 63];
            text.push(if at <= three.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

/// The hash that the tags of most servers are made of.
pub fn md5(bytes: &[u8]) -> [u8; 16] {
    Md5::digest(bytes).into()
}

/// The tag of an object or part that was stored in one piece.
pub fn etag(hash: &[u8; 16]) -> String {
    hex(hash)
}

/// The tag of an object in parts.
pub fn etag_of_parts(hashes: &[[u8; 16]]) -> String {
    format!("{}-{}", hex(&md5(&hashes.concat())), hashes.len())
}

/// A tag without its quotes.
pub fn bare(etag: &str) -> &str {
    etag.trim_start_matches("W/").trim_matches('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_as_the_rfc_has_it() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xfb, 0xff]), "+/8=");
    }

    #[test]
    fn tags_are_as_s3_makes_them() {
        assert_eq!(etag(&md5(b"")), "d41d8cd98f00b204e9800998ecf8427e");
        // Of two parts "a" and "b".
        assert_eq!(etag_of_parts(&[md5(b"a"), md5(b"b")]), "96e024ba2074fe77e8e965ba43a704be-2");
        assert_eq!(bare("\"ab-2\""), "ab-2");
    }
}
