//! What `cairn bench` prints: a table for people, one JSON object for programs.

use cairn_io::reference::{Machine, Tally};
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

/// What a ratio is to be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Want {
    /// Throughput: as much of the reference as possible.
    AtLeast,
    /// Time: as little more than the reference as possible.
    AtMost,
}

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Unit {
    /// Bytes moved.
    #[serde(rename = "MiB/s")]
    MibPerSecond,
    /// Operations done.
    #[serde(rename = "1/s")]
    PerSecond,
    /// Time of one operation, the median.
    #[serde(rename = "us")]
    Micros,
    /// Time of one operation, the slowest of a hundred.
    #[serde(rename = "us p99")]
    MicrosTail,
}

impl Unit {
    fn want(self) -> Want {
        match self {
            Self::MibPerSecond | Self::PerSecond => Want::AtLeast,
            Self::Micros | Self::MicrosTail => Want::AtMost,
        }
    }

    /// This of a tally of operations of so many bytes.
    pub fn figure(self, tally: &Tally, bytes: usize) -> f64 {
        match self {
            Self::MibPerSecond => tally.rate() * bytes as f64 / f64::from(1 << 20),
            Self::PerSecond => tally.rate(),
            Self::Micros => tally.median.as_secs_f64() * 1e6,
            Self::MicrosTail => tally.tail.as_secs_f64() * 1e6,
        }
    }

    fn show(self, value: f64) -> String {
        match self {
            Self::MibPerSecond => format!("{value:.0} MiB/s"),
            Self::PerSecond => format!("{:.1}k/s", value / 1e3),
            Self::Micros | Self::MicrosTail => format!("{value:.1} µs"),
        }
    }
}

/// One figure beside its reference.
#[derive(Clone, Debug, Serialize)]
pub struct Bar {
    /// Driver and measurement; the same in every run.
    pub name: String,
    /// What it says in the table.
    pub title: String,
    /// The driver alone.
    pub driver: &'static str,
    /// Of `value` and `reference`.
    pub unit: Unit,
    /// What we reach.
    pub value: f64,
    /// What the kernel does without us.
    pub reference: f64,
    /// `value / reference`.
    pub ratio: f64,
    /// On which side of `bar` the ratio is to be.
    pub want: Want,
    /// The ratio promised; none for figures that only inform.
    pub bar: Option<f64>,
    /// Whether the promise is kept.
    pub holds: Option<bool>,
}

impl Bar {
    /// Compares.
    pub fn new(title: &str, driver: &'static str, unit: Unit, value: f64, reference: f64, bar: Option<f64>) -> Self {
        let ratio = value / reference.max(f64::MIN_POSITIVE);
        let want = unit.want();
        let holds = bar.map(|bar| match want {
            Want::AtLeast => ratio >= bar,
            Want::AtMost => ratio <= bar,
        });
        let name = format!("{driver}/{}", slug(title));
        let title = title.to_owned();
        Self {
            name,
            title,
            driver,
            unit,
            value: round(value),
            reference: round(reference),
            ratio: round(ratio),
            want,
            bar,
            holds,
        }
    }

    fn show_bar(&self) -> String {
        let Some(bar) = self.bar else { return String::new() };
        let sign = match self.want {
            Want::AtLeast => '≥',
            Want::AtMost => '≤',
        };
        let verdict = if self.holds == Some(true) { "holds" } else { "FAILS" };
        format!("{sign} {bar:.2} {verdict}")
    }
}

/// The whole of one run.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Which `cairn bench` this is.
    pub bench: &'static str,
    /// Version of `cairn`.
    pub version: &'static str,
    /// Where it ran.
    pub machine: MachineInfo,
    /// What it ran on.
    pub file: FileInfo,
    /// What the references went through: "io_uring" or "threads".
    pub bare: &'static str,
    /// The drivers compared.
    pub drivers: Vec<DriverInfo>,
    /// Rounds of turns, and the length of one turn.
    pub rounds: usize,
    /// See `rounds`.
    pub slice_ms: f64,
    /// The figures.
    pub bars: Vec<Bar>,
}

/// See [`Machine`].
#[derive(Debug, Serialize)]
pub struct MachineInfo {
    processor: String,
    processors: usize,
    kernel: String,
    memlock_bytes_max: u64,
}

impl From<Machine> for MachineInfo {
    fn from(machine: Machine) -> Self {
        let Machine { processor, processors, kernel, memlock_bytes_max } = machine;
        Self { processor, processors, kernel, memlock_bytes_max }
    }
}

impl MachineInfo {
    /// In a line for people.
    pub(super) fn line(&self) -> String {
        format!("{} x {}, Linux {}", self.processors, self.processor, self.kernel)
    }
}

/// The file measured on.
#[derive(Debug, Serialize)]
pub struct FileInfo {
    /// Its directory.
    pub dir: String,
    /// The name of its file system, as far as known.
    pub file_system: &'static str,
    /// Its length.
    pub bytes: u64,
}

/// A driver compared.
#[derive(Debug, Serialize)]
pub struct DriverInfo {
    /// Its short name.
    pub name: &'static str,
    /// Which it is and why.
    pub line: String,
}

impl Report {
    /// For people.
    pub fn table(&self) -> String {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        let names = self.drivers.iter().map(|driver| driver.name);
        table.set_header(["", "bare"].into_iter().chain(names.flat_map(|name| [name, "ratio", ""])));
        for bars in self.bars.chunks(self.drivers.len().max(1)) {
            table.add_row(row(bars));
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let heading = self.heading();
        format!("{heading}\n\n{}\n\n{}", trim_lines(&table.to_string()), self.verdict())
    }

    fn heading(&self) -> String {
        let Self { machine, file, .. } = self;
        let calls = match self.bench {
            "disk" => "pread, epoll, write",
            "meta" => "chunks, no group",
            _ => "pwrite, fdatasync",
        };
        format!(
            "{} MiB on {} in {}, {}; bare: {}, {calls}",
            file.bytes >> 20,
            file.file_system,
            file.dir,
            machine.line(),
            self.bare
        )
    }

    fn verdict(&self) -> String {
        let failing: Vec<&str> =
            self.bars.iter().filter(|bar| bar.holds == Some(false)).map(|bar| bar.name.as_str()).collect();
        match (self.bars.iter().any(|bar| bar.holds.is_some()), failing.as_slice()) {
            (false, _) => "No bars: they are for the driver that `auto` chooses.".to_owned(),
            (true, []) => "Every bar holds.".to_owned(),
            (true, failing) => format!("Below the bar: {}.", failing.join(", ")),
        }
    }
}

fn row(bars: &[Bar]) -> Vec<Cell> {
    let mut cells = vec![Cell::new(&bars[0].title), Cell::new(bars[0].unit.show(bars[0].reference))];
    for bar in bars {
        cells.push(Cell::new(bar.unit.show(bar.value)));
        cells.push(Cell::new(format!("{:.2}", bar.ratio)));
        cells.push(Cell::new(bar.show_bar()));
    }
    cells
}

/// `Read 4 KiB, depth 32` as `read_4_kib_depth_32`.
pub(super) fn slug(title: &str) -> String {
    let words = title.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("_")
}

pub(super) fn trim_lines(text: &str) -> String {
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// To five digits: the rest is noise.
pub(super) fn round(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return 0.0;
    }
    let scale = 10_f64.powi(4 - value.abs().log10().floor() as i32);
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throughput_wants_more_and_time_wants_less() {
        let bar = |unit, value, bar| Bar::new("x", "d", unit, value, 100.0, bar).holds;
        assert_eq!(bar(Unit::MibPerSecond, 91.0, Some(0.9)), Some(true));
        assert_eq!(bar(Unit::PerSecond, 79.0, Some(0.8)), Some(false));
        assert_eq!(bar(Unit::Micros, 149.0, Some(1.5)), Some(true));
        assert_eq!(bar(Unit::Micros, 151.0, Some(1.5)), Some(false));
        assert_eq!(bar(Unit::Micros, 151.0, None), None);
    }

    #[test]
    fn names_are_plain() {
        assert_eq!(slug("read 4 KiB random, depth 32"), "read_4_kib_random_depth_32");
    }

    #[test]
    fn rounding_keeps_five_digits() {
        assert_eq!(round(123_456.7).to_bits(), 123_460.0_f64.to_bits());
        assert_eq!(round(0.912_345_6).to_bits(), 0.912_35_f64.to_bits());
    }
}
