//! The rules of this workspace that the compiler doesn't know. Each message says what to do instead.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "it reads the sources of this workspace and runs on no node"
)]

mod docs;
mod manifests;
mod sources;
mod tree;

use tree::Tree;

/// Fails with every complaint at once.
fn assert_tidy(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn crates_depend_downwards_only() {
    assert_tidy(&manifests::check_edges(&manifests::read(&Tree::workspace())));
}

#[test]
fn crates_of_the_kernel_stay_at_home() {
    assert_tidy(&manifests::check_homes(&manifests::read(&Tree::workspace())));
}

#[test]
fn every_crate_keeps_the_lints() {
    assert_tidy(&manifests::check_lints(&manifests::read(&Tree::workspace())));
}

#[test]
fn members_are_listed_lowest_first_with_a_comment_each() {
    assert_tidy(&manifests::check_members(&Tree::workspace().text("Cargo.toml")));
}

#[test]
fn every_module_says_what_it_is() {
    assert_tidy(&sources::check(&Tree::workspace(), sources::module_doc));
}

#[test]
fn unsafe_code_is_where_it_may_be_and_says_why() {
    assert_tidy(&sources::check(&Tree::workspace(), sources::unsafe_code));
}

#[test]
fn bans_are_lifted_only_where_they_may_be() {
    assert_tidy(&sources::check(&Tree::workspace(), sources::lifted_bans));
}

#[test]
fn no_node_starts_a_program() {
    assert_tidy(&sources::check(&Tree::workspace(), sources::programs));
}

#[test]
fn files_are_about_one_thing() {
    assert_tidy(&sources::check(&Tree::workspace(), sources::length));
}

#[test]
fn no_file_names_a_machine() {
    assert_tidy(&sources::check_all(&Tree::workspace(), sources::machine_paths));
}

#[test]
fn every_requirement_is_in_features_once() {
    assert_tidy(&docs::check_requirements(&Tree::workspace().text("docs/features.md")));
}

#[test]
fn every_claim_has_a_test() {
    let tree = Tree::workspace();
    assert_tidy(&docs::check_states(&tree.text("docs/features.md")));
    assert_tidy(&docs::check_ticks(&tree.text("docs/failures.md")));
}

#[test]
fn every_test_the_docs_name_exists() {
    assert_tidy(&docs::check_tests_exist(&Tree::workspace()));
}

#[test]
fn decisions_are_numbered_without_gaps() {
    let tree = Tree::workspace();
    let page = |name: String| format!("docs/decisions/{name}");
    let paths = tree.names("docs/decisions").into_iter().map(page);
    let decisions: Vec<_> = paths.map(|path| (path.clone(), tree.text(&path))).collect();
    assert!(!decisions.is_empty(), "docs/decisions is empty: write down why this is built as it is");
    assert_tidy(&docs::check_decisions(&decisions));
}

#[test]
fn links_lead_somewhere() {
    let tree = Tree::workspace();
    assert_tidy(&docs::check_links(&tree.files(&[".md"]), |path| tree.has(path)));
}

#[test]
fn the_readme_has_the_two_commands() {
    assert_tidy(&docs::check_readme(&Tree::workspace().text("README.md")));
}
