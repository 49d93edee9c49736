//! Settings: wrong ones refused in exact words, right ones taken over while the node runs.

use std::fs;

use serde_json::Value;

use crate::node::{Disks, Node, cairn, err, run};

#[test]
fn wrong_settings_are_refused_in_words() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("there is room");
    let file = dir.path().join("cairn.toml");
    let path = file.to_str().expect("UTF-8");
    let missing = dir.path().join("missing.toml");
    let missing = missing.to_str().expect("UTF-8");
    fs::write(&file, "data = [\"/nowhere\"]\n[log]\nlevl = \"info\"\n").expect("written");
    let wrong_file = format!("cairn: {path}:3: there is no setting log.levl; did you mean log.level?\n");
    let no_file = format!(
        "cairn: can't read {missing}: No such file or directory (os error 2); correct --config or CAIRN_CONFIG\n"
    );
    let no_data = "cairn: nobody says where the data is; give --data DIR, set CAIRN_DATA, or write data = [\"DIR\"] into the file\n";
    let cases: [(&[&str], &str); 6] = [
        (&["--config", path], &wrong_file),
        (&["--config", missing], &no_file),
        (&[], no_data),
        (&["--data", "/a", "--cores", "0"], "cairn: --cores: cores = 0 is out of bounds; choose 1 to 1024, or auto\n"),
        (&["--data", "/a,/a"], "cairn: --data: data = /a,/a names /a twice; name each directory once\n"),
        (
            &["--data", "/a", "--driver", "tokio"],
            "cairn: --driver: driver = tokio is none of auto, glommio, monoio; choose one of these\n",
        ),
    ];
    for (args, words) in cases {
        for command in [&["serve"][..], &["config", "check"]] {
            let output = run(&[command, args].concat());
            assert_eq!((output.status.code(), err(&output).as_str()), (Some(2), words), "{command:?} {args:?}");
        }
    }
    let output = cairn(&["config", "check", "--data", "/a"]).env("CAIRN_MEMROY", "1GiB").output().expect("it is built");
    let words = "cairn: there is no setting CAIRN_MEMROY; did you mean CAIRN_MEMORY?\n";
    assert_eq!((output.status.code(), err(&output).as_str()), (Some(2), words));
    let output = run(&["config", "check", "--data", "/a"]);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), &b"the configuration is good\n"[..]));
}

#[test]
fn settings_are_shown_with_their_origin() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("there is room");
    let file = dir.path().join("cairn.toml");
    fs::write(&file, "\nmemory = \"2GiB\"\n").expect("written");
    let path = file.to_str().expect("UTF-8");
    let mut command = cairn(&["config", "print", "--json", "--cores", "3"]);
    let output = command.env("CAIRN_CONFIG", path).env("CAIRN_LOG_LEVEL", "warn").output().expect("it is built");
    let entries: Value = serde_json::from_slice(&output.stdout).expect("one JSON array");
    let shown = |key: &str| {
        let entry = entries.as_array().expect("an array").iter().find(|entry| entry["key"] == key).expect("a setting");
        (entry["value"].as_str().map(str::to_owned), entry["origin"].as_str().map(str::to_owned))
    };
    let some = |value: &str, origin: &str| (Some(value.to_owned()), Some(origin.to_owned()));
    assert_eq!(shown("memory"), some("2GiB", &format!("{path}:2")));
    assert_eq!(shown("log.level"), some("warn", "CAIRN_LOG_LEVEL"));
    assert_eq!(shown("cores"), some("3", "--cores"));
    assert_eq!(shown("driver"), some("auto", "default"));
    assert_eq!(shown("data"), (None, None));
    let table = String::from_utf8_lossy(&run(&["config", "print", "--config", path]).stdout).into_owned();
    assert!(table.lines().any(|line| line.contains("memory") && line.ends_with("cairn.toml:2")), "{table}");
}

#[test]
fn a_running_node_takes_over_what_can_change() {
    let disks = Disks::new(1);
    let file = disks.beside("cairn.toml");
    let write = |text: &str| fs::write(&file, text).expect("written");
    write("[scrub]\nbytes_per_second = \"1MiB\"\n");
    let mut node = Node::start(&disks, &["--config", file.to_str().expect("UTF-8")]);
    let rates = |status: &Value, name: &str| -> Vec<Value> {
        let cores = status["cores"].as_array().cloned().unwrap_or_default();
        let actors = cores.into_iter().flat_map(|core| core["actors"].as_array().cloned().unwrap_or_default());
        actors.filter(|actor| actor["name"] == name).map(|actor| actor["bytes_per_second"].clone()).collect()
    };
    assert_eq!(rates(&node.status(), "scrub"), [1 << 20, 1 << 20]);
    write("memory = \"2GiB\"\n[scrub]\nbytes_per_second = \"2MiB\"\n[compact]\nbytes_per_second = 0\n");
    node.signal("-HUP");
    node.until_status("every core has the new budgets", |status| {
        rates(status, "scrub") == [2 << 20, 2 << 20] && rates(status, "compact") == [0, 0]
    });
    let line = node.until("key=memory");
    assert!(
        line.contains("WARN") && line.contains("when the node is started again") && line.contains("to=2GiB"),
        "{line}"
    );
    // A file that is wrong changes nothing.
    write("[scrub]\nbytes_per_secnd = \"9MiB\"\n");
    node.signal("-HUP");
    let line = node.until("nothing of it was taken over");
    assert!(line.contains("did you mean scrub.bytes_per_second?"), "{line}");
    assert_eq!(rates(&node.status(), "scrub"), [2 << 20, 2 << 20]);
    // Levels change, too.
    write("[log]\nlevel = \"debug\"\n");
    node.signal("-HUP");
    node.until("key=log.level");
    node.get("/health/live");
    node.until("route=/health/live");
    node.stop();
}
