//! Small helpers for building and ending GStreamer pipelines.
//!
//! Pipelines are built from named elements and typed properties, never from text that came from outside. Ending one
//! is bounded in time even when an element hangs in a system call.

use std::sync::mpsc;
use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;

/// A GStreamer element or function that this installation lacks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// Install the plugin that has it.
    #[error("gstreamer element {0:?} is missing: install its plugin package")]
    Missing(String),
    /// Elements refused to be joined or started.
    #[error("gstreamer pipeline: {0}")]
    Refused(String),
}

/// Makes an element by its factory's name.
///
/// # Errors
/// [`BuildError::Missing`] where no plugin has it.
pub fn make(factory: &str) -> Result<gst::Element, BuildError> {
    gst::ElementFactory::make(factory)
        .build()
        .map_err(|_| BuildError::Missing(factory.to_owned()))
}

/// Adds elements to a pipeline and links them in order.
///
/// # Errors
/// [`BuildError::Refused`] with the names of the two that do not fit.
pub fn chain(pipeline: &gst::Pipeline, elements: &[&gst::Element]) -> Result<(), BuildError> {
    let refused = |e: gst::glib::BoolError| BuildError::Refused(e.message.to_string());
    for element in elements {
        if element.parent().is_none() {
            pipeline.add(*element).map_err(refused)?;
        }
    }
    gst::Element::link_many(elements.iter().copied()).map_err(refused)
}

/// Brings a pipeline to NULL on a thread of its own and waits at most `limit`.
///
/// Returns false where it still hangs (a stuck disk); the thread then ends together with the hang, and everything is
/// released by it. Never call it with a lock held that the pipeline's callbacks take.
pub fn stop_within(pipeline: &gst::Pipeline, limit: Duration) -> bool {
    let (done, wait) = mpsc::sync_channel(1);
    let pipeline = pipeline.clone();
    let stopping = std::thread::Builder::new()
        .name("gst-stop".into())
        .spawn(move || {
            if let Err(e) = pipeline.set_state(gst::State::Null) {
                tracing::debug!(error = %e, "pipeline did not stop cleanly");
            }
            drop(pipeline);
            let _ = done.send(());
        });
    match stopping {
        Ok(_) => limit.is_zero() || wait.recv_timeout(limit).is_ok(),
        Err(_) => false,
    }
}
