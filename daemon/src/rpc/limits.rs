//! What a connection may cost, and for how long.

use cairn_io::time::Duration;
use cairn_schema::limits as wire;

/// Bounds of one connection and of one core. What has a number in `cairn.capnp` may be lowered here, for tests and small
/// machines, but not raised: the other side counts on it.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest message. A longer one ends the connection before memory is taken for it.
    pub message_bytes_max: usize,
    /// Calls of a connection not yet answered and finished. One more ends the connection.
    pub questions_max: usize,
    /// Calls of a connection worked on at once. One more is told to slow down.
    pub calls_max: usize,
    /// Bytes of a connection's requests and answers held at once. A request beyond is told to slow down; while so many wait
    /// to be written, nothing more is read.
    pub bytes_max: usize,
    /// Calls of all connections of a core worked on at once.
    pub core_calls_max: usize,
    /// Connections of a core. One more is closed as it comes.
    pub connections_max: usize,
    /// From the connection to its hello, and from there to the answer.
    pub hello_within: Duration,
    /// From a message's first byte to its last.
    pub message_within: Duration,
    /// A peer that takes nothing for so long is gone.
    pub write_within: Duration,
    /// A connection without calls on which nothing arrives for so long is closed.
    pub idle_within: Duration,
    /// For a call that doesn't say.
    pub deadline: Duration,
    /// For a call that says more.
    pub deadline_max: Duration,
    /// How long a stopping node waits for the calls it has begun.
    pub drain_within: Duration,
    /// When to come back, for those told to slow down.
    pub retry_after: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes_max: wire::MESSAGE_BYTES_MAX,
            questions_max: wire::QUESTIONS_MAX,
            calls_max: 512,
            bytes_max: 64 << 20,
            core_calls_max: 8192,
            connections_max: 4096,
            hello_within: Duration::from_secs(5),
            message_within: Duration::from_secs(30),
            write_within: Duration::from_secs(30),
            idle_within: Duration::from_secs(60),
            deadline: Duration::from_secs(30),
            deadline_max: Duration::from_mins(10),
            drain_within: Duration::from_secs(10),
            retry_after: Duration::from_millis(100),
        }
    }
}

/// Milliseconds as the wire has them, rounded up, so that nobody gives up before the caller does; what is too long is cut.
pub(super) fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX)
}
