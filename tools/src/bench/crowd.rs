//! Tasks that do the same thing again and again, so many at a time.

use std::io;
use std::rc::Rc;

use cairn_io::reference::{Stop, Tally, Watch};
use cairn_io::task::{self, Class, JoinHandle};

/// Does something to `subject` until it is told to stop, `depth` times at a time.
///
/// # Errors
/// The first that it meets.
pub async fn measure<S, F>(
    subject: &Rc<S>,
    depth: usize,
    stop: Stop,
    once: impl Fn(Rc<S>) -> F + Clone + 'static,
) -> io::Result<Tally>
where
    S: 'static,
    F: Future<Output = io::Result<()>> + 'static,
{
    let watch = Rc::new(Watch::start(stop));
    all(depth, || {
        let (subject, watch, once) = (subject.clone(), watch.clone(), once.clone());
        async move {
            while watch.another() {
                once(subject.clone()).await?;
            }
            Ok(())
        }
    })
    .await?;
    Ok(watch.finish())
}

/// Runs so many tasks to their end.
///
/// # Errors
/// The first that one of them meets.
pub async fn all<F>(count: usize, task: impl Fn() -> F) -> io::Result<()>
where
    F: Future<Output = io::Result<()>> + 'static,
{
    let tasks: Vec<JoinHandle<_>> = (0..count).map(|_| task::spawn(Class::Foreground, task())).collect();
    for task in tasks {
        task.await.map_err(io::Error::other)??;
    }
    Ok(())
}
