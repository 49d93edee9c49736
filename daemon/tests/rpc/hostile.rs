//! Connections that mean harm, or are made by a broken program: each ends as it should, costs what it may, and harms no
//! other.

use std::rc::Rc;

use bolero::check;
use cairn_daemon::rpc::{Limits, Peer};
use cairn_io::net::{Listener, Reuse, Stream};
use cairn_io::sim::{NetConfig, NodeConfig, World, WorldConfig};
use cairn_io::task::{Class, spawn};
use cairn_io::time::{Duration, sleep, timeout};
use cairn_schema::cairn_capnp::node;
use capnp::message::{Builder, ReaderOptions};
use capnp::serialize::write_message_to_words;
use capnp_rpc::rpc_capnp::message;
use futures_util::future::LocalBoxFuture;
use futures_util::{AsyncReadExt, AsyncWriteExt};

use crate::fake::{Fake, Stranger, limits, peer, pool, put, start};
use crate::harness::{Program, alone, on_each_driver};

on_each_driver! {
    hostile_connections_end_and_harm_nobody: 1,
    who_never_reads_is_cut_off: 1,
    a_connection_that_ends_takes_its_calls_along: 1,
    a_method_that_isnt_there_is_an_exception: 1,
    too_many_connections_are_closed: 1,
}

const SECOND: Duration = Duration::from_secs(1);
/// For what must succeed, however busy the machine is.
const LONG: Duration = Duration::from_secs(60);

type Attack = fn(Stream) -> LocalBoxFuture<'static, ()>;

/// What is sent; whatever it is, the connection must be ended by the node soon after.
const ATTACKS: &[(&str, Attack)] = &[
    ("garbage", |stream| send(stream, (0..10_000_u32).map(|at| ((at * at) >> 3) as u8).collect())),
    ("another protocol", |stream| send(stream, b"GET / HTTP/1.1\r\nHost: cairn\r\n\r\n".to_vec())),
    ("a huge length", |stream| send(stream, numbers(&[0, u32::MAX]))),
    ("a length just beyond the limit", |stream| send(stream, numbers(&[0, (16 << 20) / 8 + 1]))),
    ("lengths that add up to more than there is", |stream| {
        send(stream, numbers(&[3, u32::MAX, u32::MAX, u32::MAX, u32::MAX, 0]))
    }),
    ("more segments than anyone needs", |stream| send(stream, numbers(&[u32::MAX, 1]))),
    ("a message of nothing", |stream| send(stream, numbers(&[0, 0]))),
    ("a pointer out of the message", |stream| send(stream, words(&[1 << 32, 0x7fff_fffc | 1 << 48]))),
    ("a pointer to itself", |stream| send(stream, words(&[1 << 32, 0xffff_fffc_u64 | 1 << 48]))),
    ("deep nesting", |stream| send(stream, deep(5_000))),
    ("half a message, then silence", |stream| send(stream, numbers(&[0, 100, 1, 2, 3]))),
    ("half a message, then the end", |mut stream| {
        Box::pin(async move {
            let _ = stream.write_all(&numbers(&[0, 100, 1, 2, 3])).await;
            let _ = stream.close().await;
        })
    }),
    ("a byte now and then", |mut stream| {
        Box::pin(async move {
            while stream.write_all(&[0]).await.is_ok() {
                sleep(SECOND / 50).await;
            }
        })
    }),
    ("nothing at all", |_| Box::pin(async {})),
    ("everything but a hello", |stream| send(stream, bootstrap(0))),
    ("calls without end", |stream| send(stream, (0..200).flat_map(bootstrap).collect())),
    ("a number twice", |stream| send(stream, [bootstrap(1), bootstrap(1)].concat())),
    ("something released that was never given", |stream| {
        send(stream, rpc(|message| message.init_release().set_id(77)))
    }),
    ("an answer to no question", |stream| send(stream, rpc(|message| message.init_return().set_answer_id(5)))),
    ("an embargo lifted that never was", |stream| {
        send(stream, rpc(|message| message.init_disembargo().init_context().set_receiver_loopback(9)))
    }),
    ("its own words back", |stream| {
        send(
            stream,
            rpc(|message| {
                message.init_unimplemented().init_unimplemented();
            }),
        )
    }),
    ("an abort", |stream| send(stream, rpc(|message| message.init_abort().set_reason("x".repeat(100_000).as_str())))),
];

fn send(mut stream: Stream, bytes: Vec<u8>) -> LocalBoxFuture<'static, ()> {
    Box::pin(async move {
        // The node may end the connection before it has all of it.
        let _ = stream.write_all(&bytes).await;
    })
}

fn numbers(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn rpc(fill: impl FnOnce(message::Builder<'_>)) -> Vec<u8> {
    let mut message = Builder::new_default();
    fill(message.init_root());
    write_message_to_words(&message)
}

fn bootstrap(number: u32) -> Vec<u8> {
    rpc(|message| message.init_bootstrap().set_question_id(number))
}

/// A message of a kind that a node doesn't know and sends back: it must be copied for that.
fn deep(levels: usize) -> Vec<u8> {
    rpc(|message| {
        let mut inner: message::Builder<'_> = message.init_join().init_key_part().init_as();
        for _ in 0..levels {
            inner = inner.init_unimplemented();
        }
    })
}

/// A node and somebody who is well.
async fn healthy(place: &crate::harness::Place, limits: Limits) -> (cairn_daemon::rpc::Server, Rc<Fake>, Peer) {
    let (server, fake) = start(place, limits);
    let peer = pool(&server).peer(1).expect("known");
    assert!(peer.commit(put("a", b"x"), LONG).await.is_ok());
    (server, fake, peer)
}

fn hostile_connections_end_and_harm_nobody() -> Program {
    alone(|place| async move {
        let limits = Limits { questions_max: 100, ..limits() };
        let (server, _, peer) = healthy(&place, limits).await;
        for (name, attack) in ATTACKS {
            let under_way = spawn(Class::Foreground, {
                let peer = peer.clone();
                async move { peer.raft(b"nap"[..].into(), LONG).await }
            });
            let stream = Stream::connect(server.local_addr()).await.expect("anyone may come");
            let attacking = spawn(Class::Foreground, attack(stream.clone()));
            let ended = timeout(LONG, read_to_the_end(stream)).await;
            assert!(ended.is_ok(), "{name}: the node keeps the connection");
            attacking.cancel().await;
            assert!(under_way.await.expect("no panic").is_ok(), "{name}: another connection is harmed");
            assert_eq!(server.panics(), 0, "{name}");
        }
        while server.connections() > 1 {
            sleep(SECOND / 100).await;
        }
        assert_eq!(server.calls(), 0);
    })
}

async fn read_to_the_end(mut stream: Stream) {
    let mut buffer = vec![0; 4096];
    while !matches!(stream.read(&mut buffer).await, Ok(0) | Err(_)) {}
}

fn who_never_reads_is_cut_off() -> Program {
    alone(|place| async move {
        let limits = Limits { bytes_max: 4 << 20, calls_max: 1000, ..limits() };
        let (server, _, peer) = healthy(&place, limits).await;
        // Hello and calls as a client sends them, recorded; then sent by somebody who reads nothing.
        let recorded = record(&place, &server, |guest| {
            Box::pin(async move {
                let data = vec![7; 1 << 20];
                let _ = guest.batch(&data).await;
            })
        })
        .await;
        let mut stream = Stream::connect(server.local_addr()).await.expect("connected");
        let flooding = spawn(Class::Foreground, async move {
            let (head, call) = recorded.split_at(recorded.len() - last_message(&recorded));
            stream.write_all(head).await?;
            loop {
                // The same number again and again would be a foul of its own: each call gets another.
                let mut call = call.to_vec();
                for number in 100_u32.. {
                    set_question(&mut call, number);
                    stream.write_all(&call).await?;
                }
            }
            #[allow(unreachable_code, reason = "names the type")]
            Ok::<(), std::io::Error>(())
        });
        let ended = timeout(LONG, flooding).await;
        assert!(ended.expect("the node cuts it off").expect("no panic").is_err());
        assert!(peer.raft(b"on"[..].into(), LONG).await.is_ok());
        while server.connections() > 1 {
            sleep(SECOND / 100).await;
        }
        assert_eq!((server.calls(), server.panics()), (0, 0));
    })
}

/// How long the last framed message is.
fn last_message(bytes: &[u8]) -> usize {
    let (mut at, mut last) = (0, 0);
    while at < bytes.len() {
        let number = |at: usize| u32::from_le_bytes(*bytes[at..].first_chunk().expect("whole")) as usize;
        let segments = number(at) + 1;
        let table = (segments / 2 + 1) * 8;
        last = table + (0..segments).map(|segment| number(at + 4 + segment * 4) * 8).sum::<usize>();
        at += last;
    }
    last
}

/// Writes the number of a call into its framed message. Call.questionId is the first field of the struct that the message's
/// only pointer names; the pointer's offset counts words from its own end.
fn set_question(bytes: &mut [u8], number: u32) {
    let segments = u32::from_le_bytes(*bytes.first_chunk().expect("whole")) as usize + 1;
    let root = (segments / 2 + 1) * 8;
    let word = |at: usize| u64::from_le_bytes(*bytes[at..].first_chunk().expect("whole"));
    let target = |at: usize| at + 8 + (word(at) as u32 as i32 >> 2) as usize * 8;
    let message = target(root);
    let data_words = (word(root) >> 32) as u16 as usize;
    let call = target(message + data_words * 8);
    bytes[call..call + 4].copy_from_slice(&number.to_le_bytes());
}

/// What a client sends to do this: a proxy listens in.
async fn record<'a>(
    place: &crate::harness::Place,
    server: &cairn_daemon::rpc::Server,
    calls: impl FnOnce(crate::fake::Guest) -> LocalBoxFuture<'a, ()>,
) -> Vec<u8> {
    let listener = Listener::bind(place.any_port(), Reuse::Exclusive).expect("a free port");
    let (near, to) = (listener.local_addr().expect("bound"), server.local_addr());
    let tape = Rc::new(std::cell::RefCell::new(Vec::new()));
    let written = tape.clone();
    let proxy = spawn(Class::Foreground, async move {
        let (mut near, _) = listener.accept().await.expect("a connection");
        let mut far = Stream::connect(to).await.expect("connected");
        let (mut from_far, mut to_near) = (far.clone(), near.clone());
        let back = spawn(Class::Foreground, async move {
            let mut buffer = vec![0; 65_536];
            while let Ok(len @ 1..) = from_far.read(&mut buffer).await {
                if to_near.write_all(&buffer[..len]).await.is_err() {
                    break;
                }
            }
        });
        let mut buffer = vec![0; 65_536];
        while let Ok(len @ 1..) = near.read(&mut buffer).await {
            written.borrow_mut().extend_from_slice(&buffer[..len]);
            far.write_all(&buffer[..len]).await.expect("written");
        }
        drop(back);
    });
    let stranger = Stranger::connect(near).await;
    let guest = stranger.hello(&peer()).await.expect("welcome");
    // What follows hello, such as its end, isn't of interest; the last message is the last call.
    calls(guest).await;
    stranger.system.cancel().await;
    drop(proxy);
    let tape = tape.borrow().clone();
    cut_after_last_call(tape)
}

/// Without what follows the last call: finishing it, and saying good-bye.
fn cut_after_last_call(mut tape: Vec<u8>) -> Vec<u8> {
    loop {
        let last = last_message(&tape);
        let message = capnp::serialize::read_message(&mut &tape[tape.len() - last..], ReaderOptions::default());
        let message = message.expect("a client's own words");
        let root: message::Reader<'_> = message.get_root().expect("a message");
        if matches!(root.which(), Ok(message::Which::Call(_))) {
            return tape;
        }
        tape.truncate(tape.len() - last);
    }
}

fn a_connection_that_ends_takes_its_calls_along() -> Program {
    alone(|place| async move {
        let (server, fake, _) = healthy(&place, limits()).await;
        let stranger = Stranger::connect(server.local_addr()).await;
        let guest = stranger.hello(&peer()).await.expect("welcome");
        let call = spawn(Class::Foreground, async move { guest.batch(b"stall").await.map(|_| ()) });
        while fake.stalled.get() == 0 {
            sleep(SECOND / 1000).await;
        }
        stranger.system.cancel().await;
        drop((call, stranger.node));
        while fake.dropped.get() == 0 || server.connections() > 1 {
            sleep(SECOND / 100).await;
        }
        assert_eq!((server.calls(), server.panics()), (0, 0));
    })
}

fn a_method_that_isnt_there_is_an_exception() -> Program {
    alone(|place| async move {
        let (server, _, _) = healthy(&place, limits()).await;
        let stranger = Stranger::connect(server.local_addr()).await;
        let guest = stranger.hello(&peer()).await.expect("welcome");
        // The capability of raft, called as if it were a node: what a newer client does to an older node.
        let raft = guest.raft.as_ref().expect("a peer").client.clone();
        let wrong = node::Client { client: raft };
        let error = wrong.ping_request().send().promise.await.err().expect("there is no such method");
        assert_eq!(error.kind, capnp::ErrorKind::Unimplemented, "{error}");
        assert!(guest.batch(b"on").await.is_ok(), "the connection lives");
    })
}

fn too_many_connections_are_closed() -> Program {
    alone(|place| async move {
        let (server, _, peer) = healthy(&place, Limits { connections_max: 3, ..limits() }).await;
        let connect = || async { Stream::connect(server.local_addr()).await.expect("accepted") };
        let held = [connect().await, connect().await];
        while server.connections() < 3 {
            sleep(SECOND / 1000).await;
        }
        let ended = timeout(LONG, read_to_the_end(connect().await)).await;
        assert!(ended.is_ok(), "one too many is closed at once");
        drop(held);
        while server.connections() > 1 {
            sleep(SECOND / 100).await;
        }
        assert!(peer.raft(b"on"[..].into(), LONG).await.is_ok());
        assert!(Stranger::connect(server.local_addr()).await.hello(&self::peer()).await.is_ok(), "there is room again");
    })
}

/// What a correct client sends, with changes: a node in a world of its own takes it, and answers another afterwards.
#[test]
fn no_bytes_break_a_node() {
    let tape = in_a_world(|place| {
        Box::pin(async move {
            let (server, _, _) = healthy(&place, limits()).await;
            record(&place, &server, |guest| {
                Box::pin(async move {
                    let _ = guest.batch(b"one").await;
                    let _ = guest.batch(b"two").await;
                })
            })
            .await
        })
    });
    assert!(tape.len() > 200);
    check!().with_iterations(if cfg!(debug_assertions) { 150 } else { 2_000 }).for_each(|changes: &[u8]| {
        let mut bytes = tape.clone();
        for change in changes.chunks_exact(3) {
            let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % bytes.len();
            bytes[at] = change[2];
        }
        in_a_world(move |place| {
            Box::pin(async move {
                let (server, _, peer) = healthy(&place, limits()).await;
                let mut stream = Stream::connect(server.local_addr()).await.expect("anyone may come");
                let _ = stream.write_all(&bytes).await;
                let _ = timeout(SECOND / 10, read_to_the_end(stream.clone())).await;
                drop(stream);
                assert!(peer.raft(b"on"[..].into(), LONG).await.is_ok());
                assert_eq!(server.panics(), 0);
            })
        });
    });
}

fn in_a_world<T: 'static>(program: impl FnOnce(crate::harness::Place) -> LocalBoxFuture<'static, T> + 'static) -> T {
    let mut world = World::new(0, WorldConfig { net: NetConfig::default(), ..WorldConfig::default() });
    let result = Rc::new(std::cell::RefCell::new(None));
    let place = Rc::new(std::cell::RefCell::new(None));
    let (answer, address) = (result.clone(), place.clone());
    let program = std::cell::RefCell::new(Some(program));
    let node = world.add_node(NodeConfig { cores: 1, ..NodeConfig::default() }, move || {
        let program = program.borrow_mut().take().expect("one life");
        let (answer, address) = (answer.clone(), address.clone());
        let once = std::cell::RefCell::new(Some(program));
        Box::new(move |_| {
            let program = once.borrow_mut().take().expect("one core");
            let (answer, address) = (answer.clone(), address.clone());
            Box::pin(async move {
                let place = address.borrow_mut().take().expect("the world stands still until it is set");
                let result = program(place).await;
                *answer.borrow_mut() = Some(result);
            })
        })
    });
    *place.borrow_mut() = Some(crate::harness::Place { dir: String::new(), ip: world.address(node) });
    let ended = result.clone();
    world.run_until(Duration::from_hours(1), || ended.borrow().is_some());
    assert!(world.panics(node).is_empty(), "{:?}", world.panics(node));
    result.borrow_mut().take().expect("it ends")
}
