//! One task a camera: capture for ever, detect, keep clips, report. Nothing that happens to one camera touches another.
//!
//! ```text
//!  ┌▶ connect ──first key frame──▶ up ──down, stalled──▶ wait (1 → 60 s, jitter) ─┐
//!  │     └──────down, stalled────────────────────────────────────────────────────▶│
//!  └──────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! [`session`] lives from one connect to one down; this module owns what outlives it: back-off, counters, reports.

mod clip_task;
pub mod desk;
pub mod detection;
pub mod recorder;
pub mod registry;
mod reporter;
mod retune;
mod session;
pub mod tap;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use self::clip_task::ClipStore;
pub use self::desk::Desk;
pub use self::detection::MAX_WIDTH;
use self::recorder::Recorder;
use self::reporter::Reporter;
use self::session::Session;
use crate::agent::journal::Journal;
use crate::agent::pictures::Pictures;
use crate::agent::status::StatusHub;
use crate::agent::time::TimeKeeper;
use crate::board::entropy::Entropy;
use crate::config::CameraConfig;
use crate::db::IdSource;
use crate::restart::Backoff;

/// What a camera task needs of the rest.
#[derive(Clone)]
pub struct CameraContext {
    /// Where facts are written down.
    pub journal: Journal,
    /// Where clips go.
    pub store: ClipStore,
    /// Who makes the pictures of events.
    pub pictures: Pictures,
    /// Trusted time.
    pub time: TimeKeeper,
    /// Makes ids.
    pub ids: IdSource,
    /// Jitter.
    pub entropy: Entropy,
    /// Where the status is published.
    pub status: StatusHub,
    /// Where others find this camera.
    pub desk: Desk,
}

/// Runs one camera until `stop`; then its event is ended and its clips are closed. What changes in `tuned` is taken
/// over while it runs.
pub async fn run(
    tuned: watch::Receiver<CameraConfig>,
    context: CameraContext,
    stop: CancellationToken,
) {
    let config = tuned.borrow().clone();
    let recorder = Recorder::new(
        config.id.clone(),
        config.recording.clone(),
        context.store.clone(),
        context.journal.clone(),
        context.ids.clone(),
    );
    let mut reporter = Reporter::new(&config, &context);
    let asks = context.desk.open(&config.id);
    let mut session = Session::new(tuned, context.clone(), recorder, asks);
    let mut backoff = Backoff::camera();
    loop {
        let down = session.run(&mut reporter, &mut backoff, &stop).await;
        let Some(reason) = down else { break };
        let now = context.time.mono();
        let retry_at = backoff.next(now, context.entropy.unit());
        reporter.down(&reason, retry_at.since(now)).await;
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            () = session.decline_asks() => {}
            () = tokio::time::sleep(retry_at.since(now)) => {}
        }
        session.reconnecting();
    }
    session.close().await;
}
