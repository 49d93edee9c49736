//! Settings: wrong ones refused in exact words, right ones taken over while the node runs.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use crate::cluster::{Cluster, SETTINGS};
use crate::node::{Disks, Node, cairn, err, run};
use crate::s3::{Client, address};

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

/// How fast the actors of this name may work, by a node's status.
fn rates(status: &Value, name: &str) -> Vec<Value> {
    let cores = status["cores"].as_array().cloned().unwrap_or_default();
    let actors = cores.into_iter().flat_map(|core| core["actors"].as_array().cloned().unwrap_or_default());
    actors.filter(|actor| actor["name"] == name).map(|actor| actor["bytes_per_second"].clone()).collect()
}

#[test]
fn a_running_node_takes_over_what_can_change() {
    let disks = Disks::new(1);
    let file = disks.beside("cairn.toml");
    let write = |text: &str| fs::write(&file, text).expect("written");
    write("[scrub]\nbytes_per_second = \"1MiB\"\n");
    let mut node = Node::start(&disks, &["--config", file.to_str().expect("UTF-8")]);
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

const SCRUB: &str = "scrub.bytes_per_second";

/// What a node says of the scrub's rate when it is asked until it uses this value, and with what the cluster says of it.
fn until_used(cluster: &Cluster, node: usize, value: &str, said: Option<&str>) -> Value {
    let mut last = Value::Null;
    for _ in 0..300 {
        let output = cluster.cairn(node, &["config", "list", "--json"]);
        let all: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", err(&output)));
        last = all.as_array().expect("an array").iter().find(|one| one["name"] == SCRUB).expect("it is one").clone();
        if last["value"] == value && last["cluster"]["value"].as_str() == said {
            return last;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("node {node} never used {value}, with {said:?} of the cluster: {last}")
}

#[test]
fn all_nodes_follow_what_the_cluster_says() {
    let disks: Vec<Disks> = (0..3).map(|_| Disks::new(1)).collect();
    let file = disks[2].beside(SETTINGS);
    fs::write(&file, "[scrub]\nbytes_per_second = \"2MiB\"\n").expect("written");
    let mut cluster = Cluster::on(disks);
    let done = |cluster: &Cluster, node: usize, command: &[&str]| -> Value {
        let output = cluster.cairn(node, &[&["config"], command, &["--json"]].concat());
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{command:?}: {}", err(&output)))
    };
    // Who is told has taken it over before it answers; the others follow, on all cores.
    let report = done(&cluster, 0, &["set", SCRUB, "1024KiB", "--expected", "0"]);
    let first = report["cluster"]["epoch"].as_u64().expect("a number");
    let origin = format!("the cluster, at epoch {first}");
    assert_eq!((&report["value"], &report["origin"]), (&"1MiB".into(), &origin.as_str().into()), "{report}");
    assert_eq!(until_used(&cluster, 1, "1MiB", Some("1MiB"))["origin"], origin);
    let follower = cluster.nodes[1].as_mut().expect("it runs");
    follower.until_status("every core follows", |status| rates(status, "scrub") == [1 << 20, 1 << 20]);
    follower.until("a setting has changed key=scrub.bytes_per_second from=64MiB to=1MiB");
    // One whose own file says otherwise keeps that, and says so, until the file says nothing.
    let own = until_used(&cluster, 2, "2MiB", Some("1MiB"));
    assert!(own["origin"].as_str().is_some_and(|origin| origin.ends_with("cairn.toml:2")), "{own}");
    fs::write(&file, "").expect("written");
    cluster.nodes[2].as_ref().expect("it runs").signal("-HUP");
    assert_eq!(until_used(&cluster, 2, "1MiB", Some("1MiB"))["origin"], origin);
    // What another version put there is passed over, is said once, and hinders nothing.
    cluster.put_setting("node.log.level", "loud");
    let words = "a setting of the cluster is passed over";
    let line = cluster.nodes[0].as_mut().expect("it runs").until(words);
    assert!(line.contains("log.level = loud has"), "{line}");
    // A start doesn't forget what the cluster says.
    cluster.nodes[1].take().expect("it runs").stop();
    cluster.nodes[1] = Some(cluster.begin(1));
    cluster.nodes[1].as_mut().expect("it runs").until("the node is ready");
    assert_eq!(until_used(&cluster, 1, "1MiB", Some("1MiB"))["origin"], origin);
    // Who expects another value than there is has not seen what somebody else said.
    let second = done(&cluster, 2, &["set", SCRUB, "3MiB", "--expected", &first.to_string()]);
    let second = second["cluster"]["epoch"].as_u64().expect("a number");
    let (first, changed) = (first.to_string(), format!("it was changed at epoch {second}"));
    let refusals: [(&[&str], i32, &str); 6] = [
        (&["set", SCRUB, "4MiB", "--expected", &first], 4, &changed),
        (&["unset", SCRUB, "--expected", &first], 4, &changed),
        (&["set", SCRUB, "1MB"], 2, "scrub.bytes_per_second = 1MB is no size; write a whole number with a unit"),
        (&["set", "scrub.bytes_per_secnd", "1MiB"], 3, "did you mean scrub.bytes_per_second?"),
        (&["set", "memory", "1GiB"], 3, "memory is each node's own"),
        (&["unset", "slots.nodes"], 3, "there is no setting slots.nodes"),
    ];
    for (command, code, words) in refusals {
        let output = cluster.cairn(1, &[&["config"], command].concat());
        assert!(output.status.code() == Some(code) && err(&output).contains(words), "{command:?}: {}", err(&output));
    }
    let node = cluster.nodes[1].as_ref().expect("it runs");
    for (method, path) in [("GET", "/settings"), ("PUT", "/settings/log.level"), ("DELETE", "/settings/log.level")] {
        assert_eq!((node.ask(method, path, "").0, node.ask(method, path, "authorization: Bearer x\r\n").0), (401, 401));
    }
    let report = done(&cluster, 1, &["unset", SCRUB, "--expected", &second.to_string()]);
    assert_eq!((&report["value"], &report["cluster"]), (&"64MiB".into(), &Value::Null), "{report}");
    for node in 0..3 {
        assert_eq!(until_used(&cluster, node, "64MiB", None)["origin"], "default");
    }
    for node in cluster.nodes.iter_mut().filter_map(Option::take) {
        let log = node.stop();
        assert_eq!(log.iter().filter(|line| line.contains(words)).count(), 1, "{}", log.join("\n"));
    }
}

#[test]
fn s3_has_the_region_and_the_domains_that_it_is_told() {
    let disks = Disks::new(1);
    let node = Node::start(
        &disks,
        &["--s3-region", "eu-central-1", "--s3-domains", "s3.test,S3.example.org", "--s3-site-domains", "site.test"],
    );
    let (at, data) = (node.addr.to_string(), disks.data());
    let made = run(&["key", "create", "ann", "--at", &at, "--data", &data, "--json"]);
    let key = serde_json::from_slice(&made.stdout).unwrap_or_else(|_| panic!("{}", err(&made)));
    let at = address(&node);
    let mut ann = Client::of_region(at, &key, "eu-central-1");
    ann.put("/photos", "");
    let location = ann.get("/photos?location").good().text();
    assert!(location.contains(">eu-central-1</LocationConstraint>"), "{location}");
    assert_eq!(ann.ask("HEAD", "/photos", &[], b"").good().header("x-amz-bucket-region"), "eu-central-1");
    // The host names the bucket below each of the domains, and the signature is about that host.
    let port = at.port();
    for (turn, domain) in [format!("photos.s3.test:{port}"), "photos.s3.EXAMPLE.org".to_owned()].iter().enumerate() {
        let (target, body) = (format!("/a/{turn}"), turn.to_string());
        ann.ask("PUT", &target, &[("host", domain)], body.as_bytes()).good();
        assert_eq!(ann.get(&format!("/photos{target}")).good().text(), body);
        assert_eq!(ann.ask("GET", &target, &[("host", domain)], b"").good().text(), body);
    }
    assert_eq!(
        ann.ask("GET", "/?list-type=2", &[("host", "photos.s3.test")], b"").good().elements("Key"),
        ["a/0", "a/1"]
    );
    assert_eq!(ann.ask("GET", "/a/0", &[("host", "other.s3.test")], b"").status, 404);
    // One that no domain is above names no bucket: the path does.
    assert_eq!(ann.ask("GET", "/photos/a/0", &[("host", "photos.elsewhere.test")], b"").good().text(), "0");
    // A page needs no signature, and is what everybody may read.
    let page = ann.ask("GET", "/", &[("host", "photos.site.test")], b"");
    assert!(page.status == 404 && page.text().contains("NoSuchWebsiteConfiguration"), "{}", page.text());
    // Clients that are told no region sign for the first; who signs for another learns which this is.
    Client::new(at, &key).get("/photos/a/0").good();
    let refused = Client::of_region(at, &key, "ap-south-1").get("/photos/a/0");
    assert_eq!((refused.status, &*refused.elements("Code")[0]), (400, "AuthorizationHeaderMalformed"));
    assert_eq!(refused.elements("Region"), ["eu-central-1"]);
    let message = "The authorization header is malformed; the region 'ap-south-1' is wrong; expecting 'eu-central-1'";
    assert_eq!(refused.elements("Message")[0].replace("&apos;", "'"), message);
    node.stop();
}
