//! What `cairn bench s3` prints.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

use super::load::Outcome;
use super::scenario::{Below, Scenario};
use crate::bench::report::{MachineInfo, round, slug, trim_lines};

/// The whole of one run.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Which `cairn bench` this is.
    pub bench: &'static str,
    /// Version of `cairn`.
    pub version: &'static str,
    /// Where it ran.
    pub machine: MachineInfo,
    /// The server.
    pub endpoint: String,
    /// What `Server` its answers name.
    pub server: Option<String>,
    /// The driver of the load and of the bare server.
    pub driver: String,
    /// Small objects that were there to be read and listed.
    pub objects: u64,
    /// MiB a second of MD5 on one core: what S3's tags leave possible for a stream of bodies.
    pub md5_mib_per_second: f64,
    /// The figures.
    pub rows: Vec<Row>,
}

/// One scenario.
#[derive(Debug, Serialize)]
pub struct Row {
    /// The same in every run.
    pub name: String,
    /// What it says in the table.
    pub title: &'static str,
    /// Connections at once.
    pub connections: usize,
    /// Bytes of an object.
    pub bytes: usize,
    /// Each connection sends when it is free.
    pub closed: Figures,
    /// Requests come at a fixed rate; times count from when each was due.
    pub open: Option<Figures>,
    /// The bare server, closed loop.
    pub bare: Option<Figures>,
    /// What `closed` is compared with, if anything does the same.
    pub against: Option<Against>,
    /// `closed` by that: the medians of turns.
    pub ratio: Option<f64>,
    /// The least that is promised of a node.
    pub bar: Option<f64>,
    /// Whether the promise is kept.
    pub holds: Option<bool>,
}

/// What a scenario is compared with.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Against {
    /// "bare", "disk reads" or "lane puts".
    pub what: &'static str,
    /// How many it does.
    pub ops_per_second: f64,
}

/// What a load came to.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// In an open loop, requests that were due a second.
    pub rate: Option<f64>,
    /// Good answers a second: of a closed loop, the median of its turns.
    pub ops_per_second: f64,
    /// Bytes of bodies.
    pub mib_per_second: f64,
    /// Microseconds of half of the requests, and so on.
    pub p50_us: f64,
    /// See `p50_us`.
    pub p99_us: f64,
    /// See `p50_us`.
    pub p999_us: f64,
    /// See `p50_us`.
    pub max_us: f64,
    /// Good answers.
    pub ops: u64,
    /// Answers that were not good, and requests without one.
    pub errors: u64,
    /// Requests that were due and could not be sent in time.
    pub unsent: u64,
    /// The first error.
    pub first_error: Option<String>,
}

impl Figures {
    /// Of turns of one load, with the median of their rates.
    pub fn new(outcome: &Outcome, median: f64, rate: Option<f64>) -> Self {
        let bytes_per_op = outcome.bytes as f64 / outcome.ops.max(1) as f64;
        Self {
            rate: rate.map(round),
            ops_per_second: round(median),
            mib_per_second: round(median * bytes_per_op / f64::from(1 << 20)),
            p50_us: round(outcome.micros(0.5)),
            p99_us: round(outcome.micros(0.99)),
            p999_us: round(outcome.micros(0.999)),
            max_us: round(outcome.times.max() as f64 / 1e3),
            ops: outcome.ops,
            errors: outcome.errors,
            unsent: outcome.unsent,
            first_error: outcome.first_error.clone(),
        }
    }
}

impl Row {
    /// Compares. The bar is judged only where it is a promise: of a node, beside what it is promised against.
    pub fn new(
        scenario: &Scenario,
        (closed, open): (Figures, Option<Figures>),
        bare: Option<Figures>,
        below: Option<f64>,
        is_judged: bool,
    ) -> Self {
        let against = against(scenario, bare.as_ref().map(|bare| bare.ops_per_second), below);
        let ratio = against.map(|against| round(closed.ops_per_second / against.ops_per_second.max(f64::MIN_POSITIVE)));
        let bar = scenario.bar.filter(|_| is_judged && scenario.below.is_some() == below.is_some());
        let holds = bar.zip(ratio).map(|(bar, ratio)| ratio >= bar && closed.errors == 0);
        let Scenario { title, connections, bytes, .. } = *scenario;
        Self { name: slug(title), title, connections, bytes, closed, open, bare, against, ratio, bar, holds }
    }

    fn cells(&self) -> Vec<String> {
        let Self { closed, .. } = self;
        let against = self.against.map_or_else(String::new, |it| format!("{} {:.0}/s", it.what, it.ops_per_second));
        let ratio = self.ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        let mut cells = vec![
            self.title.to_owned(),
            format!("{:.0}/s", closed.ops_per_second),
            format!("{:.0}", closed.mib_per_second),
            against,
            ratio,
            self.verdict(),
        ];
        cells.extend(times(closed));
        let open = self.open.as_ref();
        cells.push(open.and_then(|open| open.rate).map_or_else(String::new, |rate| format!("{rate:.0}/s")));
        cells.extend(open.map_or_else(|| [const { String::new() }; 4], times));
        let errors = closed.errors + open.map_or(0, |open| open.errors + open.unsent);
        cells.push(errors.to_string());
        cells
    }

    fn verdict(&self) -> String {
        match (self.bar, self.holds) {
            (Some(bar), Some(true)) => format!("≥ {bar:.2} holds"),
            (Some(bar), Some(false)) => format!("≥ {bar:.2} FAILS"),
            _ => String::new(),
        }
    }

    fn first_error(&self) -> Option<&str> {
        let open = self.open.as_ref().and_then(|open| open.first_error.as_deref());
        self.closed.first_error.as_deref().or(open)
    }
}

/// Reads can't be faster than the slower of HTTP and the disk; puts are compared with those of a lane.
fn against(scenario: &Scenario, bare: Option<f64>, below: Option<f64>) -> Option<Against> {
    let of = |what, ops_per_second| Against { what, ops_per_second: round(ops_per_second) };
    match (scenario.below, below, bare) {
        (Some(Below::Puts), Some(puts), _) => Some(of("lane puts", puts)),
        (Some(Below::Reads), Some(reads), Some(bare)) if reads < bare => Some(of("disk reads", reads)),
        (_, _, bare) => bare.map(|bare| of("bare", bare)),
    }
}

fn times(figures: &Figures) -> [String; 4] {
    [figures.p50_us, figures.p99_us, figures.p999_us, figures.max_us].map(micros)
}

/// As short as three digits allow.
fn micros(micros: f64) -> String {
    match micros {
        ..1000.0 => format!("{micros:.0} µs"),
        ..100_000.0 => format!("{:.1} ms", micros / 1e3),
        _ => format!("{:.2} s", micros / 1e6),
    }
}

impl Report {
    /// For people.
    pub fn table(&self) -> String {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        let head = ["", "closed", "MiB/s", "against", "ratio", "", "p50", "p99", "p99.9", "max"];
        table.set_header(head.into_iter().chain(["open", "p50", "p99", "p99.9", "max", "errors"]));
        table.add_rows(self.rows.iter().map(Row::cells));
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        format!("{}\n\n{}\n\n{}", self.heading(), trim_lines(&table.to_string()), self.verdict())
    }

    fn heading(&self) -> String {
        let server = self.server.as_deref().map_or_else(String::new, |server| format!(" ({server})"));
        format!(
            "{}{server}, {} small objects; {}; {}; MD5 on one core: {:.0} MiB/s",
            self.endpoint,
            self.objects,
            self.machine.line(),
            self.driver,
            self.md5_mib_per_second
        )
    }

    fn verdict(&self) -> String {
        let failing: Vec<&str> =
            self.rows.iter().filter(|row| row.holds == Some(false)).map(|row| row.name.as_str()).collect();
        let mut lines = vec![match (self.rows.iter().any(|row| row.holds.is_some()), failing.as_slice()) {
            (false, _) => "No bars: they are promised of a node beside its load; judge one with --bars.".to_owned(),
            (true, []) => "Every bar holds.".to_owned(),
            (true, failing) => format!("Below the bar: {}.", failing.join(", ")),
        }];
        let erring = self.rows.iter().filter_map(|row| Some(format!("{}: {}", row.name, row.first_error()?)));
        lines.extend(erring);
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::super::scenario::SCENARIOS;
    use super::*;

    fn scenario(title: &str) -> &'static Scenario {
        SCENARIOS.iter().find(|scenario| scenario.title.starts_with(title)).expect("there is such a scenario")
    }

    #[test]
    fn reads_are_compared_with_what_holds_them_back() {
        let against = |bare, below| against(scenario("GET 1 MiB"), bare, below).map(|it| (it.what, it.ops_per_second));
        assert_eq!(against(Some(900.0), Some(2000.0)), Some(("bare", 900.0)));
        assert_eq!(against(Some(900.0), Some(500.0)), Some(("disk reads", 500.0)));
        assert_eq!(against(Some(900.0), None), Some(("bare", 900.0)));
    }

    #[test]
    fn a_promise_is_judged_beside_what_it_is_about() {
        let figures = |rate| Figures::new(&Outcome::default(), rate, None);
        let row = |title, below, is_judged| {
            Row::new(scenario(title), (figures(70.0), None), Some(figures(100.0)), below, is_judged).holds
        };
        assert_eq!(row("PUT 4 KiB, 1", None, true), Some(true), "0.7 of the bare server");
        assert_eq!(row("PUT 4 KiB, 1", None, false), None, "another server promises nothing");
        assert_eq!(row("PUT 1 MiB", None, true), None, "it is about a lane's puts");
        assert_eq!(row("PUT 1 MiB", Some(200.0), true), Some(false), "0.35 of the lane's");
    }
}
