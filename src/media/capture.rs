//! A capture session: one camera stream from `start` to `Down`, by one static pipeline, or for plain RTSP over TCP by
//! the session's own thread alone ([`source_retina`]), which is cheaper.
//!
//! ```text
//!  start ──▶ own thread: build, play ──▶ Up ──▶ Packet … Changed … ──▶ Down (error, end of stream)
//!    └──────────────── stop or drop: the thread takes the pipeline down, no further event ────────┘
//! ```
//!
//! Guarantees: `start`, `stop` and `drop` never block (building, probing and teardown happen on the session's own
//! thread, teardown bounded by [`teardown::PATIENCE`]); a session that ends by itself sends exactly one `Down`, last;
//! a stopped one just closes its channel. Whether a silent session is stalled is the camera task's to judge, by
//! [`Stats::packets`]; so is trying again.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;
use tokio::sync::mpsc;

use super::flow::{Flow, Wake};
use super::gst::{Origin, down_reason, init};
use super::{
    CaptureEvent, StreamKind, encoder, source_file, source_retina, source_rtsp, source_test,
    source_v4l2, teardown,
};
use crate::config::SourceConfig;
use crate::model::{DownReason, Secret};
use crate::time::{Anchor, Mono, Pts};

pub use super::flow::Stats;

/// The luma pictures that detection would like to have. Raw sources deliver them free of a decoder, others do not.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LumaWish {
    /// The widest picture in pixels; it is shrunk by a whole factor.
    pub max_width: usize,
    /// The most pictures a second.
    pub fps: f32,
}

/// A running capture. Dropping it is the same as [`CaptureSession::stop`].
#[derive(Debug)]
pub struct CaptureSession {
    wake: mpsc::UnboundedSender<Wake>,
    stats: Arc<Stats>,
    offers: Arc<Mutex<Vec<String>>>,
}

/// What a source needs to build its part of the pipeline.
pub(super) struct Build<'a> {
    pub(super) pipeline: &'a gst::Pipeline,
    pub(super) flow: &'a Arc<Flow>,
    pub(super) audio: bool,
    pub(super) luma: Option<LumaWish>,
}

impl CaptureSession {
    /// Starts to capture. Events go to `tx`, whose capacity is the caller's bound: when it is full, packets are
    /// dropped and counted up to the next key frame. `now` must be read right before the call: it becomes running
    /// time zero. `audio` asks for AAC of the main stream.
    ///
    /// # Errors
    /// Where GStreamer or a thread cannot be had; whatever is wrong with the source comes as `Down`.
    pub fn start(
        kind: StreamKind,
        source: &SourceConfig,
        want_luma: Option<LumaWish>,
        audio: bool,
        now: Mono,
        tx: mpsc::Sender<CaptureEvent>,
    ) -> Result<CaptureSession, DownReason> {
        init()?;
        let clock = gst::SystemClock::obtain();
        let zero = clock.time();
        // A handful of wakes in a session's life; its thread reads them at once.
        let (wake, inbox) = mpsc::unbounded_channel();
        let trust_dts = matches!(source, SourceConfig::File { .. });
        let flow = Flow::new(tx, wake.clone(), Anchor { zero: now }, trust_dts);
        let stats = Arc::clone(&flow.stats);
        let offers = Arc::clone(&flow.offers);
        let run = Run {
            flow,
            inbox,
            kind,
            source: source.clone(),
            luma: want_luma,
            audio: audio && kind == StreamKind::Main,
            clock,
            zero,
        };
        thread::Builder::new()
            .name(format!("capture-{kind:?}").to_lowercase())
            .spawn(move || run.run())
            .map_err(|e| DownReason::Failed(format!("no thread for the capture: {e}")))?;
        Ok(CaptureSession {
            wake,
            stats,
            offers,
        })
    }

    /// Ends the capture without waiting. Packets in the channel stay readable; no event is added.
    pub fn stop(self) {}

    /// The session's counters; they stay readable after its end.
    pub fn stats(&self) -> Arc<Stats> {
        Arc::clone(&self.stats)
    }

    /// What the source offers, recorded or not, as `media ENCODING` (`audio PCMA`); complete when `Up` comes.
    pub fn offers(&self) -> Vec<String> {
        self.offers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Drop for CaptureSession {
    fn drop(&mut self) {
        // The thread may have ended already.
        let _ = self.wake.send(Wake::Stop);
    }
}

/// A camera that has just lost a connection of ours may be taking its stream down, and refuses with 503 (all that is built
/// on GStreamer's server does) until it has: it is asked this often in all, with this pause.
const SUCCESSIONS: u32 = 6;
const SUCCESSION: Duration = Duration::from_millis(300);

/// How far a camera was read without a pipeline.
enum Tried {
    /// To the session's end; `None` where that was asked for.
    Over(Option<DownReason>),
    /// As far as a connection, which is closed.
    Connection,
    Nothing,
}

/// How a pipeline ended.
enum Ended {
    Asked,
    Down(DownReason),
    /// Before anything came.
    Busy(DownReason),
}

/// The session's thread.
struct Run {
    flow: Arc<Flow>,
    inbox: mpsc::UnboundedReceiver<Wake>,
    kind: StreamKind,
    source: SourceConfig,
    luma: Option<LumaWish>,
    audio: bool,
    clock: gst::Clock,
    /// The clock's time at running time zero.
    zero: gst::ClockTime,
}

impl Run {
    fn run(mut self) {
        let reason = match self.without_pipeline() {
            Tried::Over(reason) => reason,
            Tried::Nothing => self.with_pipeline(1),
            Tried::Connection => self.with_pipeline(SUCCESSIONS),
        };
        if let Some(reason) = reason {
            tracing::debug!(kind = ?self.kind, reason = reason.code(), "capture ended");
            self.flow.finish(reason);
        }
    }

    fn without_pipeline(&mut self) -> Tried {
        let (clock, zero) = (self.clock.clone(), self.zero);
        let Some(camera) = source_retina::Camera::of(&self.source, self.audio) else {
            return Tried::Nothing;
        };
        let now = move || Pts(clock.time().saturating_sub(zero).nseconds());
        match camera.run(&self.flow, &mut self.inbox, &now) {
            source_retina::End::Over(reason) => Tried::Over(reason),
            source_retina::End::Elsewhere(why) => {
                tracing::info!(kind = ?self.kind, why, "the camera is read through rtspsrc");
                Tried::Connection
            }
        }
    }

    /// Plays until the end: `None` where it was asked for. A camera that is busy is asked `times` in all.
    fn with_pipeline(&mut self, times: u32) -> Option<DownReason> {
        for left in (0..times).rev() {
            match self.play() {
                Ended::Asked => return None,
                Ended::Busy(reason) if left > 0 => tracing::debug!(%reason, "asked once more"),
                Ended::Down(reason) | Ended::Busy(reason) => return Some(reason),
            }
            if self.stopped_within(SUCCESSION) {
                return None;
            }
        }
        None
    }

    /// Lets a time pass, and what the last pipeline still had to say; true as soon as the owner wants no more.
    fn stopped_within(&mut self, time: Duration) -> bool {
        let timer = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        let Ok(timer) = timer else { return false };
        let stop = async { while !matches!(self.inbox.recv().await, Some(Wake::Stop) | None) {} };
        timer.block_on(async { tokio::time::timeout(time, stop).await.is_ok() })
    }

    /// One pipeline from its making to its end.
    fn play(&mut self) -> Ended {
        let pipeline = gst::Pipeline::new();
        pipeline.use_clock(Some(&self.clock));
        pipeline.set_start_time(gst::ClockTime::NONE);
        pipeline.set_base_time(self.zero);
        watch_bus(&pipeline, &self.flow, &self.source);
        let build = Build {
            pipeline: &pipeline,
            flow: &self.flow,
            audio: self.audio,
            luma: self.luma,
        };
        let source = &self.source;
        let built = match source {
            SourceConfig::Rtsp { .. } => source_rtsp::build(&build, source),
            SourceConfig::V4l2 { .. } => source_v4l2::build(&build, source),
            SourceConfig::File { .. } => source_file::build(&build, source),
            SourceConfig::Test { .. } => source_test::build(&build, source),
        };
        let ended = match built {
            Err(reason) => Ended::Down(reason),
            Ok(()) => {
                // A failing state change says why on the bus; "Stop" may be there before it.
                if !teardown::to_playing(&pipeline) {
                    let text = "the pipeline does not start".into();
                    self.flow.wake(Wake::Down(DownReason::Failed(text)));
                }
                supervise(&pipeline, &mut self.inbox, source)
            }
        };
        if !matches!(ended, Ended::Busy(_)) {
            self.flow.close();
        }
        teardown::to_null(pipeline);
        ended
    }
}

/// Waits for the end.
fn supervise(
    pipeline: &gst::Pipeline,
    inbox: &mut mpsc::UnboundedReceiver<Wake>,
    source: &SourceConfig,
) -> Ended {
    loop {
        match inbox.blocking_recv() {
            Some(Wake::Down(reason)) => return Ended::Down(reason),
            Some(Wake::Busy(reason)) => return Ended::Busy(reason),
            Some(Wake::Stop) | None => return Ended::Asked,
            Some(Wake::Ready) => {
                if let Err(reason) = source_file::begin(pipeline, source) {
                    return Ended::Down(reason);
                }
            }
            Some(Wake::SegmentDone) => {
                if let Err(reason) = source_file::again(pipeline) {
                    return Ended::Down(reason);
                }
            }
        }
    }
}

/// Turns the bus's messages into wakes, on whatever thread posts them; nothing is queued on the bus.
fn watch_bus(pipeline: &gst::Pipeline, flow: &Arc<Flow>, source: &SourceConfig) {
    let Some(bus) = pipeline.bus() else { return };
    let (origin, password): (Origin, Option<Secret>) = match source {
        SourceConfig::Rtsp { password, .. } => (Origin::Network, password.clone()),
        SourceConfig::V4l2 { .. } => (Origin::Device, None),
        SourceConfig::File { .. } | SourceConfig::Test { .. } => (Origin::Local, None),
    };
    let flow = Arc::downgrade(flow);
    bus.set_sync_handler(move |_, message| {
        let Some(flow) = flow.upgrade() else {
            return gst::BusSyncReply::Drop;
        };
        match message.view() {
            gst::MessageView::Error(e) => {
                if let Some(element) = e.src().and_then(|s| s.downcast_ref::<gst::Element>()) {
                    encoder::blame(element);
                }
                let debug = e.debug();
                let debug = debug.as_deref().map(|d| d.to_string());
                let reason = if flow.nothing_to_record() {
                    DownReason::Unsupported(flow.nothing_text())
                } else {
                    down_reason(origin, &e.error(), debug.as_deref(), password.as_ref())
                };
                let busy = e
                    .details()
                    .and_then(|d| d.get::<u32>("rtsp-status-code").ok());
                flow.wake(match busy {
                    Some(503) => Wake::Busy(reason),
                    _ => Wake::Down(reason),
                });
            }
            gst::MessageView::Eos(_) => flow.wake(Wake::Down(DownReason::Ended)),
            gst::MessageView::SegmentDone(_) => flow.wake(Wake::SegmentDone),
            _ => {}
        }
        gst::BusSyncReply::Drop
    });
}
