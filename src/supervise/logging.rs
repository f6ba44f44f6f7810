//! Logs: `tracing` to standard error, one line an event. Under systemd the journal adds time and level itself.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use super::log_tail::Tee;

/// Sets logging up for the process. The filter comes from `SENTRYCAM_LOG` (e.g. `debug`, `sentrycam::agent=trace`).
pub fn init() {
    let filter =
        EnvFilter::try_from_env("SENTRYCAM_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(Tee::default)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal());
    // A second call (tests) keeps the first set-up.
    let _ = if std::env::var_os("JOURNAL_STREAM").is_some() {
        builder.without_time().try_init()
    } else {
        builder.try_init()
    };
}
