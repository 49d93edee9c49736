//! The file: TOML, taken apart into settings, each with its place.

use toml::de::{DeTable, DeValue};

/// What a setting is set to, as the file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Raw {
    /// A text, or a number or truth value as it is written.
    One(String),
    /// Texts.
    List(Vec<String>),
    /// Something no setting is.
    Other(&'static str),
}

/// A setting of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// With a dot for each table.
    pub name: String,
    /// What it is set to.
    pub value: Raw,
    /// Bytes before it in the file.
    pub at: usize,
}

/// Why the file is no TOML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoToml {
    /// What is wrong.
    pub message: String,
    /// Bytes before the place.
    pub at: usize,
}

/// The settings of a file, in its order.
///
/// # Errors
/// If it is no TOML.
pub fn items(text: &str) -> Result<Vec<Item>, NoToml> {
    let table = DeTable::parse(text).map_err(|error| NoToml {
        message: error.message().replace('\n', ", "),
        at: error.span().map_or(0, |span| span.start),
    })?;
    let mut items = Vec::new();
    flatten("", table.get_ref(), &mut items);
    items.sort_by_key(|item| item.at);
    Ok(items)
}

/// Line and column of a place, both counted from 1.
pub fn place(text: &str, at: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..at.min(text.len())];
    let lines = before.split(|byte| *byte == b'\n');
    lines.fold((0, 0), |(line, _), text| (line + 1, text.len() + 1))
}

fn flatten(prefix: &str, table: &DeTable<'_>, items: &mut Vec<Item>) {
    for (key, value) in table {
        let name = if prefix.is_empty() { key.get_ref().to_string() } else { format!("{prefix}.{}", key.get_ref()) };
        match value.get_ref() {
            DeValue::Table(table) if !table.is_empty() => flatten(&name, table, items),
            value => items.push(Item { name, value: raw(value), at: key.span().start }),
        }
    }
}

fn raw(value: &DeValue<'_>) -> Raw {
    match value {
        DeValue::String(text) => Raw::One(text.to_string()),
        DeValue::Integer(number) => Raw::One(number.to_string()),
        DeValue::Float(_) => Raw::Other("fraction"),
        DeValue::Boolean(_) => Raw::Other("truth value"),
        DeValue::Datetime(_) => Raw::Other("date"),
        DeValue::Table(_) => Raw::Other("table"),
        DeValue::Array(values) => {
            let text = |value: &DeValue<'_>| match value {
                DeValue::String(text) => Some(text.to_string()),
                _ => None,
            };
            let texts: Option<Vec<String>> = values.iter().map(|value| text(value.get_ref())).collect();
            texts.map_or(Raw::Other("list of other things than texts"), Raw::List)
        }
    }
}
