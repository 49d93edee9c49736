//! The log: one line for each event, on standard error and for whoever reads it through the management API.
//!
//! An event is formatted on the thread where it happens and put into a queue; nothing waits and nothing is locked, so a
//! slow terminal can't stop a core. Which events are logged is decided once for each place in the code, and again when
//! the levels change.
//!
//! Spans are not used: a core runs thousands of tasks in turn, and what is known of one belongs into its events.
//! Invariant: a line is one line, whatever the values in it.

mod levels;
pub mod tap;

use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use cairn_io::lines;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::span;
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};

pub use levels::Levels;

/// What is logged now. Locked when a place in the code logs for the first time and when levels change.
static LEVELS: Mutex<Option<Levels>> = Mutex::new(None);

static IS_SET_UP: AtomicBool = AtomicBool::new(false);

/// Logs what these levels say from now on. The first call sets the log of this process up.
pub fn set_up(levels: &Levels) {
    *LEVELS.lock().unwrap_or_else(PoisonError::into_inner) = Some(levels.clone());
    if !IS_SET_UP.swap(true, Ordering::SeqCst) {
        // An application that has a log of its own keeps it.
        let _ = tracing::subscriber::set_global_default(Log);
    }
    tracing::callsite::rebuild_interest_cache();
}

fn allows(metadata: &Metadata<'_>) -> bool {
    let levels = LEVELS.lock().unwrap_or_else(PoisonError::into_inner);
    levels.as_ref().is_some_and(|levels| levels.allows(metadata.target(), *metadata.level()))
}

/// Takes events and writes lines.
struct Log;

impl Subscriber for Log {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if metadata.is_event() && allows(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && allows(metadata)
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let line = Line::of(event);
        if tap::is_anybody_there() {
            tap::hand_out(&line.json());
        }
        lines::write(line.text());
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// An event, taken apart.
struct Line {
    time: String,
    core: Option<usize>,
    level: Level,
    target: String,
    message: String,
    fields: Vec<(&'static str, Value)>,
}

impl Line {
    fn of(event: &Event<'_>) -> Self {
        let ((core, time), metadata) = (lines::stamp(), event.metadata());
        let mut line = Self {
            time: time.to_string(),
            core: core.map(cairn_io::CoreId::index),
            level: *metadata.level(),
            target: metadata.target().to_owned(),
            message: String::new(),
            fields: vec![],
        };
        event.record(&mut line);
        line
    }

    fn text(&self) -> String {
        let mut text = format!("{} {:5} ", self.time, self.level);
        if let Some(core) = self.core {
            let _ = write!(text, "core={core} ");
        }
        let _ = write!(text, "{}: {}", self.target, one_line(&self.message));
        for (name, value) in &self.fields {
            let _ = match value {
                Value::String(plain) if is_plain(plain) => write!(text, " {name}={plain}"),
                Value::String(other) => write!(text, " {name}={other:?}"),
                value => write!(text, " {name}={value}"),
            };
        }
        text
    }

    fn json(&self) -> Arc<str> {
        let fields: Map<String, Value> =
            self.fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let line = serde_json::json!({
            "time": self.time,
            "level": self.level.as_str().to_lowercase(),
            "core": self.core,
            "target": self.target,
            "message": self.message,
            "fields": fields,
        });
        line.to_string().into()
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        } else {
            self.fields.push((field.name(), Value::String(format!("{value:?}"))));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            self.fields.push((field.name(), Value::String(value.to_owned())));
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.fields.push((field.name(), value.into()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.fields.push((field.name(), value.into()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.fields.push((field.name(), value.into()));
    }
}

/// Whether a value needs no quotes.
fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && !text.contains(|letter: char| letter.is_whitespace() || letter.is_control() || "\"=".contains(letter))
}

/// Control characters would let one value look like several lines.
fn one_line(text: &str) -> String {
    if !text.contains(char::is_control) {
        return text.to_owned();
    }
    let escape =
        |letter: char| if letter.is_control() { letter.escape_default().to_string() } else { letter.to_string() };
    text.chars().map(escape).collect()
}

#[test]
fn an_event_is_one_line_whatever_is_in_it() {
    let line = Line {
        time: "T".to_owned(),
        core: Some(3),
        level: Level::WARN,
        target: "cairn_daemon::node".to_owned(),
        message: "said \n2026-01-01 ERROR all is lost".to_owned(),
        fields: vec![("peer", "a b\r\nc".into()), ("lane", 7.into()), ("state", "good".into())],
    };
    let text = line.text();
    assert_eq!(
        text,
        "T WARN  core=3 cairn_daemon::node: said \\n2026-01-01 ERROR all is lost peer=\"a b\\r\\nc\" lane=7 state=good"
    );
    let json: Value = serde_json::from_str(&line.json()).expect("JSON");
    assert_eq!(json["fields"]["lane"], 7);
    assert_eq!(json["level"], "warn");
    assert!(!line.json().contains('\n'));
}
