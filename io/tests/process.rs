//! What concerns a whole process: signals and limits. Each test runs this program again as a child of its own.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "it starts processes and looks at them from outside"
)]

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

use cairn_io::time::{self, Duration};
use cairn_io::{Config, DriverChoice, Shutdown, StartError, blocking, fs, net, run, run_one, shutdown, task};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Set in a child; says which part it plays.
const PART: &str = "CAIRN_TEST_PART";

/// Runs one of this file's tests as a child that plays `part`.
fn child(test: &str, part: &str) -> (Child, BufReader<ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", test, "--nocapture"])
        .env(PART, part)
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child");
    let output = BufReader::new(child.stdout.take().expect("it is piped"));
    (child, output)
}

fn part() -> Option<String> {
    std::env::var(PART).ok()
}

/// Runs `test` as a child and fails if that does; returns what it printed.
fn as_child(test: &str, part: &str) -> String {
    let (mut child, mut output) = child(test, part);
    let mut text = String::new();
    output.read_to_string(&mut text).expect("its output");
    assert!(child.wait().expect("it ends").success(), "{part}: {text}");
    text
}

/// A node that says that it runs, and that it has stopped in order if it is given the time.
fn serve(stops_within: Duration) {
    let config = Config::single();
    shutdown::on_signals(&config.shutdown).expect("a thread");
    let ended = run(&config, move |_| async move {
        println!("\nready");
        shutdown::current().requested().await;
        println!("\nstopping");
        time::sleep(stops_within).await;
        println!("\nstopped");
    });
    ended.expect("it runs").results.into_iter().for_each(|result| result.expect("no panic"));
}

fn wait_for(output: &mut BufReader<ChildStdout>, word: &str) {
    let said = output.lines().map_while(Result::ok).any(|line| line == word);
    assert!(said, "it never said {word:?}");
}

fn signal_and_wait(signals: usize, stops_within: &str) -> (ExitStatus, String) {
    let (mut child, mut output) = child("a_signal_stops_a_node_in_order", stops_within);
    wait_for(&mut output, "ready");
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a process number"));
    kill(pid, Signal::SIGTERM).expect("it runs");
    if signals == 2 {
        wait_for(&mut output, "stopping");
        kill(pid, Signal::SIGTERM).expect("it runs");
    }
    let status = child.wait().expect("it ends");
    let mut rest = String::new();
    output.read_to_string(&mut rest).expect("its output");
    (status, rest)
}

#[test]
fn a_signal_stops_a_node_in_order() {
    match part().as_deref() {
        None => {}
        Some("quick") => return serve(Duration::from_millis(50)),
        Some(_) => return serve(Duration::from_mins(1)),
    }
    let (status, rest) = signal_and_wait(1, "quick");
    assert!(status.success() && rest.contains("\nstopped\n"), "{status}: {rest}");
    // The second signal is for those who won't wait.
    let (status, rest) = signal_and_wait(2, "slow");
    assert_eq!(status.code(), Some(128 + Signal::SIGTERM as i32));
    assert!(!rest.contains("\nstopped\n"));
}

#[test]
fn little_lockable_memory_is_said_and_got_around() {
    if part().is_none() {
        as_child("little_lockable_memory_is_said_and_got_around", "limited");
        return;
    }
    let (_, hard) = getrlimit(Resource::RLIMIT_MEMLOCK).expect("known");
    setrlimit(Resource::RLIMIT_MEMLOCK, 64 << 10, hard).expect("lowered");
    let glommio = Config { driver: DriverChoice::Glommio, ..Config::single() };
    let refused = run_one(&glommio, || async {}).expect_err("glommio needs more");
    assert!(matches!(refused, StartError::Driver { .. }));
    let words = refused.to_string();
    assert!(words.contains("64 KiB") && words.contains("ulimit -l"), "{words}");
    let ended = run(&Config::single(), |_| async {}).expect("auto finds another");
    assert!(ended.driver.starts_with("driver: monoio on io_uring (not glommio: only 64 KiB"), "{}", ended.driver);
}

#[test]
fn no_memory_to_register_is_got_around() {
    if part().is_none() {
        as_child("no_memory_to_register_is_got_around", "limited");
        return;
    }
    // Enough for glommio to start, but the arena that is asked for is far more than the limit.
    let config = Config { registered_bytes: 1 << 30, block_bytes_max: 2 << 30, ..Config::single() };
    let ended = run(&config, |_| async { cairn_io::block::alloc(4096).await.expect("memory").len() });
    assert_eq!(ended.expect("it runs").results, [Ok(4096)]);
}

/// A core that ends gives back what it opened.
#[test]
fn cores_that_end_leave_no_descriptor() {
    if part().is_none() {
        as_child("cores_that_end_leave_no_descriptor", "alone");
        return;
    }
    let open = || std::fs::read_dir("/proc/self/fd").expect("it is there").count();
    for driver in [DriverChoice::Glommio, DriverChoice::Monoio] {
        let config = Config { driver, block_bytes_max: 1 << 20, ..Config::single() };
        let live = || async {
            let listener = net::Listener::bind("127.0.0.1:0".parse().expect("an address"), net::Reuse::Exclusive);
            let listener = listener.expect("a free port");
            let addr = listener.local_addr().expect("bound");
            // Still waiting, still open when the core ends.
            task::spawn(task::Class::Foreground, async move { listener.accept().await.map(|_| ()) }).detach();
            task::spawn(task::Class::Maintenance, time::sleep(Duration::from_hours(1))).detach();
            let stream = net::Stream::connect(addr).await.expect("it listens");
            task::yield_now().await;
            drop(stream);
        };
        run_one(&config, live).expect("it runs");
        let before = open();
        let ends = 50;
        (0..ends).for_each(|_| run_one(&config, live).expect("it runs"));
        // glommio itself keeps an eventfd of each executor that ends; a node's live as long as the node.
        let kept = if driver == DriverChoice::Glommio { ends } else { 0 };
        assert!(open() <= before + kept + 2, "{driver:?}: {before} descriptors were open, now {}", open());
    }
}

#[test]
fn impossible_configurations_are_refused_in_a_sentence() {
    let cases = [
        (Config { cores: 0, ..Config::default() }, "cores = 0"),
        (Config { block_bytes_max: 10, ..Config::default() }, "block_bytes_max = 10"),
        (Config { ring_entries: 1, ..Config::default() }, "ring_entries = 1"),
        (Config { blocking_threads_max: 0, ..Config::default() }, "blocking_threads_max = 0"),
    ];
    for (config, words) in cases {
        let refused = run(&config, |_| async {}).expect_err("it is impossible");
        assert!(refused.to_string().contains(words), "{refused}");
    }
    assert!("nonsense".parse::<DriverChoice>().expect_err("no driver").contains("auto, glommio or monoio"));
}

#[test]
fn cores_are_pinned_when_asked() {
    let config = Config { pin: cairn_io::Pin::Pinned, cores: 2, ..Config::default() };
    let processors = || {
        let allowed = nix::sched::sched_getaffinity(Pid::from_raw(0)).expect("known");
        (0..nix::sched::CpuSet::count()).filter(|&at| allowed.is_set(at).unwrap_or(false)).count()
    };
    let all = processors();
    let ended = run(&config, move |_| async move {
        // Threads for calls that block may run anywhere.
        (processors(), blocking::run(processors).await.expect("no panic"))
    });
    assert_eq!(ended.expect("it runs").results, [Ok((1, all)), Ok((1, all))]);
}

#[test]
fn an_unwritable_directory_is_named() {
    let words = run_one(&Config::single(), || async {
        fs::Dir::create("/proc/cairn").await.expect_err("nobody may write there").to_string()
    });
    let words = words.expect("it runs");
    assert!(words.contains("/proc/cairn") && words.contains("permissions"), "{words}");
}

#[test]
fn a_node_stops_while_everybody_is_busy() {
    for driver in [DriverChoice::Glommio, DriverChoice::Monoio] {
        let shutdown = Shutdown::new();
        let config = Config { driver, cores: 2, shutdown: shutdown.clone(), ..Config::default() };
        let stopper = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            shutdown.request();
        });
        let ended = run(&config, |_| async {
            for class in cairn_io::task::Class::ALL {
                cairn_io::task::spawn(class, async {
                    loop {
                        cairn_io::task::yield_now().await;
                    }
                })
                .detach();
            }
            shutdown::current().requested().await;
        });
        assert_eq!(ended.expect("it runs").results, [Ok(()), Ok(())]);
        stopper.join().expect("no panic");
    }
}
