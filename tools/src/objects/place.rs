//! Where something is, as a command names it: `cairn://bucket/key`, a local path, `-`.

use std::path::{Path, PathBuf};

use crate::out::Failure;
use crate::s3::calls::Object;

const SCHEME: &str = "cairn://";

/// One end of a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// An object, a bucket (without a key), or what begins with a key.
    There(Object),
    /// A file or directory of this machine.
    Here(PathBuf),
    /// Standard input or output.
    Stream,
}

impl Place {
    /// Reads what a user wrote.
    ///
    /// # Errors
    /// If it names no bucket.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.strip_prefix(SCHEME) {
            None if text == "-" => Ok(Self::Stream),
            None if text.is_empty() => Err("an empty path names nothing; write . for this directory".to_owned()),
            None => Ok(Self::Here(text.into())),
            Some(rest) => {
                let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
                if bucket.is_empty() {
                    return Err(format!("{text} names no bucket; write cairn://BUCKET/KEY"));
                }
                Ok(Self::There(Object { bucket: bucket.to_owned(), key: key.to_owned() }))
            }
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::There(object) => f.write_str(&show(object)),
            Self::Here(path) => write!(f, "{}", path.display()),
            Self::Stream => f.write_str("-"),
        }
    }
}

/// An object as users write it.
pub fn show(object: &Object) -> String {
    format!("{SCHEME}{}/{}", object.bucket, object.key)
}

/// Reads a place that must be an object, or at least a bucket.
///
/// # Errors
/// If it is something else.
pub fn object(text: &str) -> Result<Object, String> {
    match Place::parse(text)? {
        Place::There(object) => Ok(object),
        Place::Here(_) | Place::Stream => Err(format!("{text} is no object; write cairn://BUCKET/KEY")),
    }
}

/// Reads an object: a bucket alone isn't enough.
///
/// # Errors
/// If it is something else.
pub fn whole_object(text: &str) -> Result<Object, Failure> {
    let object = object(text).map_err(Failure::Input)?;
    if object.key.is_empty() {
        return Err(Failure::Input(format!("{text} names no object; add its key")));
    }
    Ok(object)
}

/// What names below a directory of objects begin with: all that `cairn://bucket/a` holds begins with `a/`.
pub fn folder(key: &str) -> String {
    if key.is_empty() || key.ends_with('/') { key.to_owned() } else { format!("{key}/") }
}

/// The last part of a key.
pub fn file_name(key: &str) -> &str {
    key.rsplit('/').next().unwrap_or_default()
}

/// Where below a directory the object of this name belongs. A name can't lead out of it.
///
/// # Errors
/// If the name has parts that no file can have.
pub fn below(dir: &Path, name: &str) -> Result<PathBuf, Failure> {
    let is_sound = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
    if !name.split('/').all(is_sound) {
        return Err(Failure::Broken(format!(
            "{name:?} can't be the name of a file; get it by itself, into a file you name"
        )));
    }
    Ok(dir.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_apart() {
        let there =
            |bucket: &str, key: &str| Ok(Place::There(Object { bucket: bucket.to_owned(), key: key.to_owned() }));
        assert_eq!(Place::parse("cairn://b/a/b c"), there("b", "a/b c"));
        assert_eq!(Place::parse("cairn://b"), there("b", ""));
        assert_eq!(Place::parse("cairn://b//x"), there("b", "/x"));
        assert_eq!(Place::parse("-"), Ok(Place::Stream));
        assert_eq!(Place::parse("./-"), Ok(Place::Here("./-".into())));
        assert!(Place::parse("cairn://").is_err() && Place::parse("cairn:///k").is_err() && Place::parse("").is_err());
        assert_eq!(Place::parse("cairn://b/k").map(|place| place.to_string()), Ok("cairn://b/k".to_owned()));
    }

    #[test]
    fn no_name_leads_out_of_a_directory() {
        let dir = Path::new("d");
        assert_eq!(below(dir, "a/b").ok(), Some("d/a/b".into()));
        for name in ["../a", "a/../../b", "/etc/passwd", "a//b", ".", "", "a/", "x\0"] {
            assert!(below(dir, name).is_err(), "{name:?} was taken");
        }
    }
}
