//! What caps say about a video track: its picture, and whether two of them decode alike.

use gstreamer as gst;

use crate::model::{StreamInfo, VideoCodec};

/// The same decoder configuration: what a muxer would have to start a new file for is equal.
pub(super) fn same_video(a: &gst::Caps, b: &gst::Caps) -> bool {
    if a == b {
        return true;
    }
    let (Some(a), Some(b)) = (a.structure(0), b.structure(0)) else {
        return false;
    };
    a.name() == b.name()
        && ["width", "height"]
            .into_iter()
            .all(|f| a.get::<i32>(f).ok() == b.get::<i32>(f).ok())
        && codec_data(a) == codec_data(b)
}

fn codec_data(s: &gst::StructureRef) -> Option<Vec<u8>> {
    let buffer = s.get::<gst::Buffer>("codec_data").ok()?;
    Some(buffer.map_readable().ok()?.to_vec())
}

/// Codec of a video track; `None` where it is none that is recorded.
pub(super) fn codec(video: &gst::Caps) -> Option<VideoCodec> {
    match video.structure(0)?.name().as_str() {
        "video/x-h264" => Some(VideoCodec::H264),
        "video/x-h265" => Some(VideoCodec::H265),
        _ => None,
    }
}

/// What complete caps say; `None` while the parameter sets or the size are missing.
pub(super) fn stream_info(video: &gst::Caps, has_audio: bool) -> Option<StreamInfo> {
    let s = video.structure(0)?;
    let codec = codec(video)?;
    codec_data(s)?;
    let size = |f| s.get::<i32>(f).ok().and_then(|v| u32::try_from(v).ok());
    let fps = s
        .get::<gst::Fraction>("framerate")
        .ok()
        .filter(|f| f.denom() > 0)
        .map_or(0.0, |f| f.numer() as f32 / f.denom() as f32);
    Some(StreamInfo {
        codec,
        width: size("width").filter(|w| *w > 0)?,
        height: size("height").filter(|h| *h > 0)?,
        fps,
        has_audio,
    })
}
