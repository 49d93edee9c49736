//! A client in another language, by other people: pycapnp.

use std::path::Path;
use std::process::Command;

use cairn_daemon::rpc::Limits;
use cairn_io::{Config, blocking, run_one};

use crate::fake::start;
use crate::harness::Place;

#[test]
fn a_client_in_python_is_understood() {
    let python = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("python").join("bin/python");
    let has_pycapnp = Command::new(&python).args(["-c", "import capnp"]).status().is_ok_and(|status| status.success());
    assert!(
        has_pycapnp,
        "this test needs pycapnp in {}; get it with: cargo xtask test --only prepare",
        python.display()
    );
    let sources = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (schema, client) = (sources.join("../schema/cairn.capnp"), sources.join("tests/rpc/client.py"));
    let output = run_one(&Config::default(), move || async move {
        let place = Place { dir: String::new(), ip: std::net::Ipv4Addr::LOCALHOST.into() };
        let (server, _) = start(&place, Limits::default());
        let port = server.local_addr().port().to_string();
        let run = move || Command::new(python).arg(client).arg(schema).arg(port).output();
        let output = blocking::run(run).await.expect("no panic").expect("it starts");
        assert_eq!(server.panics(), 0);
        output
    });
    let output = output.expect("it runs");
    let said = [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat();
    assert!(output.status.success() && said.ends_with("fine\n"), "{said}");
}
