//! Conditions in headers: what must hold of the object that is there.

use cairn_meta::version::commit::{Condition, Mode};
use cairn_meta::version::{Version, VersionId};

use crate::s3::date;
use crate::s3::error::{Code, Result, S3Error};
use crate::s3::head::{Head, number};

/// The ETags of a header, without quotes; `None` stands for `*`.
pub fn etags(text: &str) -> Option<Vec<String>> {
    if text.trim() == "*" {
        return None;
    }
    let plain = |one: &str| one.trim().trim_start_matches("W/").trim_matches('"').to_owned();
    Some(text.split(',').map(plain).collect())
}

/// Conditions of a read, by whatever headers state them.
#[derive(Clone, Debug, Default)]
pub struct Conditions {
    matches: Option<String>,
    matches_none: Option<String>,
    modified_since: Option<u64>,
    unmodified_since: Option<u64>,
}

impl Conditions {
    /// Those whose headers begin so: nothing, or `x-amz-copy-source-`.
    ///
    /// # Errors
    /// If a header isn't valid.
    pub fn read(head: &Head, prefix: &str) -> Result<Self> {
        let text = |name: &str| head.only(&format!("{prefix}{name}")).map(|text| text.map(str::to_owned));
        // A date that is none says nothing, as HTTP has it.
        let time = |name: &str| text(name).map(|text| text.and_then(|text| date::read_http(&text)));
        Ok(Self {
            matches: text("if-match")?,
            matches_none: text("if-none-match")?,
            modified_since: time("if-modified-since")?,
            unmodified_since: time("if-unmodified-since")?,
        })
    }

    /// Whether they hold of a version.
    ///
    /// # Errors
    /// `PreconditionFailed` or `NotModified`.
    pub fn check(&self, version: &Version) -> Result<()> {
        let is_one = |text: &String| etags(text).is_none_or(|etags| etags.contains(&version.content.etag));
        // Headers have no fractions of seconds.
        let modified = version.modified / 1000 * 1000;
        let failed = |name: &'static str| Err(S3Error::from(Code::PreconditionFailed).with("Condition", name));
        match (&self.matches, self.unmodified_since) {
            (Some(text), _) if !is_one(text) => return failed("If-Match"),
            (None, Some(time)) if modified > time => return failed("If-Unmodified-Since"),
            _ => {}
        }
        match (&self.matches_none, self.modified_since) {
            (Some(text), _) if is_one(text) => Err(Code::NotModified.into()),
            (None, Some(time)) if modified <= time => Err(Code::NotModified.into()),
            _ => Ok(()),
        }
    }
}

/// The conditions of a write or deletion.
///
/// # Errors
/// If a header isn't valid.
pub fn of_write(head: &Head) -> Result<Vec<Condition>> {
    let mut conditions = Vec::new();
    if let Some(text) = head.only("if-match")? {
        conditions.push(etags(text).map_or(Condition::Exists, Condition::Etag));
    }
    if let Some(text) = head.only("if-none-match")? {
        conditions.push(etags(text).map_or(Condition::Absent, Condition::NotEtag));
    }
    for name in ["x-amz-if-match-last-modified-time", "if-unmodified-since"] {
        let Some(text) = head.only(name)? else { continue };
        let time = date::read_http(text).or_else(|| date::read_iso(text));
        let time = time.ok_or_else(|| S3Error::argument(name, text, "It is a date."))?;
        conditions.push(Condition::UnmodifiedSince(time + 999));
    }
    if let Some(size) = number(head.only("x-amz-if-match-size")?, "x-amz-if-match-size")? {
        conditions.push(Condition::Size(size));
    }
    Ok(conditions)
}

/// How a write finds its parents.
///
/// # Errors
/// If the headers don't go together.
pub fn write_mode(head: &Head) -> Result<Mode> {
    let conditions = of_write(head)?;
    let parents = head.only("x-cairn-parents")?;
    let wrong = |name: &str, value: &str| {
        S3Error::argument(
            name,
            value,
            "x-cairn-mode is derive or merge, with x-cairn-parents: ids of versions with commas between them, and no conditions.",
        )
    };
    match (head.only("x-cairn-mode")?, parents) {
        (None, None) if conditions.is_empty() => Ok(Mode::Overwrite),
        (None, None) => Ok(Mode::Conditional(conditions)),
        (Some(mode), Some(parents)) if conditions.is_empty() => {
            let ids = parents.split(',').map(|id| id.trim().parse::<VersionId>());
            let ids = ids.collect::<Result<Vec<_>, _>>().map_err(|_| wrong("x-cairn-parents", parents))?;
            match mode {
                "derive" => Ok(Mode::Derive(ids)),
                "merge" => Ok(Mode::Merge(ids)),
                other => Err(wrong("x-cairn-mode", other)),
            }
        }
        (mode, parents) => Err(wrong("x-cairn-mode", mode.or(parents).unwrap_or_default())),
    }
}
