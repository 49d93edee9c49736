//! Paired runs: the bare loop and each driver take turns in short slices, so that whatever else the machine does
//! hits all of them alike; each side's figure is the median of its slices.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use cairn_io::reference::{self, EchoServer, Load, Place, RemoteCore, Scratch, Sink, Stop, Tally};
use cairn_io::{Config, DriverChoice, StartError};

use super::load;

/// Bytes of a small read.
pub const SMALL: usize = 4 << 10;
/// Bytes of a large read or write, on disk and on a socket.
pub const LARGE: usize = 1 << 20;

/// A load that every side can do.
#[derive(Clone, Copy, Debug)]
pub enum What {
    /// Reads or writes of a file, against bare `io_uring`.
    Disk(Load),
    /// Small random reads one at a time, against plain `pread`.
    ReadLaps,
    /// A message there and back over TCP, against a bare epoll server. The client is the same.
    EchoLaps,
    /// The same over so many connections at once.
    EchoCrowd(usize),
    /// Large writes to a TCP socket, against plain `write`. The receiver is the same.
    Send,
}

/// Who does the load.
#[derive(Clone, Copy, Debug)]
pub enum Side {
    /// `io::reference`.
    Bare,
    /// Our io on the driver at this place of [`Rig::drivers`].
    Driver(usize),
}

/// One core on one driver.
#[derive(Debug)]
pub struct Driver {
    /// Its short name: "glommio", "monoio".
    pub name: &'static str,
    /// Which it is and why, for people.
    pub line: String,
    core: RemoteCore,
    echo: SocketAddr,
}

impl Driver {
    /// Starts it.
    ///
    /// # Errors
    /// If it can't run here.
    pub fn start(choice: DriverChoice) -> Result<Self, StartError> {
        let core = RemoteCore::start(&Config { driver: choice, ..Config::single() })?;
        let line = core.line().to_owned();
        let name = if line.starts_with("driver: glommio") { "glommio" } else { "monoio" };
        let echo = core.call(load::serve_echo).map_err(|error| {
            StartError::Config(format!("no TCP port can be had on 127.0.0.1: {error}; bring the loopback up"))
        })?;
        Ok(Self { name, line, core, echo })
    }

    fn run(&self, what: What, place: Place, sink: SocketAddr, stop: Stop) -> io::Result<Tally> {
        match what {
            What::Disk(load) => self.core.call(move || load::disk(place, load, stop)),
            What::ReadLaps => self.core.call(move || load::read_laps(place, SMALL, stop)),
            What::EchoLaps => reference::echo_laps(self.echo, stop),
            What::EchoCrowd(depth) => reference::echo_crowd(self.echo, depth, stop),
            What::Send => self.core.call(move || load::send(sink, LARGE, stop)),
        }
    }
}

/// All sides, ready to take turns.
#[derive(Debug)]
pub struct Rig {
    /// The drivers to compare, the one that `auto` chooses first.
    pub drivers: Vec<Driver>,
    /// The file they share.
    pub scratch: Scratch,
    echo: EchoServer,
    sink: Sink,
}

impl Rig {
    /// Of these drivers over this file.
    ///
    /// # Errors
    /// If the bare servers can't be started.
    pub fn new(drivers: Vec<Driver>, scratch: Scratch) -> io::Result<Self> {
        Ok(Self { drivers, scratch, echo: EchoServer::start()?, sink: Sink::start()? })
    }

    /// Bare first, then each driver.
    pub fn sides(&self) -> Vec<Side> {
        std::iter::once(Side::Bare).chain((0..self.drivers.len()).map(Side::Driver)).collect()
    }

    /// One side's name.
    pub fn name(&self, side: Side) -> &'static str {
        match side {
            Side::Bare => "bare",
            Side::Driver(at) => self.drivers[at].name,
        }
    }

    /// Has one side do the load once.
    ///
    /// # Errors
    /// If the disk or a connection fails.
    pub fn run(&self, what: What, side: Side, stop: Stop) -> io::Result<Tally> {
        match (side, what) {
            (Side::Driver(at), _) => self.drivers[at].run(what, self.scratch.place(), self.sink.addr(), stop),
            (Side::Bare, What::Disk(load)) => self.scratch.load(&load, stop),
            (Side::Bare, What::ReadLaps) => self.scratch.pread_laps(SMALL, stop),
            (Side::Bare, What::EchoLaps) => reference::echo_laps(self.echo.addr(), stop),
            (Side::Bare, What::EchoCrowd(depth)) => reference::echo_crowd(self.echo.addr(), depth, stop),
            (Side::Bare, What::Send) => reference::send(self.sink.addr(), LARGE, stop),
        }
    }

    /// The median figure of each side after `rounds` of turns, `slice` each; `tick` is called after each.
    ///
    /// # Errors
    /// If the disk or a connection fails.
    pub fn compare(
        &self,
        what: What,
        figure: impl Fn(&Tally) -> f64,
        rounds: usize,
        slice: Duration,
        tick: impl Fn(),
    ) -> io::Result<Vec<f64>> {
        let sides = self.sides();
        let mut figures = vec![Vec::with_capacity(rounds); sides.len()];
        for round in 0..rounds {
            // Nobody always comes first: the first may find the disk rested.
            for turn in 0..sides.len() {
                let at = (round + turn) % sides.len();
                figures[at].push(figure(&self.run(what, sides[at], Stop::After(slice))?));
                tick();
            }
        }
        Ok(figures.into_iter().map(median).collect())
    }
}

/// The middle of them.
pub(super) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_unstable_by(f64::total_cmp);
    match (figures.len(), figures.len() / 2) {
        (0, _) => 0.0,
        (len, middle) if len % 2 == 1 => figures[middle],
        (_, middle) => f64::midpoint(figures[middle - 1], figures[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_in_the_middle() {
        assert_eq!(median(vec![9.0, 1.0, 5.0]).to_bits(), 5.0_f64.to_bits());
        assert_eq!(median(vec![9.0, 1.0, 5.0, 6.0]).to_bits(), 5.5_f64.to_bits());
    }
}
