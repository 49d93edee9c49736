//! Connections of one address, spread over the cores that serve it.
//!
//! The kernel gives each to a core by chance: of eight, two cores have four each in one case of four only, and one may have
//! most of the work while the other sleeps. So whoever accepts one hands it to the core that has the fewest.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cairn_io::mesh::{Endpoint, Mesh, TrySendError};
use cairn_io::net::{Handed, Stream};
use cairn_io::{CoreId, here};

/// Connections that wait in a queue from one core to another.
const QUEUE: usize = 256;

type Message = (Handed, SocketAddr, Place);

/// What the servers of an address share; each takes its [end](Spread::end).
pub struct Spread {
    mesh: Mesh<Message>,
    open: Arc<[AtomicUsize]>,
}

impl Spread {
    /// For so many cores.
    pub fn new(cores: usize) -> Self {
        Self { mesh: Mesh::new(cores, QUEUE), open: (0..cores).map(|_| AtomicUsize::new(0)).collect() }
    }

    /// This core's end.
    ///
    /// # Errors
    /// If it was taken before.
    pub fn end(&self) -> io::Result<End> {
        Ok(End { mesh: self.mesh.endpoint(here())?, open: self.open.clone() })
    }
}

/// One core's end.
pub struct End {
    mesh: Endpoint<Message>,
    /// Of each core: connections that it has or is about to get.
    open: Arc<[AtomicUsize]>,
}

impl End {
    /// Finds a core for a connection that was accepted on this one. Gives it back if it is to stay, and nothing if another
    /// core has it.
    ///
    /// # Errors
    /// If the node is out of what it needs for it.
    pub fn place(&self, stream: Stream, from: SocketAddr) -> io::Result<Option<(Stream, Place)>> {
        let me = here().index();
        let to = self.fewest(me);
        if to == me {
            return Ok(Some((stream, self.at(me))));
        }
        match stream.hand_over() {
            Err(stream) => Ok(Some((stream, self.at(me)))),
            Ok(handed) => match self.mesh.try_send(CoreId::new(to), (handed, from, self.at(to))) {
                Ok(()) => Ok(None),
                // It has stopped, or has enough to do.
                Err(TrySendError::Full((handed, ..)) | TrySendError::Closed((handed, ..))) => {
                    Ok(Some((handed.take()?, self.at(me))))
                }
            },
        }
    }

    /// The next connection that another core hands to this one. May be dropped and called again without losing one.
    ///
    /// # Errors
    /// If the node is out of what it needs for it.
    pub async fn handed(&self) -> io::Result<(Stream, SocketAddr, Place)> {
        let (_, (handed, from, place)) = self.mesh.recv().await;
        Ok((handed.take()?, from, place))
    }

    /// The core with the fewest connections; `me` if no other has fewer.
    fn fewest(&self, me: usize) -> usize {
        let count = |core: usize| self.open[core].load(Ordering::Relaxed);
        (0..self.open.len()).fold(me, |fewest, core| if count(core) < count(fewest) { core } else { fewest })
    }

    fn at(&self, core: usize) -> Place {
        self.open[core].fetch_add(1, Ordering::Relaxed);
        Place { open: self.open.clone(), core }
    }
}

/// A connection counts for a core until this is dropped.
pub struct Place {
    open: Arc<[AtomicUsize]>,
    core: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open[self.core].fetch_sub(1, Ordering::Relaxed);
    }
}
