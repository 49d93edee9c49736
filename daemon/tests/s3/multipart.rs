//! Uploads in parts.

use crate::client::{Client, Reply};
use crate::node::serve;

const MIB: usize = 1 << 20;

fn content(seed: u8, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

async fn begin(client: &Client, headers: &[(&str, &str)]) -> String {
    let begun = client.send("POST", "/bucket/k?uploads", headers, "").await.is(200);
    begun.element("UploadId").expect("an id")
}

async fn part(client: &Client, upload: &str, number: u32, bytes: Vec<u8>) -> String {
    let put = client.put(&format!("/bucket/k?partNumber={number}&uploadId={upload}"), bytes).await.is(200);
    put.header("etag").expect("an etag").to_owned()
}

async fn complete(client: &Client, upload: &str, parts: &[(u32, &str)], headers: &[(&str, &str)]) -> Reply {
    let list: String = parts
        .iter()
        .map(|(number, etag)| format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"))
        .collect();
    let document = format!("<CompleteMultipartUpload>{list}</CompleteMultipartUpload>");
    client.send("POST", &format!("/bucket/k?uploadId={upload}"), headers, document).await
}

#[test]
fn parts_in_any_order_and_again_make_one_object() {
    serve(|node| async move {
        let ann = node.ann();
        ann.bucket("bucket").await;
        let upload = begin(&ann, &[("content-type", "text/plain"), ("x-amz-meta-a", "b")]).await;
        let (one, three, last) = (content(1, 5 * MIB), content(3, 5 * MIB + 7), content(9, 100));
        let etag_last = part(&ann, &upload, 9, last.clone()).await;
        let etag_three = part(&ann, &upload, 3, three.clone()).await;
        part(&ann, &upload, 1, content(2, 20)).await;
        let etag_one = part(&ann, &upload, 1, one.clone()).await;
        part(&ann, &upload, 5, content(5, 30)).await;
        let listed = ann.get(&format!("/bucket/k?uploadId={upload}")).await.is(200);
        assert_eq!(listed.elements("PartNumber"), ["1", "3", "5", "9"]);
        let page = ann.get(&format!("/bucket/k?uploadId={upload}&max-parts=1&part-number-marker=1")).await.is(200);
        assert_eq!(
            (page.elements("PartNumber"), page.element("IsTruncated").as_deref()),
            (vec!["3".to_owned()], Some("true"))
        );
        assert_eq!(ann.get("/bucket?uploads").await.is(200).elements("UploadId"), std::slice::from_ref(&upload));
        ann.get("/bucket/k").await.fails(404, "NoSuchKey");
        let parts = [(1, etag_one.as_str()), (3, etag_three.as_str()), (9, etag_last.as_str())];
        complete(&ann, &upload, &[(3, &etag_three), (1, &etag_one)], &[]).await.fails(400, "InvalidPartOrder");
        complete(&ann, &upload, &[(1, &etag_three)], &[]).await.fails(400, "InvalidPart");
        complete(&ann, &upload, &[(9, &etag_last), (10, &etag_last)], &[]).await.fails(400, "InvalidPart");
        complete(&ann, &upload, &[], &[]).await.fails(400, "MalformedXML");
        let done = complete(&ann, &upload, &parts, &[]).await.is(200);
        let etag = done.element("ETag").expect("an etag");
        assert!(etag.ends_with("-3&quot;"), "{etag}");
        assert_eq!(
            complete(&ann, &upload, &parts, &[]).await.is(200).element("ETag"),
            Some(etag),
            "the same again is answered the same"
        );
        let got = ann.get("/bucket/k").await.is(200);
        assert!(got.body == [&one[..], &three, &last].concat());
        assert_eq!((got.header("content-type"), got.header("x-amz-meta-a")), (Some("text/plain"), Some("b")));
        let range = format!("bytes={}-{}", 5 * MIB - 2, 5 * MIB + 1);
        let across = ann.send("GET", "/bucket/k", &[("range", &range)], "").await.is(206);
        assert!(across.body == [&one[5 * MIB - 2..], &three[..2]].concat());
        let second = ann.get("/bucket/k?partNumber=3").await.is(206);
        assert!(second.body == three);
        assert_eq!(second.header("x-amz-mp-parts-count"), Some("3"));
        ann.get("/bucket/k?partNumber=2").await.fails(416, "InvalidPartNumber");
        assert_eq!(ann.get("/bucket?uploads").await.is(200).elements("UploadId").len(), 0);
        let told = ann
            .send("GET", "/bucket/k?attributes", &[("x-amz-object-attributes", "ObjectParts,ObjectSize")], "")
            .await
            .is(200);
        assert_eq!(told.element("PartsCount").as_deref(), Some("3"));
    });
}

#[test]
fn an_upload_is_completed_or_aborted_never_both() {
    serve(|node| async move {
        let ann = node.ann();
        ann.bucket("bucket").await;
        for _ in 0..8 {
            let upload = begin(&ann, &[]).await;
            let etag = part(&ann, &upload, 1, content(1, 10)).await;
            let target = format!("/bucket/k?uploadId={upload}");
            let parts = [(1, etag.as_str())];
            let (done, aborted) =
                futures_util::future::join(complete(&ann, &upload, &parts, &[]), ann.delete(&target)).await;
            let there = ann.get("/bucket/k").await.status.as_u16();
            match (done.status.as_u16(), aborted.status.as_u16()) {
                (200, 404) => assert_eq!(there, 200),
                (404, 204) => assert_eq!(there, 404),
                both => panic!("{both:?}"),
            }
            ann.put(&format!("/bucket/k?partNumber=1&uploadId={upload}"), "late").await.fails(404, "NoSuchUpload");
            ann.delete("/bucket/k").await.is(204);
        }
    });
}

#[test]
fn short_parts_wrong_numbers_and_strange_ids_are_refused() {
    serve(|node| async move {
        let ann = node.ann();
        ann.bucket("bucket").await;
        let upload = begin(&ann, &[]).await;
        let (one, two) = (part(&ann, &upload, 1, content(1, 10)).await, part(&ann, &upload, 2, content(2, 10)).await);
        complete(&ann, &upload, &[(1, &one), (2, &two)], &[]).await.fails(400, "EntityTooSmall");
        for number in ["0", "10001", "x", "-1", "99999999999999999999999"] {
            ann.put(&format!("/bucket/k?partNumber={number}&uploadId={upload}"), "x")
                .await
                .fails(400, "InvalidArgument");
        }
        ann.put("/bucket/k?partNumber=1&uploadId=nonsense", "x").await.fails(404, "NoSuchUpload");
        ann.get("/bucket/k?uploadId=nonsense").await.fails(404, "NoSuchUpload");
        ann.delete("/bucket/k?uploadId=nonsense").await.fails(404, "NoSuchUpload");
        ann.put("/bucket/k", "there").await.is(200);
        ann.delete("/bucket").await.fails(409, "BucketNotEmpty");
        complete(&ann, &upload, &[(1, &one)], &[("if-none-match", "*")]).await.fails(412, "PreconditionFailed");
        ann.delete("/bucket/k").await.is(204);
        // The upload ends with the bucket.
        ann.delete("/bucket").await.is(204);
    });
}

/// The CRC32C of an object of parts.
fn of_parts(kind: &str, parts: &[&[u8]]) -> String {
    let crc = |bytes: &[u8]| (crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32).to_be_bytes();
    let base64 = |bytes: [u8; 4]| base64_simd::STANDARD.encode_to_string(bytes);
    if kind == "FULL_OBJECT" {
        return base64(crc(&parts.concat()));
    }
    let all: Vec<u8> = parts.iter().flat_map(|part| crc(part)).collect();
    format!("{}-{}", base64(crc(&all)), parts.len())
}

#[test]
fn checksums_of_parts_make_that_of_the_whole() {
    serve(|node| async move {
        let ann = node.ann();
        ann.bucket("bucket").await;
        for kind in ["FULL_OBJECT", "COMPOSITE"] {
            let upload = begin(&ann, &[("x-amz-checksum-algorithm", "CRC32C"), ("x-amz-checksum-type", kind)]).await;
            let one = part(&ann, &upload, 1, content(1, 5 * MIB)).await;
            let two = part(&ann, &upload, 2, content(2, 77)).await;
            let parts = [(1, one.as_str()), (2, two.as_str())];
            complete(&ann, &upload, &parts, &[("x-amz-checksum-crc32c", "AAAAAA==")]).await.fails(400, "BadDigest");
            complete(&ann, &upload, &parts, &[("x-amz-mp-object-size", "5")]).await.fails(400, "InvalidRequest");
            complete(&ann, &upload, &parts, &[("x-amz-checksum-sha1", "AAAA")]).await.fails(400, "InvalidRequest");
            let other = if kind == "COMPOSITE" { "FULL_OBJECT" } else { "COMPOSITE" };
            complete(&ann, &upload, &parts, &[("x-amz-checksum-type", other)]).await.fails(400, "InvalidRequest");
            // What the request states is the checksum of the object, not that of the list.
            let stated = of_parts(kind, &[&content(1, 5 * MIB), &content(2, 77)]);
            let stating = [("x-amz-checksum-crc32c", stated.as_str()), ("x-amz-checksum-type", kind)];
            let done = complete(&ann, &upload, &parts, &stating).await.is(200);
            let sum = done.element("ChecksumCRC32C").expect("a checksum");
            assert_eq!(sum, stated);
            let head = ann.send("HEAD", "/bucket/k", &[("x-amz-checksum-mode", "ENABLED")], "").await.is(200);
            assert_eq!(
                (head.header("x-amz-checksum-crc32c"), head.header("x-amz-checksum-type")),
                (Some(sum.as_str()), Some(kind))
            );
            for (number, bytes) in [(1, content(1, 5 * MIB)), (2, content(2, 77))] {
                let target = format!("/bucket/k?partNumber={number}");
                let got = ann.send("GET", &target, &[("x-amz-checksum-mode", "ENABLED")], "").await.is(206);
                let own = of_parts("FULL_OBJECT", &[&bytes]);
                assert_eq!(
                    (got.header("x-amz-checksum-crc32c"), got.header("x-amz-checksum-type")),
                    (Some(own.as_str()), Some(kind)),
                    "of the part that is sent"
                );
            }
        }
        let unfit = [("x-amz-checksum-algorithm", "SHA256"), ("x-amz-checksum-type", "FULL_OBJECT")];
        ann.send("POST", "/bucket/k?uploads", &unfit, "").await.fails(400, "InvalidRequest");
    });
}

#[test]
fn parts_are_copied() {
    serve(|node| async move {
        let ann = node.ann();
        ann.bucket("bucket").await;
        let source = content(1, 9 * MIB);
        ann.put("/bucket/source", source.clone()).await.is(200);
        ann.put("/bucket/small", "small").await.is(200);
        let upload = begin(&ann, &[]).await;
        let copy = |number: u32, from: &'static str, range: Option<String>| {
            let (ann, target) = (ann.clone(), format!("/bucket/k?partNumber={number}&uploadId={upload}"));
            async move {
                let mut headers = vec![("x-amz-copy-source", from)];
                headers.extend(range.as_deref().map(|range| ("x-amz-copy-source-range", range)));
                ann.send("PUT", &target, &headers, "").await
            }
        };
        let range = format!("bytes=3-{}", 6 * MIB + 4);
        let one = copy(1, "/bucket/source", Some(range)).await.is(200).element("ETag").expect("an etag");
        let two = copy(2, "/bucket/source", None).await.is(200).element("ETag").expect("an etag");
        let three = copy(3, "/bucket/small", None).await.is(200).element("ETag").expect("an etag");
        copy(4, "/bucket/small", Some("bytes=0-5".to_owned())).await.fails(416, "InvalidRange");
        copy(4, "/bucket/small", Some("bytes=x".to_owned())).await.fails(400, "InvalidArgument");
        copy(4, "/bucket/nothing", None).await.fails(404, "NoSuchKey");
        complete(&ann, &upload, &[(1, &one), (2, &two), (3, &three)], &[]).await.is(200);
        let got = ann.get("/bucket/k").await.is(200);
        assert!(got.body == [&source[3..=6 * MIB + 4], &source, b"small"].concat());
        // An object made of parts is copied and lists their chunks itself.
        ann.send("PUT", "/bucket/again", &[("x-amz-copy-source", "bucket/k")], "").await.is(200);
        ann.delete("/bucket/k").await.is(204);
        assert!(ann.get("/bucket/again").await.is(200).body == got.body);
    });
}
