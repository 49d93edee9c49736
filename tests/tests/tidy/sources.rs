//! What every source file keeps to.

use crate::tree::Tree;

/// A rule looks at one file and complains.
type Rule = fn(path: &str, text: &str) -> Vec<String>;

/// Applies a rule to all Rust sources.
pub fn check(tree: &Tree, rule: Rule) -> Vec<String> {
    apply(&tree.files(&[".rs"]), rule)
}

/// Applies a rule to everything people read.
pub fn check_all(tree: &Tree, rule: Rule) -> Vec<String> {
    apply(&tree.files(&[".rs", ".toml", ".md", ".yml", ".capnp", ".sh", "run"]), rule)
}

fn apply(files: &[(String, String)], rule: Rule) -> Vec<String> {
    assert!(files.len() > 10, "the workspace has more files than the {} found", files.len());
    files.iter().flat_map(|(path, text)| rule(path, text)).collect()
}

pub fn module_doc(path: &str, text: &str) -> Vec<String> {
    let generated = text.starts_with("// @generated");
    if generated || text.starts_with("//! ") {
        return vec![];
    }
    vec![format!("{path}: begin with a `//!` line that says what this module is, and what it is not where that helps.")]
}

/// The one file that maps LMDB's file, and makes the directory for it.
const LMDB: &str = "meta/src/index/store/lmdb.rs";

/// Folders and files that may contain unsafe code.
const UNSAFE_ALLOWED: &[&str] = &["io/", LMDB];

/// Lines above an unsafe block in which its reason may stand.
const REASON_WITHIN: usize = 8;

pub fn unsafe_code(path: &str, text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let mut complaints = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let code = code_of(line);
        if !["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"].iter().any(|form| code.contains(form)) {
            continue;
        }
        let number = at + 1;
        if !UNSAFE_ALLOWED.iter().any(|folder| path.starts_with(folder)) {
            complaints
                .push(format!("{path}:{number}: unsafe code belongs into io, behind a safe face; call that instead."));
        }
        let reason = lines[at.saturating_sub(REASON_WITHIN)..at].iter().any(|line| line.contains("SAFETY:"));
        if !reason {
            complaints.push(format!("{path}:{number}: say above it in a `// SAFETY:` comment why this is sound."));
        }
    }
    complaints
}

/// A line without its comment and without what stands in its string literals.
fn code_of(line: &str) -> String {
    let escaped = line.replace("\\\"", "").replace("'\"'", "");
    let outside = escaped.split('"').step_by(2).collect::<Vec<_>>().join("\"\"");
    outside.split("//").next().unwrap_or_default().to_owned()
}

/// Where clippy's bans may be lifted: what stands in for the kernel, and what is no part of a node.
const UNBANNED: &[&str] =
    &["io/", LMDB, "tools/src/place/files.rs", "tools/src/s3/local.rs", "tools/src/xtask/", "benches/", "tests/"];

fn is_unbanned(path: &str) -> bool {
    UNBANNED.iter().any(|folder| path.starts_with(folder)) || path.contains("/tests/")
}

pub fn lifted_bans(path: &str, text: &str) -> Vec<String> {
    let complain = |at| {
        format!(
            "{path}:{at}: lifts a ban on what blocks a core or escapes the simulation; use the replacement that clippy \
             names, or add to io what it lacks."
        )
    };
    if is_unbanned(path) { vec![] } else { lines_with("clippy::disallowed_", text).map(complain).collect() }
}

/// Clippy could ban this too, but tests of the `cairn` command start it as people do, and need not say why.
pub fn programs(path: &str, text: &str) -> Vec<String> {
    let complain = |at| {
        format!("{path}:{at}: starts another program; a node never does, and it blocks the core: call a crate instead.")
    };
    if is_unbanned(path) { vec![] } else { lines_with("process::Command", text).map(complain).collect() }
}

/// The numbers of the lines whose code contains this.
fn lines_with<'a>(form: &'a str, text: &'a str) -> impl Iterator<Item = usize> + 'a {
    (1..).zip(text.lines()).filter(move |(_, line)| code_of(line).contains(form)).map(|(at, _)| at)
}

const LINES_MAX: usize = 900;

pub fn length(path: &str, text: &str) -> Vec<String> {
    let lines = text.lines().count();
    if lines <= LINES_MAX || text.starts_with("// @generated") {
        return vec![];
    }
    vec![format!("{path} has {lines} lines: it is about more than one thing; split it where the nouns change.")]
}

/// Directories that exist on one machine only; written in pieces, so that this file doesn't name them.
const MACHINES: &[&[&str]] =
    &[&["/ho", "me/"], &["/ro", "ot/"], &["/Use", "rs/"], &["/wo", "rk/"], &["/tmp", "/wt"], &["/tmp", "/tgt"]];

pub fn machine_paths(path: &str, text: &str) -> Vec<String> {
    let machines: Vec<String> = MACHINES.iter().map(|pieces| pieces.concat()).collect();
    let named = |line: &str| machines.iter().any(|machine| starts_a_path(line, machine));
    let lines = text.lines().enumerate().filter(|(_, line)| named(line));
    lines.map(|(at, _)| format!("{path}:{}: names a directory of one machine; use a relative path.", at + 1)).collect()
}

/// Whether an absolute path in this line begins with `machine`: a name before the slash makes it a relative one.
fn starts_a_path(line: &str, machine: &str) -> bool {
    line.match_indices(machine)
        .any(|(at, _)| !line[..at].ends_with(|before: char| before.is_alphanumeric() || before == '.'))
}

#[test]
fn each_rule_can_complain() {
    assert_eq!(module_doc("a.rs", "use b;").len(), 1);
    assert_eq!(module_doc("a.rs", "//! What it is.\n").len(), 0);
    let bare = "fn f() {\n    unsafe { g() }\n}";
    assert_eq!(unsafe_code("io/src/a.rs", bare).len(), 1, "no reason");
    assert_eq!(unsafe_code("meta/src/a.rs", bare).len(), 2, "no reason, and the wrong crate");
    assert_eq!(unsafe_code("meta/src/a.rs", "unsafe { g(c\"a\") }").len(), 2, "a string beside it hides nothing");
    assert_eq!(unsafe_code("meta/src/a.rs", "let a = \"unsafe { }\"; // unsafe { }").len(), 0, "a string, a comment");
    assert_eq!(unsafe_code("io/src/a.rs", "// SAFETY: because.\nunsafe { g() }").len(), 0);
    let lifted = "#![allow(clippy::disallowed_types, reason = \"I like it\")]";
    assert_eq!(lifted_bans("daemon/src/a.rs", lifted).len(), 1);
    assert_eq!(lifted_bans("daemon/tests/a.rs", lifted).len(), 0);
    assert_eq!(programs("daemon/src/a.rs", "use std::process::Command;").len(), 1);
    assert_eq!(programs("tools/tests/a.rs", "use std::process::Command;").len(), 0);
    assert_eq!(length("a.rs", &"x\n".repeat(LINES_MAX + 1)).len(), 1);
    assert_eq!(machine_paths("a.md", concat!("see /ho", "me/me")).len(), 1);
    assert_eq!(machine_paths("a.md", concat!("see docs/wo", "rk/me")).len(), 0);
}
