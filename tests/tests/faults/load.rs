//! Running the load, and remembering what it was answered.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// What was answered of each chunk last, by lane and chunk: stored (`+`), being dropped (`?`), dropped (`-`).
#[derive(Default)]
pub struct Answers(BTreeMap<(usize, String), char>);

impl Answers {
    fn note(&mut self, line: &str) {
        let mut words = line.splitn(3, ' ');
        let lane = words.next().and_then(|lane| lane.parse().ok());
        let sign = words.next().filter(|sign| ["+", "?", "-"].contains(sign)).and_then(|sign| sign.chars().next());
        if let (Some(lane), Some(sign), Some(chunk)) = (lane, sign, words.next()) {
            self.0.insert((lane, chunk.to_owned()), sign);
        }
    }

    /// As lines for `lane-load`, of one lane, under the number 0.
    fn lines(&self, lane: usize) -> String {
        let ours = self.0.iter().filter(|((of, _), _)| *of == lane);
        ours.map(|((_, chunk), sign)| format!("0 {sign} {chunk}\n")).collect()
    }

    /// Chunks that are stored.
    pub fn stored(&self, lane: usize) -> usize {
        self.0.iter().filter(|((of, _), sign)| *of == lane && **sign == '+').count()
    }
}

/// A load under way.
pub struct Load {
    child: Child,
    lines: Receiver<String>,
}

impl Load {
    /// Starts a load of these lanes; the first of them may hold something.
    pub fn start(seed: u64, seconds: u64, dirs: &[&Path], answers: &Answers) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lane-load"));
        command.args(["run", &seed.to_string(), &seconds.to_string()]).args(dirs);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("lane-load is built");
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(answers.lines(0).as_bytes()).expect("it reads");
        drop(stdin);
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = send.send(line);
            }
        });
        Self { child, lines }
    }

    /// Takes lines in until `enough` says so; panics if it takes too long or something is wrong.
    pub fn until(&mut self, answers: &mut Answers, what: &str, mut enough: impl FnMut(&str) -> bool) {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    assert!(!line.contains("BAD"), "{line}");
                    answers.note(&line);
                    if enough(&line) {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("the load doesn't get to {what}"),
                Err(RecvTimeoutError::Disconnected) => panic!("the load ended before {what}"),
            }
        }
    }

    /// Takes lines in until the lane has answered so many more puts.
    pub fn puts(&mut self, answers: &mut Answers, count: usize) {
        let mut seen = 0;
        self.until(answers, "its puts", |line| {
            seen += usize::from(line.contains(" + "));
            seen >= count
        });
    }

    /// Kills it, as kill -9 does, and takes in what it had still said. Of this, `BAD` counts only if `trusted`.
    pub fn kill(mut self, answers: &mut Answers, trusted: bool) {
        let _ = self.child.kill();
        self.rest(answers, trusted);
    }

    /// Waits until it ends by itself.
    pub fn end(mut self, answers: &mut Answers) {
        self.rest(answers, true);
    }

    fn rest(&mut self, answers: &mut Answers, trusted: bool) {
        while let Ok(line) = self.lines.recv_timeout(Duration::from_secs(90)) {
            assert!(!trusted || !line.contains("BAD"), "{line}");
            answers.note(&line);
        }
        let _ = self.child.wait();
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Opens the lane, reads all that was answered, scrubs and closes it. Returns what it said.
pub fn check(dir: &Path, answers: &mut Answers, lane: usize) -> String {
    let output = try_check(dir, answers, lane);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && !said.contains("BAD"), "{}: {said}", dir.display());
    for line in said.lines() {
        answers.note(&line.replacen('0', &lane.to_string(), 1));
    }
    said
}

pub fn try_check(dir: &Path, answers: &Answers, lane: usize) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lane-load"));
    let command = command.arg("check").arg(dir).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("lane-load is built");
    child.stdin.take().expect("piped").write_all(answers.lines(lane).as_bytes()).expect("it reads");
    child.wait_with_output().expect("it ends")
}

/// Runs `cairn`.
pub fn cairn(args: &[&str], dir: &Path) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cairn-under-test"));
    let output = command.args(args).arg(dir).output().expect("it is built");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

/// `cairn fsck` finds nothing.
pub fn assert_clean(dir: &Path) {
    let (code, text) = cairn(&["fsck"], dir);
    assert_eq!(code, Some(0), "{text}");
}
