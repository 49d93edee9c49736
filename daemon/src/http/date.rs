//! Dates as HTTP writes them.

use cairn_io::time::WallTime;

const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// As `Sun, 06 Nov 1994 08:49:37 GMT`.
pub fn http_date(at: WallTime) -> String {
    // As `1994-11-06T08:49:37.000Z`.
    let text = at.to_string();
    let (date, clock) = text.split_once('T').unwrap_or((&text, ""));
    let mut parts = date.split('-');
    let (year, month, day) = (parts.next(), parts.next(), parts.next());
    let month: usize = month.and_then(|month| month.parse().ok()).unwrap_or(1);
    // 1970 began on a Thursday.
    let weekday = at.as_unix_nanos() / 86_400_000_000_000 % 7;
    format!(
        "{}, {} {} {} {} GMT",
        DAYS[weekday as usize],
        day.unwrap_or_default(),
        MONTHS[(month - 1) % 12],
        year.unwrap_or_default(),
        clock.get(..8).unwrap_or_default()
    )
}

#[test]
fn dates_are_as_http_has_them() {
    let date = |seconds: u64| http_date(WallTime::from_unix_nanos(seconds * 1_000_000_000));
    assert_eq!(date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
    assert_eq!(date(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
    assert_eq!(date(1_709_164_799), "Wed, 28 Feb 2024 23:59:59 GMT");
}
