//! systemd's notifications and its watchdog, fed by progress and not by liveness.
//!
//! The watchdog is fed while the caller's probe finds progress; a process that only spins is killed and started again.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;

/// Tells systemd that the agent is up.
pub fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Tells systemd how it is.
pub fn status(status: &str) {
    notify(&[NotifyState::Status(status)]);
}

/// Whether systemd wants to be told.
pub fn listens() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// Tells systemd that the agent is going down.
pub fn stopping() {
    notify(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

/// Feeds the watchdog as long as `probe` answers in time. Returns at once where no watchdog is asked for.
pub async fn feed<F, Fut>(probe: F, stop: CancellationToken)
where
    F: Fn() -> Fut,
    Fut: Future<Output = bool>,
{
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return;
    };
    let period = (limit / 3).max(Duration::from_secs(1));
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            () = tokio::time::sleep(period) => {}
        }
        match tokio::time::timeout(period, probe()).await {
            Ok(true) => notify(&[NotifyState::Watchdog]),
            _ => tracing::error!("no progress, the watchdog is not fed"),
        }
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(e) = sd_notify::notify(states) {
        tracing::debug!(error = %e, "systemd cannot be told");
    }
}
