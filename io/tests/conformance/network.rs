//! TCP, UDP and HTTP on our streams.

use std::io::{ErrorKind, IoSlice};
use std::net::Shutdown as How;
use std::rc::Rc;

use cairn_io::net::{Datagram, HyperExecutor, HyperTimer, Listener, Reuse, Stream};
use cairn_io::task::{Class, JoinHandle, spawn, yield_now};
use cairn_io::time::{self, Duration};
use futures_util::future::poll_immediate;
use futures_util::{AsyncReadExt, AsyncWriteExt};
use http_body_util::{BodyExt, Full};

use crate::harness::{Place, Program, alone, on_each_driver};

on_each_driver! {
    bytes_come_back_from_an_echo: 1,
    a_half_closed_stream_still_answers: 1,
    one_task_reads_while_another_writes: 1,
    a_slow_reader_slows_the_writer: 1,
    vectored_writes_keep_their_order: 1,
    a_refused_connection_is_an_error: 1,
    a_dropped_accept_loses_nobody: 1,
    a_dropped_read_loses_nothing: 1,
    a_vanished_peer_is_noticed: 1,
    a_taken_address_is_an_error: 1,
    many_connections_live_side_by_side: 1,
    cores_share_an_address: 2,
    datagrams_arrive_and_are_cut: 1,
    http_runs_on_a_stream: 1,
}

fn listen(place: &Place) -> Listener {
    Listener::bind(place.any_port(), Reuse::Exclusive).expect("a free port")
}

async fn pair(place: &Place) -> (Stream, Stream) {
    let listener = listen(place);
    let addr = listener.local_addr().expect("bound");
    let client = spawn(Class::Foreground, async move { Stream::connect(addr).await });
    let (server, peer) = listener.accept().await.expect("a connection");
    let client = client.await.expect("no panic").expect("connected");
    assert_eq!(client.local_addr().expect("connected"), peer);
    assert_eq!(client.peer_addr().expect("connected"), addr);
    (client, server)
}

fn echo(mut stream: Stream) -> JoinHandle<()> {
    spawn(Class::Foreground, async move {
        let mut buffer = vec![0; 10_000];
        loop {
            let len = stream.read(&mut buffer).await.expect("read");
            if len == 0 {
                break;
            }
            stream.write_all(&buffer[..len]).await.expect("written");
        }
        stream.close().await.expect("closed");
    })
}

fn bytes_come_back_from_an_echo() -> Program {
    alone(|place| async move {
        let (mut client, server) = pair(&place).await;
        let server = echo(server);
        for len in [1, 100, 9999, 1] {
            let sent: Vec<u8> = (0..len).map(|at| at as u8).collect();
            client.write_all(&sent).await.expect("written");
            let mut back = vec![0; len];
            client.read_exact(&mut back).await.expect("it comes back");
            assert_eq!(sent, back);
        }
        client.close().await.expect("closed");
        assert_eq!(client.read(&mut [0; 10]).await.expect("the end"), 0);
        server.await.expect("no panic");
    })
}

fn a_half_closed_stream_still_answers() -> Program {
    alone(|place| async move {
        let (mut client, mut server) = pair(&place).await;
        client.write_all(b"question").await.expect("written");
        client.shutdown(How::Write).expect("half closed");
        let mut question = String::new();
        server.read_to_string(&mut question).await.expect("up to the end");
        assert_eq!(question, "question");
        server.write_all(b"answer").await.expect("the other half is open");
        drop(server);
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.expect("up to the end");
        assert_eq!(answer, "answer");
    })
}

fn one_task_reads_while_another_writes() -> Program {
    alone(|place| async move {
        let (client, server) = pair(&place).await;
        let server = echo(server);
        let total = 3 << 20;
        let mut writer = client.clone();
        let writing = spawn(Class::Foreground, async move {
            let data: Vec<u8> = (0..total).map(|at: usize| (at % 251) as u8).collect();
            writer.write_all(&data).await.expect("written");
            writer.close().await.expect("closed");
        });
        let mut back = Vec::new();
        let mut reader = client;
        reader.read_to_end(&mut back).await.expect("it all comes back");
        assert!(back.len() == total && back.iter().enumerate().all(|(at, &byte)| byte == (at % 251) as u8));
        writing.await.expect("no panic");
        server.await.expect("no panic");
    })
}

fn a_slow_reader_slows_the_writer() -> Program {
    alone(|place| async move {
        let (mut client, mut server) = pair(&place).await;
        let total = 64 << 20;
        let writing = spawn(Class::Foreground, async move {
            let data = vec![5; 1 << 20];
            for _ in 0..total >> 20 {
                client.write_all(&data).await.expect("written");
            }
        });
        time::sleep(Duration::from_millis(20)).await;
        assert!(!writing.is_finished(), "the network holds less than 64 MiB");
        let mut seen = 0;
        let mut buffer = vec![0; 1 << 20];
        loop {
            let len = server.read(&mut buffer).await.expect("read");
            if len == 0 {
                break;
            }
            seen += len;
        }
        assert_eq!(seen, total);
        writing.await.expect("no panic");
    })
}

fn vectored_writes_keep_their_order() -> Program {
    alone(|place| async move {
        let (mut client, mut server) = pair(&place).await;
        let parts: Vec<Vec<u8>> = (0..2000u32).map(|n| n.to_le_bytes().to_vec()).collect();
        let expected = parts.concat();
        let sending = spawn(Class::Foreground, async move {
            let mut slices: Vec<IoSlice> = parts.iter().map(|part| IoSlice::new(part)).collect();
            let mut left = slices.as_mut_slice();
            while !left.is_empty() {
                let sent = client.write_vectored(left).await.expect("written");
                IoSlice::advance_slices(&mut left, sent);
            }
        });
        let mut got = Vec::new();
        server.read_to_end(&mut got).await.expect("read");
        assert!(got == expected);
        sending.await.expect("no panic");
    })
}

fn a_refused_connection_is_an_error() -> Program {
    alone(|place| async move {
        let listener = listen(&place);
        let addr = listener.local_addr().expect("bound");
        drop(listener);
        yield_now().await;
        let refused = time::timeout(Duration::from_secs(10), Stream::connect(addr)).await.expect("at once");
        assert_eq!(refused.expect_err("nobody listens").kind(), ErrorKind::ConnectionRefused);
    })
}

fn a_dropped_accept_loses_nobody() -> Program {
    alone(|place| async move {
        let listener = listen(&place);
        let addr = listener.local_addr().expect("bound");
        for _ in 0..20 {
            assert!(poll_immediate(Box::pin(listener.accept())).await.is_none());
            let waiting = time::timeout(Duration::from_micros(200), listener.accept()).await;
            assert!(waiting.is_err());
            let connecting = spawn(Class::Foreground, Stream::connect(addr));
            let accepted = time::timeout(Duration::from_secs(10), listener.accept()).await;
            accepted.expect("in time").expect("a connection");
            connecting.await.expect("no panic").expect("connected");
        }
    })
}

fn a_dropped_read_loses_nothing() -> Program {
    alone(|place| async move {
        let (mut client, mut server) = pair(&place).await;
        let mut byte = [0];
        for n in 0..50 {
            assert!(poll_immediate(server.read(&mut byte)).await.is_none());
            let waiting = time::timeout(Duration::from_micros(100), server.read(&mut byte)).await;
            assert!(waiting.is_err());
            client.write_all(&[n]).await.expect("written");
            server.read_exact(&mut byte).await.expect("read");
            assert_eq!(byte, [n]);
        }
    })
}

fn a_vanished_peer_is_noticed() -> Program {
    alone(|place| async move {
        let (mut client, server) = pair(&place).await;
        drop(server);
        let noticed = time::timeout(Duration::from_secs(10), async {
            // The first writes may still go into the void.
            while client.write_all(&[0; 1000]).await.is_ok() {
                time::sleep(Duration::from_millis(1)).await;
            }
        });
        noticed.await.expect("writing fails in the end");
    })
}

fn a_taken_address_is_an_error() -> Program {
    alone(|place| async move {
        let listener = listen(&place);
        let addr = listener.local_addr().expect("bound");
        let taken = Listener::bind(addr, Reuse::Exclusive).expect_err("it is taken");
        assert_eq!(taken.kind(), ErrorKind::AddrInUse);
    })
}

fn many_connections_live_side_by_side() -> Program {
    alone(|place| async move {
        let listener = listen(&place);
        let addr = listener.local_addr().expect("bound");
        let clients: Vec<_> = (0..200u8)
            .map(|n| {
                spawn(Class::Foreground, async move {
                    let mut stream = Stream::connect(addr).await.expect("connected");
                    for round in 0..5 {
                        stream.write_all(&[n, round]).await.expect("written");
                        let mut back = [0; 2];
                        stream.read_exact(&mut back).await.expect("it comes back");
                        assert_eq!(back, [n, round]);
                    }
                })
            })
            .collect();
        let mut servers = Vec::new();
        for _ in 0..clients.len() {
            servers.push(echo(listener.accept().await.expect("a connection").0));
        }
        for client in clients {
            client.await.expect("no panic");
        }
    })
}

fn cores_share_an_address() -> Program {
    let mesh = cairn_io::mesh::Mesh::<std::net::SocketAddr>::new(2, 4);
    std::sync::Arc::new(move |place: Place, core| {
        let mesh = mesh.clone();
        Box::pin(async move {
            let endpoint = Rc::new(mesh.endpoint(core).expect("it is this core's"));
            let other = cairn_io::CoreId::new(1 - core.index());
            let addr = if core.index() == 0 { place.any_port() } else { endpoint.recv().await.1 };
            let listener = Listener::bind(addr, Reuse::Shared).expect("shared");
            let addr = listener.local_addr().expect("bound");
            let serving = spawn(Class::Foreground, async move {
                loop {
                    echo(listener.accept().await.expect("a connection").0).detach();
                }
            });
            endpoint.send(other, addr).await.expect("it listens");
            if core.index() == 0 {
                endpoint.recv().await;
            }
            for n in 0..40 {
                let mut stream = Stream::connect(addr).await.expect("one of the cores accepts");
                stream.write_all(&[n]).await.expect("written");
                let mut back = [0];
                stream.read_exact(&mut back).await.expect("it comes back");
                assert_eq!(back, [n]);
            }
            // The listener stays until the other core is done as well.
            endpoint.send(other, addr).await.expect("it listens");
            endpoint.recv().await;
            drop(serving);
        })
    })
}

fn datagrams_arrive_and_are_cut() -> Program {
    alone(|place| async move {
        let receiver = Datagram::bind(place.any_port()).expect("a free port");
        let sender = Datagram::bind(place.any_port()).expect("a free port");
        let (to, from) = (receiver.local_addr().expect("bound"), sender.local_addr().expect("bound"));
        let mut buffer = [0; 100];
        assert!(poll_immediate(Box::pin(receiver.recv_from(&mut buffer))).await.is_none());
        for len in [10usize, 0, 100, 1000] {
            sender.send_to(&vec![len as u8; len], to).await.expect("sent");
            let got = time::timeout(Duration::from_secs(10), receiver.recv_from(&mut buffer)).await;
            let (got, who) = got.expect("in time").expect("received");
            assert_eq!((got, who), (len.min(100), from));
            assert!(buffer[..got].iter().all(|&byte| byte == len as u8));
        }
        sender.send_to(&[0; 70_000], to).await.expect_err("longer than a datagram can be");
    })
}

fn http_runs_on_a_stream() -> Program {
    use hyper::{Request, Response, client, server, service::service_fn};
    alone(|place| async move {
        let (client, server) = pair(&place).await;
        let service = service_fn(|request: Request<hyper::body::Incoming>| async move {
            let body = request.into_body().collect().await?.to_bytes();
            Ok::<_, hyper::Error>(Response::new(Full::new(body)))
        });
        let serving = server::conn::http1::Builder::new()
            .timer(HyperTimer)
            .header_read_timeout(Duration::from_secs(5))
            .serve_connection(server, service);
        spawn(Class::Foreground, serving).detach();
        let (mut requests, connection) = client::conn::http1::handshake(client).await.expect("a handshake");
        hyper::rt::Executor::execute(&HyperExecutor(Class::Foreground), connection);
        for len in [0, 1, 100_000, 3 << 20] {
            let body = Full::new(hyper::body::Bytes::from(vec![7; len]));
            let request = Request::post("/").header("host", "cairn").body(body).expect("a request");
            let response = requests.send_request(request).await.expect("an answer");
            let back = response.into_body().collect().await.expect("a body").to_bytes();
            assert!(back.len() == len && back.iter().all(|&byte| byte == 7));
        }
    })
}
