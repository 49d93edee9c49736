//! Disks without room: what stores something is told so, whatever its size; all else goes on.

use bytes::Bytes;

use crate::client::Client;
use crate::node::serve_in;

/// Stores objects of a length, each unlike any other, until neither lane has room for one; how many there are.
async fn fill(ann: &Client, length: usize) -> usize {
    let (mut stored, mut refused) = (0, 0);
    for number in 0..9000_u32 {
        let body: Bytes = blake3::hash(&number.to_le_bytes()).as_bytes().repeat(length / 32).into();
        let reply = ann.put(&format!("/bucket/length-{length}-{number}"), body).await;
        if reply.status == 200 {
            (stored, refused) = (stored + 1, 0);
            continue;
        }
        reply.fails(507, "InsufficientStorage");
        refused += 1;
        if refused == 30 {
            return stored;
        }
    }
    panic!("it is never full")
}

#[test]
fn a_full_disk_takes_no_object_and_does_all_else() {
    // Few segments, of which two are kept for what frees something.
    serve_in((5, 4 << 20), |node| async move {
        let ann = node.ann();
        ann.bucket("bucket").await;
        for number in 0..20 {
            ann.put(&format!("/bucket/small-{number:02}"), format!("body {number}")).await.is(200);
        }
        let begun = ann.send("POST", "/bucket/parts?uploads", &[], "").await.is(200);
        let upload = begun.element("UploadId").expect("its name");
        // Chunks of two lengths, then what lies in the versions themselves, which ends as the others do. The first
        // fill may leave the others nothing: what a slot writes beside them takes room too, the more the longer it runs.
        let (large, middle, little) = (fill(&ann, 640_000).await, fill(&ann, 64_000).await, fill(&ann, 4000).await);
        assert!(large > 4, "{large}, {middle}, {little}");
        for number in 0..20 {
            ann.put(&format!("/bucket/more-{number}"), "few bytes").await.fails(507, "InsufficientStorage");
        }
        ann.put("/bucket/empty", "").await.fails(507, "InsufficientStorage");
        let copied = [("x-amz-copy-source", "/bucket/small-03")];
        ann.send("PUT", "/bucket/copy", &copied, "").await.fails(507, "InsufficientStorage");
        ann.send("POST", "/bucket/other?uploads", &[], "").await.fails(507, "InsufficientStorage");
        ann.put(&format!("/bucket/parts?uploadId={upload}&partNumber=1"), "part")
            .await
            .fails(507, "InsufficientStorage");
        // What is there is read and listed as before, and may be described anew and deleted.
        for number in 0..20 {
            assert_eq!(ann.get(&format!("/bucket/small-{number:02}")).await.is(200).text(), format!("body {number}"));
        }
        assert_eq!(ann.get("/bucket/length-640000-0").await.is(200).body.len(), 640_000);
        let tags = "<Tagging><TagSet><Tag><Key>k</Key><Value>v</Value></Tag></TagSet></Tagging>";
        ann.put("/bucket/small-01?tagging", tags).await.is(200);
        ann.put("/bucket?tagging", tags).await.is(204);
        ann.delete(&format!("/bucket/parts?uploadId={upload}")).await.is(204);
        for number in 0..10 {
            ann.delete(&format!("/bucket/small-{number:02}")).await.is(204);
        }
        let several: String = (10..15).map(|number| format!("<Object><Key>small-{number}</Key></Object>")).collect();
        ann.send("POST", "/bucket?delete", &[], format!("<Delete>{several}</Delete>")).await.is(200);
        let left = ann.get("/bucket?list-type=2&prefix=small").await.is(200).elements("Key");
        assert_eq!(left, ["small-15", "small-16", "small-17", "small-18", "small-19"]);
        assert_eq!(
            ann.get("/bucket?list-type=2&prefix=length").await.is(200).elements("Key").len(),
            large + middle + little
        );
    });
}
