//! Copies of objects.

use crate::node::serve;

#[test]
fn copies_say_what_their_source_said_or_what_they_are_told() {
    serve(|node| async move {
        let (ann, bob) = (node.ann(), node.bob());
        ann.bucket("bucket").await;
        ann.send(
            "PUT",
            "/bucket/a%20b",
            &[("content-type", "text/plain"), ("x-amz-meta-m", "1"), ("x-amz-tagging", "t=1")],
            "text",
        )
        .await
        .is(200);
        let copy = |target: &'static str, headers: Vec<(&'static str, &'static str)>| {
            let ann = ann.clone();
            async move {
                ann.send("PUT", target, &[&[("x-amz-copy-source", "/bucket/a%20b")][..], &headers].concat(), "").await
            }
        };
        let done = copy("/bucket/same", vec![]).await.is(200);
        assert!(done.element("ETag").is_some() && done.element("LastModified").is_some());
        let same = ann.get("/bucket/same").await.is(200);
        assert_eq!(
            (
                same.text().as_str(),
                same.header("content-type"),
                same.header("x-amz-meta-m"),
                same.header("x-amz-tagging-count")
            ),
            ("text", Some("text/plain"), Some("1"), Some("1"))
        );
        copy(
            "/bucket/other",
            vec![
                ("x-amz-metadata-directive", "REPLACE"),
                ("x-amz-meta-n", "2"),
                ("x-amz-tagging-directive", "REPLACE"),
            ],
        )
        .await
        .is(200);
        let other = ann.get("/bucket/other").await.is(200);
        assert_eq!(
            (other.header("x-amz-meta-m"), other.header("x-amz-meta-n"), other.header("x-amz-tagging-count")),
            (None, Some("2"), None)
        );
        copy("/bucket/a%20b", vec![]).await.fails(400, "InvalidRequest");
        copy("/bucket/a%20b", vec![("x-amz-metadata-directive", "REPLACE"), ("x-amz-meta-m", "9")]).await.is(200);
        copy("/bucket/x", vec![("x-amz-metadata-directive", "SWAP")]).await.fails(400, "InvalidArgument");
        copy("/bucket/x", vec![("x-amz-copy-source-if-none-match", "*")]).await.fails(412, "PreconditionFailed");
        copy("/bucket/x", vec![("x-amz-copy-source-if-match", "\"0\"")]).await.fails(412, "PreconditionFailed");
        ann.send("PUT", "/bucket/x", &[("x-amz-copy-source", "nothing")], "").await.fails(400, "InvalidArgument");
        ann.send("PUT", "/bucket/x", &[("x-amz-copy-source", "/bucket/gone")], "").await.fails(404, "NoSuchKey");
        ann.send("PUT", "/bucket/x", &[("x-amz-copy-source", "/nobucket/gone")], "").await.fails(404, "NoSuchBucket");
        bob.bucket("of-bob").await;
        bob.send("PUT", "/of-bob/x", &[("x-amz-copy-source", "/bucket/same")], "").await.fails(403, "AccessDenied");
        assert_eq!(ann.get("/bucket/x").await.status, 404);
    });
}

#[test]
fn a_version_is_copied_by_its_name() {
    serve(|node| async move {
        let ann = node.ann();
        ann.bucket("bucket").await;
        ann.put("/bucket?versioning", "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>")
            .await
            .is(200);
        let one = ann.put("/bucket/k", "one").await.is(200).header("x-amz-version-id").expect("a version").to_owned();
        ann.put("/bucket/k", "two").await.is(200);
        let source = format!("/bucket/k?versionId={one}");
        let back = ann.send("PUT", "/bucket/k", &[("x-amz-copy-source", &source)], "").await.is(200);
        assert_eq!(back.header("x-amz-copy-source-version-id"), Some(one.as_str()));
        assert_eq!(ann.get("/bucket/k").await.text(), "one");
    });
}
