//! Streams and datagrams over good and bad links.

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use futures_util::{AsyncReadExt, AsyncWriteExt};

use super::{SECOND, address, begin, finish, millis, world_of};
use crate::net::{Datagram, Listener, Reuse, Stream};
use crate::runtime::CoreId;
use crate::sim::{Fault, NodeConfig, NodeId, World};
use crate::time::{self, sleep, timeout};

const PORT: u16 = 80;

fn fault(text: &str) -> Fault {
    text.parse().expect("a fault")
}

fn pair(seed: u64) -> World {
    world_of(seed, 2, &NodeConfig::default())
}

/// A connection from node 0 to node 1, one end each.
fn connected(world: &mut World) -> (Stream, Stream) {
    let accepted = begin(world, 1, async {
        let listener = Listener::bind(address(1, PORT), Reuse::Exclusive)?;
        listener.accept().await
    });
    world.run_for(millis(1));
    let near = finish(world, 0, Stream::connect(address(1, PORT))).unwrap();
    world.run_for(millis(10));
    let (far, peer) = accepted.take().expect("it was accepted").unwrap();
    assert_eq!(peer, near.local_addr().unwrap());
    (near, far)
}

async fn say(mut stream: Stream, text: &'static [u8]) -> io::Result<()> {
    stream.write_all(text).await
}

async fn hear(mut stream: Stream, len: usize) -> io::Result<Vec<u8>> {
    let mut text = vec![0; len];
    stream.read_exact(&mut text).await?;
    Ok(text)
}

#[test]
fn a_stream_carries_everything_in_order_and_waits_for_its_reader() {
    for seed in 0..10 {
        let mut world = pair(seed);
        let (mut near, mut far) = connected(&mut world);
        let sent = Rc::new(Cell::new(0));
        let counted = sent.clone();
        let sending = begin(&mut world, 0, async move {
            for number in 0..200_000_u32 {
                near.write_all(&number.to_le_bytes()).await?;
                counted.set(counted.get() + 4);
            }
            near.close().await
        });
        world.run_for(SECOND);
        assert_eq!(sent.get(), 256 << 10, "the writer waits while nobody reads");
        let received = finish(&mut world, 1, async move {
            let mut bytes = Vec::new();
            far.read_to_end(&mut bytes).await.map(|_| bytes)
        });
        let expected: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
        assert!(received.unwrap() == expected);
        assert!(sending.take().expect("it has ended").is_ok());
    }
}

#[test]
fn a_one_way_cut_stops_one_way() {
    let (mut arrived, mut reset) = (0, 0);
    for seed in 0..40 {
        let mut world = pair(seed);
        let (near, far) = connected(&mut world);
        world.inject(&fault("cut from=n0 to=n1 lasting=5s"));
        finish(&mut world, 0, say(near.clone(), b"there")).unwrap();
        finish(&mut world, 1, say(far.clone(), b"back")).unwrap();
        assert_eq!(finish(&mut world, 0, hear(near.clone(), 4)).unwrap(), b"back");
        let there = begin(&mut world, 1, hear(far.clone(), 5));
        world.run_for(SECOND * 4);
        assert!(there.borrow().is_none(), "nothing gets through");
        world.run_for(SECOND * 2);
        match there.take().expect("the cut is over") {
            Ok(text) => arrived += usize::from(text == b"there"),
            Err(error) => reset += usize::from(error.kind() == io::ErrorKind::ConnectionReset),
        }
    }
    assert!(arrived + reset == 40 && arrived > 15 && reset > 3, "arrived {arrived}, reset {reset}");
}

#[test]
fn a_long_silence_ends_a_connection() {
    let mut world = pair(1);
    let (near, far) = connected(&mut world);
    world.inject(&fault("partition a=n0 b=n1 lasting=300s"));
    finish(&mut world, 0, say(near.clone(), b"hello")).unwrap();
    let begun = world.now();
    world.run_for(SECOND);
    finish(&mut world, 1, say(far.clone(), b"hello")).unwrap();
    for (node, end) in [(0, near), (1, far)] {
        let error = finish(&mut world, node, hear(end, 1)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "node {node}");
    }
    assert!((SECOND * 59..SECOND * 62).contains(&(world.now() - begun)));
}

#[test]
fn connecting_is_refused_or_hangs_until_it_times_out() {
    let mut world = pair(1);
    let refused = finish(&mut world, 0, Stream::connect(address(1, PORT))).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    world.inject(&fault("cut from=n1 to=n0 lasting=300s"));
    let hangs = finish(&mut world, 0, async { timeout(SECOND, Stream::connect(address(1, PORT))).await });
    assert!(hangs.is_err(), "no answer comes back");
    let begun = world.now();
    let late = finish(&mut world, 0, Stream::connect(address(1, PORT))).unwrap_err();
    assert_eq!(late.kind(), io::ErrorKind::TimedOut);
    assert!(world.now() - begun >= SECOND * 60);
}

#[test]
fn a_killed_peer_is_heard_and_one_without_power_is_not() {
    let mut world = pair(1);
    let (near, _far) = connected(&mut world);
    world.inject(&fault("kill node=n1 lasting=1s"));
    let told = finish(&mut world, 0, hear(near, 1)).unwrap_err();
    assert_eq!(told.kind(), io::ErrorKind::ConnectionReset);
    world.run_for(SECOND * 2);

    let (near, _far) = connected(&mut world);
    world.inject(&fault("power-cut node=n1 lasting=1s"));
    let silent = begin(&mut world, 0, hear(near.clone(), 1));
    world.run_for(SECOND * 10);
    assert!(silent.borrow().is_none(), "nobody says anything");
    finish(&mut world, 0, say(near, b"anybody?")).unwrap();
    world.run_for(SECOND);
    let answer = silent.take().expect("the new life knows no such connection").unwrap_err();
    assert_eq!(answer.kind(), io::ErrorKind::ConnectionReset);
}

#[test]
fn a_dropped_end_is_an_end_of_file_or_with_unread_data_a_reset() {
    let mut world = pair(1);
    let (near, far) = connected(&mut world);
    finish(&mut world, 1, async move { drop(far) });
    assert_eq!(finish(&mut world, 0, hear(near, 1)).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    world.inject(&fault("kill node=n1 lasting=1ms"));
    world.run_for(SECOND);
    let (near, far) = connected(&mut world);
    finish(&mut world, 0, say(near.clone(), b"unread")).unwrap();
    world.run_for(SECOND);
    finish(&mut world, 1, async move { drop(far) });
    assert_eq!(finish(&mut world, 0, hear(near, 1)).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[test]
fn connections_are_reset_on_demand_and_links_made_slow() {
    let mut world = pair(1);
    let (near, far) = connected(&mut world);
    world.inject(&fault("slow-link from=n0 to=n1 factor=1000 lasting=10s"));
    let begun = world.now();
    finish(&mut world, 0, say(near.clone(), b"slow")).unwrap();
    finish(&mut world, 1, hear(far.clone(), 4)).unwrap();
    assert!(world.now() - begun > millis(50));
    world.inject(&fault("reset a=n1 b=n0"));
    for (node, end) in [(0, near), (1, far)] {
        assert_eq!(finish(&mut world, node, hear(end, 1)).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
}

#[test]
fn shared_listeners_share_and_exclusive_ones_do_not() {
    let mut world = world_of(1, 2, &NodeConfig { cores: 2, ..NodeConfig::default() });
    let counts = [0, 1].map(|core| {
        let count = Rc::new(Cell::new(0));
        let counted = count.clone();
        let serve = async move {
            let listener = Listener::bind(address(1, PORT), Reuse::Shared).unwrap();
            loop {
                drop(listener.accept().await.unwrap());
                counted.set(counted.get() + 1);
            }
        };
        world.spawn(NodeId(1), CoreId::new(core), serve).expect("it runs").detach();
        count
    });
    world.run_for(millis(1));
    let taken = finish(&mut world, 1, async { Listener::bind(address(1, PORT), Reuse::Exclusive).map(drop) });
    assert_eq!(taken.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    let elsewhere = finish(&mut world, 1, async { Listener::bind(address(0, PORT), Reuse::Exclusive).map(drop) });
    assert_eq!(elsewhere.unwrap_err().kind(), io::ErrorKind::AddrNotAvailable);
    finish(&mut world, 0, async {
        for _ in 0..40 {
            Stream::connect(address(1, PORT)).await.unwrap();
        }
    });
    world.run_for(SECOND);
    assert_eq!(counts[0].get() + counts[1].get(), 40);
    assert!(counts.iter().all(|count| count.get() > 5), "{counts:?}");
}

#[test]
fn a_full_backlog_makes_the_next_ones_wait() {
    let mut world = pair(1);
    let listening = begin(&mut world, 1, async {
        let listener = Listener::bind(address(1, PORT), Reuse::Exclusive).unwrap();
        sleep(SECOND * 3).await;
        let mut streams = Vec::new();
        while let Ok(Ok((stream, _))) = timeout(SECOND * 3, listener.accept()).await {
            streams.push(stream);
        }
        streams.len()
    });
    world.run_for(millis(1));
    let _streams = finish(&mut world, 0, async {
        let mut streams = Vec::new();
        for _ in 0..150 {
            streams.push(Stream::connect(address(1, PORT)).await.unwrap());
        }
        streams
    });
    world.run_for(SECOND * 20);
    assert_eq!(listening.take(), Some(150), "none is lost");
}

#[test]
fn datagrams_are_lost_doubled_and_late() {
    let mut world = pair(1);
    world.inject(&fault("datagram-noise from=n0 to=n1 loss=100000 duplicate=100000 lasting=600s"));
    let received = begin(&mut world, 1, async {
        let socket = Datagram::bind(address(1, PORT)).unwrap();
        let mut numbers = Vec::new();
        let mut buffer = [0; 8];
        while let Ok(Ok((len, from))) = timeout(SECOND, socket.recv_from(&mut buffer)).await {
            assert_eq!((len, from), (8, address(0, PORT)));
            numbers.push(u64::from_le_bytes(buffer));
        }
        numbers
    });
    finish(&mut world, 0, async {
        let socket = Datagram::bind(address(0, PORT)).unwrap();
        for number in 0..1000_u64 {
            socket.send_to(&number.to_le_bytes(), address(1, PORT)).await.unwrap();
            sleep(time::Duration::from_micros(100)).await;
        }
        let long = socket.send_to(&vec![0; 65_508], address(1, PORT)).await;
        assert!(long.is_err());
    });
    world.run_for(SECOND * 3);
    let numbers = received.take().expect("it has ended");
    let distinct: std::collections::BTreeSet<u64> = numbers.iter().copied().collect();
    let lost = 1000 - distinct.len();
    let doubled = numbers.len() - distinct.len();
    let late = numbers.windows(2).filter(|pair| pair[0] > pair[1]).count();
    assert!((50..200).contains(&lost) && (50..200).contains(&doubled) && late > 20, "{lost} {doubled} {late}");
}
