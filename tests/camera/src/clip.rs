//! Writes small clips of the pattern for tests that play files.

use std::path::Path;

use anyhow::{Context, Result, bail};
use gstreamer as gst;
use gstreamer::prelude::*;

use crate::pattern::Scene;
use crate::server::{Codec, Picture, encoder, paint_into};

/// What to write.
#[derive(Debug, Clone, Copy)]
pub struct ClipSpec {
    /// Size, rate and what is seen; the counter starts at zero.
    pub picture: Picture,
    /// Codec of the video.
    pub codec: Codec,
    /// Whole seconds.
    pub seconds: u32,
    /// A tone in AAC beside it.
    pub aac: bool,
}

impl Default for ClipSpec {
    fn default() -> Self {
        ClipSpec {
            picture: Picture {
                counter: true,
                scene: Scene::default(),
                ..Picture::default()
            },
            codec: Codec::H264,
            seconds: 2,
            aac: false,
        }
    }
}

/// Writes an MP4 (or Matroska, by the name) as fast as it encodes.
///
/// # Errors
/// Where GStreamer cannot.
pub fn write_clip(path: &Path, spec: &ClipSpec) -> Result<()> {
    gst::init()?;
    let mux = match path.extension().and_then(|e| e.to_str()) {
        Some("mkv") => "matroskamux",
        _ => "mp4mux",
    };
    let p = spec.picture;
    let audio = if spec.aac {
        let buffers = (spec.seconds * 48_000).div_ceil(1024);
        format!(
            "audiotestsrc num-buffers={buffers} ! audio/x-raw,rate=48000,channels=1 ! avenc_aac ! aacparse ! mux."
        )
    } else {
        String::new()
    };
    let description = format!(
        "videotestsrc pattern=black num-buffers={} ! {} ! identity name=paint ! {} ! {mux} name=mux ! filesink name=out {audio}",
        spec.seconds * p.fps,
        p.caps(),
        encoder(spec.codec, &p, 0),
    );
    let pipeline = gst::parse::launch(&description)?
        .downcast::<gst::Pipeline>()
        .map_err(|_| anyhow::anyhow!("not a pipeline"))?;
    pipeline
        .by_name("out")
        .context("no filesink")?
        .set_property("location", path);
    paint_into(&pipeline, p, |frame| frame)?;
    pipeline.set_state(gst::State::Playing)?;
    let bus = pipeline.bus().context("no bus")?;
    let ends = [gst::MessageType::Eos, gst::MessageType::Error];
    let end = bus.timed_pop_filtered(gst::ClockTime::from_seconds(60), &ends);
    pipeline.set_state(gst::State::Null)?;
    match end.as_ref().map(|m| m.view()) {
        Some(gst::MessageView::Eos(_)) => Ok(()),
        Some(gst::MessageView::Error(e)) => bail!("{}: {:?}", e.error(), e.debug()),
        _ => bail!("writing the clip takes too long"),
    }
}
