//! The configuration: which source counts, and exactly what is said about one that is wrong.

use cairn_daemon::actor::Rate;
use cairn_daemon::config::{Complaints, Config, KEYS, Sources};
use cairn_meta::control::state::Setting;

fn sources(file: &str, variables: &[(&str, &str)], flags: &[(&str, &str)]) -> Sources {
    let owned = |pairs: &[(&str, &str)]| pairs.iter().map(|(name, text)| ((*name).into(), (*text).into())).collect();
    Sources {
        file: (!file.is_empty()).then(|| ("cairn.toml".to_owned(), file.to_owned())),
        variables: owned(variables),
        flags: owned(flags),
    }
}

fn shown(config: &Config, name: &str) -> String {
    let (_, found) = config.entries().find(|(key, _)| key.name == name).expect("a setting");
    found.map_or_else(|| "-".to_owned(), |(value, origin)| format!("{value} ({origin})"))
}

#[test]
fn every_default_is_a_value_of_its_setting() {
    let config = Config::resolve(&Sources::default()).expect("nothing is wrong with nothing");
    for key in KEYS {
        match key.default {
            Some(default) => assert_eq!(shown(&config, key.name), format!("{default} (default)")),
            None => assert_eq!(shown(&config, key.name), "-"),
        }
    }
    assert!(
        config.listen_management().is_some_and(|address| address.ip().is_loopback()),
        "loopback until told otherwise"
    );
}

#[test]
fn the_later_source_counts_and_is_named() {
    let file = "data = [\"/a\", \"/b\"]\nmemory = \"2GiB\"\n\n[scrub]\nbytes_per_second = \"1MiB\"\n\n[log]\nlevel = \"warn\"\n";
    let variables = [("CAIRN_SCRUB_BYTES_PER_SECOND", "2MiB"), ("CAIRN_LOG_LEVEL", "error"), ("PATH", "/bin")];
    let config = Config::resolve(&sources(file, &variables, &[("log.level", "debug")])).expect("all is right");
    assert_eq!(shown(&config, "data"), "/a,/b (cairn.toml:1)");
    assert_eq!(shown(&config, "memory"), "2GiB (cairn.toml:2)");
    assert_eq!(shown(&config, "scrub.bytes_per_second"), "2MiB (CAIRN_SCRUB_BYTES_PER_SECOND)");
    assert_eq!(shown(&config, "log.level"), "debug (--log-level)");
    assert_eq!(shown(&config, "driver"), "auto (default)");
    assert_eq!(config.scrub_rate(), Rate::PerSecond(2 << 20));
}

fn in_cluster(config: &Config, says: &[(&str, &str)]) -> (Config, Vec<String>) {
    let setting = |value: &str| Setting { value: value.to_owned(), epoch: 12 };
    let says: Vec<(&str, Setting)> = says.iter().map(|(name, value)| (*name, setting(value))).collect();
    config.in_cluster(says.iter().map(|(name, setting)| (*name, setting)))
}

#[test]
fn the_cluster_counts_more_than_a_default_and_less_than_the_node() {
    let file = "[scrub]\nbytes_per_second = \"64MiB\"";
    let variables = [("CAIRN_SETTLE_BYTES_PER_SECOND", "2MiB")];
    let own = Config::resolve(&sources(file, &variables, &[("log.level", "debug")])).expect("all is right");
    let rates = ["compact", "scrub", "settle"].map(|actor| format!("{actor}.bytes_per_second"));
    let says: Vec<(&str, &str)> =
        rates.iter().map(|name| (name.as_str(), "5MiB")).chain([("log.level", "warn")]).collect();
    let (config, complaints) = in_cluster(&own, &says);
    assert_eq!(complaints, [""; 0]);
    assert_eq!(shown(&config, "compact.bytes_per_second"), "5MiB (the cluster, at epoch 12)");
    assert_eq!(shown(&config, "scrub.bytes_per_second"), "64MiB (cairn.toml:2)", "though it is the default");
    assert_eq!(shown(&config, "settle.bytes_per_second"), "2MiB (CAIRN_SETTLE_BYTES_PER_SECOND)");
    assert_eq!(shown(&config, "log.level"), "debug (--log-level)");
    let changes: Vec<_> = own.changes(&config).into_iter().map(|change| change.key).collect();
    assert_eq!(changes, ["compact.bytes_per_second"]);
    // What it says no more is forgotten.
    assert_eq!(in_cluster(&config, &[]), (own, vec![]));
}

#[test]
fn what_the_cluster_says_and_nobody_understands_is_passed_over() {
    let own = Config::resolve(&Sources::default()).expect("nothing is wrong with nothing");
    let says = [("scrub.bytes_per_secnd", "1MiB"), ("memory", "1GiB"), ("log.level", "loud"), ("zebra", "1")];
    let (config, complaints) = in_cluster(&own, &says);
    assert_eq!(config, own);
    assert_eq!(
        complaints,
        [
            "the cluster, at epoch 12: there is no setting scrub.bytes_per_secnd; did you mean scrub.bytes_per_second?",
            "the cluster, at epoch 12: memory is each node's own and changes at its start: set it in the node's file, a variable or a flag",
            "the cluster, at epoch 12: log.level = loud has \"loud\" where a level should be; choose error, warn, info, debug or trace, or MODULE=LEVEL",
            "the cluster, at epoch 12: there is no setting zebra; `cairn config list` shows those there are",
        ]
    );
    let (config, complaints) = in_cluster(&own, &[("zebra", "1"), ("scrub.bytes_per_second", "1MiB")]);
    assert_eq!((config.scrub_rate(), complaints.len()), (Rate::PerSecond(1 << 20), 1), "the rest counts");
}

#[test]
fn domains_of_s3_are_a_list_from_any_source() {
    let config = Config::resolve(&Sources::default()).expect("nothing is wrong with nothing");
    assert_eq!((config.s3_region(), config.s3_domains(), config.s3_site_domains()), ("us-east-1", &[][..], &[][..]));
    let file = "[s3]\nregion = \"eu-central-1\"\ndomains = [\"s3.example.org\", \"S3.local\"]";
    let variables = [("CAIRN_S3_SITE_DOMAINS", "site.example.org, localhost")];
    let config = Config::resolve(&sources(file, &variables, &[])).expect("all is right");
    assert_eq!(
        (config.s3_region(), config.s3_domains()),
        ("eu-central-1", &["s3.example.org", "s3.local"].map(Into::into)[..])
    );
    assert_eq!(config.s3_site_domains(), ["site.example.org", "localhost"]);
    assert_eq!(shown(&config, "s3.domains"), "s3.example.org,s3.local (cairn.toml:3)");
}

/// A file, variables and flags, and all that is wrong with them.
type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [(&'a str, &'a str)], &'a [&'a str]);

#[test]
fn what_is_wrong_is_told_with_its_place_and_the_remedy() {
    let cases: &[Case<'_>] = &[
        ("dta = [\"/a\"]", &[], &[], &["cairn.toml:1: there is no setting dta; did you mean data?"]),
        (
            "\n[listen]\nmanagment = \"off\"",
            &[],
            &[],
            &["cairn.toml:3: there is no setting listen.managment; did you mean listen.management?"],
        ),
        (
            "zebra = 1",
            &[],
            &[],
            &["cairn.toml:1: there is no setting zebra; `cairn config print` shows those there are"],
        ),
        ("[zebra]", &[], &[], &["cairn.toml:1: there is no setting zebra; `cairn config print` shows those there are"]),
        ("data = ", &[], &[], &["cairn.toml:1:8: string values must be quoted, expected literal string"]),
        (
            "data = []",
            &[],
            &[],
            &["cairn.toml:1: data = [] names no directory; name at least one, and none that is empty"],
        ),
        (
            "data = [\"/a\", \"/a/\"]",
            &[],
            &[],
            &["cairn.toml:1: data = [\"/a\", \"/a/\"] names /a/ twice; name each directory once"],
        ),
        (
            "data = [1]",
            &[],
            &[],
            &[
                "cairn.toml:1: data = (list of other things than texts) is a list of other things than texts; write a number or a \"text\"",
            ],
        ),
        (
            "cores = [\"1\"]",
            &[],
            &[],
            &["cairn.toml:1: cores = [\"1\"] is a list, and this setting takes one value; write it without [ ]"],
        ),
        ("cores = 0", &[], &[], &["cairn.toml:1: cores = 0 is out of bounds; choose 1 to 1024, or auto"]),
        ("cores = 1.5", &[], &[], &["cairn.toml:1: cores = (fraction) is a fraction; write a number or a \"text\""]),
        (
            "cores = true",
            &[],
            &[],
            &["cairn.toml:1: cores = (truth value) is a truth value; write a number or a \"text\""],
        ),
        (
            "",
            &[("CAIRN_CORES", "many")],
            &[],
            &["CAIRN_CORES: cores = many is no whole number; choose 1 to 1024, or auto"],
        ),
        ("", &[("CAIRN_CORSE", "1")], &[], &["there is no setting CAIRN_CORSE; did you mean CAIRN_CORES?"]),
        (
            "",
            &[],
            &[("driver", "tokio")],
            &["--driver: driver = tokio is none of auto, glommio, monoio; choose one of these"],
        ),
        ("", &[], &[("memory", "1MiB")], &["--memory: memory = 1MiB is out of bounds; choose 64MiB to 64TiB"]),
        (
            "",
            &[],
            &[("memory", "lots")],
            &["--memory: memory = lots is no size; write a whole number with a unit, such as 64MiB"],
        ),
        (
            "",
            &[],
            &[("memory", "99999999999TiB")],
            &["--memory: memory = 99999999999TiB is more than can be counted; write less"],
        ),
        (
            "",
            &[],
            &[("scrub.bytes_per_second", "fast")],
            &[
                "--scrub-bytes-per-second: scrub.bytes_per_second = fast is no size; write a whole number with a unit, such as 64MiB, or write unlimited",
            ],
        ),
        (
            "",
            &[],
            &[("listen.management", "8080")],
            &[
                "--listen-management: listen.management = 8080 is no address with a port; write one such as 127.0.0.1:8080 or [::1]:8080, or off",
            ],
        ),
        (
            "",
            &[],
            &[("s3.region", "EU West")],
            &[
                "--s3-region: s3.region = EU West is no region; write up to 63 small letters, digits and hyphens, such as eu-central-1",
            ],
        ),
        (
            "[s3]\ndomains = [\"s3.example.org\", \"s3.example.org:9000\"]",
            &[],
            &[],
            &[
                "cairn.toml:2: s3.domains = [\"s3.example.org\", \"s3.example.org:9000\"] has \"s3.example.org:9000\", which is no name of a host; write one such as s3.example.org, without a port",
            ],
        ),
        (
            "",
            &[("CAIRN_S3_DOMAINS", "127.0.0.1")],
            &[],
            &[
                "CAIRN_S3_DOMAINS: s3.domains = 127.0.0.1 has \"127.0.0.1\", which is no name of a host; write one such as s3.example.org, without a port",
            ],
        ),
        (
            "",
            &[],
            &[("s3.site_domains", "example.org,S3.example.org")],
            &[
                "--s3-site-domains: s3.site_domains = example.org,S3.example.org names s3.example.org and example.org, of which one is below the other; name one of them",
            ],
        ),
        (
            "",
            &[],
            &[("log.level", "loud")],
            &[
                "--log-level: log.level = loud has \"loud\" where a level should be; choose error, warn, info, debug or trace, or MODULE=LEVEL",
            ],
        ),
        // All of it at once.
        (
            "dta = 1\ncores = 0",
            &[("CAIRN_MEMORY", "x")],
            &[("driver", "y")],
            &[
                "cairn.toml:1: there is no setting dta; did you mean data?",
                "cairn.toml:2: cores = 0 is out of bounds; choose 1 to 1024, or auto",
                "CAIRN_MEMORY: memory = x is no size; write a whole number with a unit, such as 64MiB",
                "--driver: driver = y is none of auto, glommio, monoio; choose one of these",
            ],
        ),
    ];
    for (file, variables, flags, expected) in cases {
        let Complaints(found) = Config::resolve(&sources(file, variables, flags)).expect_err("it is wrong");
        assert_eq!(found, *expected, "{file:?} {variables:?} {flags:?}");
    }
}

#[test]
fn variables_that_others_set_are_left_alone() {
    // Kubernetes sets the first three beside a service called "cairn"; then, where the file is, and what clients read.
    let set = [
        ("CAIRN_SERVICE_HOST", "10.0.0.1"),
        ("CAIRN_PORT", "tcp://10.0.0.1:8080"),
        ("CAIRN_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("CAIRN_CONFIG", "cairn.toml"),
        ("CAIRN_ENDPOINT", "http://127.0.0.1:9000"),
        ("CAIRN_CLIENT_CONFIG", "client.toml"),
    ];
    assert_eq!(Config::resolve(&sources("", &set, &[])), Config::resolve(&Sources::default()));
}

#[test]
fn a_reload_knows_what_can_change() {
    let old = Config::resolve(&sources("cores = 1\n[log]\nlevel = \"info\"", &[], &[])).expect("right");
    let new = Config::resolve(&sources("cores = 2\n[log]\nlevel = \"warn\"", &[], &[])).expect("right");
    let changes: Vec<_> = old.changes(&new).into_iter().map(|change| (change.key, change.to, change.is_live)).collect();
    assert_eq!(changes, [("cores", "2".to_owned(), false), ("log.level", "warn".to_owned(), true)]);
    assert!(old.changes(&old).is_empty());
}
