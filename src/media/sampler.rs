//! Decodes what must be seen: packets in, small grey pictures out.
//!
//! ```text
//! choose, hold ─▶ appsrc ─▶ avdec_h264|h265 (one thread) ─▶ appsink (drops before any scaling) ─▶ shrink the luma plane
//! ```
//!
//! A pipeline of its own with a single thread: what breaks here never hurts the capture. [`Sampler::push`] never blocks;
//! a decoder that falls behind loses packets up to the next key frame, counted. Which packets are pushed is the caller's
//! policy (`motion.md`, decode on demand): whole GOPs, or key frames alone with [`Sampler::drain`] after each.
//!
//! Pictures are chosen before they are decoded. Packets wait until a chosen picture needs them and go to the decoder
//! together, so that it wakes for the pictures and not for the packets; those that a new beginning (IDR) overtakes are
//! never decoded. The choice prefers key frames, which makes that tail as long as it can be.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::{AppSink, AppSinkCallbacks, AppSrc};
use gstreamer_video::{VideoFormatInfo, VideoFrameExt, VideoFrameRef, VideoInfo};
use tokio::sync::mpsc;

use super::awaited::{Rising, Wanted};
use super::gst::{GstError, chain, make};
use super::nal::Nal;
use super::plane::{self, Plane};
use super::{OwnedGray, Packet, Track, teardown};
use crate::demand::Pace;
use crate::demand::rank;
pub use crate::demand::{Fed, Mark};
use crate::time::Pts;

/// Packets that wait for the decoder: two seconds at 30 a second. When full, packets are dropped up to the next key
/// frame.
pub const QUEUE_PACKETS: u64 = 60;

/// Packets that wait for a chosen picture; when there are more, the decoder has them before one is chosen. Half of the
/// queue, so that it is full only where the decoder is behind, however seldom pictures are chosen.
const HELD_PACKETS: usize = QUEUE_PACKETS as usize / 2;

/// How long [`Sampler::stop`] waits for the decoder to end.
pub const STOP_LIMIT: Duration = Duration::from_secs(2);

/// What the sampler delivers.
#[derive(Debug)]
pub enum SamplerEvent {
    /// The next picture, at most `max_width` wide, and how it was chosen.
    Frame(OwnedGray, Mark),
    /// The decoder gave up; nothing follows. Start another sampler, at a key frame.
    Failed(String),
}

/// Counts since the start; shown in the camera's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SamplerCounts {
    /// Packets given to the decoder.
    pub fed: u64,
    /// Packets that no chosen picture needed.
    pub spared: u64,
    /// Packets dropped because the decoder was behind.
    pub packets_dropped: u64,
    /// Pictures delivered.
    pub frames: u64,
    /// Pictures dropped because nobody took them in time.
    pub frames_dropped: u64,
}

#[derive(Debug, Default)]
struct Shared {
    failed: AtomicBool,
    frames: AtomicU64,
    frames_dropped: AtomicU64,
    wanted: Mutex<Wanted>,
}

impl Shared {
    fn wanted(&self) -> std::sync::MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One running decoder.
#[derive(Debug)]
pub struct Sampler {
    pipeline: gst::Pipeline,
    source: AppSrc,
    shared: Arc<Shared>,
    pace: Pace,
    nal: Option<Nal>,
    /// Packets since the last chosen picture that the decoder does not have, at most [`HELD_PACKETS`].
    held: Vec<gst::Buffer>,
    /// The decoder can only begin at a key frame: at the start, after a drain, after a loss.
    needs_key: bool,
    /// Packets were dropped and no key frame came since.
    behind: bool,
    run: u64,
    times: Rising,
    fed: u64,
    spared: u64,
    packets_dropped: u64,
}

impl Sampler {
    /// Starts a decoder for `caps` (`video/x-h264` avc or `video/x-h265` hvc1, alignment au) that sends about `fps`
    /// pictures a second of stream to `tx` with `try_send`: a full channel drops the picture and counts it. Of a stream
    /// with B-frames the pictures that these refer to are chosen, which may lie further apart.
    ///
    /// # Errors
    /// [`GstError::Missing`] where libav's decoders are not installed, [`GstError::Pipeline`] for other caps.
    pub fn start(
        caps: &gst::Caps,
        fps: f32,
        max_width: u32,
        tx: mpsc::Sender<SamplerEvent>,
    ) -> Result<Sampler, GstError> {
        Self::start_with(decoder_for(caps)?, caps, fps, max_width, tx)
    }

    /// The same with the decoder of this name, which takes `caps` and puts out pictures in system memory.
    ///
    /// # Errors
    /// [`GstError::Missing`] where it is not installed, [`GstError::Pipeline`] where it does not start.
    pub fn start_with(
        decoder: &str,
        caps: &gst::Caps,
        fps: f32,
        max_width: u32,
        tx: mpsc::Sender<SamplerEvent>,
    ) -> Result<Sampler, GstError> {
        let decoder = make(decoder)?;
        // One thread: frame threads cost memory and latency, and the other cores belong to the other cameras.
        if decoder.has_property_with_type("max-threads", i32::static_type()) {
            decoder.set_property("max-threads", 1i32);
        }
        if decoder.has_property_with_type("qos", bool::static_type()) {
            decoder.set_property("qos", false);
        }
        let source = AppSrc::builder()
            .caps(caps)
            .format(gst::Format::Time)
            .max_bytes(0)
            .build();
        let sink = AppSink::builder().sync(false).max_buffers(4).build();
        sink.set_property("enable-last-sample", false);
        sink.set_property("async", false);
        sink.set_property("qos", false);
        let pipeline = gst::Pipeline::new();
        chain(
            &pipeline,
            &[source.upcast_ref(), &decoder, sink.upcast_ref()],
        )?;
        let shared = Arc::new(Shared::default());
        sink.set_callbacks(callbacks(max_width, tx.clone(), Arc::clone(&shared)));
        if let Some(bus) = pipeline.bus() {
            let shared = Arc::clone(&shared);
            bus.set_sync_handler(move |_, message| {
                if let gst::MessageView::Error(e) = message.view()
                    && !shared.failed.swap(true, Relaxed)
                {
                    // When full, the next push tells.
                    let _ = tx.try_send(SamplerEvent::Failed(e.error().message().to_owned()));
                }
                gst::BusSyncReply::Drop
            });
        }
        let sampler = Sampler {
            pipeline,
            source,
            shared,
            pace: Pace::new(fps),
            nal: Nal::of(caps),
            held: Vec::new(),
            needs_key: true,
            behind: false,
            run: 0,
            times: Rising::default(),
            fed: 0,
            spared: 0,
            packets_dropped: 0,
        };
        match sampler.pipeline.set_state(gst::State::Playing) {
            Ok(_) => Ok(sampler),
            Err(_) => Err(GstError::Pipeline("the decoder does not start".into())),
        }
    }

    /// Gives the decoder the next packet. Never blocks.
    pub fn push(&mut self, packet: &Packet) -> Fed {
        if self.shared.failed.load(Relaxed) {
            return Fed::Failed;
        }
        if packet.track != Track::Video || (self.needs_key && !packet.key) {
            if packet.track == Track::Video && self.behind {
                self.packets_dropped += 1;
                return Fed::Dropped;
            }
            return Fed::Skipped;
        }
        if packet.key && (self.needs_key || self.begins_anew(packet)) {
            self.spared += self.held.len() as u64;
            self.held.clear();
        }
        if self.backlog() + self.held.len() as u64 >= QUEUE_PACKETS {
            self.packets_dropped += 1;
            self.spared += self.held.len() as u64;
            self.held.clear();
            self.needs_key = true;
            self.behind = true;
            return Fed::Dropped;
        }
        let wanted = self.pace.choose(packet.pts, packet.key);
        if !wanted && !packet.key && self.is_disposable(packet) {
            self.spared += 1;
            return Fed::Skipped;
        }
        let at = self.times.at(packet.pts);
        let mut buffer = packet.buffer.copy();
        if let Some(b) = buffer.get_mut() {
            // Decoding order is the order of the packets.
            b.set_pts(gst::ClockTime::from_nseconds(at.0));
            b.set_dts(gst::ClockTime::NONE);
        }
        self.needs_key = false;
        self.behind = false;
        self.held.push(buffer);
        if !wanted {
            let full = self.held.len() >= HELD_PACKETS;
            return if full && !self.give() {
                Fed::Failed
            } else {
                Fed::Held
            };
        }
        let mark = Mark {
            key: packet.key,
            run: self.run,
        };
        self.shared.wanted().add(at, packet.pts, mark);
        if self.give() { Fed::Taken } else { Fed::Failed }
    }

    /// Gives the decoder what is held. `false`: it failed.
    fn give(&mut self) -> bool {
        self.fed += self.held.len() as u64;
        let group: gst::BufferList = self.held.drain(..).collect();
        self.source.push_buffer_list(group).is_ok()
    }

    /// Makes the decoder deliver all it holds now; the next packet must be a key frame. Without it a picture may wait in
    /// the decoder until later packets prove that nothing comes before it.
    pub fn drain(&mut self) {
        self.needs_key = true;
        self.spared += self.held.len() as u64;
        self.held.clear();
        // The event for "a still picture follows": decoders put out what they hold and begin anew.
        let still = gstreamer_video::StillFrameEvent::builder(true).build();
        self.source.send_event(still);
    }

    /// The next packet is a key frame from before: what is still in the decoder belongs to the run before, as its
    /// [`Mark`] says. Returns the number of the new run.
    pub fn rewind(&mut self) -> u64 {
        self.drain();
        self.pace.restart();
        self.times.restart();
        self.run += 1;
        self.run
    }

    /// Packets that wait for the decoder, without those that no chosen picture needs yet.
    pub fn backlog(&self) -> u64 {
        self.source.current_level_buffers()
    }

    /// Whether chosen pictures are in the decoder.
    pub fn owes(&self) -> bool {
        !self.shared.wanted().is_empty()
    }

    /// Counts since the start.
    pub fn counts(&self) -> SamplerCounts {
        SamplerCounts {
            fed: self.fed,
            spared: self.spared,
            packets_dropped: self.packets_dropped,
            frames: self.shared.frames.load(Relaxed),
            frames_dropped: self.shared.frames_dropped.load(Relaxed),
        }
    }

    /// Ends the decoder; returns false where it still hangs after [`STOP_LIMIT`]. Blocks: call it on a blocking thread,
    /// or drop the sampler, which does not wait.
    pub fn stop(self) -> bool {
        teardown::stop_within(&self.pipeline, STOP_LIMIT)
    }

    fn is_disposable(&self, packet: &Packet) -> bool {
        self.asks(packet, Nal::nothing_refers_to)
    }

    fn begins_anew(&self, packet: &Packet) -> bool {
        self.asks(packet, Nal::begins_anew)
    }

    fn asks(&self, packet: &Packet, question: fn(Nal, &[u8]) -> bool) -> bool {
        self.nal.is_some_and(|nal| {
            let mapped = packet.buffer.map_readable();
            mapped.is_ok_and(|bytes| question(nal, &bytes))
        })
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        if self.pipeline.current_state() != gst::State::Null {
            teardown::stop_within(&self.pipeline, Duration::ZERO);
        }
    }
}

/// Name of the software decoder for video caps.
///
/// # Errors
/// [`GstError::Pipeline`] where they are neither H.264 nor H.265.
pub fn decoder_for(caps: &gst::Caps) -> Result<&'static str, GstError> {
    match caps.structure(0).map(|s| s.name().as_str()) {
        Some("video/x-h264") => Ok("avdec_h264"),
        Some("video/x-h265") => Ok("avdec_h265"),
        _ => Err(GstError::Pipeline(format!("cannot decode {caps}"))),
    }
}

/// Names of the installed hardware decoders for video caps, best first; whether they work is for the caller to find out.
pub fn hardware_for(caps: &gst::Caps) -> Vec<String> {
    let kind = gst::ElementFactoryType::DECODER | gst::ElementFactoryType::MEDIA_VIDEO;
    // Rank NONE: some boards' decoders are ranked low and good all the same.
    let all = gst::ElementFactory::factories_with_type(kind, gst::Rank::NONE);
    let fits = all.iter().filter(|f| f.can_sink_any_caps(caps));
    rank(fits.map(|f| f.name().to_string()))
}

fn callbacks(
    max_width: u32,
    tx: mpsc::Sender<SamplerEvent>,
    shared: Arc<Shared>,
) -> AppSinkCallbacks {
    AppSinkCallbacks::builder()
        .new_sample(move |sink| {
            let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
            let at = sample.buffer().and_then(gst::BufferRef::pts);
            let Some(at) = at.map(|p| Pts(p.nseconds())) else {
                return Ok(gst::FlowSuccess::Ok);
            };
            let Some((pts, mark)) = shared.wanted().is(at) else {
                return Ok(gst::FlowSuccess::Ok);
            };
            let Some(frame) = grey(&sample, pts, max_width) else {
                if !shared.failed.swap(true, Relaxed) {
                    let text = format!("no luma plane in {:?}", sample.caps());
                    let _ = tx.try_send(SamplerEvent::Failed(text));
                }
                return Err(gst::FlowError::NotSupported);
            };
            let sent = tx.try_send(SamplerEvent::Frame(frame, mark)).is_ok();
            let count = if sent {
                &shared.frames
            } else {
                &shared.frames_dropped
            };
            count.fetch_add(1, Relaxed);
            Ok(gst::FlowSuccess::Ok)
        })
        .build()
}

/// The luma plane of a decoded picture, shrunk to `max_width`.
pub(super) fn grey(sample: &gst::Sample, pts: Pts, max_width: u32) -> Option<OwnedGray> {
    let info = VideoInfo::from_caps(sample.caps()?).ok()?;
    let frame = VideoFrameRef::from_buffer_ref_readable(sample.buffer()?, &info).ok()?;
    let format: VideoFormatInfo = info.format_info();
    if !(format.is_yuv() || format.is_gray()) || format.is_complex() || format.is_tiled() {
        return None;
    }
    let depth = *format.depth().first()?;
    let plane = Plane {
        bytes: frame.comp_data(0).ok()?,
        width: frame.width() as usize,
        height: frame.height() as usize,
        stride: usize::try_from(*frame.plane_stride().first()?).ok()?,
        step: usize::try_from(*format.pixel_stride().first()?).ok()?,
        shift: format.shift().first()? + depth.checked_sub(8)?,
        little_endian: format.is_le(),
    };
    let (width, height) = plane::fit(plane.width, plane.height, max_width as usize);
    Some(OwnedGray {
        luma: plane::shrink(&plane, width, height)?,
        width,
        height,
        pts,
    })
}
