//! The pool: connections that break and come back.

use std::net::Shutdown;
use std::rc::Rc;

use bytes::Bytes;
use cairn_daemon::rpc::{Limits, Peer, Pool};
use cairn_io::net::{Listener, Reuse, Stream};
use cairn_io::task::{Class, JoinHandle, spawn};
use cairn_io::time::{Duration, now, sleep, timeout};
use cairn_schema::*;
use futures_util::{AsyncReadExt, AsyncWriteExt};

use crate::fake::{backoff, identity, limits, start};
use crate::harness::{Program, alone, on_each_driver};

on_each_driver! {
    a_broken_connection_is_made_anew: 1,
    a_connection_that_ends_with_its_welcome_is_made_anew: 1,
    a_node_that_is_gone_is_not_asked_all_the_time: 1,
    a_silent_node_is_noticed: 1,
    an_idle_connection_stays: 1,
    calls_before_the_connection_share_it: 1,
}

const SECOND: Duration = Duration::from_secs(1);
/// For what must succeed, however busy the machine is.
const LONG: Duration = Duration::from_secs(60);

/// Passes bytes on until told otherwise.
struct Proxy {
    listener: Rc<Listener>,
    passing: Vec<(Stream, JoinHandle<()>)>,
}

impl Proxy {
    fn listen(place: &crate::harness::Place) -> Self {
        let listener = Listener::bind(place.any_port(), Reuse::Exclusive).expect("a free port");
        Self { listener: Rc::new(listener), passing: vec![] }
    }

    /// Passes the next connection on.
    async fn accept(&mut self, to: std::net::SocketAddr) {
        let (near, _) = self.listener.accept().await.expect("a connection");
        let far = Stream::connect(to).await.expect("connected");
        let pass = |mut from: Stream, mut into: Stream| async move {
            let mut buffer = vec![0; 4096];
            while let Ok(len) = from.read(&mut buffer).await {
                if len == 0 || into.write_all(&buffer[..len]).await.is_err() {
                    break;
                }
            }
            let _ = into.close().await;
        };
        let there = spawn(Class::Foreground, pass(near.clone(), far.clone()));
        let back = spawn(Class::Foreground, pass(far, near.clone()));
        let both = spawn(Class::Foreground, async move {
            let _ = there.await;
            let _ = back.await;
        });
        self.passing.push((near, both));
    }

    /// Passes the next connection on until the server has said its welcome, which comes in one piece with the end.
    async fn accept_and_end(&mut self, to: std::net::SocketAddr) {
        let (near, _) = self.listener.accept().await.expect("a connection");
        let far = Stream::connect(to).await.expect("connected");
        let (mut from, mut into) = (near.clone(), far.clone());
        let there = spawn(Class::Foreground, async move {
            let mut buffer = vec![0; 4096];
            while let Ok(len @ 1..) = from.read(&mut buffer).await {
                into.write_all(&buffer[..len]).await.expect("the server listens");
            }
        });
        let (mut said, mut buffer, mut far, mut near) = (Vec::new(), vec![0; 4096], far, near);
        while let Ok(read) = timeout(SECOND / 4, far.read(&mut buffer)).await {
            said.extend_from_slice(&buffer[..read.expect("the server speaks")]);
        }
        near.write_all(&said).await.expect("the client listens");
        near.shutdown(Shutdown::Both).expect("it was there");
        there.cancel().await;
    }

    /// Breaks what was passed on last.
    fn cut(&mut self) {
        let (near, _) = self.passing.pop().expect("a connection");
        near.shutdown(Shutdown::Both).expect("it was there");
    }

    /// Passes nothing on any more, and says nothing.
    async fn silence(&mut self) -> Stream {
        let (near, both) = self.passing.pop().expect("a connection");
        both.cancel().await;
        near
    }
}

fn through(proxy: &Proxy) -> Pool {
    let pool = Pool::new(identity(2), limits(), backoff());
    pool.set(1, proxy.listener.local_addr().expect("bound"));
    pool
}

/// A call that is under way.
fn calling(peer: &Peer) -> JoinHandle<Answer<Bytes>> {
    let peer = peer.clone();
    spawn(Class::Foreground, async move { peer.raft(b"hi"[..].into(), LONG).await })
}

fn a_broken_connection_is_made_anew() -> Program {
    alone(|place| async move {
        let (server, fake) = start(&place, limits());
        let mut proxy = Proxy::listen(&place);
        let peer = through(&proxy).peer(1).expect("known");
        for round in 0..3 {
            let first = calling(&peer);
            proxy.accept(server.local_addr()).await;
            assert!(first.await.expect("no panic").is_ok());
            let cut_off = spawn(Class::Foreground, {
                let peer = peer.clone();
                async move { peer.raft(b"stall"[..].into(), 100 * SECOND).await }
            });
            while fake.stalled.get() == round {
                sleep(SECOND / 1000).await;
            }
            proxy.cut();
            let error = cut_off.await.expect("no panic").expect_err("it was cut off");
            assert_eq!((error.kind, error.outcome), (ErrorKind::Unreachable, Outcome::Unknown), "{error}");
            while fake.dropped.get() == round {
                sleep(SECOND / 1000).await;
            }
            while peer.is_connected() {
                sleep(SECOND / 1000).await;
            }
            // The pause after the failure.
            sleep(SECOND / 10).await;
        }
        assert_eq!(server.calls(), 0);
    })
}

fn a_connection_that_ends_with_its_welcome_is_made_anew() -> Program {
    alone(|place| async move {
        let (server, _) = start(&place, limits());
        let mut proxy = Proxy::listen(&place);
        let peer = through(&proxy).peer(1).expect("known");
        let first = calling(&peer);
        proxy.accept_and_end(server.local_addr()).await;
        let error = first.await.expect("no panic").expect_err("it ended");
        assert_eq!(error.kind, ErrorKind::Unreachable, "{error}");
        // The pause after the failure.
        sleep(SECOND / 10).await;
        let second = calling(&peer);
        timeout(LONG, proxy.accept(server.local_addr())).await.expect("it connects again");
        assert!(second.await.expect("no panic").is_ok());
    })
}

fn a_node_that_is_gone_is_not_asked_all_the_time() -> Program {
    alone(|place| async move {
        let proxy = Proxy::listen(&place);
        let pool = through(&proxy);
        drop(proxy);
        let peer = pool.peer(1).expect("known");
        let (mut refused, mut tried) = (0, 0);
        let begun = now();
        while begun.elapsed() < SECOND / 2 {
            let error = peer.raft(b"hi"[..].into(), LONG).await.expect_err("nobody listens");
            assert_eq!((error.kind, error.outcome), (ErrorKind::Unreachable, Outcome::NothingDone), "{error}");
            match error.advice {
                Advice::TryElsewhere(0) => tried += 1,
                Advice::TryElsewhere(millis) => {
                    assert!(millis <= 200);
                    refused += 1;
                }
                advice => panic!("{advice:?}"),
            }
            sleep(SECOND / 1000).await;
        }
        assert!(tried <= 12 && refused > 0, "{tried} tried, {refused} refused at once");
    })
}

fn a_silent_node_is_noticed() -> Program {
    alone(|place| async move {
        let (server, _) = start(&place, limits());
        let mut proxy = Proxy::listen(&place);
        let peer = through(&proxy).peer(1).expect("known");
        let first = calling(&peer);
        proxy.accept(server.local_addr()).await;
        assert!(first.await.expect("no panic").is_ok());
        let _held_open = proxy.silence().await;
        let error = peer.raft(b"hi"[..].into(), 100 * SECOND).await.expect_err("nobody answers");
        assert_eq!((error.kind, error.outcome), (ErrorKind::Unreachable, Outcome::Unknown), "{error}");
        while server.connections() > 0 {
            sleep(SECOND / 100).await;
        }
    })
}

fn an_idle_connection_stays() -> Program {
    alone(|place| async move {
        let (server, _) = start(&place, Limits { idle_within: SECOND, ..limits() });
        let peer = crate::fake::pool(&server).peer(1).expect("known");
        assert!(peer.raft(b"hi"[..].into(), LONG).await.is_ok());
        sleep(3 * SECOND).await;
        assert!(peer.is_connected(), "it pings");
        assert_eq!(server.connections(), 1);
    })
}

fn calls_before_the_connection_share_it() -> Program {
    alone(|place| async move {
        let (server, _) = start(&place, limits());
        let peer = crate::fake::pool(&server).peer(1).expect("known");
        let calls = (0..100_u8).map(|number| {
            let peer = peer.clone();
            async move { peer.raft(vec![number].into(), LONG).await == Ok(vec![number].into()) }
        });
        let right = futures_util::future::join_all(calls).await;
        assert!(right.into_iter().all(|right| right), "each its own answer");
        assert_eq!(server.connections(), 1);
    })
}
