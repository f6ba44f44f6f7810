//! Runs the uploader while the device has keys: starts it when they come, ends it when they go, and keeps everything
//! else going meanwhile. Records wait in the outbox.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::uploader::{SyncStatus, Uploader};
use crate::cloud::Keys;

/// How to make an uploader of keys.
pub type MakeUploader = Box<dyn Fn(Keys) -> Result<Uploader, String> + Send>;

/// Runs until `stop`; then one last pass within `last`.
pub async fn run(
    mut keys: watch::Receiver<Option<Keys>>,
    make: MakeUploader,
    status: watch::Sender<SyncStatus>,
    wake: Arc<Notify>,
    stop: CancellationToken,
    last: Duration,
) {
    loop {
        let current = keys.borrow_and_update().clone();
        let uploader = match current.map(&make) {
            Some(Ok(uploader)) => Some(uploader.reporting_to(status.clone())),
            Some(Err(e)) => {
                tracing::error!(error = e, "nothing can be sent to the cloud");
                tell(&status, "misconfigured", Some(e));
                None
            }
            None => {
                tell(&status, "unclaimed", None);
                None
            }
        };
        let Some(uploader) = uploader else {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                changed = keys.changed() => if changed.is_err() {
                    return stop.cancelled().await;
                },
            }
            continue;
        };
        let ends = stop.child_token();
        let running = uploader.run(Arc::clone(&wake), ends, last);
        tokio::select! {
            biased;
            () = running => return,
            // Dropped wherever it is: a batch in flight is sent again with its key, or by the next owner's.
            Ok(()) = keys.changed() => {}
        }
    }
}

fn tell(status: &watch::Sender<SyncStatus>, state: &'static str, error: Option<String>) {
    status.send_modify(|s| {
        s.state = state;
        s.last_error = error;
    });
}
