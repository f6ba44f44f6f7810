//! Cuts the process at a named step, as a power cut would: for tests of what is found at the next start. Without
//! `SENTRYCAM_FAIL_AT` in the environment, which nothing but a test sets, a step costs one look at the environment,
//! and there are steps only where something happens once in a device's life.

use rustix::process::{Signal, getpid, kill_process};

const VARIABLE: &str = "SENTRYCAM_FAIL_AT";

/// The process is at this step.
pub fn hit(step: &'static str) {
    if std::env::var_os(VARIABLE).is_some_and(|wanted| wanted == step) {
        tracing::warn!(step, "cut by a test");
        let _ = kill_process(getpid(), Signal::KILL);
    }
}
