//! XML: written by hand, as answers are flat and many; read with s3s's types, which know S3's schema.

use std::fmt::Write;

use s3s::xml::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::{Code, Result};

/// S3's namespace.
pub const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

/// A document being written.
#[derive(Debug)]
pub struct Xml(String);

impl Xml {
    /// An empty document.
    pub fn document() -> Self {
        Self("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".to_owned())
    }

    /// A document whose outermost element is begun, in S3's namespace.
    pub fn root(name: &str) -> Self {
        let mut xml = Self::document();
        xml.0.reserve(512);
        xml.0.extend(["<", name, " xmlns=\"", NAMESPACE, "\">"]);
        xml
    }

    /// Begins an element.
    pub fn open(&mut self, name: &str) -> &mut Self {
        self.0.extend(["<", name, ">"]);
        self
    }

    /// Ends an element.
    pub fn close(&mut self, name: &str) -> &mut Self {
        self.0.extend(["</", name, ">"]);
        self
    }

    /// An element that has a text.
    pub fn text(&mut self, name: &str, text: &str) -> &mut Self {
        self.open(name);
        escape(&mut self.0, text);
        self.close(name)
    }

    /// An element that has a text, if there is one.
    pub fn maybe(&mut self, name: &str, text: Option<&str>) -> &mut Self {
        match text {
            Some(text) => self.text(name, text),
            None => self,
        }
    }

    /// An element that has something whose text needs no escapes: a number, a truth.
    pub fn plain(&mut self, name: &str, value: impl std::fmt::Display) -> &mut Self {
        self.open(name);
        // Writing into a string never fails.
        let _ = write!(self.0, "{value}");
        self.close(name)
    }

    /// Text as it is: XML already.
    pub fn raw(&mut self, text: &str) -> &mut Self {
        self.0.push_str(text);
        self
    }

    /// Ends the outermost element.
    pub fn end(mut self, name: &str) -> String {
        self.close(name);
        self.0
    }

    /// The document.
    pub fn finish(self) -> String {
        self.0
    }
}

fn escape(into: &mut String, text: &str) {
    let mut rest = text;
    while let Some(at) = rest.find(|char: char| matches!(char, '<' | '>' | '&' | '"') || (char as u32) < 0x20) {
        let (clean, tail) = rest.split_at(at);
        into.push_str(clean);
        match tail.as_bytes()[0] {
            b'<' => into.push_str("&lt;"),
            b'>' => into.push_str("&gt;"),
            b'&' => into.push_str("&amp;"),
            b'"' => into.push_str("&quot;"),
            // XML 1.0 has no word for most of these; clients that list such keys ask for encoding-type=url.
            control => {
                // Writing into a string never fails.
                let _ = write!(into, "&#x{control:X};");
            }
        }
        rest = &tail[1..];
    }
    into.push_str(rest);
}

/// Reads a document.
///
/// # Errors
/// `MalformedXML`.
pub fn read<T: for<'xml> Deserialize<'xml>>(bytes: &[u8]) -> Result<T> {
    // The reader would skip sections of literal text, and so read something else than was written.
    let has_literals = bytes.windows(9).any(|window| window == b"<![CDATA[");
    if has_literals || std::str::from_utf8(bytes).is_err() {
        return Err(Code::MalformedXML.into());
    }
    let mut reader = Deserializer::new(bytes);
    let value = T::deserialize(&mut reader).map_err(|_| Code::MalformedXML)?;
    reader.expect_eof().map_err(|_| Code::MalformedXML)?;
    Ok(value)
}

/// Writes a document as it will be answered.
pub fn write<T: Serialize>(value: &T) -> String {
    let mut bytes = b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".to_vec();
    // Writing into memory never fails.
    let _ = value.serialize(&mut Serializer::new(&mut bytes));
    String::from_utf8(bytes).unwrap_or_default()
}

#[test]
fn text_is_escaped() {
    let mut xml = Xml::root("A");
    xml.text("K", "a<b>&\"c\"\u{1}ü").plain("N", 7).maybe("M", None);
    assert_eq!(
        xml.end("A"),
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<A xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
         <K>a&lt;b&gt;&amp;&quot;c&quot;&#x1;ü</K><N>7</N></A>"
    );
}

#[test]
fn what_the_reader_would_skip_is_malformed() {
    let read = |text: &str| read::<s3s::dto::Tagging>(text.as_bytes());
    let tagging =
        |key: &str| format!("<Tagging><TagSet><Tag><Key>{key}</Key><Value>v</Value></Tag></TagSet></Tagging>");
    assert!(read(&tagging("k")).is_ok());
    for bad in [&tagging("<![CDATA[k]]>"), "", "<Tagging>", "<Other/>", &format!("{}x<a>", tagging("k"))] {
        assert!(read(bad).is_err(), "{bad}");
    }
}
