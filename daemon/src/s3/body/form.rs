//! Forms of browsers (`multipart/form-data`): fields that are gathered, then a file that is only passed through.
//!
//! It is fed bytes and waits for nothing. What comes behind the file is not looked at, as S3 says.

use bytes::{Bytes, BytesMut};

use crate::s3::error::{Code, Result, S3Error};

/// Fields, their heads and what is before them, in bytes.
const FIELDS_MAX: usize = 64 << 10;
const FIELD_COUNT_MAX: usize = 256;
const BOUNDARY_MAX: usize = 200;

/// The fields of a form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    /// Names in small letters, and values, in their order.
    pub fields: Vec<(String, String)>,
    /// What the file is called where it comes from.
    pub file_name: String,
    /// What its own head says that it is.
    pub file_type: Option<String>,
}

impl Fields {
    /// The value of a field.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// See the module.
pub struct Form {
    /// What stands between two fields: line end, two hyphens, the boundary.
    delimiter: Vec<u8>,
    held: BytesMut,
    taken: usize,
    fields: Fields,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before a boundary that is followed by a field.
    Before,
    /// Behind a boundary.
    Head,
    /// In the file.
    File,
    /// Behind the file.
    Done,
}

fn malformed(what: &'static str) -> S3Error {
    Code::MalformedPOSTRequest.says(what)
}

impl Form {
    /// Of a request with this content type.
    ///
    /// # Errors
    /// If it names no boundary.
    pub fn new(content_type: &str) -> Result<Self> {
        let mut params = content_type.split(';').skip(1).filter_map(|param| param.trim().split_once('='));
        let boundary =
            params.find(|(name, _)| name.eq_ignore_ascii_case("boundary")).map(|(_, value)| value.trim_matches('"'));
        let boundary = boundary
            .filter(|text| (1..=BOUNDARY_MAX).contains(&text.len()))
            .ok_or_else(|| malformed("The form has no boundary."))?;
        let delimiter = [b"\r\n--", boundary.as_bytes()].concat();
        // The first boundary has no line before it.
        Ok(Self {
            delimiter,
            held: BytesMut::from(&b"\r\n"[..]),
            taken: 0,
            fields: Fields::default(),
            state: State::Before,
        })
    }

    /// Takes more of the fields; true: they are all there, the file begins.
    ///
    /// # Errors
    /// If it is no form.
    pub fn take_fields(&mut self, input: &Bytes) -> Result<bool> {
        self.held.extend_from_slice(input);
        loop {
            match self.state {
                State::Before => {
                    let Some(at) = find(&self.held, &self.delimiter) else { break };
                    self.count(at + self.delimiter.len())?;
                    let _ = self.held.split_to(at + self.delimiter.len());
                    self.state = State::Head;
                }
                State::Head => {
                    if self.held.starts_with(b"--") {
                        return Err(malformed("POST requires exactly one file upload per request."));
                    }
                    let Some(at) = find(&self.held, b"\r\n\r\n") else { break };
                    if !self.take_field(at)? {
                        break;
                    }
                }
                State::File | State::Done => return Ok(true),
            }
        }
        if self.taken + self.held.len() > FIELDS_MAX && self.state != State::File {
            return Err(Code::MaxMessageLengthExceeded
                .says("Your POST request fields preceding the upload file were too large."));
        }
        Ok(self.state == State::File)
    }

    fn count(&mut self, bytes: usize) -> Result<()> {
        self.taken += bytes;
        if self.taken > FIELDS_MAX || self.fields.fields.len() > FIELD_COUNT_MAX {
            return Err(Code::MaxMessageLengthExceeded
                .says("Your POST request fields preceding the upload file were too large."));
        }
        Ok(())
    }

    /// A field whose head ends at `end`; false: its value isn't whole yet.
    fn take_field(&mut self, end: usize) -> Result<bool> {
        let head = std::str::from_utf8(&self.held[..end]).map_err(|_| malformed("The form is not UTF-8."))?;
        let (name, file_name) = names(head)?;
        if name == "file" {
            self.fields.file_name = file_name.unwrap_or_default();
            self.fields.file_type = header(head, "content-type").map(str::to_owned);
            self.count(end)?;
            let _ = self.held.split_to(end + 4);
            // An empty file's delimiter begins with the end of its own head.
            let mut held = BytesMut::with_capacity(self.held.len());
            held.extend_from_slice(&self.held);
            self.held = held;
            self.state = State::File;
            return Ok(true);
        }
        let value = &self.held[end + 4..];
        // A value that is empty is followed by the delimiter at once.
        let Some(length) = find(value, &self.delimiter) else { return Ok(false) };
        let text = std::str::from_utf8(&value[..length]).map_err(|_| malformed("The form is not UTF-8."))?.to_owned();
        self.fields.fields.push((name.to_ascii_lowercase(), text));
        let used = end + 4 + length + self.delimiter.len();
        self.count(used)?;
        let _ = self.held.split_to(used);
        Ok(true)
    }

    /// The fields, once the file begins.
    pub fn fields(&mut self) -> Fields {
        std::mem::take(&mut self.fields)
    }

    /// Takes more of the file and gives what is certainly its own.
    pub fn take_file(&mut self, input: &Bytes) -> Bytes {
        if self.state != State::File {
            return Bytes::new();
        }
        self.held.extend_from_slice(input);
        if let Some(at) = find(&self.held, &self.delimiter) {
            self.state = State::Done;
            return self.held.split_to(at).freeze();
        }
        let safe = self.held.len().saturating_sub(self.delimiter.len() - 1);
        self.held.split_to(safe).freeze()
    }

    /// Whether the file has ended.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }
}

/// Where a text begins; the first of it is rare.
fn find(within: &[u8], wanted: &[u8]) -> Option<usize> {
    let first = *wanted.first()?;
    let mut from = 0;
    while let Some(at) = within[from..].iter().position(|byte| *byte == first) {
        let at = from + at;
        if within.len() - at < wanted.len() {
            return None;
        }
        if within[at..].starts_with(wanted) {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let lines = head.split("\r\n").filter_map(|line| line.split_once(':'));
    lines.into_iter().find(|(known, _)| known.trim().eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// What a field is called, and what its file is.
fn names(head: &str) -> Result<(String, Option<String>)> {
    let disposition =
        header(head, "content-disposition").ok_or_else(|| malformed("A field of the form has no name."))?;
    let param = |wanted: &str| {
        let rest = disposition.split(';').skip(1).filter_map(|param| param.trim().split_once('='));
        rest.into_iter()
            .find(|(name, _)| name.trim().eq_ignore_ascii_case(wanted))
            .map(|(_, value)| value.trim().trim_matches('"').to_owned())
    };
    let name = param("name").ok_or_else(|| malformed("A field of the form has no name."))?;
    Ok((name, param("filename")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORM: &[u8] = b"--XX\r\nContent-Disposition: form-data; name=\"Key\"\r\n\r\na/${filename}\r\n--XX\r\n\
        content-disposition: form-data; name=\"empty\"\r\n\r\n\r\n--XX\r\n\
        Content-Disposition: form-data; name=\"file\"; filename=\"f.txt\"\r\nContent-Type: text/plain\r\n\r\n\
        one\r\n--X two\r\n--XX\r\nContent-Disposition: form-data; name=\"submit\"\r\n\r\nx\r\n--XX--\r\n";

    fn parse(form: &[u8], piece: usize) -> Result<(Fields, Vec<u8>, bool)> {
        let mut parser = Form::new("multipart/form-data; boundary=XX")?;
        let mut pieces = form.chunks(piece).map(Bytes::copy_from_slice);
        while !parser.take_fields(&pieces.next().unwrap_or_default())? {
            if pieces.len() == 0 {
                return Err(malformed("cut"));
            }
        }
        let fields = parser.fields();
        let mut file = parser.take_file(&Bytes::new()).to_vec();
        for piece in pieces {
            file.extend_from_slice(&parser.take_file(&piece));
        }
        Ok((fields, file, parser.is_done()))
    }

    #[test]
    fn fields_and_file_come_out_whole_however_they_are_cut() {
        for piece in 1..FORM.len() {
            let (fields, file, is_done) = parse(FORM, piece).unwrap();
            assert_eq!(fields.get("key"), Some("a/${filename}"));
            assert_eq!(fields.get("empty"), Some(""));
            assert_eq!((fields.file_name.as_str(), fields.file_type.as_deref()), ("f.txt", Some("text/plain")));
            assert_eq!((file.as_slice(), is_done), (&b"one\r\n--X two"[..], true), "pieces of {piece}");
        }
    }

    #[test]
    fn what_is_no_form_is_refused() {
        assert!(Form::new("multipart/form-data").is_err());
        for bad in [&b"--XX--"[..], b"--XX\r\nno name\r\n\r\nx\r\n--XX", b"\xff", b"--XX\r\n\xff\r\n\r\n"] {
            assert!(parse(bad, 3).is_err(), "{}", String::from_utf8_lossy(bad));
        }
        assert!(parse(&[b'a'; 70_000], 1000).is_err());
        let (_, _, is_done) = parse(&FORM[..FORM.len() - 80], 7).unwrap();
        assert!(!is_done, "a file that is cut is not whole");
    }
}
