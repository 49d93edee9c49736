//! Signatures: in headers, in queries, of chunks and trailers; and all that makes one not hold.

use crate::client::{Client, Signed, bare, hex, hmac, now, raw, sha256};
use crate::node::{Node, serve};

const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const DAY: u64 = 24 * 3600 * 1000;

/// Sends what was signed, perhaps with something changed.
async fn sent(
    client: &Client,
    method: &str,
    target: &str,
    change: impl Fn(&mut Vec<(String, String)>),
    at: u64,
) -> crate::client::Reply {
    let (mut headers, _) = client.sign(method, target, &[], &sha256(b""), at);
    change(&mut headers);
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    bare(client.at, method, target, &headers, "").await
}

fn replace(name: &'static str, from: &'static str, to: &'static str) -> impl Fn(&mut Vec<(String, String)>) {
    move |headers| {
        let (_, value) = headers.iter_mut().find(|(known, _)| known == name).expect("the header");
        assert!(value.contains(from), "{value}");
        *value = value.replace(from, to);
    }
}

#[test]
fn a_signature_that_does_not_hold_is_refused() {
    serve(|node| async move {
        let ann = node.ann();
        ann.bucket("bucket").await;
        ann.put("/bucket/k", "text").await.is(200);
        let get = "/bucket/k";
        sent(&ann, "GET", get, |_| {}, now()).await.is(200);
        sent(&ann, "GET", get, |_| {}, now() - 16 * 60 * 1000).await.fails(403, "RequestTimeTooSkewed");
        sent(&ann, "GET", get, |_| {}, now() + 16 * 60 * 1000).await.fails(403, "RequestTimeTooSkewed");
        sent(&ann, "GET", get, |_| {}, now() - 14 * 60 * 1000).await.is(200);
        sent(&ann, "GET", get, replace("authorization", "us-east-1", "mars"), now())
            .await
            .fails(400, "AuthorizationHeaderMalformed");
        sent(&ann, "GET", get, replace("authorization", "/s3/", "/ec2/"), now())
            .await
            .fails(400, "AuthorizationHeaderMalformed");
        sent(&ann, "GET", get, replace("authorization", "KEY-ann", "KEY-eve"), now())
            .await
            .fails(403, "InvalidAccessKeyId");
        sent(&ann, "GET", get, replace("authorization", "KEY-ann", "KEY-bob"), now())
            .await
            .fails(403, "SignatureDoesNotMatch");
        sent(&ann, "GET", get, replace("authorization", "Signature=", "Signature=0"), now())
            .await
            .fails(403, "SignatureDoesNotMatch");
        sent(&ann, "GET", get, replace("authorization", "host;", ""), now()).await.fails(403, "AccessDenied");
        let add = |headers: &mut Vec<(String, String)>| headers.push(("x-amz-meta-a".to_owned(), "b".to_owned()));
        sent(&ann, "GET", get, add, now()).await.fails(403, "AccessDenied");
        let wrong = Client { secret: "another".to_owned(), ..ann.clone() };
        wrong.get(get).await.fails(403, "SignatureDoesNotMatch");
        bare(node.at, "GET", get, &[], "").await.fails(403, "AccessDenied");
        bare(node.at, "GET", get, &[("authorization", "")], "").await.fails(403, "AccessDenied");
        bare(node.at, "GET", get, &[("authorization", "AWS KEY-ann:xyz")], "").await.fails(403, "AccessDenied");
        let text = wrong.get(get).await.text();
        assert!(!text.contains("secret of") && !text.contains("another"), "{text}");
        let (headers, _) = ann.sign("PUT", get, &[], &sha256(b"meant"), now());
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        bare(node.at, "PUT", get, &headers, "other").await.fails(400, "XAmzContentSHA256Mismatch");
        assert_eq!(ann.get(get).await.text(), "text");
    });
}

#[test]
fn presigned_urls_hold_as_long_as_they_say() {
    serve(|node| async move {
        let ann = node.ann();
        ann.bucket("bucket").await;
        ann.put("/bucket/k", "text").await.is(200);
        let get = |expires, at| {
            let target = ann.presign("GET", "/bucket/k", expires, at);
            async move { bare(node.at, "GET", &target, &[], "").await }
        };
        assert_eq!(get(60, now()).await.is(200).text(), "text");
        get(60, now() - 61_000).await.fails(403, "AccessDenied");
        get(6 * 24 * 3600, now() - 5 * DAY).await.is(200);
        get(8 * 24 * 3600, now()).await.fails(400, "AuthorizationQueryParametersError");
        get(60, now() + 20 * 60 * 1000).await.fails(403, "AccessDenied");
        let put = ann.presign("PUT", "/bucket/new", 60, now());
        bare(node.at, "PUT", &put, &[], "by a link").await.is(200);
        bare(node.at, "GET", &put, &[], "").await.fails(403, "SignatureDoesNotMatch");
        assert_eq!(ann.get("/bucket/new").await.text(), "by a link");
        let changed = ann.presign("GET", "/bucket/k", 60, now()).replace("Expires=60", "Expires=600");
        bare(node.at, "GET", &changed, &[], "").await.fails(403, "SignatureDoesNotMatch");
        let cut = ann.presign("GET", "/bucket/k", 60, now()).replace("X-Amz-SignedHeaders=host&", "");
        bare(node.at, "GET", &cut, &[], "").await.fails(400, "AuthorizationQueryParametersError");
    });
}

/// A body in signed chunks.
fn chunks(signed: &Signed, pieces: &[&[u8]], trailer: Option<&str>) -> Vec<u8> {
    let head = format!("{}\n{}", signed.stamp, signed.scope);
    let mut previous = signed.signature.clone();
    let mut body = Vec::new();
    for piece in pieces.iter().chain([&&b""[..]]) {
        let text = format!("AWS4-HMAC-SHA256-PAYLOAD\n{head}\n{previous}\n{EMPTY}\n{}", sha256(piece));
        previous = hex(hmac(&signed.key, &text));
        body.extend(format!("{:x};chunk-signature={previous}\r\n", piece.len()).bytes());
        body.extend_from_slice(piece);
        if !piece.is_empty() {
            body.extend(b"\r\n");
        }
    }
    if let Some(trailer) = trailer {
        let text =
            format!("AWS4-HMAC-SHA256-TRAILER\n{head}\n{previous}\n{}", sha256(format!("{trailer}\n").as_bytes()));
        body.extend(format!("{trailer}\r\nx-amz-trailer-signature:{}\r\n", hex(hmac(&signed.key, &text))).bytes());
    }
    body.extend(b"\r\n");
    body
}

async fn put_chunks(node: &Node, trailer: Option<&str>, change: impl Fn(&mut Vec<u8>)) -> crate::client::Reply {
    let ann = node.ann();
    let pieces: [&[u8]; 2] = [&[b'a'; 70_000], b"the end"];
    let kind = if trailer.is_some() {
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
    } else {
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
    };
    let mut extra = vec![("x-amz-decoded-content-length", "70007"), ("content-encoding", "aws-chunked")];
    extra.extend(trailer.map(|_| ("x-amz-trailer", "x-amz-checksum-crc32")));
    let (headers, signed) = ann.sign("PUT", "/bucket/k", &extra, kind, now());
    let mut body = chunks(&signed, &pieces, trailer);
    change(&mut body);
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    bare(node.at, "PUT", "/bucket/k", &headers, body).await
}

#[test]
fn signed_chunks_are_taken_and_changed_ones_are_not() {
    serve(|node| async move {
        let ann = node.ann();
        ann.bucket("bucket").await;
        put_chunks(&node, None, |_| {}).await.is(200);
        let got = ann.get("/bucket/k").await.is(200);
        assert_eq!((got.body.len(), got.header("content-encoding")), (70_007, None));
        put_chunks(&node, None, |body| body[5000] = b'b').await.fails(403, "SignatureDoesNotMatch");
        put_chunks(&node, None, |body| body.truncate(80_000)).await.is(200);
        put_chunks(&node, None, |body| body.truncate(70_100)).await.fails(400, "IncompleteBody");
        let sum = "x-amz-checksum-crc32:AAAAAA==";
        put_chunks(&node, Some(sum), |_| {}).await.fails(400, "BadDigest");
        let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, &[&[b'a'; 70_000][..], b"the end"].concat());
        let right =
            format!("x-amz-checksum-crc32:{}", base64_simd::STANDARD.encode_to_string((crc as u32).to_be_bytes()));
        put_chunks(&node, Some(&right), |_| {}).await.is(200);
        let spoil = |body: &mut Vec<u8>| {
            let at = body.len() - 10;
            body[at] = if body[at] == b'0' { b'1' } else { b'0' };
        };
        put_chunks(&node, Some(&right), spoil).await.fails(403, "SignatureDoesNotMatch");
    });
}

#[test]
fn unsigned_chunks_with_a_trailer_are_taken() {
    serve(|node| async move {
        let ann = node.ann();
        ann.bucket("bucket").await;
        let put = |body: &'static str| {
            let ann = ann.clone();
            async move {
                let extra = [("x-amz-decoded-content-length", "9"), ("x-amz-trailer", "x-amz-checksum-crc32")];
                let (headers, _) = ann.sign("PUT", "/bucket/k", &extra, "STREAMING-UNSIGNED-PAYLOAD-TRAILER", now());
                let headers: Vec<(&str, &str)> =
                    headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
                bare(ann.at, "PUT", "/bucket/k", &headers, body).await
            }
        };
        put("9\r\n123456789\r\n0\r\nx-amz-checksum-crc32:y/Q5Jg==\r\n\r\n").await.is(200);
        assert_eq!(ann.get("/bucket/k").await.text(), "123456789");
        put("9\r\n12345678x\r\n0\r\nx-amz-checksum-crc32:y/Q5Jg==\r\n\r\n").await.fails(400, "BadDigest");
        put("9\r\n123456789\r\n0\r\n\r\n").await.fails(400, "MalformedTrailerError");
        put("8\r\n12345678\r\n0\r\nx-amz-checksum-crc32:y/Q5Jg==\r\n\r\n").await.fails(400, "IncompleteBody");
        put("nonsense").await.fails(400, "IncompleteBody");
        assert_eq!(ann.get("/bucket/k").await.text(), "123456789", "what failed changed nothing");
    });
}

#[test]
fn bodies_without_a_length_are_taken_and_cut_ones_are_not() {
    serve(|node| async move {
        let ann = node.ann();
        ann.bucket("bucket").await;
        let put = |rest: &'static str| {
            let target = ann.presign("PUT", "/bucket/k", 60, now());
            let request = format!("PUT {target} HTTP/1.1\r\nhost: {}\r\n{rest}", node.at);
            async move { raw(node.at, request.as_bytes()).await }
        };
        let answer = put("transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert_eq!(ann.get("/bucket/k").await.is(200).text(), "hello world");
        let answer = put("transfer-encoding: chunked\r\n\r\n5\r\nhel").await;
        assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert_eq!(ann.get("/bucket/k").await.is(200).text(), "hello world");
    });
}

/// Base64 of the keyed hash that version 2 signs with.
fn old_signature(secret: &str, text: &str) -> String {
    let mut mac = <hmac::Hmac<sha1::Sha1> as hmac::KeyInit>::new_from_slice(secret.as_bytes()).expect("a key");
    hmac::Mac::update(&mut mac, text.as_bytes());
    base64_simd::STANDARD.encode_to_string(hmac::Mac::finalize(mac).into_bytes())
}

#[test]
fn version_2_is_taken_where_it_says_enough() {
    serve(|node| async move {
        let ann = node.ann();
        ann.bucket("bucket").await;
        let date = "Sat, 03 Jan 2015 00:00:00 GMT";
        let today = ann.get("/").await.is(200).header("date").expect("a date").to_owned();
        // Signed as it is said here, and sent with whatever comes behind.
        let sent =
            |method: &'static str, signed: &'static str, more: &'static str, date: String, body: &'static str| {
                let secret = ann.secret.clone();
                async move {
                    let text = format!("{method}\n\ntext/plain\n\nx-amz-date:{date}\nx-amz-meta-a:b\n{signed}");
                    let claim = format!("AWS KEY-ann:{}", old_signature(&secret, &text));
                    let headers = [
                        ("authorization", claim.as_str()),
                        ("content-type", "text/plain"),
                        ("x-amz-date", date.as_str()),
                        ("x-amz-meta-a", "b"),
                    ];
                    bare(node.at, method, &format!("{signed}{more}"), &headers, body).await
                }
            };
        sent("PUT", "/bucket/a%20k", "", today.clone(), "text").await.is(200);
        assert_eq!(ann.get("/bucket/a%20k").await.is(200).header("x-amz-meta-a"), Some("b"));
        assert_eq!(sent("GET", "/bucket", "?prefix=a", today.clone(), "").await.is(200).elements("Key"), ["a k"]);
        // A bucket is signed with a slash and sent without, by some.
        let bucket = |signed: &str| {
            let text = format!("GET\n\n\n{today}\n{signed}");
            let claim = format!("AWS KEY-ann:{}", old_signature(&ann.secret, &text));
            let today = today.clone();
            async move { bare(node.at, "GET", "/bucket", &[("authorization", &claim), ("date", &today)], "").await }
        };
        bucket("/bucket").await.is(200);
        let mail = today.replace("GMT", "+0000");
        let text = format!("GET\n\n\n{mail}\n/bucket");
        let claim = format!("AWS KEY-ann:{}", old_signature(&ann.secret, &text));
        bare(node.at, "GET", "/bucket", &[("authorization", &claim), ("date", &mail)], "").await.is(200);
        bucket("/bucket/").await.is(200);
        bucket("/bucket/a").await.fails(403, "SignatureDoesNotMatch");
        sent("PUT", "/bucket/a%20k", "", date.to_owned(), "x").await.fails(403, "RequestTimeTooSkewed");
        sent("GET", "/bucket", "?acl", today.clone(), "").await.fails(403, "SignatureDoesNotMatch");
        sent("PUT", "/bucket/a%20k", "?retention", today.clone(), "x").await.fails(400, "InvalidRequest");
        let odd = |claim: &'static str| {
            let today = today.clone();
            async move { bare(node.at, "GET", "/bucket", &[("authorization", claim), ("date", &today)], "").await }
        };
        odd("AWS HAHAHA").await.fails(400, "InvalidArgument");
        odd("AWS KEY-eve:AAAAAAAAAAAAAAAAAAAAAAAAAAA=").await.fails(403, "InvalidAccessKeyId");
        odd("AWS KEY-ann:").await.fails(403, "SignatureDoesNotMatch");
        let undated = bare(node.at, "GET", "/bucket", &[("authorization", "AWS KEY-ann:x")], "").await;
        undated.fails(403, "AccessDenied");
        let link = |expires: u64| {
            let signature = old_signature(&ann.secret, &format!("GET\n\n\n{expires}\n/bucket/a%20k"));
            let signature = signature.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
            format!("/bucket/a%20k?AWSAccessKeyId=KEY-ann&Expires={expires}&Signature={signature}")
        };
        let soon = now() / 1000 + 60;
        assert_eq!(bare(node.at, "GET", &link(soon), &[], "").await.is(200).text(), "text");
        bare(node.at, "DELETE", &link(soon), &[], "").await.fails(403, "SignatureDoesNotMatch");
        bare(node.at, "GET", &link(soon - 120), &[], "").await.fails(403, "AccessDenied");
        let stretched = link(soon).replace(&soon.to_string(), &(soon + 1).to_string());
        bare(node.at, "GET", &stretched, &[], "").await.fails(403, "SignatureDoesNotMatch");
        // A policy may insist on the newer way.
        let policy = r#"{"Statement":[{"Effect":"Deny","Principal":"*","Action":"*","Resource":"*","Condition":{"StringEquals":{"s3:signatureversion":"AWS"}}}]}"#;
        ann.put("/bucket?policy", policy).await.is(204);
        bare(node.at, "GET", &link(soon), &[], "").await.fails(403, "AccessDenied");
        ann.get("/bucket/a%20k").await.is(200);
    });
}
