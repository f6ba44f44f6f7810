//! `check-config`: every fault at once, each with key, value and range.

use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use super::{EX_CONFIG, Format, load, output};
use crate::config::Fault;

pub fn run(path: &Path, format: Format) -> anyhow::Result<ExitCode> {
    match load(path)? {
        Err(faults) => Ok(report(path, &faults, format.json)),
        Ok(config) => {
            if format.json {
                let clips = &config.spool.dir;
                output::json(&json!({ "file": path, "faults": [], "clips": clips }))?;
            } else {
                let cloud = if config.cloud.is_some() {
                    "a cloud"
                } else {
                    "no cloud (standalone)"
                };
                println!(
                    "{} is right: {} camera(s), {cloud}",
                    path.display(),
                    config.cameras.len()
                );
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Prints the faults; the exit code says "wrong configuration".
pub fn report(path: &Path, faults: &[Fault], as_json: bool) -> ExitCode {
    if as_json {
        let list: Vec<_> = faults
            .iter()
            .map(|f| json!({ "key": f.key, "value": f.value, "problem": f.problem }))
            .collect();
        // Nothing to do about a closed standard output.
        let _ = output::json(&json!({ "file": path, "faults": list }));
    } else {
        eprintln!("{} has {} fault(s):", path.display(), faults.len());
        for fault in faults {
            eprintln!("  {fault}");
        }
    }
    ExitCode::from(EX_CONFIG)
}
