//! Times as S3 writes and reads them. Inside, all times are milliseconds since the Unix epoch.

use std::borrow::Cow;

use cairn_io::time::WallTime;
use s3s::dto::{Timestamp, TimestampFormat};
use time::{Date, Month, OffsetDateTime};

const MILLI: u64 = 1_000_000;

fn wall(millis: u64) -> WallTime {
    WallTime::from_unix_nanos(millis.saturating_mul(MILLI))
}

/// As `2009-10-12T17:50:30.000Z`, up to the year 9999, which is the last one that S3 can write.
pub fn iso(millis: u64) -> String {
    let nanos = i128::from(millis) * i128::from(MILLI);
    let at = OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(time::PrimitiveDateTime::MAX.assume_utc());
    let (year, month, day) = at.to_calendar_date();
    let (hour, minute, second, milli) = at.to_hms_milli();
    format!("{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z", u8::from(month))
}

/// As `Sun, 06 Nov 1994 08:49:37 GMT`.
pub fn http(millis: u64) -> String {
    crate::http::http_date(wall(millis))
}

/// As `20130524T000000Z`.
pub fn compact(millis: u64) -> String {
    iso(millis).chars().filter(|char| !matches!(char, '-' | ':')).take(15).chain(['Z']).collect()
}

/// Reads a date of HTTP, also with the zone as mail has it; `None` if it is none.
pub fn read_http(text: &str) -> Option<u64> {
    let text = text.trim();
    let of_mail = ["+0000", "-0000"].iter().find_map(|zone| text.strip_suffix(zone));
    let text = of_mail.map_or(Cow::Borrowed(text), |rest| Cow::Owned([rest, "GMT"].concat()));
    let read = Timestamp::parse(TimestampFormat::HttpDate, &text).ok()?;
    millis_of(read)
}

/// Reads a date as `2009-10-12T17:50:30Z` or with an offset; `None` if it is none.
pub fn read_iso(text: &str) -> Option<u64> {
    if text.trim().as_bytes().get(10) != Some(&b'T') {
        return None;
    }
    let read = Timestamp::parse(TimestampFormat::DateTime, text.trim()).ok()?;
    millis_of(read)
}

/// Reads `20130524T000000Z`; `None` if it isn't that.
pub fn read_compact(text: &str) -> Option<u64> {
    let bytes = text.as_bytes();
    let is_shaped = bytes.len() == 16 && bytes[8] == b'T' && bytes[15] == b'Z' && text.is_ascii();
    if !is_shaped {
        return None;
    }
    let two = |at: usize| {
        let digits = &bytes[at..at + 2];
        digits.iter().all(u8::is_ascii_digit).then(|| (digits[0] - b'0') * 10 + digits[1] - b'0')
    };
    let year = i32::from(two(0)?) * 100 + i32::from(two(2)?);
    let date = Date::from_calendar_date(year, Month::try_from(two(4)?).ok()?, two(6)?).ok()?;
    let at = date.with_hms(two(9)?, two(11)?, two(13)?).ok()?.assume_utc();
    Some(u64::try_from(at.unix_timestamp()).ok()? * 1000)
}

/// Milliseconds of a time that s3s has read; `None` before 1970.
pub fn millis_of(time: Timestamp) -> Option<u64> {
    let nanos = OffsetDateTime::from(time).unix_timestamp_nanos();
    u64::try_from(nanos / i128::from(MILLI)).ok()
}

#[test]
fn times_read_back() {
    let millis = 1_369_353_600_000;
    assert_eq!(compact(millis), "20130524T000000Z");
    assert_eq!(read_compact("20130524T000000Z"), Some(millis));
    assert_eq!(http(millis), "Fri, 24 May 2013 00:00:00 GMT");
    assert_eq!(read_http("Fri, 24 May 2013 00:00:00 GMT"), Some(millis));
    assert_eq!(iso(millis), "2013-05-24T00:00:00.000Z");
    assert_eq!(read_iso("2013-05-24T02:00:00+02:00"), Some(millis));
    // Locks are for long.
    for far in ["2554-07-21T23:34:34.000Z", "2999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999Z"] {
        assert_eq!(read_iso(far).map(iso).as_deref(), Some(far));
    }
    assert_eq!(iso(u64::MAX), "9999-12-31T23:59:59.999Z");
    for bad in ["", "20130524T000000", "20131324T000000Z", "2013-5-24T00:00:00", "2013052\u{e9}T00000Z"] {
        assert_eq!(read_compact(bad), None, "{bad}");
    }
}

#[test]
fn dates_come_with_zones_as_http_and_mail_have_them() {
    let found = Some(784_111_777_000);
    for zone in ["GMT", "+0000", "-0000"] {
        assert_eq!(read_http(&format!(" Sun, 06 Nov 1994 08:49:37 {zone}")), found, "{zone}");
    }
    for bad in ["", "+0000", "Sun, 06 Nov 1994 08:49:37", "Sun, 06 Nov 1994 08:49:37 +0100", "Sun, 06 Nov 1994 +0000"] {
        assert_eq!(read_http(bad), None, "{bad}");
    }
}
