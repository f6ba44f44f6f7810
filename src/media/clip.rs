//! Writes packets into a clip: fragmented MP4 while it grows, a normal seekable MP4 once it is closed, never transcoded.
//!
//! Guarantees: [`ClipWriter::push`] never blocks; a file named `.mp4` is complete and durable; after a power cut a
//! `.mp4.part` plays up to [`LOSS_BOUND`] before the cut (`spool::salvage`). Each writer is a small pipeline of its own,
//! so that a slow or full disk hurts this clip and nothing else.
//!
//! ```text
//! open ─▶ waiting for a key frame ─▶ writing ─▶ finish ─▶ <uuid>.mp4
//!                                      ├─ disk too slow: Pushed::Dropped ─▶ finish ─▶ <uuid>.mp4, truncated
//!                                      └─ disk full, IO error: Err ─▶ <uuid>.mp4.part stays for the salvage
//! ```

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSrc;

use super::gst::{GstError, chain, make};
use super::{Packet, Track, TrackCaps, clip_sync, teardown};
use crate::model::{Retry, Sha256};
use crate::time::Pts;

/// From the start of one flush of the growing file to the start of the next; sooner on a slow disk (`clip_sync`).
pub const SYNC_EVERY: Duration = Duration::from_secs(5);

/// Length of a fragment: what a crash of the process alone can cost.
pub const FRAGMENT: Duration = Duration::from_secs(1);

/// What a power cut can cost on a disk that flushes within 4 s; the protocol allows 10 s.
pub const LOSS_BOUND: Duration = Duration::from_secs(10);

/// Packets that wait for a slow disk. 32 MiB is a minute at 4 Mbit/s; when full the clip ends (see [`Pushed::Dropped`]).
pub const QUEUE_BYTES: u64 = 32 << 20;

/// How long [`ClipWriter::finish`] waits for the muxer to write its index.
pub const FINISH_LIMIT: Duration = Duration::from_secs(10);

/// Audio may lag this far behind the video before the muxer is told not to wait for it.
const AUDIO_PATIENCE: Duration = Duration::from_secs(1);

/// Keeps decoding times positive where B-frames make them earlier than the clip's first picture.
const HEADROOM: Duration = Duration::from_secs(3600);

/// Why a clip could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ClipError {
    /// The disk is full; the part stays for the salvage.
    #[error("no space left for {0}")]
    DiskFull(PathBuf),
    /// The disk or its file system fails; the part stays for the salvage.
    #[error("cannot write {path}: {text}")]
    Storage {
        /// The part.
        path: PathBuf,
        /// What the system said.
        text: String,
    },
    /// The index was not written within [`FINISH_LIMIT`]; the part stays for the salvage.
    #[error("closing {0} takes too long")]
    Stuck(PathBuf),
    /// No key frame came; the part is removed.
    #[error("no picture for {0}")]
    Empty(PathBuf),
    /// The muxer refuses this stream; the part stays for the salvage.
    #[error("the stream cannot be put into MP4: {0}")]
    Stream(String),
    /// GStreamer is not complete.
    #[error(transparent)]
    Build(#[from] GstError),
}

impl ClipError {
    /// What the caller can do.
    pub fn retry(&self) -> Retry {
        match self {
            ClipError::DiskFull(_) | ClipError::Storage { .. } | ClipError::Stuck(_) => {
                Retry::Later
            }
            ClipError::Empty(_) | ClipError::Stream(_) => Retry::Never,
            ClipError::Build(_) => Retry::Fatal,
        }
    }
}

/// What became of a pushed packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It will be written.
    Taken,
    /// It does not belong into this clip: earlier than its first key frame, or audio that is not recorded or comes too
    /// late.
    Skipped,
    /// The disk is [`QUEUE_BYTES`] behind: this clip takes nothing more. Finish it and open another one at the next
    /// key frame.
    Dropped,
}

/// A closed clip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClipFile {
    /// `<uuid>.mp4`.
    pub path: PathBuf,
    /// Its length.
    pub size_bytes: u64,
    /// From the first picture to the end of the last one.
    pub duration: Duration,
    /// Digest of the whole file.
    pub sha256: Sha256,
    /// Of the first picture, a key frame.
    pub first_pts: Pts,
    /// Of the last picture shown.
    pub last_pts: Pts,
    /// Pictures in it.
    pub frames: u64,
    /// It ended early because the disk was too slow.
    pub truncated: bool,
    /// Packets that came after that and were dropped.
    pub dropped: u64,
}

/// Pts span of what was taken.
#[derive(Debug, Clone, Copy)]
struct Span {
    first: Pts,
    last: Pts,
    /// End of the last picture.
    end: Pts,
    frames: u64,
}

/// Writes one clip; see the module.
#[derive(Debug)]
pub struct ClipWriter {
    pipeline: gst::Pipeline,
    bus: gst::Bus,
    video: AppSrc,
    audio: Option<AppSrc>,
    part: PathBuf,
    path: PathBuf,
    sync: clip_sync::SyncThread,
    queue_bytes: u64,
    span: Option<Span>,
    /// Where the audio track stands; audio before it is skipped.
    audio_end: Pts,
    dropped: u64,
}

impl ClipWriter {
    /// Creates `<path>.part` (mode 0600) and starts the muxer. `path` ends in `.mp4`; its directory exists. The audio
    /// track is made where `audio` is wanted and the caps have it. Blocks for one file creation.
    ///
    /// # Errors
    /// [`ClipError::Storage`] or [`ClipError::DiskFull`] where the file cannot be created or is there already.
    pub fn open(path: &Path, caps: &TrackCaps, audio: bool) -> Result<ClipWriter, ClipError> {
        Self::open_late(path, caps, audio, Duration::ZERO)
    }

    /// The same for a clip whose first packets waited so long already: they are flushed the sooner.
    ///
    /// # Errors
    /// As of [`ClipWriter::open`].
    pub fn open_late(
        path: &Path,
        caps: &TrackCaps,
        audio: bool,
        waited: Duration,
    ) -> Result<ClipWriter, ClipError> {
        let mut name = path.as_os_str().to_owned();
        name.push(".part");
        let part = PathBuf::from(name);
        let file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&part)
            .map_err(|e| storage(&part, &e))?;
        let sync = clip_sync::SyncThread::start(file, &part, waited);
        let sync = sync.map_err(|e| storage(&part, &e))?;
        Self::build(path, &part, sync, caps, audio).inspect_err(|_| {
            let _ = fs::remove_file(&part);
        })
    }

    fn build(
        path: &Path,
        part: &Path,
        sync: clip_sync::SyncThread,
        caps: &TrackCaps,
        audio: bool,
    ) -> Result<ClipWriter, ClipError> {
        let pipeline = gst::Pipeline::new();
        let mux = make("mp4mux")?;
        mux.set_property("fragment-duration", FRAGMENT.as_millis() as u32);
        mux.set_property_from_str("fragment-mode", "first-moov-then-finalise");
        let sink = make("filesink")?;
        sink.set_property("location", part);
        // Default buffering would keep 64 KiB from the salvage: seconds of a quiet scene.
        sink.set_property_from_str("buffer-mode", "unbuffered");
        sink.set_property("sync", false);
        sink.set_property("async", false);
        chain(&pipeline, &[&mux, &sink])?;
        let track = |caps: &gst::Caps, pad: &str| -> Result<AppSrc, GstError> {
            let refused = |e: gst::glib::BoolError| GstError::Pipeline(e.message.to_string());
            let source = AppSrc::builder()
                .caps(caps)
                .format(gst::Format::Time)
                .handle_segment_change(true)
                .max_bytes(0)
                .build();
            pipeline.add(&source).map_err(refused)?;
            source.link_pads(None, &mux, Some(pad)).map_err(refused)?;
            Ok(source)
        };
        let video = track(&caps.video, "video_%u")?;
        let audio = match &caps.audio {
            Some(caps) if audio => Some(track(caps, "audio_%u")?),
            _ => None,
        };
        let bus = pipeline
            .bus()
            .ok_or_else(|| GstError::Pipeline("a pipeline without a bus".into()))?;
        let writer = ClipWriter {
            sync,
            pipeline,
            bus,
            video,
            audio,
            part: part.to_owned(),
            path: path.to_owned(),
            queue_bytes: QUEUE_BYTES,
            span: None,
            audio_end: Pts(0),
            dropped: 0,
        };
        if writer.pipeline.set_state(gst::State::Playing).is_err() {
            writer.check()?;
            return Err(GstError::Pipeline("the clip pipeline does not start".into()).into());
        }
        Ok(writer)
    }

    /// Takes the next packet in decoding order; everything before the first video key frame is skipped. Never blocks.
    ///
    /// # Errors
    /// The clip is over: [`ClipError::DiskFull`], [`ClipError::Storage`] or [`ClipError::Stream`]. Drop the writer; the
    /// part stays for the salvage.
    pub fn push(&mut self, packet: &Packet) -> Result<Pushed, ClipError> {
        self.check()?;
        let first = match (packet.track, self.span) {
            (_, Some(span)) => span.first,
            (Track::Video, None) if packet.key => packet.pts,
            _ => return Ok(Pushed::Skipped),
        };
        if packet.pts < first {
            // Leading pictures of an open GOP refer to what is not in this clip.
            return Ok(Pushed::Skipped);
        }
        if self.dropped > 0 || self.queued() + packet.size() as u64 > self.queue_bytes {
            self.dropped += 1;
            return Ok(Pushed::Dropped);
        }
        match packet.track {
            Track::Video => self.push_video(packet, first),
            Track::Audio => self.push_audio(packet),
        }
    }

    fn push_video(&mut self, packet: &Packet, first: Pts) -> Result<Pushed, ClipError> {
        if self.span.is_none() {
            self.audio_end = first;
            for source in [Some(&self.video), self.audio.as_ref()]
                .into_iter()
                .flatten()
            {
                begin(source, first).map_err(|_| self.refused())?;
            }
        }
        self.send(&self.video, packet)?;
        let end = packet.pts + packet.duration().unwrap_or_default();
        let span = self.span.get_or_insert(Span {
            first,
            last: packet.pts,
            end,
            frames: 0,
        });
        span.frames += 1;
        span.end = span.end.max(end);
        span.last = span.last.max(packet.pts);
        let horizon = span.last - AUDIO_PATIENCE;
        if let Some(audio) = &self.audio
            && horizon > self.audio_end
        {
            // The muxer waits for every track; an empty buffer tells it that nothing comes here.
            let from = std::mem::replace(&mut self.audio_end, horizon);
            audio
                .push_buffer(gap(from, horizon))
                .map_err(|_| self.refused())?;
        }
        Ok(Pushed::Taken)
    }

    fn push_audio(&mut self, packet: &Packet) -> Result<Pushed, ClipError> {
        let Some(audio) = &self.audio else {
            return Ok(Pushed::Skipped);
        };
        if packet.pts < self.audio_end {
            return Ok(Pushed::Skipped);
        }
        self.send(audio, packet)?;
        self.audio_end = packet.pts + packet.duration().unwrap_or_default();
        Ok(Pushed::Taken)
    }

    fn send(&self, source: &AppSrc, packet: &Packet) -> Result<(), ClipError> {
        source
            .push_buffer(stamped(packet))
            .map_err(|_| self.refused())?;
        Ok(())
    }

    /// Bytes that wait for the disk.
    pub fn queued(&self) -> u64 {
        let audio = self.audio.as_ref().map_or(0, AppSrc::current_level_bytes);
        self.video.current_level_bytes() + audio
    }

    /// Writes the index, flushes, renames to `.mp4`, flushes the directory, reads the file for its digest.
    ///
    /// Blocks: call it on a blocking thread. Waits for the muxer at most [`FINISH_LIMIT`]; flushing takes what the disk
    /// takes.
    ///
    /// # Errors
    /// [`ClipError::Empty`] where no key frame came (nothing is left of it); otherwise the part stays for the salvage.
    pub fn finish(mut self) -> Result<ClipFile, ClipError> {
        let stop = Duration::from_secs(2);
        let Some(span) = self.span else {
            teardown::stop_within(&self.pipeline, stop);
            let _ = fs::remove_file(&self.part);
            return Err(ClipError::Empty(self.path.clone()));
        };
        for source in [Some(&self.video), self.audio.as_ref()]
            .into_iter()
            .flatten()
        {
            let _ = source.end_of_stream();
        }
        let limit = gst::ClockTime::from_nseconds(FINISH_LIMIT.as_nanos() as u64);
        let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
        let message = self.bus.timed_pop_filtered(limit, &kinds);
        let stopped = teardown::stop_within(&self.pipeline, stop);
        match message {
            Some(m) if m.type_() == gst::MessageType::Eos && stopped => {}
            Some(m) if m.type_() == gst::MessageType::Error => return Err(self.explain(&m)),
            _ => return Err(ClipError::Stuck(self.part.clone())),
        }
        self.sync.stop();
        let (size_bytes, sha256) =
            clip_sync::close(&self.part, &self.path).map_err(|e| storage(&self.part, &e))?;
        Ok(ClipFile {
            path: self.path.clone(),
            size_bytes,
            duration: span.end.since(span.first),
            sha256,
            first_pts: span.first,
            last_pts: span.last,
            frames: span.frames,
            truncated: self.dropped > 0,
            dropped: self.dropped,
        })
    }

    /// Looks for trouble that GStreamer's threads or the flushing thread met.
    fn check(&self) -> Result<(), ClipError> {
        if let Some(e) = self.sync.failure() {
            return Err(storage(&self.part, &e));
        }
        let errors = [gst::MessageType::Error];
        let message = self.bus.pop_filtered(&errors);
        message.map_or(Ok(()), |m| Err(self.explain(&m)))
    }

    fn refused(&self) -> ClipError {
        let message = self.bus.pop_filtered(&[gst::MessageType::Error]);
        message.map_or_else(
            || ClipError::Stream("the muxer takes no more packets".into()),
            |m| self.explain(&m),
        )
    }

    fn explain(&self, message: &gst::Message) -> ClipError {
        let gst::MessageView::Error(e) = message.view() else {
            return ClipError::Stream("no reason given".into());
        };
        let text = e.error().message().to_owned();
        match e.error().kind::<gst::ResourceError>() {
            Some(gst::ResourceError::NoSpaceLeft) => ClipError::DiskFull(self.part.clone()),
            Some(_) => ClipError::Storage {
                path: self.part.clone(),
                text,
            },
            None => ClipError::Stream(text),
        }
    }
}

impl Drop for ClipWriter {
    fn drop(&mut self) {
        if self.pipeline.current_state() != gst::State::Null {
            teardown::stop_within(&self.pipeline, Duration::ZERO);
        }
    }
}

/// A packet with its session position (and [`HEADROOM`]) as pts; the bytes are shared.
pub(super) fn stamped(packet: &Packet) -> gst::Buffer {
    let mut buffer = packet.buffer.copy();
    let shifted = packet.pts + HEADROOM;
    if let Some(b) = buffer.get_mut() {
        let dts = match (b.pts(), b.dts()) {
            (Some(pts), Some(dts)) if dts > pts => Some(shifted + Duration::from(dts - pts)),
            (Some(pts), Some(dts)) => Some(shifted - Duration::from(pts - dts)),
            _ => None,
        };
        b.set_pts(gst::ClockTime::from_nseconds(shifted.0));
        b.set_dts(dts.map(|d| gst::ClockTime::from_nseconds(d.0)));
    }
    buffer
}

/// Opens the stream of a track: running time zero is its first picture.
pub(super) fn begin(source: &AppSrc, first: Pts) -> Result<(), gst::FlowError> {
    let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
    segment.set_start(gst::ClockTime::from_nseconds((first + HEADROOM).0));
    segment.set_time(gst::ClockTime::ZERO);
    let sample = gst::Sample::builder().segment(&segment).build();
    source.push_sample(&sample).map(|_| ())
}

fn gap(from: Pts, to: Pts) -> gst::Buffer {
    let mut buffer = gst::Buffer::new();
    if let Some(b) = buffer.get_mut() {
        let at = gst::ClockTime::from_nseconds((from + HEADROOM).0);
        b.set_pts(at);
        b.set_dts(at);
        b.set_duration(gst::ClockTime::from_nseconds(
            to.since(from).as_nanos() as u64
        ));
        b.set_flags(gst::BufferFlags::GAP);
    }
    buffer
}

fn storage(path: &Path, e: &io::Error) -> ClipError {
    if e.kind() == io::ErrorKind::StorageFull {
        ClipError::DiskFull(path.to_owned())
    } else {
        ClipError::Storage {
            path: path.to_owned(),
            text: e.to_string(),
        }
    }
}

#[cfg(test)]
#[path = "clip_tests.rs"]
mod tests;
