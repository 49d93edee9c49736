//! Hello and the calls behind it: results, errors, deadlines, panics, ends.

use std::rc::Rc;

use cairn_daemon::rpc::{BindError, Credential, Exposure, Identity, Limits, Pool, Server};
use cairn_io::task::{Class, spawn};
use cairn_io::time::{Duration, now, sleep};
use cairn_schema::*;
use futures_util::future::join_all;

use crate::fake::{
    CLUSTER, Fake, Stranger, backoff, client, identity, key, limits, member, peer, pool, put, services, start, start_at,
};
use crate::harness::{Place, Program, alone, on_each_driver};

on_each_driver! {
    every_call_is_answered: 1,
    a_stranger_is_welcome_and_a_peer_gets_more: 1,
    whoever_means_somebody_else_is_refused: 1,
    who_proves_nothing_is_refused: 1,
    a_key_that_is_gone_ends_what_it_began: 1,
    large_messages_arrive_whole: 1,
    a_batch_that_is_too_large_is_refused_before_it_is_sent: 1,
    an_answer_that_is_too_large_ends_one_call: 1,
    a_panic_ends_one_call: 1,
    a_deadline_ends_the_work: 1,
    who_gives_up_ends_the_work: 1,
    too_many_calls_are_told_to_slow_down: 1,
    a_stopping_node_finishes_what_it_began: 1,
    each_core_answers: 2,
    one_waits_for_a_map_at_a_time: 1,
}

const SECOND: Duration = Duration::from_secs(1);
/// For what must succeed, however busy the machine is.
const LONG: Duration = Duration::from_secs(60);

fn every_call_is_answered() -> Program {
    alone(|place| async move {
        let (server, fake) = start(&place, limits());
        let peer = pool(&server).peer(1).expect("known");
        let committed = peer.commit(put("a", b"bytes"), LONG).await.expect("answered");
        assert_eq!(committed.len(), 1);
        let version = committed[0].as_ref().expect("committed").version;
        let again = CommitRequest {
            commits: put("a", b"").commits.into_iter().chain(put("b", b"").commits).map(absent).collect(),
            ..CommitRequest::default()
        };
        let answers = peer.commit(again, LONG).await.expect("answered");
        let failed = answers[0].as_ref().expect_err("it is there");
        assert_eq!((failed.kind, &failed.advice), (ErrorKind::PreconditionFailed, &Advice::FixInput));
        assert!(answers[1].is_ok(), "each commit for itself");

        let read = |key: &str| ReadRequest { key: key.into(), ..ReadRequest::default() };
        let Ok(ReadResult::Found { version: found, heads, .. }) = peer.read(read("a"), LONG).await else {
            panic!("it was put");
        };
        assert_eq!(
            (found.id, heads, found.content.payload),
            (version, vec![version], { Payload::Inline(b"bytes"[..].into()) })
        );
        assert!(matches!(peer.read(read("c"), LONG).await, Ok(ReadResult::Absent { .. })));
        let page = peer.list(ListRequest::default(), LONG).await.expect("listed");
        assert_eq!(page.entries.iter().map(|entry| &entry.key[..]).collect::<Vec<_>>(), ["a", "b"]);

        assert_eq!(peer.raft(b"messages"[..].into(), LONG).await, Ok(b"messages"[..].into()));
        let part = SnapshotRequest { data: b"part"[..].into(), offset: 10, ..SnapshotRequest::default() };
        assert_eq!(peer.snapshot(part.clone(), LONG).await, Ok(SnapshotProgress::Received(14)));
        let last = SnapshotRequest { is_last: true, header: b"ok"[..].into(), ..part };
        assert_eq!(peer.snapshot(last, LONG).await, Ok(SnapshotProgress::Done(b"ok"[..].into())));

        assert_eq!(peer.map(MapRequest::default(), LONG).await, Ok(MapUpdate::Unchanged(0)));
        let change = Change::CreateBucket(Bucket { name: "b".to_owned(), ..Bucket::default() });
        let propose = ProposeRequest { call: CallInfo::default(), idempotency: None, epoch: 0, change };
        assert_eq!(peer.propose(propose, LONG).await, Ok(Applied { epoch: 1, bucket: 1 }));
        let Ok(MapUpdate::Map(map)) = peer.wait(MapRequest::default(), LONG).await else { panic!("it is newer") };
        assert_eq!((map.epoch, map.cluster), (1, CLUSTER));
        assert_eq!((fake.asked.get(), server.connections(), server.calls()), (2, 1, 0), "all on one connection");

        let empty = peer.commit(CommitRequest::default(), LONG).await.expect_err("no commits");
        assert_eq!((empty.kind, empty.field.as_str()), (ErrorKind::BadInput, "commits"), "{empty}");
    })
}

fn absent(commit: Commit) -> Commit {
    Commit { mode: CommitMode::Conditional(vec![Condition::Absent]), ..commit }
}

fn a_stranger_is_welcome_and_a_peer_gets_more() -> Program {
    alone(|place| async move {
        let (server, _) = start(&place, limits());
        let stranger = Stranger::connect(server.local_addr()).await;
        let guest = stranger.hello(&client()).await.expect("welcome");
        assert_eq!((guest.terms.protocol, guest.terms.cluster, guest.terms.node), (1, CLUSTER, 1));
        assert_eq!((guest.terms.calls_max, guest.terms.idle_ms), (8, 2000));
        assert!(guest.raft.is_none(), "consensus is between nodes");
        let twice = stranger.hello(&client()).await.err().expect("hello comes once");
        assert_eq!(twice.kind, ErrorKind::BadInput);

        let node = Stranger::connect(server.local_addr()).await;
        let guest = node.hello(&peer()).await.expect("welcome");
        assert_eq!(guest.batch(b"hi").await.expect("sent"), Ok(b"hi"[..].into()));

        let mut call = guest.slots.commit_request();
        CommitRequest { call: CallInfo { hops: 4, ..CallInfo::default() }, ..put("a", b"") }.write(call.get());
        let response = call.send().promise.await.expect("errors are data");
        let answer = Answer::<Vec<Answer<Committed>>>::read(response.get().expect("there")).expect("well formed");
        assert_eq!(answer.expect_err("too many hops").field, "call.hops");
    })
}

fn whoever_means_somebody_else_is_refused() -> Program {
    alone(|place| async move {
        let (server, _) = start(&place, limits());
        let cases = [
            (HelloRequest { protocol_min: 2, protocol_max: 9, ..client() }, ErrorKind::Incompatible, "2 to 9"),
            (
                HelloRequest { protocol_min: 0, protocol_max: 0, ..client() },
                ErrorKind::Incompatible,
                "upgrade the caller",
            ),
            (HelloRequest { cluster: Some([8; 16]), ..client() }, ErrorKind::WrongCluster, "08080808"),
            (HelloRequest { expect: 5, ..client() }, ErrorKind::WrongNode, "means 5"),
            (HelloRequest { cluster: None, ..peer() }, ErrorKind::BadInput, "name its cluster"),
            (HelloRequest { node: 0, ..peer() }, ErrorKind::BadInput, "name its node"),
        ];
        for (hello, kind, words) in cases {
            let stranger = Stranger::connect(server.local_addr()).await;
            let error = stranger.hello(&hello).await.err().expect("refused");
            assert!(error.kind == kind && error.message.contains(words), "{error:?}");
            assert_eq!(error.advice, Advice::FixInput);
        }
        let other = Pool::new(Identity::new([9; 16], 2, member()), limits(), backoff());
        other.set(1, server.local_addr());
        let error = other.peer(1).expect("known").raft(b""[..].into(), LONG).await.expect_err("another cluster");
        assert_eq!((error.kind, error.outcome), (ErrorKind::WrongCluster, Outcome::NothingDone), "{error}");
        other.set(4, server.local_addr());
        let wrong = other.peer(4).expect("known").raft(b""[..].into(), LONG).await.expect_err("another cluster first");
        assert!(wrong.message.contains("refuses"), "{wrong}");
        let none = other.peer(5).err().expect("nobody said where it is");
        assert_eq!(none.kind, ErrorKind::Unreachable);
    })
}

fn who_proves_nothing_is_refused() -> Program {
    alone(|place| async move {
        let (server, fake) = start(&place, limits());
        let other =
            |access: &str, secret: &str| Credential::Key { access: access.to_owned(), secret: secret.to_owned() };
        let named = |name: &str| HelloRequest { key: name.to_owned(), ..client() };
        let cases = [
            ("no proof", client(), None),
            ("no proof of a node", peer(), None),
            ("another secret", client(), Some(other("KEY-ann", "guess"))),
            ("an unknown key", named("KEY-eve"), Some(other("KEY-eve", "secret of ann"))),
            ("no key", named(""), Some(other("", ""))),
            ("a client's proof as a node", peer(), Some(key())),
            ("a node of another cluster", peer(), Some(Credential::Member([6; 32]))),
            ("a node as a client", client(), Some(member())),
        ];
        for (what, mut hello, credential) in cases {
            let stranger = Stranger::connect(server.local_addr()).await;
            let nonce = stranger.challenge().await;
            credential.into_iter().for_each(|credential| credential.prove(&mut hello, &nonce));
            let error = stranger.hello_as_it_is(&hello).await.err().expect(what);
            assert_eq!((error.kind, &error.advice), (ErrorKind::Denied, &Advice::FixInput), "{what}: {error}");
            // There is one try for each connection.
            let again = stranger.hello(&client()).await.err().expect("hello comes once");
            assert_eq!(again.kind, ErrorKind::BadInput, "{what}");
        }
        // What was overheard opens no other connection, and a proof needs a challenge.
        let mut hello = client();
        let first = Stranger::connect(server.local_addr()).await;
        let nonce = first.challenge().await;
        assert_eq!(first.challenge().await, nonce, "one for each connection");
        key().prove(&mut hello, &nonce);
        assert!(first.hello_as_it_is(&hello).await.is_ok());
        for asks in [true, false] {
            let second = Stranger::connect(server.local_addr()).await;
            if asks {
                assert_ne!(second.challenge().await, nonce);
            }
            assert_eq!(second.hello_as_it_is(&hello).await.err().expect("overheard").kind, ErrorKind::Denied);
        }
        assert_eq!(fake.asked.get(), 0);
    })
}

fn a_key_that_is_gone_ends_what_it_began() -> Program {
    alone(|place| async move {
        let (server, fake) = start(&place, limits());
        let pool = Pool::new(Identity::new(CLUSTER, 0, key()), limits(), backoff());
        pool.set(1, server.local_addr());
        let user = pool.peer(1).expect("known");
        assert!(user.commit(put("a", b"x"), LONG).await.is_ok());
        let consensus = user.raft(b"x"[..].into(), LONG).await.expect_err("consensus is between nodes");
        assert_eq!(consensus.kind, ErrorKind::Unsupported, "{consensus}");
        fake.is_key_gone.set(true);
        let error = user.commit(put("a", b"x"), LONG).await.expect_err("the key is gone");
        assert_eq!((error.kind, error.outcome), (ErrorKind::Denied, Outcome::NothingDone), "{error}");
        assert_eq!(fake.asked.get(), 1);
    })
}

fn large_messages_arrive_whole() -> Program {
    alone(|place| async move {
        let (server, _) = start(&place, Limits::default());
        let pool = Pool::new(identity(2), Limits::default(), backoff());
        pool.set(1, server.local_addr());
        let peer = pool.peer(1).expect("known");
        for len in [0, 1, 4095, 70_000, 3 << 20, wire_max()] {
            let data: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
            let back = peer.raft(data.clone().into(), LONG).await.expect("answered");
            assert!(back == data, "{len} bytes");
        }
    })
}

fn wire_max() -> usize {
    cairn_schema::limits::DATA_BYTES_MAX
}

fn a_batch_that_is_too_large_is_refused_before_it_is_sent() -> Program {
    alone(|place| async move {
        let (server, fake) = start(&place, limits());
        let peer = pool(&server).peer(1).expect("known");
        let text = Pair { name: "x".repeat(8000), value: String::new() };
        let mut request = put("a", b"");
        request.commits[0].content.tags = vec![text; 3000];
        let error = peer.commit(request, LONG).await.expect_err("24 MB");
        assert_eq!((error.kind, error.outcome), (ErrorKind::TooLarge, Outcome::NothingDone), "{error}");
        assert_eq!(fake.asked.get(), 0);
        assert!(peer.commit(put("a", b""), LONG).await.is_ok(), "the connection lives");
    })
}

fn an_answer_that_is_too_large_ends_one_call() -> Program {
    alone(|place| async move {
        let (server, _) = start(&place, limits());
        let peer = pool(&server).peer(1).expect("known");
        let list = ListRequest { prefix: "large".to_owned(), page_size: 100, ..ListRequest::default() };
        let error = peer.list(list, LONG).await.expect_err("17 MB");
        assert!(error.message.contains("ask for less"), "{error}");
        assert!(peer.list(ListRequest::default(), LONG).await.is_ok(), "the connection lives");
        assert_eq!(server.connections(), 1);
    })
}

fn a_panic_ends_one_call() -> Program {
    alone(|place| async move {
        let (server, _) = start(&place, limits());
        let peer = pool(&server).peer(1).expect("known");
        let other = {
            let peer = peer.clone();
            spawn(Class::Foreground, async move { peer.raft(b"nap"[..].into(), LONG).await })
        };
        let error = peer.raft(b"panic"[..].into(), LONG).await.expect_err("it panicked");
        assert_eq!((error.kind, error.outcome), (ErrorKind::Internal, Outcome::Unknown));
        assert!(error.message.contains("as asked"), "{error}");
        assert!(other.await.expect("no panic here").is_ok(), "its neighbour is answered");
        assert_eq!((server.connections(), server.calls()), (1, 0));
    })
}

fn a_deadline_ends_the_work() -> Program {
    alone(|place| async move {
        let (server, fake) = start(&place, limits());
        let peer = pool(&server).peer(1).expect("known");
        assert!(peer.raft(b"first"[..].into(), LONG).await.is_ok(), "connected");
        let begun = now();
        let error = peer.raft(b"stall"[..].into(), SECOND / 10).await.expect_err("it stalls");
        assert_eq!((error.kind, error.outcome), (ErrorKind::DeadlinePassed, Outcome::Unknown));
        assert!(begun.elapsed() >= SECOND / 10);
        while fake.dropped.get() == 0 || server.calls() > 0 {
            sleep(SECOND / 1000).await;
        }
        assert_eq!(fake.stalled.get(), 1);
        let error = peer.raft(b"late"[..].into(), Duration::ZERO).await.expect_err("no time at all");
        assert_eq!((error.kind, error.outcome), (ErrorKind::DeadlinePassed, Outcome::NothingDone));

        // The node's own clock, for a caller that doesn't watch its own.
        let stranger = Stranger::connect(server.local_addr()).await;
        let guest = stranger.hello(&self::peer()).await.expect("welcome");
        let mut call = guest.raft.expect("a peer").batch_request();
        let call_info = CallInfo { deadline_ms: 50, ..CallInfo::default() };
        RaftRequest { call: call_info, data: b"stall"[..].into() }.write(call.get());
        let response = call.send().promise.await.expect("errors are data");
        let answer = Answer::<bytes::Bytes>::read(response.get().expect("there")).expect("well formed");
        assert_eq!(answer.expect_err("it stalls").kind, ErrorKind::DeadlinePassed);
        assert_eq!(fake.dropped.get(), 2);
    })
}

fn who_gives_up_ends_the_work() -> Program {
    alone(|place| async move {
        let (server, fake) = start(&place, limits());
        let pool = pool(&server);
        let peer = pool.peer(1).expect("known");
        let call = {
            let peer = peer.clone();
            spawn(Class::Foreground, async move { peer.raft(b"stall"[..].into(), 100 * SECOND).await })
        };
        while fake.stalled.get() == 0 {
            sleep(SECOND / 1000).await;
        }
        call.cancel().await;
        while fake.dropped.get() == 0 {
            sleep(SECOND / 1000).await;
        }
        assert!(peer.raft(b"on"[..].into(), LONG).await.is_ok(), "the connection lives");
        // A connection that ends takes its calls along.
        let call = spawn(Class::Foreground, async move { peer.raft(b"stall"[..].into(), 100 * SECOND).await });
        while fake.stalled.get() == 1 {
            sleep(SECOND / 1000).await;
        }
        pool.remove(1);
        assert!(!call.is_finished(), "calls under way go on when a node is removed");
        call.cancel().await;
        while fake.dropped.get() == 1 || server.connections() > 0 {
            sleep(SECOND / 1000).await;
        }
        assert_eq!(server.calls(), 0);
    })
}

fn too_many_calls_are_told_to_slow_down() -> Program {
    alone(|place| async move {
        let (server, fake) = start(&place, limits());
        let stranger = Stranger::connect(server.local_addr()).await;
        let guest = stranger.hello(&peer()).await.expect("welcome");
        let calls: Vec<_> = (0..20).map(|_| Box::pin(guest.batch(b"nap"))).collect();
        let answers: Vec<_> = join_all(calls).await.into_iter().map(|answer| answer.expect("data")).collect();
        let refused: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
        assert_eq!(answers.len() - refused.len(), 8, "as many as the terms say");
        for error in refused {
            assert_eq!((error.kind, error.outcome), (ErrorKind::SlowDown, Outcome::NothingDone));
            assert_eq!(error.advice, Advice::RetryHere(100));
        }
        // A peer of ours waits instead.
        let peer = pool(&server).peer(1).expect("known");
        let calls = (0..50).map(|_| peer.raft(b"nap"[..].into(), LONG));
        assert!(join_all(calls).await.iter().all(Result::is_ok));
        assert_eq!(fake.stalled.get(), 0);
    })
}

fn a_stopping_node_finishes_what_it_began() -> Program {
    alone(|place| async move {
        let (server, fake) = start(&place, limits());
        let addr = server.local_addr();
        let pool = Rc::new(pool(&server));
        let peer = pool.peer(1).expect("known");
        assert!(peer.raft(b"first"[..].into(), LONG).await.is_ok(), "connected");
        let under_way = spawn(Class::Foreground, {
            let peer = peer.clone();
            async move { peer.raft(b"nap"[..].into(), LONG).await }
        });
        while server.calls() == 0 {
            sleep(SECOND / 1000).await;
        }
        let draining = spawn(Class::Foreground, server.drain());
        sleep(SECOND / 100).await;
        let late = peer.raft(b"late"[..].into(), LONG).await.expect_err("it stops");
        assert_eq!((late.kind, late.outcome), (ErrorKind::Stopping, Outcome::NothingDone), "{late}");
        assert!(matches!(late.advice, Advice::TryElsewhere(_)));
        assert_eq!(draining.await.expect("no panic"), 0, "nothing is cut off");
        assert_eq!(under_way.await.expect("no panic"), Ok(b"nap"[..].into()));
        // The same node comes back at the same place.
        let server = start_at(addr, 1, limits(), services(&fake));
        while peer.raft(b"again"[..].into(), LONG).await.is_err() {
            sleep(SECOND / 100).await;
        }
        // What doesn't end is cut off.
        let stalled = spawn(Class::Foreground, async move { peer.raft(b"stall"[..].into(), 100 * SECOND).await });
        while server.calls() == 0 {
            sleep(SECOND / 1000).await;
        }
        assert_eq!(server.drain().await, 1);
        let error = stalled.await.expect("no panic").expect_err("cut off");
        assert_eq!((error.kind, error.outcome), (ErrorKind::Unreachable, Outcome::Unknown), "{error}");
    })
}

fn each_core_answers() -> Program {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
    let (port, answered) = (Arc::new(AtomicU16::new(0)), Arc::new(AtomicUsize::new(0)));
    Arc::new(move |place: Place, core| {
        let (port, answered) = (port.clone(), answered.clone());
        Box::pin(async move {
            let fake = Rc::new(Fake::default());
            let mut addr = place.any_port();
            if core.index() == 1 {
                while port.load(Ordering::Relaxed) == 0 {
                    sleep(SECOND / 1000).await;
                }
                addr.set_port(port.load(Ordering::Relaxed));
            }
            let server = start_at(addr, 1, limits(), services(&fake));
            port.store(server.local_addr().port(), Ordering::Relaxed);
            let mut tries = 0;
            // Which core a connection comes to is the system's choice.
            while fake.asked.get() == 0 && tries < 200 {
                let peer = pool(&server).peer(1).expect("known");
                let _ = peer.commit(put("a", b""), LONG).await;
                tries += 1;
            }
            assert!(fake.asked.get() > 0, "this core was never asked");
            answered.fetch_add(1, Ordering::Relaxed);
            while answered.load(Ordering::Relaxed) < 2 {
                sleep(SECOND / 100).await;
            }
        })
    })
}

fn one_waits_for_a_map_at_a_time() -> Program {
    alone(|place| async move {
        let (server, fake) = start(&place, limits());
        let peer = pool(&server).peer(1).expect("known");
        let waiting = spawn(Class::Foreground, {
            let peer = peer.clone();
            async move { peer.wait(MapRequest::default(), LONG).await }
        });
        while server.calls() == 0 {
            sleep(SECOND / 1000).await;
        }
        let second = peer.wait(MapRequest::default(), LONG).await.expect_err("one at a time");
        assert_eq!(second.kind, ErrorKind::BadInput);
        fake.epoch.set(3);
        assert!(matches!(waiting.await.expect("no panic"), Ok(MapUpdate::Map(map)) if map.epoch == 3));
        let unchanged = MapRequest { have: 3, ..MapRequest::default() };
        assert_eq!(peer.wait(unchanged, 3 * SECOND).await, Ok(MapUpdate::Unchanged(3)), "out of time is no error");
    })
}

#[test]
fn an_address_that_others_can_reach_is_refused() {
    cairn_io::run_one(&cairn_io::Config::default(), || async {
        let fake = Rc::new(Fake::default());
        let bind = |exposure| {
            let addr = "0.0.0.0:0".parse().expect("an address");
            Server::bind(addr, exposure, identity(1), Limits::default(), services(&fake))
        };
        let error = bind(Exposure::Loopback).err().expect("anyone could come");
        assert!(matches!(error, BindError::Exposed(_)) && error.to_string().contains("--insecure"), "{error}");
        assert!(bind(Exposure::Insecure).is_ok());
    })
    .expect("it runs");
}
