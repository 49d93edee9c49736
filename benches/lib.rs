//! What the benchmarks have in common: how long each is measured, and loops that time themselves.

use std::path::PathBuf;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion};

/// Ten samples of a second in all, unless the command line says otherwise.
pub fn criterion() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args()
}

/// Measures one side of a comparison; `run` does something so many times and says how long that took.
pub fn bench(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, run: impl Fn(u64) -> Duration) {
    group.bench_function(BenchmarkId::from_parameter(name), |bencher| bencher.iter_custom(&run));
}

/// The directory on the disk to measure: what `CAIRN_BENCH_DIR` says, or this one.
pub fn dir(otherwise: &str) -> PathBuf {
    std::env::var_os("CAIRN_BENCH_DIR").map_or_else(|| otherwise.into(), PathBuf::from)
}
