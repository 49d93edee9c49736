//! A node's clocks: the world's time, shifted and running a little fast or slow.

use crate::time::{Instant, WallTime};

/// When every world begins by its own wall clock: 2030-01-01, so that no test depends on today.
const WALL_ORIGIN: i128 = 1_893_456_000 * BILLION;
const BILLION: i128 = 1_000_000_000;

/// A line through (world time, monotonic time), and how far the wall clock is from the world's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    world_base: u64,
    mono_base: u64,
    /// Node nanoseconds per 1,000,000,000 of the world's.
    rate: i128,
    /// Of the wall clock: what jumps and offsets add to the monotonic clock, in nanoseconds.
    wall_shift: i128,
}

impl Clock {
    pub fn new(world_now: u64, mono_base: u64, wall_offset_ms: i64, drift_ppm: i64) -> Self {
        let wall_shift =
            WALL_ORIGIN + i128::from(wall_offset_ms) * 1_000_000 + i128::from(world_now) - i128::from(mono_base);
        Self { world_base: world_now, mono_base, rate: rate(drift_ppm), wall_shift }
    }

    pub fn mono(&self, world: u64) -> Instant {
        let since = i128::from(world.saturating_sub(self.world_base));
        Instant::from_nanos(self.mono_base.saturating_add(clamp(since * self.rate / BILLION)))
    }

    pub fn wall(&self, world: u64) -> WallTime {
        WallTime::from_unix_nanos(clamp(i128::from(self.mono(world).as_nanos()) + self.wall_shift))
    }

    /// The first world time at which the monotonic clock shows `deadline` or more.
    pub fn world_at(&self, deadline: Instant) -> u64 {
        let ahead = i128::from(deadline.as_nanos().saturating_sub(self.mono_base));
        self.world_base.saturating_add(clamp((ahead * BILLION + self.rate - 1) / self.rate))
    }

    /// Moves the wall clock; the monotonic one doesn't notice.
    pub fn jump(&mut self, by_ms: i64) {
        self.wall_shift += i128::from(by_ms) * 1_000_000;
    }

    /// Goes on at another rate from here.
    pub fn drift(&mut self, world_now: u64, ppm: i64) {
        self.mono_base = self.mono(world_now).as_nanos();
        self.world_base = world_now;
        self.rate = rate(ppm);
    }

    /// A new life's monotonic clock begins elsewhere: an instant kept across a restart must not seem to work.
    pub fn restart(&mut self, world_now: u64, mono_base: u64) {
        let before = i128::from(self.mono(world_now).as_nanos());
        self.wall_shift += before - i128::from(mono_base);
        self.mono_base = mono_base;
        self.world_base = world_now;
    }
}

/// A clock may run at a tenth of real speed or ten times faster, never stand still.
fn rate(ppm: i64) -> i128 {
    (BILLION + i128::from(ppm) * 1000).clamp(BILLION / 10, BILLION * 10)
}

fn clamp(nanos: i128) -> u64 {
    u64::try_from(nanos.max(0)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Duration;

    #[test]
    fn a_deadline_is_reached_exactly_when_the_clock_shows_it() {
        for ppm in [-200_000, -37, 0, 1, 450_000] {
            let clock = Clock::new(1_000, 77_777, 0, ppm);
            for ahead in [1, 999, 1_000_000, 987_654_321] {
                let deadline = clock.mono(1_000) + Duration::from_nanos(ahead);
                let at = clock.world_at(deadline);
                assert!(clock.mono(at) >= deadline, "{ppm} ppm, {ahead} ns: too early");
                assert!(clock.mono(at - 1) < deadline, "{ppm} ppm, {ahead} ns: too late");
            }
        }
    }

    #[test]
    fn jumps_and_restarts_leave_the_other_clock_alone() {
        let mut clock = Clock::new(0, 5_000, 0, 0);
        let wall = clock.wall(9_000);
        clock.restart(9_000, 1);
        assert_eq!(clock.wall(9_000), wall);
        let mono = clock.mono(9_000);
        clock.jump(-1_000);
        assert_eq!(clock.mono(9_000), mono);
        assert!(clock.wall(9_000) < wall);
    }
}
