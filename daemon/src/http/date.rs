//! Dates as HTTP writes them.

use cairn_io::time::WallTime;

const DAYS: [&str; 7] = ["Thu, ", "Fri, ", "Sat, ", "Sun, ", "Mon, ", "Tue, ", "Wed, "];
const MONTHS: [&str; 12] =
    [" Jan ", " Feb ", " Mar ", " Apr ", " May ", " Jun ", " Jul ", " Aug ", " Sep ", " Oct ", " Nov ", " Dec "];

/// As `Sun, 06 Nov 1994 08:49:37 GMT`.
pub fn http_date(at: WallTime) -> String {
    let seconds = at.as_unix_nanos() / 1_000_000_000;
    let (year, month, day) = at.date();
    let mut text = String::with_capacity(29);
    let mut two = |before: &str, number: u64| {
        text.push_str(before);
        text.extend([number / 10, number % 10].map(|digit| char::from(b'0' + digit as u8)));
    };
    // 1970 began on a Thursday.
    two(DAYS[(seconds / 86_400 % 7) as usize], day);
    two(MONTHS[(month - 1) as usize], year / 100 % 100);
    two("", year % 100);
    two(" ", seconds / 3600 % 24);
    two(":", seconds / 60 % 60);
    two(":", seconds % 60);
    text.push_str(" GMT");
    text
}

#[test]
fn dates_are_as_http_has_them() {
    let date = |seconds: u64| http_date(WallTime::from_unix_nanos(seconds * 1_000_000_000));
    assert_eq!(date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
    assert_eq!(date(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
    assert_eq!(date(1_709_164_799), "Wed, 28 Feb 2024 23:59:59 GMT");
}
