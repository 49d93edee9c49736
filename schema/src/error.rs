//! What a request is told when it has no result: errors are data, and say what to do.

use std::fmt;

use capnp::traits::Owned;

use crate::cairn_capnp as schema;
use crate::limits::TEXT_BYTES_MAX;
use crate::wire::{InField, Malformed, Wire, read_text, wire_enum};

/// A result, or what to do instead.
pub type Answer<T> = Result<T, Error>;

wire_enum! {
    /// Whether a request that failed may have been carried out all the same.
    Outcome = Outcome {
        /// Surely not.
        #[default]
        NothingDone,
        /// It may have been, or may yet be.
        Unknown,
    }
}

wire_enum! {
    /// What went wrong, for programs that care; the others follow the advice.
    ErrorKind = ErrorKind {
        /// A defect or a failed disk of the node. Also what a newer node says that this one has no word for.
        #[default]
        Internal,
        /// See [`Error::field`].
        BadInput,
        /// The node is older than the request, or the role may not call this.
        Unsupported,
        /// No common protocol.
        Incompatible,
        /// The caller means another cluster.
        WrongCluster,
        /// The caller means another node.
        WrongNode,
        /// A limit of load. Nothing was done.
        SlowDown,
        /// The time given is over.
        DeadlinePassed,
        /// The slot is led elsewhere, and this node would not or could not forward.
        NotLeader,
        /// Nobody leads the slot now.
        NoLeader,
        /// A condition doesn't hold.
        PreconditionFailed,
        /// A bucket, an upload or an exact version that isn't there.
        NotFound,
        /// A cap per key was reached: heads or history.
        TooMany,
        /// What the request builds on is outdated.
        Stale,
        /// The disks are full for data of this kind.
        NoRoom,
        /// The node is about to end. Nothing was done.
        Stopping,
        /// A bucket of that name is there already.
        Exists,
        /// The request or the answer would not fit into a message.
        TooLarge,
        /// The node that should answer can't be reached, or went away in the middle.
        Unreachable,
        /// The version is under retention or a legal hold.
        Locked,
        /// The proof of hello doesn't hold, the access key is gone, or its user may not do this.
        Denied,
    }
}

/// What to do about an error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Advice {
    /// Tell a person. Also what a newer node advises that this one has no word for.
    #[default]
    Stop,
    /// Again here, after these milliseconds.
    RetryHere(u32),
    /// To this node, at once.
    GoTo(NodeRef),
    /// The request itself is wrong, or its condition doesn't hold.
    FixInput,
    /// To any other node, or here after these milliseconds.
    TryElsewhere(u32),
}

/// A node and where it answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeRef {
    /// 0: unknown.
    pub node: u64,
    /// "host:port"; empty: look it up in the map.
    pub address: String,
}

/// Why a request has no result, and what to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Error {
    /// For programs.
    pub kind: ErrorKind,
    /// For people.
    pub message: String,
    /// The field of bad input; else empty.
    pub field: String,
    /// Whether it may have been carried out all the same.
    pub outcome: Outcome,
    /// What to do.
    pub advice: Advice,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl Error {
    /// An error after which nothing was done.
    pub fn new(kind: ErrorKind, advice: Advice, message: impl Into<String>) -> Self {
        Self { kind, advice, message: message.into(), ..Self::default() }
    }

    /// The request is wrong.
    pub fn fix_input(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self::new(kind, Advice::FixInput, message)
    }

    /// The same error, where it may have been carried out.
    #[must_use]
    pub fn with_outcome(mut self, outcome: Outcome) -> Self {
        self.outcome = outcome;
        self
    }
}

impl Wire for NodeRef {
    type Form = schema::node_ref::Owned;

    fn read(from: schema::node_ref::Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { node: from.get_node(), address: read_text(from.get_address(), TEXT_BYTES_MAX).field("address")? })
    }

    fn write(&self, mut into: schema::node_ref::Builder<'_>) {
        into.set_node(self.node);
        into.set_address(self.address.as_str());
    }
}

impl Wire for Error {
    type Form = schema::error::Owned;

    /// What a newer node says and this one doesn't know is the zero case; see the schema's rules of change.
    fn read(from: <Self::Form as Owned>::Reader<'_>) -> Result<Self, Malformed> {
        use schema::error::advice::Which;
        let advice = match from.get_advice().which() {
            Ok(Which::Stop(())) | Err(_) => Advice::Stop,
            Ok(Which::RetryHere(millis)) => Advice::RetryHere(millis),
            Ok(Which::GoTo(node)) => Advice::GoTo(NodeRef::read(node?).field("advice.goTo")?),
            Ok(Which::FixInput(())) => Advice::FixInput,
            Ok(Which::TryElsewhere(millis)) => Advice::TryElsewhere(millis),
        };
        Ok(Self {
            kind: from.get_kind().map_or(ErrorKind::Internal, ErrorKind::of),
            message: read_text(from.get_message(), TEXT_BYTES_MAX).field("message")?,
            field: read_text(from.get_field(), TEXT_BYTES_MAX).field("field")?,
            outcome: from.get_outcome().map_or(Outcome::Unknown, Outcome::of),
            advice,
        })
    }

    fn write(&self, mut into: <Self::Form as Owned>::Builder<'_>) {
        into.set_kind(self.kind.form());
        into.set_message(cut(&self.message));
        into.set_field(cut(&self.field));
        into.set_outcome(self.outcome.form());
        let mut advice = into.init_advice();
        match &self.advice {
            Advice::Stop => advice.set_stop(()),
            Advice::RetryHere(millis) => advice.set_retry_here(*millis),
            Advice::GoTo(node) => node.write(advice.init_go_to()),
            Advice::FixInput => advice.set_fix_input(()),
            Advice::TryElsewhere(millis) => advice.set_try_elsewhere(*millis),
        }
    }
}

/// An error may quote what it complains about, however long that is.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}
