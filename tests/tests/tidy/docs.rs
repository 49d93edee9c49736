//! What the documents promise.

use std::collections::BTreeMap;

use crate::tree::Tree;

/// The families of requirements and how many each has.
const FAMILIES: &[(char, u32)] = &[('S', 26), ('B', 30), ('K', 5), ('F', 8), ('M', 7), ('X', 18)];

pub fn check_requirements(features: &str) -> Vec<String> {
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    for line in features.lines() {
        let number = line.trim_start_matches('|').trim().split([' ', '|']).next().unwrap_or_default();
        if line.starts_with('|') && is_requirement(number) {
            *seen.entry(number.to_owned()).or_default() += 1;
        }
    }
    let all = FAMILIES.iter().flat_map(|(family, count)| (1..=*count).map(move |number| format!("{family}{number}")));
    let mut complaints = Vec::new();
    for number in all {
        match seen.remove(&number) {
            Some(1) => {}
            Some(times) => complaints.push(format!("docs/features.md has {times} rows for {number}; keep one.")),
            None => complaints.push(format!("docs/features.md has no row for {number}; add one with its true state.")),
        }
    }
    complaints.extend(seen.into_keys().map(|number| format!("docs/features.md: there is no requirement {number}.")));
    complaints
}

fn is_requirement(word: &str) -> bool {
    let mut letters = word.chars();
    let family = letters.next().is_some_and(|first| FAMILIES.iter().any(|(family, _)| *family == first));
    let number = letters.as_str();
    family && !number.is_empty() && number.chars().all(|letter| letter.is_ascii_digit())
}

/// A claim needs a state of the three, and anything beyond "not yet" a test that shows it.
pub fn check_states(features: &str) -> Vec<String> {
    let rows = features.lines().filter_map(|line| {
        let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
        let (number, _, state) = (cells.next()?, cells.next()?, cells.next()?);
        is_requirement(number).then_some((number, state, line))
    });
    let complain = |(number, state, line): (&str, &str, &str)| match state {
        "not yet" => None,
        "works" | "partly" if line.contains("`test:") => None,
        "works" | "partly" => {
            Some(format!("docs/features.md says {number} {state} and names no `test:` that shows it; name one."))
        }
        _ => Some(format!("docs/features.md: the state of {number} is {state:?}; say works, partly or not yet.")),
    };
    rows.filter_map(complain).collect()
}

/// A failure story is ticked when a test tells it.
pub fn check_ticks(failures: &str) -> Vec<String> {
    let unproven = failures.lines().filter(|line| line.starts_with("- [x]") && !line.contains("`test:"));
    unproven.map(|line| format!("docs/failures.md ticks a story without its `test:`: {line}")).collect()
}

/// Documents name tests as `test:name`; each must be a test or a file of tests of that name.
pub fn check_tests_exist(tree: &Tree) -> Vec<String> {
    let sources = tree.files(&[".rs"]);
    let exists = |name: &str| sources.iter().any(|(path, text)| is_file_of_tests(path, name) || is_test(text, name));
    let mut complaints = Vec::new();
    for (path, text) in tree.files(&[".md"]) {
        for name in named_tests(&text).into_iter().filter(|name| !exists(name)) {
            complaints
                .push(format!("{path} names the test {name}, which doesn't exist; correct the name or the claim."));
        }
    }
    complaints
}

fn is_file_of_tests(path: &str, name: &str) -> bool {
    let named = path.ends_with(&format!("/{name}.rs")) || path.ends_with(&format!("/{name}/main.rs"));
    named && path.contains("tests/")
}

/// Whether a source has a test function of this name, or makes one per driver from it.
fn is_test(text: &str, name: &str) -> bool {
    let (function, per_driver) = (format!("fn {name}("), format!("{name}: "));
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let attributes =
        |at: usize| lines[..at].iter().rev().take_while(|line| line.starts_with("#[") || line.starts_with("//"));
    let defines =
        |(at, line): (usize, &&str)| line.contains(&function) && attributes(at).any(|line| line.starts_with("#[test"));
    lines.iter().enumerate().any(defines)
        || text.contains("on_each_driver! {") && lines.iter().any(|line| line.starts_with(&per_driver))
        || text.split_once("on_each_driver!(").is_some_and(|(_, rest)| {
            let names = rest.split(')').next().unwrap_or_default();
            names.split(',').any(|one| one.trim() == name)
        })
}

fn named_tests(text: &str) -> Vec<&str> {
    let after = text.split("`test:").skip(1);
    after
        .filter_map(|rest| rest.split('`').next())
        .filter_map(|name| name.rsplit("::").next())
        .filter(|name| !name.is_empty())
        .collect()
}

/// Decisions are numbered from 1 without gaps, and each has the three parts.
pub fn check_decisions(decisions: &[(String, String)]) -> Vec<String> {
    let mut complaints = Vec::new();
    for ((path, text), number) in decisions.iter().zip(1..) {
        let name = path.rsplit('/').next().unwrap_or_default();
        if !name.starts_with(&format!("{number:04}-")) {
            complaints.push(format!("{path} should begin with {number:04}-: number decisions without gaps."));
        }
        let missing = ["## Context", "## Decision", "## Consequences"].into_iter().filter(|part| !text.contains(part));
        complaints.extend(missing.map(|part| format!("{path} lacks `{part}`: a reader looks for it.")));
    }
    complaints
}

/// Links from page to page lead somewhere.
pub fn check_links(pages: &[(String, String)], exists: impl Fn(&str) -> bool) -> Vec<String> {
    let mut complaints = Vec::new();
    for (page, text) in pages {
        let folder = page.rsplit_once('/').map_or("", |(folder, _)| folder);
        for target in text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            if !target.is_empty() && !target.contains("://") && !exists(&format!("{folder}/{target}")) {
                complaints.push(format!("{page} links to {target}, which isn't there; correct the link."));
            }
        }
    }
    complaints
}

pub fn check_readme(readme: &str) -> Vec<String> {
    let commands = ["cargo run --release --", "cargo xtask test"];
    let missing = commands.iter().filter(|command| !readme.contains(*command));
    missing.map(|command| format!("README.md lacks the command `{command}`: people begin there.")).collect()
}

#[test]
fn each_check_can_complain() {
    let features = "| S1 | a |\n| S1 | b |\n| S99 | c |\n";
    let complaints = check_requirements(features);
    assert!(complaints.iter().any(|complaint| complaint.contains("2 rows for S1")));
    assert!(complaints.iter().any(|complaint| complaint.contains("no row for B1;")));
    assert!(complaints.iter().any(|complaint| complaint.contains("no requirement S99")));
    assert_eq!(named_tests("`test:` as in `test:sim::crash` and `test:other`"), ["crash", "other"]);
    let states = "| S1 | a | works | |\n| S2 | b | partly | `test:b` |\n| S3 | c | soon | |\n| S4 | d | not yet | |\n";
    assert_eq!(check_states(states).len(), 2, "one unproven, one unknown: {:?}", check_states(states));
    assert_eq!(check_ticks("- [ ] a\n- [x] b\n- [x] c: `test:c`").len(), 1);
    assert!(is_test("#[test]\n// Because.\nfn a() {", "a") && !is_test("fn a() {", "a"));
    assert!(is_test("on_each_driver! {\n    a: 1,\n}", "a"));
    assert!(is_test("on_each_driver!(\n    b,\n    a\n);", "a") && is_test("on_each_driver!(b, a,);", "a"));
    assert!(!is_test("on_each_driver!(\n    ab,\n);", "a"));
    let page = |path: &str, text: &str| (path.to_owned(), text.to_owned());
    let whole = "## Context\n## Decision\n## Consequences\n";
    assert_eq!(check_decisions(&[page("d/0001-a.md", whole), page("d/0003-b.md", whole)]).len(), 1, "a gap");
    assert_eq!(check_decisions(&[page("d/0001-a.md", "## Context\n## Decision\n")]).len(), 1, "a part");
    let links = [page("docs/a.md", "[b](b.md#c), [gone](gone.md), [far](https://example.org)")];
    assert_eq!(
        check_links(&links, |path| path == "docs/b.md"),
        ["docs/a.md links to gone.md, which isn't there; correct the link."]
    );
    assert_eq!(check_readme("cargo xtask test").len(), 1);
}
