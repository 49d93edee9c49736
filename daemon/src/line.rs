//! Work for other cores of this node: a closure that runs over there, and whose answer comes back.
//!
//! A *line* is a mesh for one sort of work, with a bound of its own. It decides nothing about order: who has several lines
//! says which may wait for which, so that no core waits for another in a circle.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::rc::Rc;

use cairn_io::mesh::{Endpoint, Mesh};
use cairn_io::task::{Class, JoinHandle, spawn};
use cairn_io::{Bell, CoreId, here};
use futures_channel::oneshot;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

/// Messages that wait in a queue from one core to another.
const QUEUE: usize = 64;

/// Something to do on another core, which has a `C`.
pub type Job<C> = (Class, Box<dyn FnOnce(Rc<C>) -> LocalBoxFuture<'static, ()> + Send>);

/// A mesh for a line between so many cores.
pub fn mesh<C: 'static>(cores: usize) -> Mesh<Job<C>> {
    Mesh::new(cores, QUEUE)
}

/// A core has gone, or what it was asked for broke it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} doesn't answer")]
pub struct Gone(pub CoreId);

/// One core's end of a line.
pub struct Line<C>(Endpoint<Job<C>>);

impl<C: 'static> Line<C> {
    /// This core's end.
    ///
    /// # Errors
    /// If it was taken before.
    pub fn open(mesh: &Mesh<Job<C>>) -> io::Result<Self> {
        mesh.endpoint(here()).map(Self)
    }

    /// Runs something on a core and waits for its answer. It goes on there although nobody may wait any more, but for this
    /// core, where it ends with the caller.
    ///
    /// # Errors
    /// If that core has gone, or broke while it did this.
    pub async fn run<T, F>(
        &self,
        own: &Rc<C>,
        class: Class,
        to: CoreId,
        work: impl FnOnce(Rc<C>) -> F + Send + 'static,
    ) -> Result<T, Gone>
    where
        T: Send + 'static,
        F: Future<Output = T> + 'static,
    {
        if to == here() {
            return Ok(work(own.clone()).await);
        }
        let (answer, answered) = oneshot::channel();
        let job = move |core: Rc<C>| {
            let answering = async move {
                // Whoever asked may have gone.
                let _ = answer.send(work(core).await);
            };
            answering.boxed_local()
        };
        self.0.send(to, (class, Box::new(job))).await.map_err(|_| Gone(to))?;
        answered.await.map_err(|_| Gone(to))
    }
}

/// Does what other cores ask for on a line of this core, so many things at a time.
pub fn serve<C: 'static>(own: Rc<C>, line: impl Fn(&C) -> &Line<C> + 'static, underway_max: usize) -> JoinHandle<()> {
    spawn(Class::Foreground, async move {
        let underway = Rc::new((Cell::new(0_usize), Bell::default()));
        loop {
            while underway.0.get() >= underway_max {
                underway.1.rung().await;
            }
            let (_, (class, job)) = line(&own).0.recv().await;
            let one = Underway::new(&underway);
            let work = job(own.clone());
            let run = async move {
                work.await;
                drop(one);
            };
            spawn(class, run).detach();
        }
    })
}

/// A job that is under way.
struct Underway(Rc<(Cell<usize>, Bell)>);

impl Underway {
    fn new(count: &Rc<(Cell<usize>, Bell)>) -> Self {
        count.0.set(count.0.get() + 1);
        Self(count.clone())
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        self.0.0.set(self.0.0.get() - 1);
        self.0.1.ring();
    }
}

/// Runs something to its end, whether or not anybody waits for it.
///
/// # Errors
/// If it panicked.
pub async fn to_the_end<T: 'static>(class: Class, work: impl Future<Output = T> + 'static) -> Result<T, Gone> {
    let mut running = Running(Some(spawn(class, work)));
    let ended = match &mut running.0 {
        Some(task) => task.await,
        None => unreachable!("it is taken on drop only"),
    };
    running.0 = None;
    ended.map_err(|_| Gone(here()))
}

struct Running<T>(Option<JoinHandle<T>>);

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            task.detach();
        }
    }
}
