//! A V4L2 camera: its own H.264 passed through, or raw or MJPEG frames encoded here.
//!
//! ```text
//!  v4l2src ! h264 ! h264parse ! avc ! appsink
//!  v4l2src ! raw | jpeg ! jpegdec ──▶ videoconvert ! queue (leaky) ! encoder ! h264parse ! avc ! appsink
//!                                                            └ luma for detection, by a probe
//! ```
//!
//! The mode is chosen by [`super::v4l2_mode::choose`] each time, so that a camera that comes back as another one works.

use gstreamer as gst;
use gstreamer::prelude::*;

use super::capture::Build;
use super::gst::{chain, h26x_caps, make};
use super::source_test::{encode, raw_caps};
use super::v4l2::modes;
use super::v4l2_mode::{Choice, Wish, choose};
use super::{Track, encoder};
use crate::config::{SourceConfig, V4l2Format};
use crate::model::DownReason;

pub(super) fn build(b: &Build<'_>, source: &SourceConfig) -> Result<(), DownReason> {
    let SourceConfig::V4l2 {
        device,
        width,
        height,
        fps,
        format,
        bitrate_kbps,
    } = source
    else {
        return Err(DownReason::Failed("not a v4l2 source".into()));
    };
    let offered =
        modes(device).map_err(|e| DownReason::Unreachable(format!("{}: {e}", device.display())))?;
    for m in &offered {
        b.flow
            .offered("video", &format!("{:?}", m.format).to_uppercase());
    }
    let wish = Wish {
        format: *format,
        width: *width,
        height: *height,
        fps: *fps,
    };
    // An encoder is probed only where the camera has no H.264 of its own.
    let choice = match choose(&offered, wish, true) {
        Ok(c) if c.format != V4l2Format::H264 && encoder::best().is_none() => {
            choose(&offered, wish, false)
        }
        other => other,
    }
    .map_err(DownReason::Unsupported)?;
    tracing::info!(
        format = ?choice.format,
        width = choice.width,
        height = choice.height,
        fps = choice.fps,
        "v4l2 mode chosen"
    );
    let src = make("v4l2src")?;
    src.set_property("device", device.display().to_string());
    let mode = make("capsfilter")?;
    mode.set_property("caps", caps_of(choice));
    chain(b.pipeline, &[&src, &mode])?;
    match choice.format {
        V4l2Format::H264 => pass_through(b, &mode),
        V4l2Format::Nv12 | V4l2Format::Yuyv => encode(b, &mode, choice.fps, *bitrate_kbps, b.luma),
        V4l2Format::Mjpeg => {
            let decode = make("jpegdec")?;
            b.pipeline
                .add(&decode)
                .and_then(|()| mode.link(&decode))
                .map_err(super::gst::GstError::from)?;
            encode(b, &decode, choice.fps, *bitrate_kbps, b.luma)
        }
    }
}

fn caps_of(c: Choice) -> gst::Caps {
    match c.format {
        V4l2Format::Nv12 => raw_caps(Some("NV12"), c.width, c.height, c.fps),
        V4l2Format::Yuyv => raw_caps(Some("YUY2"), c.width, c.height, c.fps),
        V4l2Format::Mjpeg => rename(c, "image/jpeg"),
        V4l2Format::H264 => rename(c, "video/x-h264"),
    }
}

fn rename(c: Choice, name: &str) -> gst::Caps {
    let mut caps = raw_caps(None, c.width, c.height, c.fps);
    if let Some(s) = caps.make_mut().structure_mut(0) {
        s.set_name(name);
    }
    caps
}

fn pass_through(b: &Build<'_>, mode: &gst::Element) -> Result<(), DownReason> {
    let parse = make("h264parse")?;
    let avc = make("capsfilter")?;
    avc.set_property("caps", h26x_caps("video/x-h264", "avc"));
    let sink = b.flow.sink(Track::Video, false);
    b.pipeline
        .add_many([&parse, &avc, sink.upcast_ref()])
        .and_then(|()| gst::Element::link_many([mode, &parse, &avc, sink.upcast_ref()]))
        .map_err(super::gst::GstError::from)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caps_follow_the_choice() {
        super::super::gst::init().unwrap();
        let c = Choice {
            format: V4l2Format::Mjpeg,
            width: 640,
            height: 480,
            fps: 15,
        };
        let caps = caps_of(c);
        let s = caps.structure(0).unwrap();
        assert_eq!(s.name(), "image/jpeg");
        assert_eq!(s.get::<i32>("width").unwrap(), 640);
        let raw = caps_of(Choice {
            format: V4l2Format::Yuyv,
            ..c
        });
        assert_eq!(
            raw.structure(0).unwrap().get::<String>("format").unwrap(),
            "YUY2"
        );
    }
}
