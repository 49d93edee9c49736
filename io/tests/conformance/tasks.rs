//! Tasks, classes, panics, blocking calls, stopping.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cairn_io::task::{Class, JoinError, JoinHandle, spawn, yield_now};
use cairn_io::time::{self, Duration};
use cairn_io::{CoreId, blocking, rng, shutdown};
use futures_util::future::join_all;

use crate::harness::{Program, alone, on_each_driver};

on_each_driver! {
    a_join_handle_gives_the_result: 1,
    dropping_a_handle_cancels_the_task: 1,
    cancel_waits_until_the_future_is_gone: 1,
    a_detached_task_goes_on: 1,
    a_panic_is_an_error_and_the_core_goes_on: 1,
    a_panicking_destructor_is_contained: 1,
    yielding_lets_others_run: 1,
    every_class_makes_progress: 1,
    many_tasks_wake_each_other: 1,
    blocking_calls_run_beside_the_core: 1,
    a_panic_in_a_blocking_call_is_an_error: 1,
    more_blocking_calls_than_allowed_wait: 1,
    shutdown_reaches_every_core: 3,
    unfinished_tasks_are_dropped_at_the_end: 1,
    random_numbers_differ: 1,
}

fn a_join_handle_gives_the_result() -> Program {
    alone(|_| async {
        let handles = Class::ALL.map(|class| spawn(class, async move { class as usize + 1 }));
        let results = join_all(handles).await;
        assert_eq!(results, [Ok(1), Ok(2), Ok(3)]);
    })
}

/// Counts its drops.
struct Probe(Rc<Cell<usize>>);

impl Drop for Probe {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

fn dropping_a_handle_cancels_the_task() -> Program {
    alone(|_| async {
        let (dropped, ran) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(false)));
        let (probe, flag) = (Probe(dropped.clone()), ran.clone());
        let handle = spawn(Class::Foreground, async move {
            let _probe = probe;
            time::sleep(Duration::from_millis(5)).await;
            flag.set(true);
        });
        yield_now().await;
        drop(handle);
        time::sleep(Duration::from_millis(10)).await;
        assert_eq!((dropped.get(), ran.get()), (1, false));
    })
}

fn cancel_waits_until_the_future_is_gone() -> Program {
    alone(|_| async {
        let dropped = Rc::new(Cell::new(0));
        let probe = Probe(dropped.clone());
        let handle = spawn(Class::Maintenance, async move {
            let _probe = probe;
            std::future::pending::<()>().await;
        });
        yield_now().await;
        assert_eq!(handle.cancel().await, None);
        assert_eq!(dropped.get(), 1);
    })
}

fn a_detached_task_goes_on() -> Program {
    alone(|_| async {
        let done = Rc::new(Cell::new(false));
        let flag = done.clone();
        spawn(Class::Replication, async move {
            time::sleep(Duration::from_millis(1)).await;
            flag.set(true);
        })
        .detach();
        while !done.get() {
            time::sleep(Duration::from_millis(1)).await;
        }
    })
}

fn a_panic_is_an_error_and_the_core_goes_on() -> Program {
    alone(|_| async {
        for _ in 0..3 {
            let result = spawn(Class::Foreground, async { panic!("of {}", "purpose") }).await;
            assert_eq!(result, Err::<(), _>(JoinError::Panicked("of purpose".to_owned())));
        }
        assert_eq!(spawn(Class::Foreground, async { 7 }).await, Ok(7));
    })
}

/// Panics when dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("in a destructor");
    }
}

fn a_panicking_destructor_is_contained() -> Program {
    alone(|_| async {
        let handle = spawn(Class::Foreground, async {
            let _bomb = Bomb;
            std::future::pending::<()>().await;
        });
        yield_now().await;
        drop(handle);
        yield_now().await;
        assert_eq!(spawn(Class::Foreground, async { 7 }).await, Ok(7));
    })
}

fn yielding_lets_others_run() -> Program {
    alone(|_| async {
        let turns = Rc::new(Cell::new(0));
        let counter = turns.clone();
        let other = spawn(Class::Foreground, async move {
            for _ in 0..10 {
                counter.set(counter.get() + 1);
                yield_now().await;
            }
        });
        while turns.get() < 10 {
            yield_now().await;
        }
        other.await.expect("it ends");
    })
}

/// A task of each class that counts its turns, each as long as `turn` says, for ever.
fn busy_classes(turn: Duration) -> (Rc<[Cell<u64>; 3]>, [JoinHandle<()>; 3]) {
    let counts: Rc<[Cell<u64>; 3]> = Rc::default();
    let tasks = Class::ALL.map(|class| {
        let counts = counts.clone();
        spawn(class, async move {
            loop {
                let count = &counts[class as usize];
                count.set(count.get() + 1);
                let end = time::now() + turn;
                while time::now() < end {}
                yield_now().await;
            }
        })
    });
    (counts, tasks)
}

fn every_class_makes_progress() -> Program {
    alone(|_| async {
        let (counts, busy) = busy_classes(Duration::ZERO);
        while counts.iter().any(|count| count.get() < 20) {
            time::sleep(Duration::from_millis(1)).await;
        }
        drop(busy);
    })
}

fn many_tasks_wake_each_other() -> Program {
    alone(|_| async {
        // A ring of channels that a token goes around.
        let count = 1000;
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..count).map(|_| futures_channel::mpsc::unbounded()).unzip();
        let mut handles = Vec::new();
        for (at, mut receiver) in receivers.into_iter().enumerate() {
            let next: futures_channel::mpsc::UnboundedSender<u32> = senders[(at + 1) % count].clone();
            handles.push(spawn(Class::ALL[at % 3], async move {
                for _ in 0..3 {
                    let token = futures_util::StreamExt::next(&mut receiver).await.expect("the ring is closed");
                    // The last task's successor may be gone after the last round.
                    let _ = next.unbounded_send(token + 1);
                }
            }));
        }
        senders[0].unbounded_send(0).expect("the first listens");
        for handle in handles {
            handle.await.expect("the token comes by");
        }
    })
}

fn blocking_calls_run_beside_the_core() -> Program {
    alone(|_| async {
        let results = join_all((0..10).map(|n| blocking::run(move || n * n))).await;
        assert_eq!(results, (0..10).map(|n| Ok(n * n)).collect::<Vec<_>>());
    })
}

fn a_panic_in_a_blocking_call_is_an_error() -> Program {
    alone(|_| async {
        let result = blocking::run(|| panic!("off the core")).await;
        assert_eq!(result, Err::<(), _>(JoinError::Panicked("off the core".to_owned())));
        assert_eq!(blocking::run(|| 7).await, Ok(7));
    })
}

fn more_blocking_calls_than_allowed_wait() -> Program {
    alone(|_| async {
        let calls = blocking::PER_CORE_MAX * 4;
        let done = Arc::new(AtomicUsize::new(0));
        let handles: Vec<_> = (0..calls)
            .map(|_| {
                let done = done.clone();
                spawn(Class::Foreground, async move {
                    blocking::run(move || done.fetch_add(1, Ordering::SeqCst)).await.expect("it runs");
                })
            })
            .collect();
        // Some are dropped while they wait: the others must not miss their turn.
        let kept: Vec<_> = handles.into_iter().enumerate().filter(|(n, _)| n % 3 != 0).map(|(_, h)| h).collect();
        for handle in kept {
            handle.await.expect("it comes to its turn");
        }
        assert!(done.load(Ordering::SeqCst) >= calls * 2 / 3);
    })
}

fn shutdown_reaches_every_core() -> Program {
    Arc::new(|_, core: CoreId| {
        Box::pin(async move {
            if core.index() == 1 {
                time::sleep(Duration::from_millis(5)).await;
                shutdown::current().request();
            }
            let waiting = [(), ()].map(|()| spawn(Class::Foreground, async { shutdown::current().requested().await }));
            for waiter in waiting {
                waiter.await.expect("it is told");
            }
            assert!(shutdown::current().is_requested());
        })
    })
}

fn unfinished_tasks_are_dropped_at_the_end() -> Program {
    alone(|_| async {
        /// Spawns while it is dropped, which must neither hang nor run.
        struct Spawner;

        impl Drop for Spawner {
            fn drop(&mut self) {
                spawn(Class::Foreground, async { unreachable!("the core is stopping") }).detach();
            }
        }

        spawn(Class::Foreground, async {
            let _spawner = Spawner;
            std::future::pending::<()>().await;
        })
        .detach();
        yield_now().await;
    })
}

fn random_numbers_differ() -> Program {
    alone(|_| async {
        let (first, second) = (rng::next_u64(), rng::next_u64());
        assert_ne!(first, second);
        assert!(rng::with(|rng| (0..1000).all(|_| rng.below(10) < 10)));
    })
}

#[test]
fn foreground_gets_most_of_a_busy_core() {
    use crate::harness::{On, check};
    // Not in the simulation: it tries every order on purpose.
    for on in [On::Glommio, On::Monoio, On::Epoll] {
        let program = alone(|_| async {
            let (counts, busy) = busy_classes(Duration::from_micros(20));
            time::sleep(Duration::from_millis(500)).await;
            drop(busy);
            let [foreground, replication, maintenance] = [0, 1, 2].map(|class: usize| counts[class].get());
            assert!(
                foreground > replication && replication > maintenance && maintenance > 0,
                "{foreground} {replication} {maintenance}"
            );
        });
        check(on, cairn_io::Config::default(), 1, move || program.clone());
    }
}

#[test]
fn a_seed_makes_random_numbers_repeat() {
    let config = cairn_io::Config { seed: Some(7), ..cairn_io::Config::single() };
    let draw = || cairn_io::run_one(&config, || async { [rng::next_u64(), rng::next_u64()] }).expect("it runs");
    assert_eq!(draw(), draw());
}
