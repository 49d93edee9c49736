//! How a type is read from a message and written into one, and what is wrong with a message that can't be read.

use std::fmt;

use capnp::message::{Builder, ReaderOptions};
use capnp::traits::{FromPointerBuilder, Owned};
use capnp::{NotInSchema, data, text};

use crate::error::{Error, ErrorKind};
use crate::hello::CallInfo;
use crate::limits;

/// A plain type that has a form on the wire.
pub trait Wire: Sized {
    /// The generated struct.
    type Form: Owned;

    /// Reads and checks it.
    ///
    /// # Errors
    /// If a length, number or enumerant is not as the schema says.
    fn read(from: <Self::Form as Owned>::Reader<'_>) -> Result<Self, Malformed>;

    /// Writes it. Limits are not checked here: the reader does.
    fn write(&self, into: <Self::Form as Owned>::Builder<'_>);
}

/// A request of a call.
pub trait Request: Wire {
    /// What the call brings, if it has a result.
    type Answer;

    /// Deadline, hops, trace.
    fn call(&self) -> &CallInfo;

    /// See [`Self::call`].
    fn call_mut(&mut self) -> &mut CallInfo;
}

/// A message that is not what the schema says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Malformed {
    /// Where, as in `commits[3].content.payload`; empty for the whole.
    pub field: String,
    /// What is wrong there, and what would be right.
    pub reason: String,
    /// It may be right for a newer node: an enumerant or union member that this one doesn't know.
    pub is_unknown: bool,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, reason, .. } = self;
        if field.is_empty() { f.write_str(reason) } else { write!(f, "{field}: {reason}") }
    }
}

impl Malformed {
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self { field: String::new(), reason: reason.into(), is_unknown: false }
    }

    fn within(mut self, outer: &str) -> Self {
        let dot = if self.field.is_empty() || self.field.starts_with('[') { "" } else { "." };
        self.field = format!("{outer}{dot}{}", self.field);
        self
    }
}

impl From<capnp::Error> for Malformed {
    fn from(error: capnp::Error) -> Self {
        Self::new(format!("not a well-formed message: {error}"))
    }
}

impl From<NotInSchema> for Malformed {
    fn from(unknown: NotInSchema) -> Self {
        let reason = format!("number {} is unknown to this version; one side is older than the other", unknown.0);
        Self { is_unknown: true, ..Self::new(reason) }
    }
}

impl From<Malformed> for Error {
    fn from(malformed: Malformed) -> Self {
        let kind = if malformed.is_unknown { ErrorKind::Unsupported } else { ErrorKind::BadInput };
        Self { field: malformed.field.clone(), ..Self::fix_input(kind, malformed.to_string()) }
    }
}

/// Says in which field something is wrong.
pub(crate) trait InField<T> {
    fn field(self, name: &str) -> Result<T, Malformed>;
}

impl<T, E: Into<Malformed>> InField<T> for Result<T, E> {
    fn field(self, name: &str) -> Result<T, Malformed> {
        self.map_err(|error| error.into().within(name))
    }
}

pub(crate) fn read_text(from: capnp::Result<text::Reader<'_>>, max: usize) -> Result<String, Malformed> {
    let text = from?;
    check_length(text.len(), max)?;
    let text = text.to_str().map_err(|_| Malformed::new("not UTF-8"))?;
    Ok(text.to_owned())
}

pub(crate) fn read_data(from: capnp::Result<data::Reader<'_>>, max: usize) -> Result<&[u8], Malformed> {
    let bytes = from?;
    check_length(bytes.len(), max)?;
    Ok(bytes)
}

/// Exactly `N` bytes.
pub(crate) fn read_array<const N: usize>(from: capnp::Result<data::Reader<'_>>) -> Result<[u8; N], Malformed> {
    let bytes = from?;
    bytes.try_into().map_err(|_| Malformed::new(format!("{} bytes, and must be {N}", bytes.len())))
}

/// Exactly `N` bytes, or none.
pub(crate) fn read_array_or_none<const N: usize>(
    from: capnp::Result<data::Reader<'_>>,
) -> Result<Option<[u8; N]>, Malformed> {
    let bytes = from?;
    if bytes.is_empty() { Ok(None) } else { read_array(Ok(bytes)).map(Some) }
}

fn check_length(len: usize, max: usize) -> Result<(), Malformed> {
    if len <= max { Ok(()) } else { Err(Malformed::new(format!("{len} bytes, and may have at most {max}"))) }
}

/// Reads each element of a list of at most `max`; `list` is what the generated getter returned.
macro_rules! read_list {
    ($list:expr, $max:expr, $read:expr) => {{
        let list = $list.map_err($crate::wire::Malformed::from)?;
        let (len, max) = (list.len() as usize, $max);
        if len > max {
            let reason = format!("{len} elements, and may have at most {max}");
            return Err($crate::wire::Malformed::new(reason));
        }
        let mut elements = Vec::with_capacity(len);
        for (at, element) in list.iter().enumerate() {
            let read = $read(element);
            elements.push($crate::wire::InField::field(read, &format!("[{at}]"))?);
        }
        Ok::<_, $crate::wire::Malformed>(elements)
    }};
}

/// Writes each element into a list that the generated `init` returned.
macro_rules! write_list {
    ($list:expr, $elements:expr) => {{
        let mut list = $list;
        for (at, element) in (0..).zip($elements) {
            element.write(list.reborrow().get(at));
        }
    }};
}

/// An enum whose values have the same names on the wire.
macro_rules! wire_enum {
    ($(#[$doc:meta])* $name:ident = $form:ident { $($(#[$value_doc:meta])* $value:ident),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$value_doc])* $value),* }

        impl $name {
            pub(crate) fn form(self) -> crate::cairn_capnp::$form {
                match self { $(Self::$value => crate::cairn_capnp::$form::$value),* }
            }

            pub(crate) fn of(form: crate::cairn_capnp::$form) -> Self {
                match form { $(crate::cairn_capnp::$form::$value => Self::$value),* }
            }
        }
    };
}

pub(crate) use {read_list, wire_enum, write_list};

/// The length of a list to write: what is too long for the wire is cut, and refused by the reader for its length.
pub(crate) fn list_len(len: usize) -> u32 {
    u32::try_from(len.min(1 << 24)).expect("cut")
}

/// A value as one framed message: what travels where there is no connection of its own.
pub fn encode<T: Wire>(value: &T) -> Vec<u8>
where
    for<'a> <T::Form as Owned>::Builder<'a>: FromPointerBuilder<'a>,
{
    let mut message = Builder::new_default();
    value.write(message.init_root());
    capnp::serialize::write_message_to_words(&message)
}

/// A value from one framed message.
///
/// # Errors
/// If the bytes are not such a message.
pub fn decode<T: Wire>(mut bytes: &[u8]) -> Result<T, Malformed> {
    let message = capnp::serialize::read_message(&mut bytes, reader_options())?;
    T::read(message.get_root()?)
}

fn reader_options() -> ReaderOptions {
    let mut options = ReaderOptions::new();
    options.nesting_limit(limits::NESTING_MAX.into());
    options.traversal_limit_in_words(Some(limits::MESSAGE_BYTES_MAX / 8 * 2));
    options
}
