//! Objects: stored, read whole and in part, listed, deleted.

use cairn_io::time::{Duration, sleep};

use crate::client::{Reply, bare, now, raw, sha256};
use crate::node::serve;

fn content(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&length.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn keys(reply: &Reply) -> Vec<String> {
    reply.elements("Key")
}

#[test]
fn objects_of_every_size_come_back_as_they_were() {
    serve(|node| async move {
        let ann = node.ann();
        ann.bucket("bucket").await;
        for length in [0, 1, 4096, 4097, 65_536, 65_537, 1 << 20, (4 << 20) - 1, 4 << 20, (4 << 20) + 1, 9_500_000] {
            let bytes = content(length);
            let put = ann.put("/bucket/a%20key", bytes.clone()).await.is(200);
            let got = ann.get("/bucket/a%20key").await.is(200);
            assert!(got.body == bytes, "{length} bytes");
            assert_eq!(got.header("etag"), put.header("etag"));
            assert_eq!(got.header("content-length"), Some(length.to_string().as_str()));
            assert_eq!(got.header("content-type"), Some("binary/octet-stream"));
            let head = ann.send("HEAD", "/bucket/a%20key", &[], "").await.is(200);
            assert_eq!((head.header("content-length"), head.body.len()), (Some(length.to_string().as_str()), 0));
            for (from, to) in
                [(0, 0), (length / 2, length.saturating_sub(1)), (4096, 5000), ((4 << 20) - 3, (4 << 20) + 3)]
            {
                let range = format!("bytes={from}-{to}");
                let part = ann.send("GET", "/bucket/a%20key", &[("range", &range)], "").await;
                if from >= length {
                    part.fails(416, "InvalidRange");
                    continue;
                }
                let end = length.min(to + 1);
                let part = part.is(206);
                assert!(part.body == bytes[from..end], "{length} bytes, {range}");
                assert_eq!(part.header("content-range"), Some(format!("bytes {from}-{}/{length}", end - 1).as_str()));
            }
        }
    });
}

#[test]
fn what_is_said_about_an_object_is_said_again() {
    serve(|node| async move {
        let ann = node.ann();
        ann.bucket("bucket").await;
        let said = [
            ("cache-control", "no-cache"),
            ("content-disposition", "attachment"),
            ("content-encoding", "gzip"),
            ("content-language", "de"),
            ("content-type", "text/plain"),
            ("expires", "not a date at all"),
            ("x-amz-meta-color", "blue"),
            ("x-amz-meta-snow", "\u{2603}"),
            ("x-amz-tagging", "a=1&b=2%20c"),
        ];
        ann.send("PUT", "/bucket/k", &said, "text").await.is(200);
        let got = ann.get("/bucket/k").await.is(200);
        for (name, value) in said {
            if name != "x-amz-tagging" {
                assert_eq!(got.headers[name].as_bytes(), value.as_bytes(), "{name}");
            }
        }
        assert_eq!(got.header("x-amz-tagging-count"), Some("2"));
        let tags = ann.get("/bucket/k?tagging").await.is(200);
        assert_eq!(
            (tags.elements("Key"), tags.elements("Value")),
            (vec!["a".to_owned(), "b".to_owned()], vec!["1".to_owned(), "2 c".to_owned()])
        );
        for name in [
            "x-cairn-version-id",
            "x-cairn-state",
            "x-cairn-read",
            "x-amz-request-id",
            "last-modified",
            "accept-ranges",
        ] {
            assert!(got.header(name).is_some(), "{name}");
        }
        let other = ann.get("/bucket/k?response-content-type=a%2Fb&response-cache-control=x").await.is(200);
        assert_eq!((other.header("content-type"), other.header("cache-control")), (Some("a/b"), Some("x")));
        ann.delete("/bucket/k?tagging").await.is(204);
        assert_eq!(ann.get("/bucket/k?tagging").await.is(200).elements("Key").len(), 0);
    });
}

#[test]
fn conditions_decide_reads_and_writes() {
    serve(|node| async move {
        let ann = node.ann();
        ann.bucket("bucket").await;
        let etag = ann.put("/bucket/k", "one").await.is(200).header("etag").expect("an etag").to_owned();
        let with = |method: &'static str, name: &'static str, value: String| {
            let ann = ann.clone();
            async move { ann.send(method, "/bucket/k", &[(name, &value)], "two").await.status.as_u16() }
        };
        let other = "\"00000000000000000000000000000000\"".to_owned();
        let (past, future) = ("Thu, 01 Jan 1998 00:00:00 GMT".to_owned(), "Fri, 01 Jan 2100 00:00:00 GMT".to_owned());
        assert_eq!(with("GET", "if-match", etag.clone()).await, 200);
        assert_eq!(with("GET", "if-match", other.clone()).await, 412);
        assert_eq!(with("GET", "if-none-match", etag.clone()).await, 304);
        assert_eq!(with("GET", "if-none-match", format!("{other}, {etag}")).await, 304);
        assert_eq!(with("GET", "if-none-match", other.clone()).await, 200);
        assert_eq!(with("GET", "if-modified-since", past.clone()).await, 200);
        assert_eq!(with("GET", "if-modified-since", future.clone()).await, 304);
        assert_eq!(with("GET", "if-unmodified-since", past).await, 412);
        assert_eq!(with("HEAD", "if-unmodified-since", future).await, 200);
        assert_eq!(with("PUT", "if-none-match", "*".to_owned()).await, 412);
        assert_eq!(with("PUT", "if-match", other.clone()).await, 412);
        assert_eq!(with("PUT", "if-match", etag.clone()).await, 200);
        assert_eq!(with("PUT", "if-match", etag.clone()).await, 412, "it is another now");
        assert_eq!(ann.send("PUT", "/bucket/new", &[("if-match", &etag)], "").await.status, 404);
        assert_eq!(ann.send("PUT", "/bucket/new", &[("if-none-match", "*")], "").await.status, 200);
        assert_eq!(with("DELETE", "if-match", etag).await, 412);
        assert_eq!(ann.get("/bucket/k").await.text(), "two");
    });
}

#[test]
fn deletions_take_what_they_mean_and_nothing_is_gone_already() {
    serve(|node| async move {
        let ann = node.ann();
        ann.bucket("bucket").await;
        let put = ann.put("/bucket/k", "four").await.is(200);
        let etag = put.header("etag").expect("an etag").to_owned();
        let modified = ann.get("/bucket/k").await.is(200).header("last-modified").expect("a date").to_owned();
        let long_ago = "Thu, 01 Jan 1998 00:00:00 GMT";
        let cases = [
            ("if-match", "\"0\"", etag.as_str()),
            ("if-match", "\"0\"", "*"),
            ("x-amz-if-match-size", "5", "4"),
            ("x-amz-if-match-last-modified-time", long_ago, &modified),
        ];
        for (name, wrong, right) in cases {
            ann.put("/bucket/k", "four").await.is(200);
            ann.send("DELETE", "/bucket/k", &[(name, wrong)], "").await.fails(412, "PreconditionFailed");
            // The object was put again, perhaps a second later.
            let now = ann.get("/bucket/k").await.is(200).header("last-modified").expect("a date").to_owned();
            let right = if right == modified { now.as_str() } else { right };
            ann.send("DELETE", "/bucket/k", &[(name, right)], "").await.is(204);
            ann.get("/bucket/k").await.fails(404, "NoSuchKey");
            for value in [wrong, right] {
                ann.send("DELETE", "/bucket/k", &[(name, value)], "").await.is(204);
            }
        }
        ann.put("/bucket/k", "four").await.is(200);
        let object = |key: &str| format!("<Object><Key>{key}</Key><ETag>0</ETag></Object>");
        let many = format!("<Delete>{}{}</Delete>", object("k"), object("gone"));
        let done = ann.send("POST", "/bucket?delete", &[], many).await.is(200);
        assert_eq!((done.elements("Code"), done.elements("Key").len()), (vec!["PreconditionFailed".to_owned()], 2));
    });
}

#[test]
fn who_waits_to_send_nothing_finds_the_connection_closed() {
    serve(|node| async move {
        let ann = node.ann();
        ann.bucket("bucket").await;
        let put = |headers: &'static str, body: &'static str| {
            let target = ann.presign("PUT", "/bucket/k", 60, now());
            async move {
                let request = format!("PUT {target} HTTP/1.1\r\nhost: {}\r\n{headers}\r\n{body}", node.at);
                raw(node.at, request.as_bytes()).await
            }
        };
        let closes = |answer: &str| answer.to_lowercase().contains("connection: close");
        let empty = put("expect: 100-continue\r\ncontent-length: 0\r\n", "").await;
        assert!(empty.starts_with("HTTP/1.1 200") && closes(&empty), "{empty}");
        let usual = put("content-length: 0\r\n", "").await;
        assert!(usual.starts_with("HTTP/1.1 200") && !closes(&usual), "{usual}");
        let full = put("expect: 100-continue\r\ncontent-length: 4\r\n", "text").await;
        assert!(full.starts_with("HTTP/1.1 100") && !closes(&full), "{full}");
        assert_eq!(ann.get("/bucket/k").await.is(200).text(), "text");
    });
}

#[test]
fn an_object_lives_as_long_as_it_was_told() {
    serve(|node| async move {
        let ann = node.ann();
        ann.bucket("bucket").await;
        let short = [("x-cairn-ttl", "1")];
        ann.send("PUT", "/bucket/short", &short, "soon gone").await.is(200);
        ann.send("PUT", "/bucket/long", &[("x-cairn-ttl", "86400")], "here").await.is(200);
        let upload = ann.send("POST", "/bucket/parts?uploads", &short, "").await.is(200);
        let upload = upload.element("UploadId").expect("an upload");
        let part = ann.put(&format!("/bucket/parts?partNumber=1&uploadId={upload}"), "of parts").await.is(200);
        let tag = part.header("etag").expect("a tag");
        let list = format!(
            "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{tag}</ETag></Part></CompleteMultipartUpload>"
        );
        ann.send("POST", &format!("/bucket/parts?uploadId={upload}"), &[], list).await.is(200);
        let copied = [("x-amz-copy-source", "/bucket/long")];
        ann.send("PUT", "/bucket/kept", &copied, "").await.is(200);
        ann.send("PUT", "/bucket/copy", &[copied[0], short[0]], "").await.is(200);
        for key in ["short", "parts", "copy"] {
            for _ in 0..200 {
                let got = ann.get(&format!("/bucket/{key}")).await;
                if got.status == 404 {
                    break;
                }
                assert!(got.header("x-cairn-expires").is_some(), "{key}");
                sleep(Duration::from_millis(25)).await;
            }
            ann.get(&format!("/bucket/{key}")).await.fails(404, "NoSuchKey");
        }
        // What isn't there can be made anew, for good.
        ann.send("PUT", "/bucket/short", &[("if-none-match", "*")], "again").await.is(200);
        for (key, expires) in [("short", false), ("long", true), ("kept", false)] {
            let head = ann.send("HEAD", &format!("/bucket/{key}"), &[], "").await.is(200);
            assert_eq!(head.header("x-cairn-expires").is_some(), expires, "{key}");
        }
        for wrong in ["0", "-1", "1.5", "an hour", "", "3153600001", "99999999999999999999"] {
            ann.send("PUT", "/bucket/k", &[("x-cairn-ttl", wrong)], "x").await.fails(400, "InvalidArgument");
        }
        for method in ["GET", "DELETE"] {
            ann.send(method, "/bucket/long", &short, "").await.fails(400, "InvalidArgument");
        }
        ann.get("/bucket/long").await.is(200);
    });
}

#[test]
fn tags_come_in_the_order_of_their_keys() {
    serve(|node| async move {
        let ann = node.ann();
        ann.bucket("bucket").await;
        ann.send("PUT", "/bucket/k", &[("x-amz-tagging", "c=1&a&b=2")], "x").await.is(200);
        assert_eq!(ann.get("/bucket/k?tagging").await.is(200).elements("Key"), ["a", "b", "c"]);
    });
}

#[test]
fn of_many_that_create_one_key_one_does() {
    serve(|node| async move {
        let ann = node.ann();
        ann.bucket("bucket").await;
        let put = |number: u32| {
            let ann = ann.clone();
            async move { ann.send("PUT", "/bucket/k", &[("if-none-match", "*")], number.to_string()).await.status.as_u16() }
        };
        let statuses = futures_util::future::join_all((0..16).map(put)).await;
        assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
        assert!(statuses.iter().all(|status| matches!(status, 200 | 412)), "{statuses:?}");
    });
}

#[test]
fn checksums_are_verified_kept_and_told() {
    serve(|node| async move {
        let ann = node.ann();
        ann.bucket("bucket").await;
        // Of "123456789", as the algorithms' own papers have them.
        let sums = [
            ("x-amz-checksum-crc32", "y/Q5Jg=="),
            ("x-amz-checksum-crc32c", "4waSgw=="),
            ("x-amz-checksum-crc64nvme", "rosUhgp5mIg="),
            ("x-amz-checksum-sha1", "98O8HYCOBHMq32eZZczDTKeuNEE="),
            ("x-amz-checksum-sha256", "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU="),
        ];
        for (name, value) in sums {
            let put = ann.send("PUT", "/bucket/k", &[(name, value)], "123456789").await.is(200);
            assert_eq!(put.header(name), Some(value));
            let head = ann.send("HEAD", "/bucket/k", &[("x-amz-checksum-mode", "ENABLED")], "").await.is(200);
            assert_eq!((head.header(name), head.header("x-amz-checksum-type")), (Some(value), Some("FULL_OBJECT")));
            ann.send("PUT", "/bucket/k", &[(name, value)], "12345678x").await.fails(400, "BadDigest");
            ann.send("PUT", "/bucket/k", &[(name, "bad")], "123456789").await.fails(400, "InvalidRequest");
            assert_eq!(ann.get("/bucket/k").await.text(), "123456789", "what failed changed nothing");
        }
        ann.send("PUT", "/bucket/k", &[("content-md5", "JfnnlDI7RThYgPEYH2JNCw==")], "x").await.fails(400, "BadDigest");
        ann.send("PUT", "/bucket/k", &[("content-md5", "xyz")], "x").await.fails(400, "InvalidDigest");
        ann.send("PUT", "/bucket/k", &sums[..2], "123456789").await.fails(400, "InvalidRequest");
    });
}

#[test]
fn lists_are_paged_and_rolled_up() {
    serve(|node| async move {
        let ann = node.ann();
        ann.bucket("bucket").await;
        for key in ["a/1", "a/2", "b", "c/x/1", "c/y", "d%20e", "z"] {
            ann.put(&format!("/bucket/{key}"), key.to_owned()).await.is(200);
        }
        let all = ann.get("/bucket?list-type=2").await.is(200);
        assert_eq!(keys(&all), ["a/1", "a/2", "b", "c/x/1", "c/y", "d e", "z"]);
        assert_eq!(all.element("IsTruncated").as_deref(), Some("false"));
        let rolled = ann.get("/bucket?delimiter=%2F").await.is(200);
        assert_eq!(keys(&rolled), ["b", "d e", "z"]);
        assert_eq!(rolled.elements("Prefix"), ["", "a/", "c/"]);
        let within = ann.get("/bucket?list-type=2&prefix=c%2F&delimiter=%2F&encoding-type=url").await.is(200);
        assert_eq!(
            (keys(&within), within.elements("Prefix")),
            (vec!["c/y".to_owned()], vec!["c/".to_owned(), "c/x/".to_owned()])
        );
        for (first, next) in [("list-type=2", "continuation-token"), ("list-type=1&delimiter=%2F", "marker")] {
            let (mut found, mut from) = (0, String::new());
            for page in 0.. {
                assert!(page < 10, "it ends");
                let reply = ann.get(&format!("/bucket?{first}&max-keys=2{from}")).await.is(200);
                found += keys(&reply).len() + reply.elements("CommonPrefixes").len();
                if reply.element("IsTruncated").as_deref() == Some("false") {
                    break;
                }
                let token = reply
                    .element("NextContinuationToken")
                    .or_else(|| reply.element("NextMarker"))
                    .expect("where it goes on");
                from = format!(
                    "&{next}={}",
                    token.replace('/', "%2F").replace('=', "%3D").replace('+', "%2B").replace(' ', "%20")
                );
            }
            assert_eq!(found, if first == "list-type=2" { 7 } else { 5 }, "{first}");
        }
        assert_eq!(keys(&ann.get("/bucket?list-type=2&start-after=c%2Fx").await), ["c/x/1", "c/y", "d e", "z"]);
        assert_eq!(keys(&ann.get("/bucket?max-keys=0").await.is(200)).len(), 0);
        ann.get("/bucket?max-keys=x").await.fails(400, "InvalidArgument");
    });
}

#[test]
fn deletions_of_many_say_what_became_of_each() {
    serve(|node| async move {
        let ann = node.ann();
        ann.bucket("bucket").await;
        for key in ["a", "b", "c"] {
            ann.put(&format!("/bucket/{key}"), "x").await.is(200);
        }
        let list = "<Delete><Object><Key>a</Key></Object><Object><Key>nothing</Key></Object><Object><Key>b</Key><VersionId>strange</VersionId></Object></Delete>";
        let reply = ann.send("POST", "/bucket?delete", &[], list).await.is(200);
        assert_eq!(reply.text().matches("<Deleted>").count(), 2, "{}", reply.text());
        assert_eq!(reply.elements("Code"), ["InvalidArgument"]);
        let quiet = "<Delete><Quiet>true</Quiet><Object><Key>b</Key></Object></Delete>";
        assert!(!ann.send("POST", "/bucket?delete", &[], quiet).await.is(200).text().contains("<Deleted>"));
        assert_eq!(keys(&ann.get("/bucket").await), ["c"]);
        ann.send("POST", "/bucket?delete", &[("content-md5", "JfnnlDI7RThYgPEYH2JNCw==")], quiet)
            .await
            .fails(400, "BadDigest");
        ann.send("POST", "/bucket?delete", &[], "<Delete></Delete>").await.fails(400, "MalformedXML");
        ann.delete("/bucket").await.fails(409, "BucketNotEmpty");
        ann.delete("/bucket/c").await.is(204);
        ann.delete("/bucket/c").await.is(204);
        ann.delete("/bucket").await.is(204);
        ann.get("/bucket").await.fails(404, "NoSuchBucket");
    });
}

#[test]
fn buckets_are_named_by_hosts_and_by_paths() {
    serve(|node| async move {
        let ann = node.ann();
        ann.bucket("bucket").await;
        ann.send("PUT", "/a/b", &[("host", "bucket.s3.test")], "x").await.is(200);
        assert_eq!(ann.get("/bucket/a/b").await.is(200).text(), "x");
        let (headers, _) = ann.sign("GET", "/a/b", &[("host", "bucket.s3.test:9000")], &sha256(b""), now());
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(bare(node.at, "GET", "/a/b", &headers, "").await.is(200).text(), "x");
        assert_eq!(ann.get("/").await.is(200).elements("Name"), ["bucket"]);
        assert_eq!(node.bob().get("/").await.is(200).elements("Name").len(), 0);
    });
}
