//! What the manifests say: members, and who depends on whom.

use crate::tree::Tree;

/// Who may depend on whom, lowest first; docs/architecture.md has the reasons.
const EDGES: &[(&str, &[&str])] = &[
    ("schema", &[]),
    ("io", &[]),
    ("placement", &[]),
    ("meta", &["placement"]),
    ("client", &["schema", "io", "placement"]),
    ("daemon", &["schema", "io", "placement", "meta", "client"]),
    ("tools", &["schema", "io", "placement", "meta", "client", "daemon"]),
    ("benches", &["schema", "io", "placement", "meta", "client", "daemon", "tools"]),
    ("tests", &["schema", "io", "placement", "meta", "client", "daemon", "tools"]),
];

/// Crates that touch the kernel, and the one folder each may be named in. Tests may use them where they please.
const AT_HOME: &[(&str, &str)] = &[
    ("glommio", "io"),
    ("monoio", "io"),
    ("io-uring", "io"),
    ("libc", "io"),
    ("memmap2", "io"),
    ("nix", "io"),
    ("socket2", "io"),
    ("heed", "meta"),
];

/// What a crate's manifest says that matters here.
pub struct Manifest {
    folder: String,
    /// Dependencies of what it ships: of the build and of single platforms too.
    shipped: Vec<String>,
    /// Dependencies of its tests.
    tests: Vec<String>,
    /// Whether it keeps the workspace's lints.
    linted: bool,
}

pub fn read(tree: &Tree) -> Vec<Manifest> {
    let present = |folder: &&(&str, &[&str])| !tree.text(&format!("{}/Cargo.toml", folder.0)).is_empty();
    EDGES.iter().filter(present).map(|(folder, _)| parse(folder, &tree.text(&format!("{folder}/Cargo.toml")))).collect()
}

fn parse(folder: &str, text: &str) -> Manifest {
    let manifest: toml::Table = text.parse().expect("cargo has read it too");
    let lints = manifest.get("lints").and_then(|lints| lints.get("workspace"));
    let platforms = manifest.get("target").and_then(toml::Value::as_table);
    let tables: Vec<&toml::Table> = platforms
        .into_iter()
        .flat_map(toml::Table::values)
        .filter_map(toml::Value::as_table)
        .chain([&manifest])
        .collect();
    let names = |section| tables.iter().flat_map(|table| dependencies(table, section)).collect::<Vec<_>>();
    Manifest {
        folder: folder.to_owned(),
        shipped: [names("dependencies"), names("build-dependencies")].concat(),
        tests: names("dev-dependencies"),
        linted: lints.and_then(toml::Value::as_bool) == Some(true),
    }
}

/// The crates of one section under their real names, whatever the manifest calls them.
fn dependencies(table: &toml::Table, section: &str) -> Vec<String> {
    let section = table.get(section).and_then(toml::Value::as_table);
    let real = |(name, value): (&String, &toml::Value)| {
        value.get("package").and_then(toml::Value::as_str).unwrap_or(name).to_owned()
    };
    section.into_iter().flatten().map(real).collect()
}

pub fn check_edges(manifests: &[Manifest]) -> Vec<String> {
    manifests.iter().flat_map(upward_edges).collect()
}

fn upward_edges(manifest: &Manifest) -> Vec<String> {
    let folder = manifest.folder.as_str();
    let below = EDGES.iter().find(|(name, _)| *name == folder).map_or(&[][..], |(_, below)| *below);
    let ours = |names: &[String]| -> Vec<String> {
        names.iter().filter_map(|name| name.strip_prefix("cairn-")).map(str::to_owned).collect()
    };
    // A crate's tests may ask for other features of the crate itself.
    let tests = ours(&manifest.tests).into_iter().filter(|other| other != folder);
    let wrong = ours(&manifest.shipped).into_iter().chain(tests).filter(|other| !below.contains(&other.as_str()));
    wrong
        .map(|other| {
            format!(
                "{folder} depends on {other}, which is not below it. Move what they share down into a crate both may \
                 use, or hand it in as a value; a test that needs both belongs into tests/. If the architecture is to \
                 change, write a decision and change EDGES in tests/tests/tidy/manifests.rs."
            )
        })
        .collect()
}

pub fn check_homes(manifests: &[Manifest]) -> Vec<String> {
    let named = manifests.iter().flat_map(|manifest| manifest.shipped.iter().map(move |name| (manifest, name)));
    let strays = named.filter_map(|(manifest, name)| {
        let (_, home) = AT_HOME.iter().find(|(stranger, _)| stranger == name)?;
        (manifest.folder != *home).then(|| {
            format!(
                "{} depends on {name}, which only {home} may: the rest must run unchanged in the simulation. Use what \
                 {home} offers, or add there what it lacks.",
                manifest.folder
            )
        })
    });
    strays.collect()
}

pub fn check_lints(manifests: &[Manifest]) -> Vec<String> {
    let bare = manifests.iter().filter(|manifest| !manifest.linted);
    bare.map(|manifest| {
        format!("{}/Cargo.toml lacks `[lints]` with `workspace = true`: no rule holds there.", manifest.folder)
    })
    .collect()
}

pub fn check_members(root: &str) -> Vec<String> {
    let lines = root.lines().skip_while(|line| !line.starts_with("members")).skip(1);
    let members: Vec<&str> = lines.take_while(|line| !line.starts_with(']')).map(str::trim).collect();
    let mut complaints = Vec::new();
    let mut last = 0;
    for line in members {
        let folder = line.split('"').nth(1).unwrap_or_default();
        match EDGES.iter().position(|(name, _)| *name == folder) {
            None => complaints
                .push(format!("{folder:?} is not a folder of the design; put its code where its name belongs.")),
            Some(place) if place < last => {
                complaints.push(format!("{folder} is listed after a crate above it; members stand lowest first."));
            }
            Some(place) => last = place,
        }
        if !line.contains("# ") {
            complaints.push(format!("say in a comment behind it what {folder} is."));
        }
    }
    complaints
}

#[test]
fn an_upward_edge_is_seen() {
    let upward = [
        "[dependencies]\ncairn-daemon.workspace = true",
        "[build-dependencies]\ncairn-daemon = \"1\"",
        "[target.'cfg(unix)'.dependencies]\ncairn-daemon = \"1\"",
        "[dev-dependencies]\nnode = { package = \"cairn-daemon\", path = \"../daemon\" }",
    ];
    for text in upward {
        let complaints = check_edges(&[parse("io", text)]);
        assert!(complaints.len() == 1 && complaints[0].starts_with("io depends on daemon"), "{text}: {complaints:?}");
    }
    let fine =
        [parse("tools", "[dependencies]\ncairn-io = \"1\""), parse("io", "[dev-dependencies]\ncairn-io = \"1\"")];
    assert!(check_edges(&fine).is_empty());
}

#[test]
fn a_stray_driver_is_seen() {
    let text =
        "[dependencies]\nring = { package = \"io-uring\", version = \"0.7\" }\n[dev-dependencies]\nlibc = \"0.2\"";
    assert_eq!(check_homes(&[parse("io", text)]).len(), 0);
    let complaints = check_homes(&[parse("daemon", text)]);
    assert!(complaints.len() == 1 && complaints[0].contains("io-uring"), "{complaints:?}");
}

#[test]
fn a_manifest_without_lints_is_seen() {
    assert_eq!(check_lints(&[parse("io", "[lints]\nworkspace = true")]).len(), 0);
    assert_eq!(check_lints(&[parse("io", ""), parse("io", "[lints]\nworkspace = false")]).len(), 2);
}

#[test]
fn wrong_members_are_seen() {
    let text = "members = [\n    \"daemon\", # the node\n    \"io\",\n    \"util\", # odds and ends\n]\n";
    assert_eq!(check_members(text).len(), 3, "order, comment, folder: {:?}", check_members(text));
}
