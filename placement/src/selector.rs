//! Label selectors: which nodes may hold something. `dc=fra`, `dc in (fra, ams)`, `ssd` (has the label), and `!` before
//! any of them for the opposite.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Labels of a node: name to value.
pub type Labels = BTreeMap<String, String>;

/// What a selector demands of a label.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    /// The node carries the label, whatever its value.
    Present,
    /// The label has one of these values.
    OneOf(Vec<String>),
}

/// Whether a match lets a node in or keeps it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sense {
    Allow,
    Forbid,
}

/// A condition on the labels of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    label: String,
    test: Test,
    sense: Sense,
}

impl Selector {
    /// Whether a node with these labels may be chosen.
    pub fn admits(&self, labels: &Labels) -> bool {
        let matches = match (&self.test, labels.get(&self.label)) {
            (_, None) => false,
            (Test::Present, Some(_)) => true,
            (Test::OneOf(values), Some(value)) => values.contains(value),
        };
        matches == (self.sense == Sense::Allow)
    }
}

/// Whether a text may be the name or the value of a label: it must survive in selectors, metrics and URLs.
pub fn is_label_word(text: &str) -> bool {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || "-_./:".contains(letter);
    !text.is_empty() && text.len() <= 63 && text.chars().all(fits)
}

/// A text that is no selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadSelector {
    text: String,
    part: String,
}

impl fmt::Display for BadSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { text, part } = self;
        write!(
            f,
            "{text:?} is no selector: {part:?} is not a word of letters, digits and -_./: ; \
             write `label`, `label=value` or `label in (a, b)`, with `!` before it for the opposite"
        )
    }
}

impl std::error::Error for BadSelector {}

impl FromStr for Selector {
    type Err = BadSelector;

    fn from_str(text: &str) -> Result<Self, BadSelector> {
        let word = |part: &str| {
            let part = part.trim();
            let bad = || BadSelector { text: text.to_owned(), part: part.to_owned() };
            if is_label_word(part) { Ok(part.to_owned()) } else { Err(bad()) }
        };
        let (sense, rest) = match text.trim().strip_prefix('!') {
            Some(rest) => (Sense::Forbid, rest),
            None => (Sense::Allow, text.trim()),
        };
        let (label, test) = match (rest.split_once('='), split_list(rest)) {
            (Some((label, value)), _) => (label, Test::OneOf(vec![word(value)?])),
            (None, Some((label, values))) => {
                (label, Test::OneOf(values.split(',').map(word).collect::<Result<_, _>>()?))
            }
            (None, None) => (rest, Test::Present),
        };
        Ok(Self { label: word(label)?, test, sense })
    }
}

/// `dc in (fra, ams)` as label and the inside of the parentheses.
fn split_list(text: &str) -> Option<(&str, &str)> {
    let (label, list) = text.split_once(" in ")?;
    Some((label, list.trim().strip_prefix('(')?.strip_suffix(')')?))
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let not = if self.sense == Sense::Forbid { "!" } else { "" };
        match &self.test {
            Test::Present => write!(f, "{not}{}", self.label),
            Test::OneOf(values) if values.len() == 1 => write!(f, "{not}{}={}", self.label, values[0]),
            Test::OneOf(values) => write!(f, "{not}{} in ({})", self.label, values.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(selector: &str, labels: &[(&str, &str)]) -> bool {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        selector.parse::<Selector>().expect(selector).admits(&labels)
    }

    #[test]
    fn each_form_admits_what_it_says() {
        assert!(admits("dc=fra", &[("dc", "fra")]) && !admits("dc=fra", &[("dc", "ams")]));
        assert!(!admits("dc=fra", &[]), "a node without the label doesn't have the value");
        assert!(admits("dc in (fra, ams)", &[("dc", "ams")]) && !admits("dc in (fra, ams)", &[("dc", "lon")]));
        assert!(admits("!class=archive", &[]) && !admits("!class=archive", &[("class", "archive")]));
        assert!(admits("ssd", &[("ssd", "yes")]) && admits("!ssd", &[]));
    }

    #[test]
    fn what_is_written_is_read_again() {
        for text in ["dc=fra", "dc in (fra, ams)", "!class=archive", "!dc in (a, b)", "ssd", "!ssd"] {
            assert_eq!(text.parse::<Selector>().expect(text).to_string(), text);
        }
    }

    #[test]
    fn nonsense_is_refused_with_the_part_that_is_wrong() {
        for text in ["", "!", "dc=", "=fra", "dc in fra", "dc in ()", "dc in (a,,b)", "a b"] {
            let error = text.parse::<Selector>().expect_err(text).to_string();
            assert!(error.contains("label in (a, b)"), "{error}");
        }
    }
}
