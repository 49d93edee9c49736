//! The `cairn` command as its users see it: exit codes, sentences, JSON, and nothing left behind.

#![allow(clippy::disallowed_methods, reason = "looks at real directories from outside a core")]

use std::path::Path;
use std::process::{Command, Output, Stdio};

fn cairn(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cairn")).args(args).stdin(Stdio::null()).output().expect("the binary starts")
}

fn bench_disk(dir: &Path, more: &[&str]) -> Output {
    let dir = dir.to_str().expect("a plain path");
    cairn(&[&["bench", "disk", "--dir", dir, "--size", "16MiB", "--seconds", "1"], more].concat())
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A directory on the disk that the build uses: the system's own may be in memory.
fn disk_dir() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the target directory can be written")
}

#[track_caller]
fn refuses(output: &Output, sentence: &str) {
    assert_eq!(output.status.code(), Some(2), "{}", err(output));
    assert!(err(output).contains(sentence), "{}", err(output));
    assert!(output.stdout.is_empty(), "what isn't done has no result");
}

#[test]
fn without_arguments_it_prints_help() {
    let output = cairn(&[]);
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for part in ["Usage: cairn", "bench", "Exit codes:"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn it_says_its_version() {
    let output = cairn(&["--version"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("cairn {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn bad_input_is_refused_with_the_remedy() {
    let dir = disk_dir();
    let missing = dir.path().join("missing");
    refuses(&bench_disk(&missing, &[]), "missing doesn't exist; make it or choose another with --dir");
    refuses(&bench_disk(Path::new(env!("CARGO_BIN_EXE_cairn")), &[]), "is not a directory; choose one with --dir");
    refuses(&bench_disk(dir.path(), &["--driver", "nonsense"]), "possible values: all, auto, glommio, monoio");
    refuses(&cairn(&["bench", "disk", "--size", "1KiB"]), "choose at least 16MiB");
    refuses(&cairn(&["bench", "disk", "--size", "1000000TiB"]), "");
    refuses(&cairn(&["bench", "disk", "--dir", ".", "--size", "900000TiB"]), "make room or ask for less with --size");
    refuses(&cairn(&["bench", "disk", "--seconds", "0"]), "--seconds");
}

#[test]
fn its_json_has_bars_and_no_file_is_left() {
    let dir = disk_dir();
    let output = bench_disk(dir.path(), &["--driver", "auto", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert!(err(&output).contains("driver: "), "it says which driver runs: {}", err(&output));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("standard output is one JSON object");
    let bars = report["bars"].as_array().expect("it has bars");
    for bar in bars {
        for field in ["name", "unit", "value", "reference", "ratio", "bar", "holds"] {
            assert!(bar.get(field).is_some(), "{field} is missing in {bar}");
        }
        assert!(bar["value"].as_f64() > Some(0.0) && bar["reference"].as_f64() > Some(0.0), "{bar}");
        assert_eq!(bar["bar"].is_null(), bar["holds"].is_null(), "{bar}");
    }
    assert_eq!(bars.iter().filter(|bar| !bar["bar"].is_null()).count(), 6);
    assert_eq!(std::fs::read_dir(dir.path()).expect("it is there").count(), 0, "the file has gone");
}

#[test]
fn a_reader_that_has_gone_is_no_reason_to_panic() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_cairn"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert!(!err(&output).contains("panicked"), "{}", err(&output));
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn shells_and_man_get_what_they_want() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = cairn(&["completions", shell]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && text.contains("listen-management"), "{shell}: {}", err(&output));
    }
    let page = |args: &[&str]| String::from_utf8_lossy(&cairn(&[&["man"], args].concat()).stdout).into_owned();
    assert!(page(&[]).contains(".TH cairn 1"), "{}", page(&[]));
    let serve = page(&["serve"]);
    assert!(serve.contains(".TH cairn-serve 1") && serve.contains("SIGHUP reads the settings again"), "{serve}");
    refuses(&cairn(&["man", "nonsense"]), "`cairn` has no command nonsense; it has demo, init, serve, status,");
}
