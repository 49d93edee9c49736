//! The checked-in code is what the schema says, so that building needs no Cap'n Proto compiler.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "it compiles the schema; it runs on no node")]

use std::path::Path;

#[test]
fn the_generated_code_is_that_of_the_schema() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = tempfile::tempdir().expect("a directory");
    let compiled = capnpc::CompilerCommand::new()
        .src_prefix(root)
        .file(root.join("cairn.capnp"))
        .output_path(out.path())
        .no_standard_import()
        .run();
    if let Err(error) = compiled {
        panic!("can't compile cairn.capnp: {error}\nthis test needs the capnp tool: apt-get install capnproto");
    }
    let fresh = out.path().join("cairn_capnp.rs");
    let checked_in = root.join("src/cairn_capnp.rs");
    let read = |path: &Path| std::fs::read_to_string(path).expect("it was written");
    if without_version(&read(&fresh)) == without_version(&read(&checked_in)) {
        return;
    }
    if std::env::var_os("CAIRN_SCHEMA_WRITE").is_some() {
        std::fs::copy(&fresh, &checked_in).expect("the sources can be written");
        return;
    }
    panic!(
        "schema/src/cairn_capnp.rs is not what schema/cairn.capnp says; write it anew with:\n  \
         CAIRN_SCHEMA_WRITE=1 cargo test -p cairn-schema --test generated"
    );
}

/// The tool names its version on one line; any that compiles the schema will do.
fn without_version(code: &str) -> Vec<&str> {
    code.lines().filter(|line| !line.starts_with("// capnp binary version")).collect()
}
