//! No bytes from outside harm: what reads them doesn't panic, gives no more than it got, and what it keeps reads back.

use bolero::check;
use bytes::Bytes;
use s3s::dto::{
    AccessControlPolicy, BucketLifecycleConfiguration, CORSConfiguration, CompletedMultipartUpload, Delete, Tagging,
    WebsiteConfiguration,
};

use super::access::acl::Acl;
use super::access::policy::{Policy, like};
use super::auth::{Claim, Scope};
use super::body::{Decoder, Form};
use super::date;
use super::head::Head;
use super::object::Range;
use super::uri::{Query, Slash, decode, encode};
use super::xml::read;

/// Cuts bytes into pieces of a length that the first of them says.
fn pieces(bytes: &[u8]) -> impl Iterator<Item = Bytes> + '_ {
    let length = bytes.first().map_or(1, |first| usize::from(*first) + 1);
    bytes.get(1..).unwrap_or_default().chunks(length).map(Bytes::copy_from_slice)
}

#[test]
fn framings_give_no_more_than_they_got() {
    check!().for_each(|bytes| {
        let mut decoder = Decoder::new(None, true, 100);
        let mut given = 0;
        for mut piece in pieces(bytes) {
            while let Ok(Some(data)) = decoder.take(&mut piece) {
                given += data.len();
            }
        }
        assert!(given <= bytes.len().min(100));
        let _ = decoder.finish();
    });
}

#[test]
fn forms_give_no_more_than_they_got() {
    check!().for_each(|bytes| {
        let mut form = Form::new("multipart/form-data; boundary=-").expect("a boundary");
        let (mut given, mut is_file) = (0, false);
        for piece in pieces(bytes) {
            if is_file {
                given += form.take_file(&piece).len();
                continue;
            }
            match form.take_fields(&piece) {
                Ok(begins) => is_file = begins,
                Err(_) => return,
            }
        }
        assert!(given <= bytes.len());
    });
}

#[test]
fn heads_of_every_kind_are_read_or_refused() {
    check!().for_each(|bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        // A letter may lie across the middle.
        let Some((uri, value)) = text.split_at_checked(text.len() / 2) else { return };
        let request = hyper::Request::builder()
            .uri(format!("/{uri}"))
            .header("authorization", format!("AWS4-HMAC-SHA256 {value}"))
            .header("host", value);
        let Ok(request) = request.body(()) else { return };
        if let Ok(head) = Head::read(request.into_parts().0, &["a".to_owned()]) {
            let _ = Claim::of(&head);
            if let Ok(op) = super::op::Op::of(&head) {
                let _ = super::headers::check(&head, op);
            }
        }
    });
}

#[test]
fn small_texts_are_read_or_refused() {
    check!().for_each(|bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        let _ = (date::read_compact(text), date::read_http(text), date::read_iso(text), Scope::read(text));
        if let Some(range) = Range::read(text)
            && let Ok(span) = range.of(1000, text)
        {
            assert!(span.start < span.end && span.end <= 1000);
        }
        if let Some(acl) = Acl::read(text) {
            assert_eq!(Acl::read(&acl.text()), Some(acl));
        }
        if let Ok(query) = Query::parse(text) {
            let again = Query::parse(&query.canonical("")).expect("what was encoded is read");
            assert_eq!(again.canonical(""), query.canonical(""));
        }
        assert_eq!(decode(&encode(text, Slash::Encoded)).expect("what was encoded is read"), text);
        assert!(like(&text.replace('?', "*"), text));
    });
}

#[test]
fn documents_are_read_or_refused() {
    check!().for_each(|bytes| {
        let _ = (read::<Delete>(bytes), read::<Tagging>(bytes), read::<CompletedMultipartUpload>(bytes));
        let _ = (read::<AccessControlPolicy>(bytes), read::<CORSConfiguration>(bytes));
        let _ = (read::<BucketLifecycleConfiguration>(bytes), read::<WebsiteConfiguration>(bytes));
        if let Ok(text) = std::str::from_utf8(bytes)
            && let Ok(policy) = Policy::read(text)
        {
            let _ = (policy.is_public(), policy.check_bucket("bucket"));
        }
    });
}
