//! What a driver says where it can't run.

use cairn_io::{Config, DriverChoice, run_one};

use crate::harness::forbid_uring;

#[test]
fn glommio_without_uring_is_refused_with_the_remedy() {
    forbid_uring(|| {
        let glommio = Config { driver: DriverChoice::Glommio, ..Config::single() };
        let words = run_one(&glommio, || async {}).expect_err("io_uring is forbidden").to_string();
        assert!(words.contains("forbidden") && words.contains("--driver monoio"), "{words}");
    });
}
