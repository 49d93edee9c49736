//! Numbers as people read them.

/// Bytes in hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A number of bytes with a unit, as people write it.
///
/// # Errors
/// If it is none.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let number: u64 = digits.parse().map_err(|_| "give a number and a unit, such as 512MiB".to_owned())?;
    let unit = match text[digits.len()..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        other => return Err(format!("{other:?} is no unit; take KiB, MiB, GiB or TiB")),
    };
    number.checked_mul(unit).ok_or_else(|| "that is more than there can be".to_owned())
}

/// Nanoseconds since the Unix epoch as a date and time in UTC, to the millisecond.
pub fn time(nanos: u64) -> String {
    let millis = nanos / 1_000_000;
    let (days, rest) = (millis / 86_400_000, millis % 86_400_000);
    let (year, month, day) = date(days);
    let (hours, minutes, seconds) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{:03}Z", rest % 1000)
}

/// The date of a day counted from 1970-01-01, in the Gregorian calendar: years are taken to begin in March, so that a leap
/// day is a year's last.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[test]
fn dates_are_right() {
    assert_eq!(time(0), "1970-01-01T00:00:00.000Z");
    assert_eq!(time(951_782_400_000_000_000), "2000-02-29T00:00:00.000Z");
    assert_eq!(time(1_577_836_799_999_000_000), "2019-12-31T23:59:59.999Z");
    assert_eq!(time(4_107_542_400_000_000_000), "2100-03-01T00:00:00.000Z");
}
