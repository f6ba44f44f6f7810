//! Writes RGB pictures into an MP4 (H.264), for people to look at.
//!
//! ```text
//! appsrc (8 pictures, then the writer waits) ! videoconvert ! encoder ! h264parse ! mp4mux ! filesink
//! ```
//!
//! The file has its name only once it is complete: until then it is `NAME.part` beside it, and goes with a [`Film`] that
//! is dropped unfinished.

use std::path::{Path, PathBuf};
use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSrc;

use super::gst::{GstError, chain, make};
use super::{encoder, sampler, teardown};
use crate::time::Pts;

/// Pictures that wait for the encoder; when full, [`Film::push`] waits.
const QUEUE: u64 = 8;
/// Bits a second for each pixel: enough for boxes to stay sharp.
const KBPS_PER_MEGAPIXEL: u64 = 6_000;
/// How long the index may take to be written.
const FINISH_LIMIT: Duration = Duration::from_secs(30);

/// Why there is no film.
#[derive(Debug, thiserror::Error)]
pub enum FilmError {
    /// The disk, or the place, refuses it.
    #[error("cannot write {path}: {text}")]
    Storage {
        /// The film.
        path: PathBuf,
        /// What the system says.
        text: String,
    },
    /// GStreamer is not complete, or the encoder fails.
    #[error(transparent)]
    Build(#[from] GstError),
}

/// A film that is being written.
#[derive(Debug)]
pub struct Film {
    pipeline: gst::Pipeline,
    source: AppSrc,
    path: PathBuf,
    part: PathBuf,
    first: Option<Pts>,
    bytes: usize,
    finished: bool,
}

impl Film {
    /// Begins a film of pictures of this size (both even) that come about `fps` times a second. A file of that name is
    /// replaced once the new one is complete.
    ///
    /// # Errors
    /// See [`FilmError`].
    pub fn create(
        path: &Path,
        (width, height): (usize, usize),
        fps: u32,
    ) -> Result<Film, FilmError> {
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        // Here rather than from the sink, so that the reason is the system's own.
        std::fs::File::create(&part).map_err(|e| storage(path, e.to_string()))?;
        match Film::start(path, &part, (width, height), fps) {
            Ok(film) => Ok(film),
            Err(e) => {
                let _ = std::fs::remove_file(&part);
                Err(e)
            }
        }
    }

    fn start(
        path: &Path,
        part: &Path,
        (width, height): (usize, usize),
        fps: u32,
    ) -> Result<Film, FilmError> {
        let best = encoder::best().ok_or_else(|| {
            GstError::Pipeline(
                "there is no H.264 encoder, install gstreamer1.0-plugins-ugly".into(),
            )
        })?;
        let pixels = (width * height) as u64;
        let kbps = (pixels * KBPS_PER_MEGAPIXEL / 1_000_000).clamp(500, 12_000);
        let (encode, encoded) = best.build(fps, u32::try_from(kbps).unwrap_or(2_000))?;
        let size = |format: &str| {
            gst::Caps::builder("video/x-raw")
                .field("format", format)
                .field("width", i32::try_from(width).unwrap_or(i32::MAX))
                .field("height", i32::try_from(height).unwrap_or(i32::MAX))
                .field(
                    "framerate",
                    gst::Fraction::new(i32::try_from(fps).unwrap_or(25), 1),
                )
                .build()
        };
        let source = AppSrc::builder()
            .caps(&size("RGB"))
            .format(gst::Format::Time)
            .block(true)
            .max_buffers(QUEUE)
            .max_bytes(0)
            .build();
        let (convert, raw, after) = (
            make("videoconvert")?,
            make("capsfilter")?,
            make("capsfilter")?,
        );
        raw.set_property("caps", size(best.raw_format()));
        after.set_property("caps", encoded);
        let (parse, mux, sink) = (make("h264parse")?, make("mp4mux")?, make("filesink")?);
        sink.set_property("location", part);
        let pipeline = gst::Pipeline::new();
        let all = [
            source.upcast_ref(),
            &convert,
            &raw,
            &encode,
            &after,
            &parse,
            &mux,
            &sink,
        ];
        chain(&pipeline, &all)?;
        let film = Film {
            pipeline,
            source,
            path: path.to_owned(),
            part: part.to_owned(),
            first: None,
            bytes: width * height * 3,
            finished: false,
        };
        match film.pipeline.set_state(gst::State::Playing) {
            Ok(_) => Ok(film),
            Err(_) => Err(film.fault()),
        }
    }

    /// Adds the next picture: `3 * width * height` bytes without padding (widths that are multiples of 4), shown from `at`
    /// on. Waits for the encoder.
    ///
    /// # Errors
    /// See [`FilmError`].
    pub fn push(&mut self, rgb: Vec<u8>, at: Pts) -> Result<(), FilmError> {
        if rgb.len() != self.bytes {
            return Err(GstError::Pipeline("a picture of another size".into()).into());
        }
        let first = *self.first.get_or_insert(at);
        let mut buffer = gst::Buffer::from_mut_slice(rgb);
        if let Some(b) = buffer.get_mut() {
            b.set_pts(gst::ClockTime::from_nseconds(at.0.saturating_sub(first.0)));
        }
        match self.source.push_buffer(buffer) {
            Ok(_) => Ok(()),
            Err(_) => Err(self.fault()),
        }
    }

    /// Completes the file.
    ///
    /// # Errors
    /// See [`FilmError`].
    pub fn finish(mut self) -> Result<(), FilmError> {
        let _ = self.source.end_of_stream();
        let bus = self.pipeline.bus().ok_or_else(|| self.fault())?;
        let limit = gst::ClockTime::from_seconds(FINISH_LIMIT.as_secs());
        let ends = [gst::MessageType::Eos, gst::MessageType::Error];
        match bus
            .timed_pop_filtered(limit, &ends)
            .as_ref()
            .map(|m| m.view())
        {
            Some(gst::MessageView::Eos(_)) => {}
            Some(gst::MessageView::Error(e)) => {
                return Err(storage(
                    &self.path,
                    super::gst::clean(&e.error().to_string(), None),
                ));
            }
            _ => {
                return Err(storage(
                    &self.path,
                    "writing its index takes too long".into(),
                ));
            }
        }
        teardown::stop_within(&self.pipeline, sampler::STOP_LIMIT);
        std::fs::rename(&self.part, &self.path).map_err(|e| storage(&self.path, e.to_string()))?;
        self.finished = true;
        Ok(())
    }

    fn fault(&self) -> FilmError {
        let message = self
            .pipeline
            .bus()
            .and_then(|b| b.pop_filtered(&[gst::MessageType::Error]));
        let text = match message.as_ref().map(|m| m.view()) {
            Some(gst::MessageView::Error(e)) => super::gst::clean(&e.error().to_string(), None),
            _ => "the encoder does not take it".to_owned(),
        };
        storage(&self.path, text)
    }
}

impl Drop for Film {
    fn drop(&mut self) {
        if !self.finished {
            teardown::stop_within(&self.pipeline, sampler::STOP_LIMIT);
            let _ = std::fs::remove_file(&self.part);
        }
    }
}

fn storage(path: &Path, text: String) -> FilmError {
    FilmError::Storage {
        path: path.to_owned(),
        text,
    }
}
