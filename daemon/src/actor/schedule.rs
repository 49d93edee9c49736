//! Schedules: when an actor wakes up by itself.

use cairn_io::rng;
use cairn_io::time::{self, Duration, Instant};

/// When an actor is [`due`](super::Wake::Due).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// Never by itself.
    OnDemand,
    /// Once at the start, then a period after it was last due.
    Every(Duration),
    /// First and then after a period, each up to a tenth longer, so that actors of many nodes don't march in step.
    Around(Duration),
    /// Every day so long after midnight UTC, by the wall clock.
    Daily(Duration),
}

const DAY: Duration = Duration::from_hours(24);

impl Schedule {
    /// When an actor that starts now is due first; `None` for never.
    pub(super) fn first(self) -> Option<Instant> {
        match self {
            Self::Every(_) => Some(time::now()),
            later => later.next(),
        }
    }

    /// When an actor that is due now is due again.
    pub(super) fn next(self) -> Option<Instant> {
        let wait = match self {
            Self::OnDemand => return None,
            Self::Every(period) => period,
            Self::Around(period) => period + longer(period / 10),
            Self::Daily(after_midnight) => until_time_of_day(time::wall().as_unix_nanos(), after_midnight),
        };
        Some(time::now() + wait)
    }
}

/// A random part of `most`.
fn longer(most: Duration) -> Duration {
    let nanos = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(rng::with(|rng| rng.below(nanos)))
}

/// From a point on the wall clock to the next time it is `after_midnight`; a whole day if it is that now.
fn until_time_of_day(unix_nanos: u64, after_midnight: Duration) -> Duration {
    let today = Duration::from_nanos(unix_nanos % DAY.as_nanos() as u64);
    let due = Duration::from_nanos((after_midnight.as_nanos() % DAY.as_nanos()) as u64);
    due.checked_sub(today).filter(|wait| !wait.is_zero()).unwrap_or_else(|| (DAY + due).saturating_sub(today))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daily_time_is_today_or_tomorrow() {
        let hours = |hours| Duration::from_hours(hours);
        let at = |hour: u64| hours(hour + 24 * 20_000).as_nanos() as u64;
        assert_eq!(until_time_of_day(at(1), hours(3)), hours(2));
        assert_eq!(until_time_of_day(at(3), hours(3)), hours(24));
        assert_eq!(until_time_of_day(at(4), hours(3)), hours(23));
        assert_eq!(until_time_of_day(at(4), hours(27)), hours(23));
    }
}
