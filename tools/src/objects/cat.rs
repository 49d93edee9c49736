//! `cairn cat`: objects to standard output, one after the other.

use super::place::{show, whole_object};
use super::progress::Progress;
use crate::out::Failure;
use crate::s3::settings::Settings;
use crate::s3::transfer::{Resume, Transfer};

/// Bytes of a piece; this reads one range after the other, so it is of no account.
const PIECE: u64 = 16 << 20;

/// Options of `cairn cat`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// cairn://BUCKET/KEY
    #[arg(required = true)]
    objects: Vec<String>,
    /// Only these bytes, as 0-99 (the last counted in), 100- or -100 (the last hundred)
    #[arg(long, value_name = "FROM-TO", value_parser = parse_range, allow_hyphen_values = true)]
    range: Option<Range>,
    /// This version instead of the newest
    #[arg(long, value_name = "ID")]
    version: Option<String>,
    #[command(flatten)]
    server: Settings,
}

/// Bytes of an object, as HTTP names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Range {
    /// From here to the end.
    From(u64),
    /// From here to there, there counted in.
    FromTo(u64, u64),
    /// So many at the end.
    Last(u64),
}

impl Range {
    /// Where it begins and ends in an object of a length; none if that is beyond its end.
    fn within(self, len: u64) -> Option<(u64, u64)> {
        let (from, to) = match self {
            Self::From(from) => (from, len),
            Self::FromTo(from, to) => (from, len.min(to.saturating_add(1))),
            Self::Last(count) => (len.saturating_sub(count), len),
        };
        (from < to).then_some((from, to))
    }
}

fn parse_range(text: &str) -> Result<Range, String> {
    let wrong = || "write it as 0-99, 100- or -100".to_owned();
    let (from, to) = text.split_once('-').ok_or_else(wrong)?;
    let number = |text: &str| text.parse::<u64>().map_err(|_| wrong());
    match (from, to) {
        ("", to) => number(to).map(Range::Last),
        (from, "") => number(from).map(Range::From),
        (from, to) => match (number(from)?, number(to)?) {
            (from, to) if from <= to => Ok(Range::FromTo(from, to)),
            _ => Err(wrong()),
        },
    }
}

impl Args {
    /// Prints them.
    ///
    /// # Errors
    /// If one isn't there, or isn't allowed.
    pub fn run(self) -> Result<(), Failure> {
        super::run(move || async move {
            let progress = Progress::new();
            let moved = progress.clone();
            let client = self.server.client().await?;
            let transfer = Transfer::new(client, PIECE, 1, Resume::No, Box::new(move |bytes| moved.moved(bytes)));
            for text in &self.objects {
                let object = whole_object(text)?;
                let (facts, _) = transfer.client.head(&object, self.version.as_deref()).await?;
                let beyond = || Failure::Input(format!("{} has only {} bytes", show(&object), facts.len));
                let range = match self.range {
                    Some(range) => range.within(facts.len).ok_or_else(beyond)?,
                    None => (0, facts.len),
                };
                transfer.print(&object, &facts, range).await?;
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_as_http_has_them() {
        let within = |text: &str| parse_range(text).map(|range| range.within(100));
        assert_eq!(within("0-9"), Ok(Some((0, 10))));
        assert_eq!(within("90-"), Ok(Some((90, 100))));
        assert_eq!(within("90-500"), Ok(Some((90, 100))));
        assert_eq!(within("-5"), Ok(Some((95, 100))));
        assert_eq!(within("-500"), Ok(Some((0, 100))));
        assert_eq!(within("100-"), Ok(None));
        assert_eq!(within("-0"), Ok(None));
        for text in ["", "-", "5", "9-5", "a-b", "1-2-3", "-1-"] {
            assert!(within(text).is_err(), "{text:?} was taken");
        }
    }
}
