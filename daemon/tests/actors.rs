//! Actors: messages, schedules, budgets, failures, stopping; in the simulation, whose time is exact.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;

use cairn_daemon::actor::{
    Actor, Context, Failure, Progress, Rate, Registry, STOP_WITHIN, Schedule, Spec, State, Wake,
};
use cairn_io::sim::{NodeConfig, World, WorldConfig};
use cairn_io::time::{self, Duration, Instant};
use futures_util::future::LocalBoxFuture;

/// Runs `test` on a simulated core, with several orders of events.
fn simulate<F: Future<Output = ()> + 'static>(test: impl Fn(Registry) -> F + 'static) {
    let test = Rc::new(test);
    for seed in 0..20 {
        let mut world = World::new(seed, WorldConfig::default());
        let (test, done) = (test.clone(), Rc::new(Cell::new(false)));
        let flag = done.clone();
        let node = world.add_node(NodeConfig::default(), move || {
            let (test, flag) = (test.clone(), flag.clone());
            Box::new(move |_| {
                let (test, flag) = (test.clone(), flag.clone());
                Box::pin(async move {
                    test(Registry::new()).await;
                    flag.set(true);
                })
            })
        });
        world.run_until(Duration::from_hours(100), || done.get());
        assert!(world.panics(node).is_empty() && done.get(), "seed {seed}: {:?}", world.panics(node));
    }
}

type Log = Rc<RefCell<Vec<String>>>;

type Body = Rc<dyn Fn(Context<u32>) -> LocalBoxFuture<'static, Result<(), Failure>>>;

/// An actor made of a closure.
struct Scripted(Body);

impl Actor for Scripted {
    type Message = u32;

    fn run(self, context: Context<u32>) -> impl Future<Output = Result<(), Failure>> + 'static {
        (self.0)(context)
    }
}

fn scripted<F, B: Fn(Context<u32>) -> F + 'static>(body: B) -> impl Fn() -> Scripted + use<F, B>
where
    F: Future<Output = Result<(), Failure>> + 'static,
{
    let body: Body = Rc::new(move |context| Box::pin(body(context)));
    move || Scripted(body.clone())
}

/// An actor that writes down why it wakes, until it is stopped.
fn recorder(log: &Log) -> impl Fn() -> Scripted + use<> {
    let (log, begun) = (log.clone(), time::now());
    scripted(move |mut context| {
        let log = log.clone();
        async move {
            loop {
                let wake = context.next().await;
                log.borrow_mut().push(format!("{wake:?} at {}", begun.elapsed().as_secs()));
                if wake == Wake::Stop {
                    return Ok(());
                }
            }
        }
    })
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn messages_and_schedule_wake_an_actor() {
    simulate(|registry| async move {
        let log = Log::default();
        let spec = Spec { schedule: Schedule::Every(seconds(10)), ..Spec::new("audit") };
        let mailbox = registry.start(&spec, recorder(&log)).expect("the name is free");
        time::sleep(seconds(15)).await;
        mailbox.send(7).await.expect("it reads");
        time::sleep(seconds(6)).await;
        assert!(registry.stop("audit").await);
        assert_eq!(*log.borrow(), ["Due at 0", "Due at 10", "Message(7) at 15", "Due at 20", "Stop at 21"]);
        assert_eq!(mailbox.send(8).await, Err(8), "nobody reads any more");
        assert!(!registry.stop("audit").await, "it has stopped already");
    });
}

#[test]
fn a_full_mailbox_makes_writers_wait() {
    simulate(|registry| async move {
        let spec = Spec { mailbox_max: 2, ..Spec::new("replicate") };
        let slow = scripted(|mut context: Context<u32>| async move {
            while context.next().await != Wake::Stop {
                time::sleep(seconds(1)).await;
            }
            Ok(())
        });
        let mailbox = registry.start(&spec, slow).expect("the name is free");
        let start = time::now();
        for n in 0..10 {
            mailbox.send(n).await.expect("it reads");
        }
        assert!(start.elapsed() >= seconds(6), "two wait, one is worked on: {:?}", start.elapsed());
        assert_eq!(mailbox.try_send(10), Err(10));
        assert_eq!(registry.status("replicate").expect("it runs").mailbox, 2);
    });
}

/// Pays for pieces of `bytes` for ever and counts them.
fn payer(count: &Rc<Cell<u64>>, bytes: u64) -> impl Fn() -> Scripted + use<> {
    let count = count.clone();
    scripted(move |context| {
        let count = count.clone();
        async move {
            while context.pay(bytes, 1).await.is_ok() {
                count.set(count.get() + 1);
            }
            Ok(())
        }
    })
}

#[test]
fn a_budget_limits_bytes_and_operations_and_changes_at_once() {
    simulate(|registry| async move {
        let count = Rc::new(Cell::new(0));
        let spec = Spec { bytes: Rate::PerSecond(1000), operations: Rate::PerSecond(1_000_000), ..Spec::new("scrub") };
        registry.start(&spec, payer(&count, 100)).expect("the name is free");
        time::sleep(seconds(10)).await;
        let paid = |from: u64| count.get() - from;
        // Ten a second, and a full bucket at the start.
        assert!((110..=112).contains(&paid(0)), "{}", paid(0));
        let before = count.get();
        assert!(registry.set_budget("scrub", Rate::Unlimited, Rate::PerSecond(3)));
        time::sleep(seconds(10)).await;
        assert!((28..=34).contains(&paid(before)), "now operations are the limit: {}", paid(before));
        assert!(registry.set_budget("scrub", Rate::PerSecond(0), Rate::Unlimited));
        let before = count.get();
        time::sleep(seconds(1000)).await;
        assert!(paid(before) <= 1, "it stands still");
        assert!(registry.set_budget("scrub", Rate::PerSecond(200), Rate::Unlimited));
        let before = count.get();
        time::sleep(seconds(10)).await;
        assert!((19..=24).contains(&paid(before)), "it goes on at once at the new rate: {}", paid(before));
        assert!(!registry.set_budget("no such", Rate::Unlimited, Rate::Unlimited));
        // Waiting for its budget doesn't keep it from stopping.
        registry.set_budget("scrub", Rate::PerSecond(0), Rate::PerSecond(0));
        let stopping = time::now();
        assert!(registry.stop("scrub").await);
        assert!(stopping.elapsed() < seconds(1));
    });
}

#[test]
fn a_piece_larger_than_the_budget_is_paid_off() {
    simulate(|registry| async move {
        let count = Rc::new(Cell::new(0));
        let spec = Spec { bytes: Rate::PerSecond(10), ..Spec::new("scrub") };
        registry.start(&spec, payer(&count, 1000)).expect("the name is free");
        time::sleep(seconds(1)).await;
        assert_eq!(count.get(), 1, "on credit");
        time::sleep(seconds(97)).await;
        assert_eq!(count.get(), 1, "not before the debt is paid");
        time::sleep(seconds(4)).await;
        assert_eq!(count.get(), 2);
    });
}

#[test]
fn a_failing_actor_is_started_again_after_growing_pauses() {
    simulate(|registry| async move {
        let starts: Rc<RefCell<Vec<Instant>>> = Rc::default();
        let times = starts.clone();
        let failing = scripted(move |_| {
            let times = times.clone();
            async move {
                times.borrow_mut().push(time::now());
                assert!(times.borrow().len() != 2, "the second time it panics");
                Err("the disk is away".into())
            }
        });
        let spec = Spec { backoff: seconds(1), ..Spec::new("repair") };
        let mailbox = registry.start(&spec, failing).expect("the name is free");
        mailbox.send(1).await.expect("a mailbox survives restarts");
        time::sleep(seconds(60)).await;
        let status = registry.status("repair").expect("it is listed");
        assert_eq!((status.panics, status.failures, status.starts), (1, status.starts, status.failures));
        assert_eq!((status.last_failure.as_deref(), status.mailbox), (Some("the disk is away"), 1));
        assert!(matches!(status.state, State::Waiting { .. }), "{status:?}");
        let starts = starts.borrow().clone();
        let pauses: Vec<f64> = starts.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect();
        for (nth, pause) in pauses.iter().enumerate() {
            let least = f64::from(1 << nth);
            assert!((least..least * 1.6).contains(pause), "pause {nth} of {pauses:?}");
        }
        assert!((4..=6).contains(&starts.len()), "{pauses:?}");
        // Stopped while it waits to be started.
        assert!(registry.stop("repair").await);
        assert_eq!(registry.status("repair").expect("it is listed").state, State::Stopped);
    });
}

#[test]
fn an_actor_that_will_not_stop_is_dropped() {
    simulate(|registry| async move {
        let stubborn = scripted(|_| std::future::pending());
        registry.start(&Spec::new("mark"), stubborn).expect("the name is free");
        let log = Log::default();
        registry.start(&Spec::new("sweep"), recorder(&log)).expect("the name is free");
        time::sleep(seconds(1)).await;
        let stopping = time::now();
        registry.stop_all().await;
        assert!((STOP_WITHIN..STOP_WITHIN + seconds(1)).contains(&stopping.elapsed()), "both at the same time");
        assert!(log.borrow().len() == 1 && log.borrow()[0].starts_with("Stop"), "{log:?}");
        let status = registry.status("mark").expect("it is listed");
        assert_eq!(status.state, State::Stopped);
        assert!(status.last_failure.expect("it says so").contains("did not stop in time"));
    });
}

#[test]
fn names_are_unique_and_free_again_after_the_end() {
    simulate(|registry| async move {
        let ends = || scripted(|_| async { Ok(()) });
        let waits = || recorder(&Log::default());
        registry.start(&Spec::new("gc"), waits()).expect("the name is free");
        let taken = registry.start(&Spec::new("gc"), waits()).expect_err("it runs");
        assert!(taken.to_string().contains("gc"));
        registry.stop("gc").await;
        registry.start(&Spec::new("gc"), ends()).expect("the name is free again");
        time::sleep(seconds(1)).await;
        assert_eq!(registry.status("gc").expect("it is listed").state, State::Stopped, "it had nothing left to do");
        registry.start(&Spec::new("gc"), waits()).expect("the name is free again");
        let names: Vec<String> = registry.list().into_iter().map(|status| status.name).collect();
        assert_eq!(names, ["gc"]);
    });
}

#[test]
fn status_says_what_why_and_how_long() {
    simulate(|registry| async move {
        let working = scripted(|context: Context<u32>| async move {
            context.status().working("copying partition 7", "node b is down");
            for done in 0..=100 {
                context.status().progress(done, 100);
                time::sleep(seconds(1)).await;
            }
            Ok(())
        });
        registry.start(&Spec::new("repair"), working).expect("the name is free");
        time::sleep(Duration::from_millis(25_500)).await;
        let State::Working { what, why, progress: Some(progress) } = registry.status("repair").expect("it runs").state
        else {
            panic!("it works and knows how far it is");
        };
        assert_eq!((what.as_str(), why.as_str()), ("copying partition 7", "node b is down"));
        assert_eq!((progress.done, progress.total), (25, 100));
        let remaining = progress.remaining(time::now()).expect("something is done");
        assert!((seconds(74)..seconds(79)).contains(&remaining), "{remaining:?}");
        let fresh = Progress { done: 0, ..progress };
        assert_eq!(fresh.remaining(time::now()), None);
    });
}

#[test]
fn schedules_wake_when_they_say() {
    simulate(|registry| async move {
        let logs = [Log::default(), Log::default(), Log::default()];
        let names = ["never", "around", "daily"];
        let hour = Duration::from_hours(1);
        let schedules = [Schedule::OnDemand, Schedule::Around(hour), Schedule::Daily(hour * 3)];
        for ((log, name), schedule) in logs.iter().zip(names).zip(schedules) {
            registry.start(&Spec { schedule, ..Spec::new(name) }, recorder(log)).expect("the name is free");
        }
        time::sleep(seconds(1)).await;
        let state = registry.status("daily").expect("it runs").state;
        let State::Idle { until: Some(until) } = state else { panic!("not waiting for its time of day: {state:?}") };
        let then = time::wall().as_unix_nanos() + (until - time::now()).as_nanos() as u64;
        let of_day = Duration::from_nanos(then % (24 * hour).as_nanos() as u64);
        assert!(of_day >= hour * 3 && of_day < hour * 3 + seconds(1), "{of_day:?} after midnight");
        time::sleep(Duration::from_hours(48)).await;
        let [never, around, daily] = logs.each_ref().map(|log| log.borrow().len());
        assert_eq!((never, daily), (0, 2));
        assert!((43..=48).contains(&around), "{around} times in 48 hours");
    });
}
