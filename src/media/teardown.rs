//! Starts pipelines and takes them down without ever hanging on them.
//!
//! `set_state` may block for good (a V4L2 device that vanished, a camera that does not answer TEARDOWN). It runs
//! on a thread of its own; who waits for it waits for [`PATIENCE`] at most and then abandons the thread and counts it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;

/// The longest that a pipeline may take to start or stop.
pub const PATIENCE: Duration = Duration::from_secs(5);

static HANGING: AtomicU64 = AtomicU64::new(0);
static ABANDONED: AtomicU64 = AtomicU64::new(0);

/// Pipelines of this process that did not start or stop in time and still have not (each holds a thread and its memory).
pub fn hanging() -> u64 {
    HANGING.load(Relaxed)
}

/// Pipelines of this process that ever did not start or stop in time.
pub fn abandoned() -> u64 {
    ABANDONED.load(Relaxed)
}

/// Stops a pipeline; waits [`PATIENCE`] at most. True where it stopped. Blocks: not for the async runtime.
pub(super) fn to_null(pipeline: gst::Pipeline) -> bool {
    bounded(PATIENCE, move || {
        // Going to NULL cannot fail in a way that we could answer.
        let _ = pipeline.set_state(gst::State::Null);
        if let Some(bus) = pipeline.bus() {
            bus.unset_sync_handler();
        }
    })
}

/// Stops a pipeline; waits `limit` at most, not at all where that is zero. True where it is known to have stopped. The
/// thread that still hangs ends together with the hang, and everything is released by it.
pub(super) fn stop_within(pipeline: &gst::Pipeline, limit: Duration) -> bool {
    let pipeline = pipeline.clone();
    let stop = move || {
        // Going to NULL cannot fail in a way that we could answer.
        let _ = pipeline.set_state(gst::State::Null);
    };
    if limit.is_zero() {
        // Without a thread to be had it is stopped when its last reference goes.
        let _ = thread::Builder::new().name("media-null".into()).spawn(stop);
        return false;
    }
    bounded(limit, stop)
}

/// Starts a pipeline; waits [`PATIENCE`] at most. False where it refuses or hangs. Blocks: not for the async runtime.
pub(super) fn to_playing(pipeline: &gst::Pipeline) -> bool {
    let (tell, told) = mpsc::channel();
    let pipeline = pipeline.clone();
    bounded(PATIENCE, move || {
        let _ = tell.send(pipeline.set_state(gst::State::Playing).is_ok());
    }) && told.recv() == Ok(true)
}

/// Runs `work` on its own thread and waits `patience` at most for its end.
fn bounded(patience: Duration, work: impl FnOnce() + Send + 'static) -> bool {
    let (done, ended) = mpsc::channel::<()>();
    let spawned = thread::Builder::new()
        .name("media-null".into())
        .spawn(move || {
            work();
            if done.send(()).is_err() {
                HANGING.fetch_sub(1, Relaxed);
            }
        });
    if spawned.is_err() {
        // No thread to be had: better to leak the pipeline than to block here.
        ABANDONED.fetch_add(1, Relaxed);
        return false;
    }
    if ended.recv_timeout(patience) == Err(mpsc::RecvTimeoutError::Timeout) {
        HANGING.fetch_add(1, Relaxed);
        ABANDONED.fetch_add(1, Relaxed);
        tracing::warn!(
            patience_s = patience.as_secs(),
            hanging = hanging(),
            "a pipeline does not change its state, its thread is abandoned"
        );
        return false;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hanging_teardown_is_abandoned_and_counted() {
        let (release, held) = mpsc::channel::<()>();
        let before = abandoned();
        assert!(!bounded(Duration::from_millis(20), move || {
            let _ = held.recv();
        }));
        assert_eq!(abandoned(), before + 1);
        drop(release);
        assert!(bounded(Duration::from_secs(5), || ()));
    }
}
