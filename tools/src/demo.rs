//! `cairn demo`: a node that is ready to be tried, gone without a trace at the end.
//!
//! The node is the same as `cairn serve` runs, in this process; what is shown runs beside it on its first core, over HTTP,
//! as any S3 program would.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use cairn_daemon::cluster::{ADMIN, Cluster, NewKey};
use cairn_daemon::config::{Config, Sources};
use cairn_daemon::disks::map::Uid;
use cairn_daemon::disks::{Format, format};
use cairn_daemon::node::{self, Guest, NodeError, Ready};
use cairn_daemon::trace;
use cairn_io::net::{Listener, Reuse};
use cairn_io::reference::ScratchDir;
use cairn_io::time::{self, Duration, Instant};
use cairn_io::{lines, run_one};
use cairn_meta::version::INLINE_MAX;
use cairn_placement::SlotId;

use crate::out::{self, Failure};
use crate::s3::calls::Object;
use crate::s3::client::{Client, Endpoint};
use crate::s3::sign::{Credentials, Signer};

/// What the exit codes of this command mean.
pub const HELP: &str = "\
Ctrl-C ends the node and removes its data, unless --keep says otherwise.

Exit codes:
  0  ended by Ctrl-C
  1  begun, but went wrong
  2  not begun: the directory can't take it, or this machine can't run a node";

/// Options of `cairn demo`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Directory in which the node's data is made, instead of the one for temporary files
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Leave the data where it is at the end
    #[arg(long)]
    keep: bool,
    /// Port of the S3 endpoint; if nobody says, 9000, or any that is free if that one is taken
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
}

/// Where S3 listens unless somebody is there already.
const PORT: u16 = 9000;
/// So many bytes must be free: segments of all lanes, written once each.
const BYTES: u64 = 2 << 30;
const SEGMENT: u32 = 32 << 20;
const BUCKET: &str = "demo";
/// What the small object says.
const HELLO: &[u8] = b"Hello from Cairn.\n";
/// The length of the other one: several chunks.
const LARGE: usize = 10 << 20;

impl Args {
    /// Does it.
    ///
    /// # Errors
    /// Why it can't be done, or what went wrong.
    pub fn run(&self) -> Result<(), Failure> {
        let parent = self.dir.clone().unwrap_or_else(std::env::temp_dir);
        let made = ScratchDir::create_as(&parent, "cairn-demo", BYTES);
        let dir = made.map_err(|error| Failure::Input(format!("{error}; another directory is chosen with --dir")))?;
        let ended = self.run_in(&dir);
        lines::flush();
        if self.keep {
            let path = dir.keep();
            out::note(&format!(
                "The data stays in {}; cairn serve --data {}/disk runs the node again.",
                path.display(),
                path.display()
            ));
        }
        ended
    }

    fn run_in(&self, dir: &ScratchDir) -> Result<(), Failure> {
        let data = dir.path().join("disk").display().to_string();
        let (wanted, disk) = (self.port, data.clone());
        let prepared = run_one(&cairn_io::Config::single(), move || async move {
            let how = Format { lanes: 2, segment_bytes: SEGMENT };
            format(&[disk], Uid::default(), how).await.map_err(|error| error.to_string())?;
            free_port(wanted).map_err(|error| error.to_string())
        });
        let port = prepared.map_err(|error| Failure::Input(error.to_string()))?.map_err(Failure::Input)?;
        let flag = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let flags = vec![
            flag("data", &data),
            flag("listen.s3", &format!("127.0.0.1:{port}")),
            flag("listen.management", "127.0.0.1:0"),
            flag("listen.rpc", "127.0.0.1:0"),
            flag("memory", "512MiB"),
            flag("log.level", "warn"),
        ];
        let config = Config::resolve(&Sources { flags, ..Sources::default() });
        let config = config.map_err(|complaints| Failure::Broken(complaints.to_string()))?;
        trace::set_up(&config.levels());
        let failed = Arc::new(Mutex::new(None));
        let settings = config.clone();
        let reload = move || -> node::Reload { Box::pin(std::future::ready(Ok(settings.clone()))) };
        let ended = node::run(&config, Arc::new(reload), Some(guest(data, failed.clone())));
        if let Some(why) = failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(Failure::Broken(why));
        }
        ended.map_err(|error| match error {
            NodeError::NotStarted(why) => Failure::Input(why),
            NodeError::Broken(why) => Failure::Broken(why),
        })
    }
}

/// A port nobody listens at.
fn free_port(wanted: Option<u16>) -> io::Result<u16> {
    let try_port = |port| {
        let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], port)), Reuse::Exclusive)?;
        listener.local_addr().map(|address| address.port())
    };
    match wanted {
        Some(port) => try_port(port),
        None => try_port(PORT).or_else(|_| try_port(0)),
    }
}

/// Shows the node once it is ready; stops it if that fails.
fn guest(data: String, failed: Arc<Mutex<Option<String>>>) -> Guest {
    Arc::new(move |ready: Ready| {
        let (data, failed) = (data.clone(), failed.clone());
        Box::pin(async move {
            if let Err(why) = show(&ready, &data).await {
                failed.lock().unwrap_or_else(PoisonError::into_inner).replace(why);
                ready.shutdown.request();
            }
        })
    })
}

async fn show(ready: &Ready, data: &str) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let at = ready.s3.ok_or("the node serves no S3")?;
    let key = ready.cluster.create_key("cairn demo", "root", ADMIN).await.map_err(|error| text(&error))?;
    let signer = Signer::new(Credentials::new(key.access.clone(), key.secret.clone()), "us-east-1".to_owned());
    let client = Client::new(Endpoint { at, host: at.to_string() }, signer);
    client.create_bucket(BUCKET, &[]).await.map_err(|error| text(&error))?;
    let mut told = heading(data, at, &key);
    for (name, bytes) in [("hello.txt", Bytes::from_static(HELLO)), ("ten-mebibytes", pattern())] {
        told.push_str(&there_and_back(&client, &ready.cluster, name, bytes).await?);
    }
    told.push_str(&lines_to_paste(at, &key));
    // Whoever reads no output wants none.
    let _ = out::print(&told);
    Ok(())
}

fn heading(data: &str, at: SocketAddr, key: &NewKey) -> String {
    let NewKey { access, secret } = key;
    format!(
        "Cairn {} is ready: one node, its data in {data}\n\n  S3 endpoint   http://{at}\n  access key    {access}\n  \
         secret key    {secret}\n\n",
        env!("CARGO_PKG_VERSION")
    )
}

/// Bytes that are not all the same.
fn pattern() -> Bytes {
    (0..LARGE).map(|at| (at % 251) as u8).collect::<Vec<u8>>().into()
}

/// Stores an object, reads it, and says what became of it.
async fn there_and_back(client: &Client, cluster: &Cluster, name: &str, bytes: Bytes) -> Result<String, String> {
    let object = Object { bucket: BUCKET.to_owned(), key: name.to_owned() };
    let begun = time::now();
    let stored = client.put(&object, &[], bytes.clone()).await.map_err(|error| error.to_string())?;
    let (put, begun) = (millis(begun), time::now());
    let (facts, _) = client.head(&object, None).await.map_err(|error| error.to_string())?;
    let mut answer = client.get(&object, &facts, 0, facts.len).await.map_err(|error| error.to_string())?;
    let mut back = BytesMut::with_capacity(bytes.len());
    while let Some(part) = answer.bytes().await.map_err(|error| error.to_string())? {
        back.extend_from_slice(&part);
    }
    if back != bytes {
        return Err(format!("{name} came back as something else: this must not be; please report it"));
    }
    let map = cluster.map();
    let bucket = map.bucket(BUCKET).map_or(0, |bucket| bucket.id);
    let slot = SlotId::of_key(bucket, name.as_bytes(), map.born().slots).0;
    let place = if bytes.len() <= INLINE_MAX {
        "in the version itself".to_owned()
    } else {
        format!("in {} chunks, named by their hashes", bytes.len().div_ceil(4 << 20))
    };
    let mut told = String::new();
    let _ =
        writeln!(told, "  stored    cairn://{BUCKET}/{name}   {} bytes in {put}, etag {}", bytes.len(), stored.etag);
    let _ = writeln!(
        told,
        "  where     its version in slot {slot} of {}, its bytes {place}; synced before the answer",
        map.born().slots
    );
    let _ = writeln!(told, "  read back the same bytes in {}\n", millis(begun));
    Ok(told)
}

fn millis(begun: Instant) -> String {
    let took: Duration = begun.elapsed();
    format!("{:.1} ms", took.as_secs_f64() * 1e3)
}

fn lines_to_paste(at: SocketAddr, key: &NewKey) -> String {
    let NewKey { access, secret } = key;
    format!(
        "Try it from another terminal:\n\n  export AWS_ACCESS_KEY_ID={access} AWS_SECRET_ACCESS_KEY={secret} \
         AWS_DEFAULT_REGION=us-east-1 CAIRN_ENDPOINT=http://{at}\n  \
         aws --endpoint-url http://{at} s3 ls s3://{BUCKET}\n  \
         rclone ls ':s3,provider=Other,env_auth,endpoint=\"http://{at}\":{BUCKET}'\n  \
         cairn ls cairn://{BUCKET}\n\nCtrl-C ends it."
    )
}
