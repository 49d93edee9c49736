//! Clocks and timers.

use std::cell::RefCell;
use std::rc::Rc;

use cairn_io::task::{Class, spawn, yield_now};
use cairn_io::time::{self, Duration, Elapsed};
use futures_util::future::join_all;

use crate::harness::{Program, alone, on_each_driver};

on_each_driver! {
    a_sleep_never_ends_early: 1,
    sleeps_end_in_order_of_their_deadlines: 1,
    an_earlier_sleep_after_a_later_one_ends_first: 1,
    a_timeout_cuts_and_lets_pass: 1,
    an_interval_skips_what_it_missed: 1,
    a_hundred_thousand_sleepers_wake: 1,
    dropped_sleeps_leave_nothing_behind: 1,
    the_wall_clock_is_of_this_century: 1,
}

fn a_sleep_never_ends_early() -> Program {
    alone(|_| async {
        for micros in [0, 1, 50, 999, 1500, 10_000] {
            let wanted = Duration::from_micros(micros);
            let start = time::now();
            time::sleep(wanted).await;
            assert!(start.elapsed() >= wanted, "{:?} of {wanted:?}", start.elapsed());
        }
    })
}

fn sleeps_end_in_order_of_their_deadlines() -> Program {
    alone(|_| async {
        let order = Rc::new(RefCell::new(Vec::new()));
        // Far enough apart for monoio's clock of whole milliseconds.
        let sleepers = [40u64, 10, 30, 0, 20].map(|millis| {
            let order = order.clone();
            let sleep = time::sleep(Duration::from_millis(millis));
            spawn(Class::Foreground, async move {
                sleep.await;
                order.borrow_mut().push(millis);
            })
        });
        join_all(sleepers).await;
        assert_eq!(*order.borrow(), [0, 10, 20, 30, 40]);
    })
}

fn an_earlier_sleep_after_a_later_one_ends_first() -> Program {
    alone(|_| async {
        let long = spawn(Class::Foreground, time::sleep(Duration::from_hours(1)));
        yield_now().await;
        time::sleep(Duration::from_millis(2)).await;
        assert!(!long.is_finished());
    })
}

fn a_timeout_cuts_and_lets_pass() -> Program {
    alone(|_| async {
        let cut = time::timeout(Duration::from_millis(3), std::future::pending::<()>()).await;
        assert_eq!(cut, Err(Elapsed));
        let passed = time::timeout(Duration::from_hours(1), async { 7 }).await;
        assert_eq!(passed, Ok(7));
    })
}

fn an_interval_skips_what_it_missed() -> Program {
    alone(|_| async {
        let period = Duration::from_millis(4);
        let mut interval = time::interval(period);
        let first = interval.tick().await;
        assert!(time::now() >= first);
        time::sleep(period * 5).await;
        interval.tick().await;
        let before = time::now();
        let third = interval.tick().await;
        assert!(third > before, "missed ticks are not made up for");
    })
}

fn a_hundred_thousand_sleepers_wake() -> Program {
    alone(|_| async {
        let sleepers =
            (0..100_000u64).map(|n| spawn(Class::Foreground, time::sleep(Duration::from_micros(n * 7 % 50_000))));
        let sleepers: Vec<_> = sleepers.collect();
        for sleeper in sleepers {
            sleeper.await.expect("it wakes");
        }
    })
}

fn dropped_sleeps_leave_nothing_behind() -> Program {
    alone(|_| async {
        for _ in 0..1000 {
            let cut = time::timeout(Duration::from_hours(1), yield_now());
            cut.await.expect("yielding is quick");
        }
        time::sleep(Duration::from_millis(2)).await;
    })
}

fn the_wall_clock_is_of_this_century() -> Program {
    alone(|_| async {
        let years = time::wall().as_unix_nanos() / (365 * 24 * 3600 * 1_000_000_000);
        assert!((20..130).contains(&years), "{years} years after 1970");
    })
}
