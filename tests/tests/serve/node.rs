//! Running a node and asking it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Long enough for anything that happens at all.
const PATIENCE: Duration = Duration::from_secs(30);

/// `cairn` with these arguments and no settings from outside.
pub fn cairn(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cairn-under-test"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CAIRN_")) {
        command.env_remove(name);
    }
    command.args(args).stdin(Stdio::null());
    command
}

pub fn run(args: &[&str]) -> Output {
    cairn(args).output().expect("it is built")
}

pub fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Directories of a node, on the disk that the build uses: the system's own may be in memory.
pub struct Disks {
    dir: TempDir,
    paths: Vec<PathBuf>,
}

impl Disks {
    /// Places for so many disks.
    pub fn empty(count: usize) -> Self {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("there is room");
        let paths = (0..count).map(|disk| dir.path().join(format!("disk-{disk}"))).collect();
        Self { dir, paths }
    }

    /// So many new disks, each with two lanes.
    pub fn new(count: usize) -> Self {
        Self::with_segments(count, "16MiB")
    }

    /// The same with segments of this length.
    pub fn with_segments(count: usize, length: &str) -> Self {
        let disks = Self::empty(count);
        let output = run(&["disk", "format", "--data", &disks.data(), "--lanes", "2", "--segment", length]);
        assert!(output.status.success(), "{}", err(&output));
        disks
    }

    /// As `--data` has them.
    pub fn data(&self) -> String {
        let paths: Vec<&str> = self.paths.iter().map(|path| path.to_str().expect("UTF-8")).collect();
        paths.join(",")
    }

    /// The same without this one.
    pub fn without(mut self, disk: &Path) -> Self {
        self.paths.retain(|path| path != disk);
        self
    }

    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    pub fn path(&self, disk: usize) -> &Path {
        &self.paths[disk]
    }

    /// A place beside them.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// A running node.
pub struct Node {
    child: Child,
    lines: Receiver<String>,
    /// What it has logged so far.
    pub log: Vec<String>,
    pub addr: SocketAddr,
}

impl Node {
    /// Starts a node on two cores and waits until it is ready.
    pub fn start(disks: &Disks, more: &[&str]) -> Self {
        let mut node = Self::begin(disks, more);
        node.until("the node is ready");
        node
    }

    /// Starts a node and waits until it listens.
    pub fn begin(disks: &Disks, more: &[&str]) -> Self {
        let data = disks.data();
        let free = "127.0.0.1:0";
        let usual = ["serve", "--data", &data, "--cores", "2", "--listen-management", free, "--listen-s3", free];
        let rpc: &[&str] = if more.contains(&"--listen-rpc") { &[] } else { &["--listen-rpc", free] };
        let mut child = cairn(&[&usual, rpc, more].concat()).stderr(Stdio::piped()).spawn().expect("it is built");
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let _ = send.send(line);
            }
        });
        let mut node = Self { child, lines, log: vec![], addr: SocketAddr::from(([0, 0, 0, 0], 0)) };
        let line = node.until("the management API listens");
        let address = line.split("address=").nth(1).expect("it says where");
        node.addr = address.trim().parse().expect("an address");
        node
    }

    /// Waits for a line of the log with these words.
    pub fn until(&mut self, words: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let next = self.lines.recv_timeout(end.saturating_duration_since(Instant::now()));
            let Ok(line) = next else { panic!("it never said {words:?}, but:\n{}", self.log.join("\n")) };
            self.log.push(line.clone());
            if line.contains(words) {
                return line;
            }
        }
    }

    pub fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(status.expect("there is kill").success());
    }

    /// Waits until it has ended, with all that it logged.
    pub fn end(mut self) -> (ExitStatus, Vec<String>) {
        let status = self.child.wait().expect("it ends");
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            self.log.push(line);
        }
        (status, std::mem::take(&mut self.log))
    }

    /// Stops it as an operator does; it must go well.
    pub fn stop(self) -> Vec<String> {
        self.signal("-TERM");
        let (status, log) = self.end();
        assert_eq!(status.code(), Some(0), "{}", log.join("\n"));
        assert!(log.iter().any(|line| line.contains("every index is committed")), "{}", log.join("\n"));
        log
    }

    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time above zero");
        stream
    }

    /// Sends bytes and returns all that comes back until the end.
    pub fn exchange(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        let _ = stream.write_all(bytes);
        let mut back = Vec::new();
        // One that refuses may reset the connection.
        let _ = stream.read_to_end(&mut back);
        String::from_utf8_lossy(&back).into_owned()
    }

    /// Status and body.
    pub fn ask(&self, method: &str, path: &str, headers: &str) -> (u16, String) {
        let text = self
            .exchange(format!("{method} {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{headers}\r\n").as_bytes());
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, body.to_owned())
    }

    pub fn get(&self, path: &str) -> (u16, String) {
        self.ask("GET", path, "")
    }

    pub fn status(&self) -> Value {
        let (status, body) = self.get("/status");
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).expect("JSON")
    }

    /// Asks again and again until the state of the node is as it should be.
    pub fn until_status(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let status = self.status();
            if is_so(&status) {
                return status;
            }
            assert!(Instant::now() < end, "waited in vain until {what}: {status}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
