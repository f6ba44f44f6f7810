//! What benchmarks share: criterion's own record of a run, and the figures as JSON beside the table.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use criterion::Criterion;
use serde_json::Value;

/// Cargo's target directory.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target"),
        PathBuf::from,
    )
}

/// Criterion as all benchmarks use it.
pub fn criterion() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
        .output_directory(&target().join("criterion"))
        .configure_from_args()
}

/// The mean of a benchmark's last run in nanoseconds; `None` where it was filtered out.
pub fn mean_ns(group: &str, name: &str) -> Option<f64> {
    let path = target().join("criterion").join(group).join(name);
    let text = std::fs::read(path.join("new/estimates.json")).ok()?;
    let record: Value = serde_json::from_slice(&text).ok()?;
    record["mean"]["point_estimate"].as_f64()
}

/// Writes `target/bench/<name>.json`.
pub fn write(name: &str, figures: &Value) -> io::Result<()> {
    let directory = target().join("bench");
    std::fs::create_dir_all(&directory)?;
    let path = directory.join(format!("{name}.json"));
    std::fs::write(path, serde_json::to_vec_pretty(figures)?)
}
