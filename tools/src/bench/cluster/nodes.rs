//! Nodes as processes of their own, ended with whoever started them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use cairn_daemon::cluster::papers::{Secret, write_secret};
use cairn_daemon::disks::map::Uid;
use cairn_daemon::disks::{Format, format};
use cairn_daemon::http::client::get;
use cairn_io::fs::read_text;
use cairn_io::net::{Listener, Reuse};
use cairn_io::rng;
use cairn_io::time::{self, Duration};

use crate::out::Failure;

/// Of a log: small, as a bench shall not take the disk.
const SEGMENT: u32 = 16 << 20;
/// How long a node may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// What `/proc` counts a process's time in, on every system we run on.
const TICKS_A_SECOND: f64 = 100.0;

/// The nodes of one cluster.
pub struct Nodes {
    /// Where they answer RPC, in the order of their numbers, the first of which is 1.
    pub rpc: Vec<SocketAddr>,
    /// What they share.
    pub secret: Secret,
    slots: u32,
    disks: Vec<String>,
    management: Vec<SocketAddr>,
    children: Vec<Option<Child>>,
}

/// What a process has used.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Seconds of a processor since it began.
    pub seconds: f64,
    /// Memory of its own that it has now.
    pub own_bytes: u64,
    /// Memory that shows files: the program itself, and what is cached of the index.
    pub mapped_bytes: u64,
}

impl Nodes {
    /// Makes and starts a cluster with so many nodes and slots below `dir`.
    ///
    /// # Errors
    /// If a node doesn't come up.
    pub async fn start(dir: &Path, name: &str, count: usize, slots: u32) -> Result<Self, Failure> {
        let broken = |error: &dyn std::fmt::Display| Failure::Broken(format!("a node can't be made: {error}"));
        let secret = Secret::draw().map_err(|error| broken(&error))?;
        let mut disks = Vec::new();
        for number in 1..=count {
            let disk = vec![dir.join(format!("{name}-{number}")).display().to_string()];
            let uid = Uid((u128::from(rng::next_u64()) << 64 | u128::from(rng::next_u64())).to_le_bytes());
            let made = Format { lanes: 1, segment_bytes: SEGMENT };
            format(&disk, uid, made).await.map_err(|error| broken(&error))?;
            write_secret(&disk, &secret).await.map_err(|error| broken(&error))?;
            disks.extend(disk);
        }
        let mut free = free_addresses(2 * count).map_err(|error| broken(&error))?;
        let (management, children) = (free.split_off(count), (0..count).map(|_| None).collect());
        let mut nodes = Self { rpc: free, secret, slots, disks, management, children };
        for at in 0..count {
            nodes.begin(at)?;
        }
        nodes.until_ready().await?;
        Ok(nodes)
    }

    /// Starts a node that doesn't run.
    ///
    /// # Errors
    /// If this program can't be started again.
    pub fn begin(&mut self, at: usize) -> Result<(), Failure> {
        let again = |error| Failure::Broken(format!("can't start another process of this program: {error}"));
        let mut command = Command::new(std::env::current_exe().map_err(again)?);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CAIRN_")) {
            command.env_remove(name);
        }
        command.args(["serve", "--cores", "1", "--listen-s3", "off", "--data", &self.disks[at]]);
        command.args(["--cluster-slots", &self.slots.to_string()]);
        command.args(["--listen-management", &self.management[at].to_string()]);
        command.args(["--listen-rpc", &self.rpc[at].to_string()]);
        if self.rpc.len() > 1 {
            let peers: Vec<String> = (1..).zip(&self.rpc).map(|(number, rpc)| format!("{number}={rpc}")).collect();
            command.args(["--cluster-node", &(at + 1).to_string(), "--cluster-peers", &peers.join(",")]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.children[at] = Some(command.spawn().map_err(again)?);
        Ok(())
    }

    /// Ends a node as a loss of power would.
    pub fn kill(&mut self, at: usize) {
        if let Some(mut child) = self.children[at].take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Waits until all nodes that run are ready.
    ///
    /// # Errors
    /// If one has ended, or isn't ready for long.
    pub async fn until_ready(&mut self) -> Result<(), Failure> {
        let deadline = time::now() + READY_WITHIN;
        for (at, child) in self.children.iter_mut().enumerate() {
            let Some(child) = child else { continue };
            while !get(self.management[at], "/health/ready", Duration::from_secs(1))
                .await
                .is_ok_and(|(status, _)| status.is_success())
            {
                if let Ok(Some(status)) = child.try_wait() {
                    return Err(Failure::Broken(format!("node {} ended by itself: {status}", at + 1)));
                }
                if time::now() >= deadline {
                    return Err(Failure::Broken(format!("node {} isn't ready for a minute", at + 1)));
                }
                time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    /// What each node that runs has used.
    ///
    /// # Errors
    /// If the system doesn't say.
    pub async fn usage(&self) -> Result<Vec<Usage>, Failure> {
        let mut all = Vec::new();
        for child in self.children.iter().flatten() {
            let found = usage_of(child.id()).await;
            let unknown = || Failure::Broken("/proc doesn't say what a node uses".to_owned());
            all.push(found.ok_or_else(unknown)?);
        }
        Ok(all)
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        (0..self.children.len()).for_each(|at| self.kill(at));
    }
}

/// Addresses that nobody listens on; taken all at once, so that they differ.
fn free_addresses(count: usize) -> std::io::Result<Vec<SocketAddr>> {
    let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    let taken = (0..count).map(|_| Listener::bind(any, Reuse::Exclusive)).collect::<Result<Vec<_>, _>>()?;
    taken.iter().map(Listener::local_addr).collect()
}

async fn usage_of(process: u32) -> Option<Usage> {
    let stat = read_text(&format!("/proc/{process}/stat"), 4096).await.ok()?;
    // Behind the name, which may have anything in it: the state is the first field, time in user mode the twelfth.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
    let seconds = (ticks(11)? + ticks(12)?) / TICKS_A_SECOND;
    let status = read_text(&format!("/proc/{process}/status"), 8192).await.ok()?;
    let bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
    };
    Some(Usage { seconds, own_bytes: bytes("RssAnon:")?, mapped_bytes: bytes("RssFile:")? })
}
