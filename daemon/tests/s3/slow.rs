//! More bodies at once than there is memory for.

use cairn_io::net::Stream;
use cairn_io::time::{self, Duration};
use futures_util::{AsyncReadExt, AsyncWriteExt};

use crate::client::{Client, now};
use crate::node::serve;

/// What a body holds of the node's memory, which has room for four of these.
const BODY: usize = 8 << 20;

/// Somebody who has sent half of a body.
struct Half(Stream);

impl Half {
    async fn begin(ann: &Client, target: &str) -> Self {
        let length = BODY.to_string();
        let (headers, _) = ann.sign("PUT", target, &[("content-length", &length)], "UNSIGNED-PAYLOAD", now());
        let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let mut stream = Stream::connect(ann.at).await.expect("connected");
        stream.write_all(format!("PUT {target} HTTP/1.1\r\n{lines}\r\n").as_bytes()).await.expect("sent");
        stream.write_all(&vec![b'x'; BODY / 2]).await.expect("it is read");
        Self(stream)
    }

    /// Sends the rest; the status line.
    async fn end(mut self) -> String {
        self.0.write_all(&vec![b'x'; BODY / 2]).await.expect("it is read");
        let mut piece = vec![0; 4096];
        let read = time::timeout(Duration::from_secs(30), self.0.read(&mut piece)).await.expect("in time");
        let text = String::from_utf8_lossy(&piece[..read.expect("an answer")]).into_owned();
        text.lines().next().unwrap_or_default().to_owned()
    }
}

#[test]
fn who_waits_too_long_for_memory_is_told_to_slow_down() {
    serve(|node| async move {
        let ann = node.ann();
        ann.bucket("bucket").await;
        let mut halves = Vec::new();
        for number in 0..4 {
            halves.push(Half::begin(&ann, &format!("/bucket/{number}")).await);
        }
        let refused = ann.put("/bucket/more", vec![b'y'; BODY]).await;
        assert_eq!(refused.header("retry-after"), Some("1"));
        refused.fails(503, "SlowDown");
        // What needs none of that memory isn't held up.
        assert_eq!(ann.get("/bucket?list-type=2").await.is(200).element("KeyCount").as_deref(), Some("0"));
        for half in halves {
            assert_eq!(half.end().await, "HTTP/1.1 200 OK");
        }
        ann.put("/bucket/more", vec![b'y'; BODY]).await.is(200);
        assert_eq!(ann.get("/bucket?list-type=2").await.is(200).elements("Size"), [const { "8388608" }; 5]);
        assert!(ann.get("/bucket/3").await.is(200).body.iter().all(|byte| *byte == b'x'));
    });
}
