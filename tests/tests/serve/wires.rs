//! Wires between nodes, which can be cut: what is sent then neither arrives nor is refused, as on a network that drops it, and
//! arrives late when they are mended.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{sleep, spawn};
use std::time::Duration;

/// From each node to each. They last as long as the process.
pub struct Wires {
    /// Whether all of a node's are cut.
    cut: Arc<[AtomicBool]>,
    /// Where a node reaches each of them, itself directly.
    ends: Vec<Vec<SocketAddr>>,
}

impl Wires {
    /// Between nodes that answer there.
    pub fn between(nodes: &[SocketAddr]) -> Self {
        let cut: Arc<[AtomicBool]> = nodes.iter().map(|_| AtomicBool::new(false)).collect();
        let end = |from: usize, to: usize| {
            if from == to {
                return nodes[to];
            }
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            let (at, node, cut) = (listener.local_addr().expect("it is bound"), nodes[to], cut.clone());
            let is_cut = move || [from, to].iter().any(|node| cut[*node].load(Ordering::Acquire));
            spawn(move || carry_all(&listener, node, &is_cut));
            at
        };
        let ends = (0..nodes.len()).map(|from| (0..nodes.len()).map(|to| end(from, to)).collect());
        Self { ends: ends.collect(), cut }
    }

    /// Where a node reaches each.
    pub fn ends(&self, from: usize) -> &[SocketAddr] {
        &self.ends[from]
    }

    /// Cuts a node off, or mends what was cut.
    pub fn cut(&self, node: usize, is_cut: bool) {
        self.cut[node].store(is_cut, Ordering::Release);
    }
}

type IsCut = dyn Fn() -> bool + Send + Sync;

fn carry_all(listener: &TcpListener, to: SocketAddr, is_cut: &(impl Fn() -> bool + Clone + Send + Sync + 'static)) {
    while let Ok((here, _)) = listener.accept() {
        let is_cut: Arc<IsCut> = Arc::new(is_cut.clone());
        spawn(move || {
            wait_while(&*is_cut);
            let Ok(there) = TcpStream::connect(to) else { return };
            let both = (here.try_clone(), there.try_clone());
            let (Ok(here_too), Ok(there_too)) = both else { return };
            let is_cut_too = is_cut.clone();
            spawn(move || carry(there_too, here_too, &*is_cut_too));
            carry(here, there, &*is_cut);
        });
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, is_cut: &IsCut) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        wait_while(is_cut);
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    // Whoever hangs up is heard no sooner than what was said before.
    wait_while(is_cut);
    let _ = (to.shutdown(Shutdown::Write), from.shutdown(Shutdown::Read));
}

fn wait_while(is_cut: &IsCut) {
    while is_cut() {
        sleep(Duration::from_millis(5));
    }
}
