//! Versioning: names of versions, delete markers, suspension; and what Cairn adds to it.

use std::collections::BTreeSet;

use crate::client::Client;
use crate::node::serve;

async fn versioning(client: &Client, status: &str) {
    let document = format!("<VersioningConfiguration><Status>{status}</Status></VersioningConfiguration>");
    client.put("/bucket?versioning", document).await.is(200);
}

async fn put(client: &Client, body: &str) -> String {
    put_at(client, "/bucket/k", body).await
}

async fn put_at(client: &Client, target: &str, body: &str) -> String {
    let reply = client.put(target, body.to_owned()).await.is(200);
    reply.header("x-amz-version-id").expect("a version").to_owned()
}

#[test]
fn versions_are_named_listed_and_erased() {
    serve(|node| async move {
        let ann = node.ann();
        ann.bucket("bucket").await;
        assert_eq!(ann.get("/bucket?versioning").await.is(200).element("Status"), None);
        assert!(ann.put("/bucket/k", "before").await.is(200).header("x-amz-version-id").is_none());
        versioning(&ann, "Enabled").await;
        let (one, two) = (put(&ann, "one").await, put(&ann, "two").await);
        assert_eq!(ann.get(&format!("/bucket/k?versionId={one}")).await.is(200).text(), "one");
        assert_eq!(ann.get("/bucket/k?versionId=null").await.is(200).text(), "before");
        assert_eq!(ann.get("/bucket/k").await.is(200).header("x-amz-version-id"), Some(two.as_str()));
        let marker = ann.delete("/bucket/k").await.is(204);
        assert_eq!(marker.header("x-amz-delete-marker"), Some("true"));
        let marker = marker.header("x-amz-version-id").expect("a version").to_owned();
        let gone = ann.get("/bucket/k").await.fails(404, "NoSuchKey");
        assert_eq!(gone.header("x-amz-delete-marker"), Some("true"));
        ann.get(&format!("/bucket/k?versionId={marker}")).await.fails(405, "MethodNotAllowed");
        assert_eq!(ann.get("/bucket").await.elements("Key").len(), 0);
        let list = ann.get("/bucket?versions").await.is(200);
        assert_eq!(list.elements("VersionId"), [marker.clone(), two.clone(), one.clone(), "null".to_owned()]);
        assert_eq!(list.elements("IsLatest"), ["true", "false", "false", "false"]);
        let page = ann.get("/bucket?versions&max-keys=2").await.is(200);
        let from = format!(
            "key-marker=k&version-id-marker={}",
            page.element("NextVersionIdMarker").expect("where it goes on")
        );
        let rest = ann.get(&format!("/bucket?versions&{from}")).await.is(200);
        assert_eq!(rest.elements("VersionId"), [one.clone(), "null".to_owned()]);
        ann.delete(&format!("/bucket/k?versionId={marker}")).await.is(204);
        assert_eq!(ann.get("/bucket/k").await.is(200).text(), "two");
        ann.delete(&format!("/bucket/k?versionId={two}")).await.is(204);
        assert_eq!(ann.get("/bucket/k").await.is(200).text(), "one");
        ann.get("/bucket/k?versionId=nonsense").await.fails(400, "InvalidArgument");
        ann.get(&format!("/bucket/k?versionId={two}")).await.fails(404, "NoSuchVersion");
        ann.delete(&format!("/bucket/k?versionId={two}")).await.is(204);
    });
}

#[test]
fn a_list_goes_on_behind_what_was_deleted_meanwhile() {
    serve(|node| async move {
        let ann = node.ann();
        ann.bucket("bucket").await;
        for key in ["a", "b", "c", "d", "e"] {
            ann.put(&format!("/bucket/{key}"), key).await.is(200);
        }
        // As clients empty a bucket: each page is deleted before the next is asked for.
        let (mut from, mut seen) = (String::new(), Vec::new());
        loop {
            let page = ann.get(&format!("/bucket?versions&max-keys=2{from}")).await.is(200);
            for key in page.elements("Key") {
                ann.delete(&format!("/bucket/{key}?versionId=null")).await.is(204);
                seen.push(key);
            }
            let next = page.element("NextKeyMarker").zip(page.element("NextVersionIdMarker"));
            let Some((key, version)) = next else { break };
            from = format!("&key-marker={key}&version-id-marker={version}");
        }
        assert_eq!(seen, ["a", "b", "c", "d", "e"]);
        // A client's own words for a version that may be gone.
        ann.put("/bucket/b", "again").await.is(200);
        let from = |marker: &str| format!("/bucket?versions&key-marker=b&version-id-marker={marker}");
        assert_eq!(ann.get(&from("null")).await.is(200).elements("Key").len(), 0);
        versioning(&ann, "Enabled").await;
        let kept = ann.put("/bucket/b", "kept").await.is(200).header("x-amz-version-id").map(str::to_owned);
        ann.delete("/bucket/b?versionId=null").await.is(204);
        assert_eq!(ann.get(&from("null")).await.is(200).element("VersionId"), kept);
        ann.get(&from("nonsense")).await.fails(400, "InvalidArgument");
    });
}

#[test]
fn suspended_versioning_replaces_the_version_called_null() {
    serve(|node| async move {
        let ann = node.ann();
        ann.bucket("bucket").await;
        versioning(&ann, "Enabled").await;
        let kept = put(&ann, "kept").await;
        versioning(&ann, "Suspended").await;
        assert_eq!(put(&ann, "first").await, "null");
        assert_eq!(put(&ann, "second").await, "null");
        assert_eq!(ann.get("/bucket?versions").await.elements("VersionId"), ["null".to_owned(), kept.clone()]);
        let marker = ann.delete("/bucket/k").await.is(204);
        assert_eq!(marker.header("x-amz-version-id"), Some("null"));
        assert_eq!(ann.get("/bucket?versions").await.elements("VersionId"), ["null".to_owned(), kept.clone()]);
        ann.delete("/bucket/k?versionId=null").await.is(204);
        assert_eq!(ann.get("/bucket/k").await.is(200).text(), "kept");
    });
}

#[test]
fn branches_are_made_shown_and_merged() {
    serve(|node| async move {
        let ann = node.ann();
        ann.bucket("bucket").await;
        versioning(&ann, "Enabled").await;
        let (base, left) = (put(&ann, "base").await, put(&ann, "left").await);
        let derive = [("x-cairn-mode", "derive"), ("x-cairn-parents", base.as_str())];
        let right = ann.send("PUT", "/bucket/k", &derive, "right").await.is(200);
        assert_eq!(right.header("x-cairn-heads"), Some("2"));
        let right = right.header("x-amz-version-id").expect("a version").to_owned();
        let shown = ann.get("/bucket/k").await.is(200);
        assert_eq!(shown.header("x-cairn-heads"), Some("2"));
        let ids = shown.header("x-cairn-head-ids").expect("their ids").to_owned();
        assert_eq!(ids.split(',').collect::<BTreeSet<_>>(), BTreeSet::from([left.as_str(), &right]));
        assert_eq!(ann.get(&format!("/bucket/k?versionId={left}")).await.is(200).text(), "left");
        // Whoever looks for conflicts finds it, page by page and by prefix.
        let second = put_at(&ann, "/bucket/l", "base").await;
        put_at(&ann, "/bucket/l", "left").await;
        let derive = [("x-cairn-mode", "derive"), ("x-cairn-parents", second.as_str())];
        ann.send("PUT", "/bucket/l", &derive, "right").await.is(200);
        ann.delete("/bucket/l").await.is(204);
        let conflicts = async |query: &str| {
            let list = ann.get(&format!("/bucket?x-cairn-conflicts&{query}")).await.is(200);
            (list.elements("Key"), list.elements("Heads"), list.element("NextStartAfter"))
        };
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(conflicts("max-keys=1").await, (words(&["k"]), words(&["2"]), Some("k".to_owned())));
        assert_eq!(conflicts("start-after=k").await, (words(&["l"]), words(&["2"]), None));
        assert_eq!(conflicts("prefix=m").await, (vec![], vec![], None));
        let merge = [("x-cairn-mode", "merge"), ("x-cairn-parents", ids.as_str())];
        ann.send("PUT", "/bucket/k", &merge, "merged").await.is(200);
        assert_eq!(conflicts("").await.0, words(&["l"]));
        // Where the one that is shown is a deletion, that there are others is said with it.
        let gone = ann.get("/bucket/l").await.fails(404, "NoSuchKey");
        let merge = [("x-cairn-mode", "merge"), ("x-cairn-parents", gone.header("x-cairn-head-ids").expect("heads"))];
        ann.send("PUT", "/bucket/l", &merge, "kept").await.is(200);
        assert_eq!(conflicts("").await.0, words(&[]));
        let got = ann.get("/bucket/k").await.is(200);
        assert_eq!((got.text().as_str(), got.header("x-cairn-heads")), ("merged", None));
        ann.send("PUT", "/bucket/k", &merge, "again").await.fails(400, "InvalidArgument");
        ann.send("PUT", "/bucket/k", &[("x-cairn-mode", "guess"), ("x-cairn-parents", &left)], "")
            .await
            .fails(400, "InvalidArgument");
        ann.send("GET", "/bucket/k", &[("x-cairn-read", "local")], "").await.is(200);
        ann.send("GET", "/bucket/k", &[("x-cairn-read", "tea-leaves")], "").await.fails(400, "InvalidArgument");
        ann.send("GET", "/bucket/k", &[("x-cairn-future", "1")], "").await.fails(501, "NotImplemented");
        // A deletion merges, too.
        let derive = [("x-cairn-mode", "derive"), ("x-cairn-parents", base.as_str())];
        ann.send("PUT", "/bucket/k", &derive, "other").await.is(200);
        let ids = ann.get("/bucket/k").await.is(200).header("x-cairn-head-ids").expect("heads").to_owned();
        let merge = [("x-cairn-mode", "merge"), ("x-cairn-parents", ids.as_str())];
        ann.send("DELETE", &format!("/bucket/k?versionId={left}"), &merge, "").await.fails(400, "InvalidArgument");
        ann.send("GET", "/bucket/k", &merge, "").await.fails(400, "InvalidArgument");
        let merged = ann.send("DELETE", "/bucket/k", &merge, "").await.is(204);
        assert_eq!(merged.header("x-amz-delete-marker"), Some("true"));
        let gone = ann.get("/bucket/k").await.fails(404, "NoSuchKey");
        assert_eq!((gone.header("x-cairn-head-ids"), conflicts("").await.0), (None, words(&[])));
    });
}
