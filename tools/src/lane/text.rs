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
    cairn_io::time::WallTime::from_unix_nanos(nanos).to_string()
}
