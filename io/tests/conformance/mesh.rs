//! Messages between cores.

use std::sync::Arc;

use cairn_io::mesh::{Mesh, TrySendError};
use cairn_io::task::{Class, spawn, yield_now};
use cairn_io::time::{self, Duration};
use cairn_io::{CoreId, cores, here};

use crate::harness::{Program, alone, on_each_driver};

on_each_driver! {
    every_core_reaches_every_core: 4,
    a_pair_keeps_its_order_and_its_bound: 2,
    a_full_queue_lets_many_senders_through_in_the_end: 2,
    a_dropped_send_passes_its_wake_up_on: 1,
    a_stopped_core_is_told: 2,
    an_endpoint_is_taken_once: 1,
}

fn every_core_reaches_every_core() -> Program {
    let mesh = Mesh::<(CoreId, u32)>::new(4, 8);
    Arc::new(move |_, core| {
        let mesh = mesh.clone();
        Box::pin(async move {
            assert_eq!((here(), cores()), (core, 4));
            let endpoint = mesh.endpoint(core).expect("it is this core's");
            for to in (0..4).map(CoreId::new) {
                endpoint.send(to, (core, 7)).await.expect("all listen");
            }
            let mut seen = Vec::new();
            while seen.len() < 4 {
                let (from, message) = endpoint.recv().await;
                assert_eq!(message, (from, 7));
                seen.push(from);
            }
            seen.sort_unstable();
            assert_eq!(seen, (0..4).map(CoreId::new).collect::<Vec<_>>());
            // Until all have what they wait for, an endpoint that goes would fail their sends.
            time::sleep(Duration::from_millis(200)).await;
        })
    })
}

fn a_pair_keeps_its_order_and_its_bound() -> Program {
    let mesh = Mesh::<u32>::new(2, 16);
    Arc::new(move |_, core| {
        let mesh = mesh.clone();
        Box::pin(async move {
            let endpoint = mesh.endpoint(core).expect("it is this core's");
            let count = 20_000;
            if core.index() == 0 {
                for n in 0..count {
                    endpoint.send(CoreId::new(1), n).await.expect("it listens");
                }
                endpoint.recv().await;
                return;
            }
            let (mut expected, mut batch) = (0, Vec::new());
            while expected < count {
                let taken = endpoint.recv_many(&mut batch, 64).await;
                assert_eq!(taken, batch.len());
                for (from, n) in batch.drain(..) {
                    assert_eq!((from, n), (CoreId::new(0), expected));
                    expected += 1;
                }
            }
            endpoint.send(CoreId::new(0), 0).await.expect("it waits for this");
        })
    })
}

fn a_full_queue_lets_many_senders_through_in_the_end() -> Program {
    let mesh = Mesh::<u32>::new(2, 2);
    Arc::new(move |_, core| {
        let mesh = mesh.clone();
        Box::pin(async move {
            let endpoint = std::rc::Rc::new(mesh.endpoint(core).expect("it is this core's"));
            let senders = 50;
            if core.index() == 0 {
                let tasks: Vec<_> = (0..senders)
                    .map(|n| {
                        let endpoint = endpoint.clone();
                        spawn(Class::Foreground, async move { endpoint.send(CoreId::new(1), n).await })
                    })
                    .collect();
                for task in tasks {
                    task.await.expect("no panic").expect("it listens");
                }
                endpoint.recv().await;
                return;
            }
            let mut seen = Vec::new();
            while seen.len() < senders as usize {
                seen.push(endpoint.recv().await.1);
                yield_now().await;
            }
            seen.sort_unstable();
            assert_eq!(seen, (0..senders).collect::<Vec<_>>());
            endpoint.send(CoreId::new(0), 0).await.expect("it waits for this");
        })
    })
}

fn a_dropped_send_passes_its_wake_up_on() -> Program {
    alone(|_| async {
        let here = CoreId::new(0);
        let endpoint = std::rc::Rc::new(Mesh::<u32>::new(1, 1).endpoint(here).expect("it is free"));
        endpoint.try_send(here, 0).expect("there is room");
        assert!(matches!(endpoint.try_send(here, 1), Err(TrySendError::Full(1))));
        let [first, second] = [1, 2].map(|n| {
            let endpoint = endpoint.clone();
            spawn(Class::Foreground, async move { endpoint.send(here, n).await.expect("it is open") })
        });
        time::sleep(Duration::from_millis(1)).await;
        // Room comes, and whichever sender is woken for it goes away before it can use it.
        assert_eq!(endpoint.recv().await, (here, 0));
        drop(second);
        let (_, n) = endpoint.recv().await;
        assert!(n == 1 || n == 2);
        if n == 2 {
            assert_eq!(endpoint.recv().await, (here, 1));
        }
        first.await.expect("it was sent");
    })
}

fn a_stopped_core_is_told() -> Program {
    let mesh = Mesh::<u32>::new(2, 1);
    Arc::new(move |_, core| {
        let mesh = mesh.clone();
        Box::pin(async move {
            let endpoint = mesh.endpoint(core).expect("it is this core's");
            let other = CoreId::new(1);
            if core == other {
                endpoint.recv().await;
                return;
            }
            let refused = loop {
                if let Err(refused) = endpoint.send(other, 5).await {
                    break refused;
                }
            };
            assert_eq!(refused.0, 5);
            assert_eq!(endpoint.try_send(other, 6), Err(TrySendError::Closed(6)));
        })
    })
}

fn an_endpoint_is_taken_once() -> Program {
    alone(|_| async {
        let mesh = Mesh::<()>::new(1, 1);
        let _first = mesh.endpoint(CoreId::new(0)).expect("it is free");
        assert!(mesh.endpoint(CoreId::new(0)).is_err());
        assert!(mesh.endpoint(CoreId::new(1)).is_err());
    })
}
