//! Benchmarks of `io`: each thing on glommio and on monoio, and bare, in the same run.
//!
//! `CAIRN_BENCH_DIR` names a directory on the disk to measure; otherwise it is the target directory's. All of it
//! takes three to four minutes; `cargo bench -p cairn-benches -- file` runs a part.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use cairn_benches::{bench, criterion, dir};
use cairn_io::reference::{
    Load, Operation, Order, RemoteCore, Scratch, Stop, alloc_and_free, queue_round_trips, queue_throughput,
};
use cairn_io::task::{Class, JoinHandle, spawn};
use cairn_io::{Config, CoreId, DriverChoice, block, mesh::Mesh, time};
use cairn_tools::bench::pairs::{Driver, LARGE, Rig, SMALL, What};
use criterion::{Criterion, Throughput};

const DRIVERS: [(&str, DriverChoice); 2] = [("glommio", DriverChoice::Glommio), ("monoio", DriverChoice::Monoio)];

/// Room in a queue between two cores.
const CAPACITY: usize = 1024;

/// Sleepers that wait for an hour while others are timed.
const SLEEPERS: usize = 100_000;

fn main() {
    let mut criterion = criterion();
    mesh(&mut criterion);
    one_core(&mut criterion);
    files_and_sockets(&mut criterion);
    criterion.final_summary();
}

fn mesh(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mesh/round_trip");
    bench(&mut group, "bare", queue_round_trips);
    for (name, driver) in available() {
        bench(&mut group, name, |times| on_two_cores(driver, times, Traffic::RoundTrips));
    }
    group.finish();
    let mut group = criterion.benchmark_group("mesh/throughput");
    group.throughput(Throughput::Elements(1));
    bench(&mut group, "bare", |times| queue_throughput(times, CAPACITY));
    for (name, driver) in available() {
        bench(&mut group, name, |times| on_two_cores(driver, times, Traffic::OneWay));
    }
    group.finish();
}

#[derive(Clone, Copy)]
enum Traffic {
    /// Each message is answered before the next.
    RoundTrips,
    /// As many as the queue takes; only the last is answered.
    OneWay,
}

/// How long `times` messages take between two cores, as the first of them sees it.
fn on_two_cores(driver: DriverChoice, times: u64, traffic: Traffic) -> Duration {
    let mesh = Mesh::<u64>::new(2, CAPACITY);
    let ended = cairn_io::run(&Config { driver, cores: 2, ..Config::default() }, move |core| {
        let mesh = mesh.clone();
        async move {
            let end = mesh.endpoint(core).expect("each core takes its own");
            let other = CoreId::new(1 - core.index());
            if core.index() == 1 {
                receive(&end, other, times, traffic).await;
                return Duration::ZERO;
            }
            // The first message only waits for the other core to be there.
            end.send(other, 0).await.expect("the other core waits for it");
            end.recv().await;
            let started = time::now();
            for message in 0..times {
                end.send(other, message).await.expect("the other core counts");
                if matches!(traffic, Traffic::RoundTrips) {
                    end.recv().await;
                }
            }
            if matches!(traffic, Traffic::OneWay) {
                end.recv().await;
            }
            started.elapsed()
        }
    });
    let mut results = ended.expect("the driver was tried").results;
    results.swap_remove(0).expect("the program doesn't panic")
}

async fn receive(end: &cairn_io::mesh::Endpoint<u64>, other: CoreId, times: u64, traffic: Traffic) {
    end.recv().await;
    end.send(other, 0).await.expect("it waits for this");
    let mut left = times;
    let mut batch = Vec::with_capacity(64);
    while left > 0 {
        left -= end.recv_many(&mut batch, 64).await as u64;
        for (_, message) in batch.drain(..) {
            if matches!(traffic, Traffic::RoundTrips) || left == 0 {
                // The other core may have its answer and be gone.
                let _ = end.send(other, message).await;
            }
        }
        if matches!(traffic, Traffic::OneWay) && left == 0 {
            return;
        }
    }
}

fn one_core(criterion: &mut Criterion) {
    for (name, driver) in available() {
        let core = RemoteCore::start(&Config { driver, ..Config::single() }).expect("the driver was tried");
        bench(&mut criterion.benchmark_group("task/spawn_and_join"), name, |times| core.call(move || spawns(times)));
        let mut group = criterion.benchmark_group("timer/100k_sleepers");
        core.call(put_to_sleep);
        bench(&mut group, &format!("{name}/arm_and_drop"), |times| core.call(move || arms(times)));
        bench(&mut group, &format!("{name}/fire"), |times| core.call(move || fires(times)));
        group.finish();
        for bytes in [SMALL, LARGE] {
            let mut group = criterion.benchmark_group(format!("block/alloc_and_free/{bytes}"));
            bench(&mut group, name, |times| core.call(move || blocks(bytes, times)));
        }
    }
    for bytes in [SMALL, LARGE] {
        let mut group = criterion.benchmark_group(format!("block/alloc_and_free/{bytes}"));
        bench(&mut group, "bare", |times| alloc_and_free(bytes, times));
    }
}

async fn spawns(times: u64) -> Duration {
    let started = time::now();
    for _ in 0..times {
        spawn(Class::Foreground, async {}).await.expect("nothing in it can fail");
    }
    started.elapsed()
}

/// Returns when all of them sleep. They stay until their core ends.
async fn put_to_sleep() {
    for at in 0..SLEEPERS {
        let hour = Duration::from_hours(1) + Duration::from_micros(at as u64);
        spawn(Class::Foreground, time::sleep(hour)).detach();
    }
    time::sleep(Duration::from_millis(200)).await;
}

async fn arms(times: u64) -> Duration {
    let started = time::now();
    for _ in 0..times {
        let mut sleep = pin!(time::sleep(Duration::from_mins(1)));
        poll_fn(|cx| Poll::Ready(sleep.as_mut().poll(cx).is_pending())).await;
    }
    started.elapsed()
}

/// From the moment they are due to the moment the last has run.
async fn fires(times: u64) -> Duration {
    let mut passed = Duration::ZERO;
    let mut left = times;
    while left > 0 {
        let count = left.min(10_000);
        left -= count;
        let due = time::now() + Duration::from_millis(20);
        let sleep = |_| spawn(Class::Foreground, time::sleep_until(due));
        let sleeping: Vec<JoinHandle<()>> = (0..count).map(sleep).collect();
        for one in sleeping {
            one.await.expect("nothing in it can fail");
        }
        passed += due.elapsed();
    }
    passed
}

async fn blocks(bytes: usize, times: u64) -> Duration {
    let started = time::now();
    for _ in 0..times {
        drop(std::hint::black_box(block::alloc(bytes).await.expect("the budget has room for one")));
    }
    started.elapsed()
}

fn files_and_sockets(criterion: &mut Criterion) {
    let scratch =
        Scratch::create(&dir(env!("CARGO_TARGET_TMPDIR")), 512 << 20).unwrap_or_else(|error| panic!("{error}"));
    scratch.fill(|_| ()).expect("the disk takes the file");
    let drivers = available().map(|(_, driver)| Driver::start(driver).expect("the driver was tried")).collect();
    let rig = Rig::new(drivers, scratch).expect("the loopback is up");
    for depth in [1, 32, 128] {
        let load = Load { operation: Operation::Read, order: Order::Random, bytes: SMALL, depth };
        all_sides(criterion, &rig, &format!("file/read_4k_random/{depth}"), What::Disk(load), SMALL);
    }
    for (what, operation) in [("write", Operation::Write), ("read", Operation::Read)] {
        for depth in [1, 8] {
            let load = Load { operation, order: Order::Sequential, bytes: LARGE, depth };
            all_sides(criterion, &rig, &format!("file/{what}_1m/{depth}"), What::Disk(load), LARGE);
        }
    }
    all_sides(criterion, &rig, "file/pread_4k_random", What::ReadLaps, SMALL);
    all_sides(criterion, &rig, "tcp/echo/1", What::EchoLaps, 0);
    all_sides(criterion, &rig, "tcp/echo/64", What::EchoCrowd(64), 0);
    all_sides(criterion, &rig, "tcp/send_1m", What::Send, LARGE);
}

/// `bytes` of one operation, 0 where its number is what counts.
fn all_sides(criterion: &mut Criterion, rig: &Rig, name: &str, what: What, bytes: usize) {
    let mut group = criterion.benchmark_group(name);
    group.throughput(if bytes == 0 { Throughput::Elements(1) } else { Throughput::Bytes(bytes as u64) });
    for side in rig.sides() {
        bench(&mut group, rig.name(side), |times| {
            rig.run(what, side, Stop::Ops(times)).expect("the disk and the loopback work").elapsed
        });
    }
    group.finish();
}

/// The drivers that can run here.
fn available() -> impl Iterator<Item = (&'static str, DriverChoice)> {
    DRIVERS.into_iter().filter(|&(_, driver)| RemoteCore::start(&Config { driver, ..Config::single() }).is_ok())
}
