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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{read_counter, read_counter_scaled};

    fn decode(path: &Path, size: &str) -> Vec<gst::Sample> {
        let description = format!(
            "filesrc location={} ! qtdemux ! decodebin ! videoconvert ! videoscale ! video/x-raw,format=GRAY8,{size} ! appsink name=out sync=false",
            path.display()
        );
        let pipeline = gst::parse::launch(&description).unwrap();
        let pipeline = pipeline.downcast::<gst::Pipeline>().unwrap();
        let sink = pipeline.by_name("out").unwrap();
        let sink = sink.downcast::<gstreamer_app::AppSink>().unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let samples = std::iter::from_fn(|| sink.pull_sample().ok()).collect();
        pipeline.set_state(gst::State::Null).unwrap();
        samples
    }

    #[test]
    fn the_counter_survives_encoder_decoder_and_scaling() {
        let dir = std::env::temp_dir().join(format!("testcam-clip-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        for codec in [Codec::H264, Codec::H265] {
            let path = dir.join("clip.mp4");
            let spec = ClipSpec {
                codec,
                ..ClipSpec::default()
            };
            write_clip(&path, &spec).unwrap();
            for (size, width) in [("width=640,height=360", 640), ("width=320,height=180", 320)] {
                let samples = decode(&path, size);
                assert_eq!(samples.len(), 30, "{codec:?}");
                for (n, sample) in samples.iter().enumerate() {
                    let map = sample.buffer().unwrap().map_readable().unwrap();
                    let seen = if width == 640 {
                        read_counter(&map, width, width)
                    } else {
                        read_counter_scaled(&map, width, width, 640)
                    };
                    assert_eq!(seen, Some(n as u32), "{codec:?} at {size}");
                }
            }
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
