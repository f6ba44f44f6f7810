//! A recorded clip as grey pictures, small by the same means as a live camera's, as fast as the machine decodes.
//!
//! ```text
//! filesrc ! decodebin (software) ! [videoconvert: RGB only] ! appsink (4 pictures) ─▶ pace ─▶ shrink the luma plane
//! ```
//!
//! Whatever GStreamer reads: MP4, Matroska, AVI with H.264, H.265, MJPEG, FFV1 and others. The decoder waits while the
//! queue is full. A file that is not there, no video, cut off or damaged is an error in words, never a panic or a hang:
//! [`PATIENCE`] bounds every wait.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSink;

use super::gst::{GstError, chain, clean, init, make};
use super::{OwnedGray, sampler, teardown};
use crate::demand::Pace;
use crate::time::Pts;

/// Decoded pictures that may wait; when full, the decoder waits.
const QUEUE: u32 = 4;

/// The longest wait for the next picture.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What the shrinking reads; anything else (RGB) is converted first.
const FORMATS: [&str; 16] = [
    "I420",
    "NV12",
    "GRAY8",
    "YV12",
    "NV21",
    "Y42B",
    "Y444",
    "Y41B",
    "NV16",
    "NV24",
    "I420_10LE",
    "I422_10LE",
    "Y444_10LE",
    "I420_12LE",
    "I422_12LE",
    "Y444_12LE",
];

/// Why a clip cannot be seen, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum ClipFault {
    /// It is not there, or may not be read.
    #[error("cannot read {path}: {text}")]
    Unreadable {
        /// The clip.
        path: PathBuf,
        /// What the system says, or what it is instead of a file.
        text: String,
    },
    /// It is no video that can be decoded here.
    #[error("{path} is no video that can be read: {text}")]
    NoVideo {
        /// The clip.
        path: PathBuf,
        /// GStreamer's words.
        text: String,
    },
    /// It breaks off or is damaged; the pictures before are right.
    #[error("{path} cannot be read further after {:.1} s: {text}", after.as_secs_f64())]
    Broken {
        /// The clip.
        path: PathBuf,
        /// Position of the last good picture.
        after: Duration,
        /// GStreamer's words.
        text: String,
    },
    /// GStreamer is not complete.
    #[error(transparent)]
    Build(#[from] GstError),
}

/// The grey pictures of one clip, in order; an error is the last item.
#[derive(Debug)]
pub struct ClipFrames {
    decoding: Decoding,
    pace: Pace,
    max_width: u32,
}

impl ClipFrames {
    /// Opens a clip: about `fps` pictures a second by their own time, as the live sampler chooses them (0: every picture),
    /// at most `max_width` wide, even sizes, never enlarged. Blocks until the first picture is decoded.
    ///
    /// # Errors
    /// See [`ClipFault`].
    pub fn open(path: &Path, fps: f32, max_width: u32) -> Result<ClipFrames, ClipFault> {
        let decoding = Decoding::open(path, || {
            let (convert, filter) = (make("videoconvert")?, make("capsfilter")?);
            let caps = gst::Caps::builder("video/x-raw").field("format", gst::List::new(FORMATS));
            filter.set_property("caps", caps.build());
            Ok(vec![convert, filter])
        })?;
        Ok(ClipFrames {
            decoding,
            pace: Pace::new(fps),
            max_width,
        })
    }

    /// How long the clip is, where it says so.
    pub fn duration(&self) -> Option<Duration> {
        self.decoding.duration
    }

    fn take(&mut self) -> Result<Option<OwnedGray>, ClipFault> {
        while let Some((sample, pts)) = self.decoding.next()? {
            if !self.pace.choose(pts, false) {
                continue;
            }
            return match sampler::grey(&sample, pts, self.max_width) {
                Some(frame) => Ok(Some(frame)),
                None => Err(self.decoding.broken("a picture without luma".into())),
            };
        }
        Ok(None)
    }
}

impl Iterator for ClipFrames {
    type Item = Result<OwnedGray, ClipFault>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.take().transpose();
        if matches!(item, Some(Err(_))) {
            self.decoding.ended = true;
        }
        item
    }
}

/// A running pipeline from a file to decoded pictures.
#[derive(Debug)]
pub(super) struct Decoding {
    pipeline: gst::Pipeline,
    sink: AppSink,
    path: PathBuf,
    /// Of the whole clip.
    pub(super) duration: Option<Duration>,
    last: Option<Pts>,
    ended: bool,
}

impl Decoding {
    /// Starts it; `tail` makes what stands between decoder and sink, once GStreamer has started. Returns with the first picture decoded.
    pub(super) fn open(
        path: &Path,
        tail: impl FnOnce() -> Result<Vec<gst::Element>, GstError>,
    ) -> Result<Decoding, ClipFault> {
        is_a_file(path)?;
        init()?;
        let source = make("filesrc")?;
        source.set_property("location", path);
        let decoder = make("decodebin")?;
        decoder.set_property("force-sw-decoders", true);
        let tail = tail()?;
        let sink = AppSink::builder().sync(false).max_buffers(QUEUE).build();
        sink.set_property("enable-last-sample", false);
        sink.set_property("qos", false);
        let pipeline = gst::Pipeline::new();
        chain(&pipeline, &[&source, &decoder])?;
        let mut rest: Vec<&gst::Element> = tail.iter().collect();
        rest.push(sink.upcast_ref());
        chain(&pipeline, &rest)?;
        link_first_video(&decoder, rest[0]);
        let mut decoding = Decoding {
            pipeline,
            sink,
            path: path.to_owned(),
            duration: None,
            last: None,
            ended: false,
        };
        decoding.start()?;
        Ok(decoding)
    }

    fn start(&mut self) -> Result<(), ClipFault> {
        let no_video = |text: String| ClipFault::NoVideo {
            path: self.path.clone(),
            text,
        };
        // What goes wrong is told on the bus.
        let _ = self.pipeline.set_state(gst::State::Paused);
        let bus = self
            .pipeline
            .bus()
            .ok_or_else(|| no_video("no bus".into()))?;
        let ends = [
            gst::MessageType::AsyncDone,
            gst::MessageType::Error,
            gst::MessageType::Eos,
        ];
        let message = bus.timed_pop_filtered(clock_time(PATIENCE), &ends);
        match message.as_ref().map(|m| m.view()) {
            Some(gst::MessageView::AsyncDone(_)) => {}
            Some(gst::MessageView::Error(e)) => return Err(no_video(words(e))),
            Some(_) => return Err(no_video("it holds no picture".into())),
            None => return Err(no_video("decoding it does not begin".into())),
        }
        let duration = self.pipeline.query_duration::<gst::ClockTime>();
        self.duration = duration.map(|d| Duration::from_nanos(d.nseconds()));
        match self.pipeline.set_state(gst::State::Playing) {
            Ok(_) => Ok(()),
            Err(_) => Err(no_video("the decoder does not start".into())),
        }
    }

    /// The next picture with its position; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<(gst::Sample, Pts)>, ClipFault> {
        if self.ended {
            return Ok(None);
        }
        let Some(sample) = self.sink.try_pull_sample(clock_time(PATIENCE)) else {
            self.ended = true;
            return match self.error() {
                Some(text) => Err(self.broken(text)),
                None if self.sink.is_eos() => Ok(None),
                None => Err(self.broken("the next picture does not come".into())),
            };
        };
        let pts = position(&sample).or_else(|| {
            let length = sample.buffer()?.duration()?;
            Some(self.last? + Duration::from_nanos(length.nseconds()))
        });
        let pts = pts.unwrap_or_default();
        self.last = Some(pts);
        Ok(Some((sample, pts)))
    }

    /// What the pictures are, once the first is decoded.
    pub(super) fn caps(&self) -> Option<gst::Caps> {
        self.sink.static_pad("sink")?.current_caps()
    }

    pub(super) fn broken(&self, text: String) -> ClipFault {
        ClipFault::Broken {
            path: self.path.clone(),
            after: Duration::from_nanos(self.last.unwrap_or_default().0),
            text,
        }
    }

    fn error(&self) -> Option<String> {
        let bus = self.pipeline.bus()?;
        let message = bus.pop_filtered(&[gst::MessageType::Error])?;
        match message.view() {
            gst::MessageView::Error(e) => Some(words(e)),
            _ => None,
        }
    }
}

impl Drop for Decoding {
    fn drop(&mut self) {
        teardown::stop_within(&self.pipeline, sampler::STOP_LIMIT);
    }
}

/// Position of a picture in the clip, edit lists included.
fn position(sample: &gst::Sample) -> Option<Pts> {
    let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?;
    let at = segment.to_running_time(sample.buffer()?.pts()?)?;
    Some(Pts(at.nseconds()))
}

fn is_a_file(path: &Path) -> Result<(), ClipFault> {
    let unreadable = |text: String| ClipFault::Unreadable {
        path: path.to_owned(),
        text,
    };
    // Looked at before it is opened: opening a pipe would wait for its writer.
    let facts = path.metadata().map_err(|e| unreadable(e.to_string()))?;
    if facts.is_dir() {
        return Err(unreadable("it is a directory, name the clips in it".into()));
    }
    if !facts.is_file() {
        return Err(unreadable("it is no regular file".into()));
    }
    File::open(path).map_err(|e| unreadable(e.to_string()))?;
    if facts.len() == 0 {
        return Err(unreadable("it is empty".into()));
    }
    Ok(())
}

fn link_first_video(decoder: &gst::Element, first: &gst::Element) {
    let weak = first.downgrade();
    decoder.connect_pad_added(move |_, pad| {
        let sink = weak.upgrade().and_then(|e| e.static_pad("sink"));
        let video = pad
            .current_caps()
            .and_then(|c| Some(c.structure(0)?.name().starts_with("video/")));
        if let Some(sink) = sink.filter(|s| video == Some(true) && !s.is_linked()) {
            // Refused only by formats that the converter does not know; the error is told on the bus.
            let _ = pad.link(&sink);
        }
    });
    let weak = first.downgrade();
    decoder.connect_no_more_pads(move |decoder| {
        let linked = weak
            .upgrade()
            .and_then(|e| e.static_pad("sink"))
            .is_some_and(|p| p.is_linked());
        if !linked {
            gst::element_error!(
                decoder,
                gst::StreamError::WrongType,
                ["there is no video in it"]
            );
        }
    });
}

/// GStreamer's words, or which decoder is not installed.
fn words(e: &gst::message::Error) -> String {
    let debug = e.debug().unwrap_or_default();
    let missing = debug
        .split_once("Missing decoder: ")
        .and_then(|(_, rest)| rest.split(" (video/").next());
    match missing {
        Some(name) => clean(
            &format!("nothing that is installed decodes {name} (gstreamer1.0-libav brings most)"),
            None,
        ),
        None => clean(e.error().message().trim_end_matches('.'), None),
    }
}

fn clock_time(d: Duration) -> gst::ClockTime {
    gst::ClockTime::from_nseconds(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX))
}
