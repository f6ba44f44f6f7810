//! What retina knows of a stream as the caps that `h264parse`, `h265parse` and `aacparse` would give it, so that the
//! muxer, the decoder and [`super::caps`] cannot tell the two ways apart.

use gstreamer as gst;
use retina::codec::{AudioParameters, VideoParameters, VideoParametersCodec};

use super::h26x;
use crate::model::VideoCodec;

/// Declared frame rates above this are nonsense.
const MAX_FPS: f64 = 240.0;

/// Codec and caps of a video track; `None` where it is no codec that is recorded. `sdp_fps` is what the session
/// description declares, for streams that do not say it themselves.
pub(super) fn video(p: &VideoParameters, sdp_fps: Option<f32>) -> Option<(VideoCodec, gst::Caps)> {
    let (width, height) = p.pixel_dimensions();
    let (width, height) = (i32::try_from(width).ok()?, i32::try_from(height).ok()?);
    let caps = |name, format| {
        gst::Caps::builder(name)
            .field("stream-format", format)
            .field("alignment", "au")
            .field("parsed", true)
            .field("width", width)
            .field("height", height)
            .field_if_some("framerate", framerate(p.frame_rate(), sdp_fps))
            .field_if_some("pixel-aspect-ratio", aspect(p.pixel_aspect_ratio()))
    };
    let record = p.extra_data();
    match p.codec_params() {
        VideoParametersCodec::H264 { sps, .. } => {
            let (profile, constraints, level) = (*sps.get(1)?, *sps.get(2)?, *sps.get(3)?);
            let depth = h26x::h264_depth(sps);
            let caps = caps("video/x-h264", "avc")
                .field("codec_data", codec_data(avcc(record, depth)))
                .field_if_some("profile", h26x::h264_profile(profile, constraints))
                .field_if_some("level", h26x::h264_level(profile, constraints, level))
                .build();
            Some((VideoCodec::H264, caps))
        }
        VideoParametersCodec::H265 { .. } => {
            let (profile, tier, level) = h26x::h265_level(record)?;
            let caps = caps("video/x-h265", "hvc1")
                .field("codec_data", codec_data(record.to_vec()))
                .field_if_some("profile", profile)
                .field("tier", tier)
                .field("level", level)
                .build();
            Some((VideoCodec::H265, caps))
        }
        _ => None,
    }
}

/// Caps of an AAC track.
pub(super) fn aac(p: &AudioParameters) -> Option<gst::Caps> {
    Some(
        gst::Caps::builder("audio/mpeg")
            .field("mpegversion", 4i32)
            .field("stream-format", "raw")
            .field("framed", true)
            .field("codec_data", codec_data(p.extra_data().to_vec()))
            .field("rate", i32::try_from(p.clock_rate()).ok()?)
            .field("channels", i32::from(p.channels().get()))
            .build(),
    )
}

fn codec_data(bytes: Vec<u8>) -> gst::Buffer {
    gst::Buffer::from_slice(bytes)
}

/// An `avcC` with the fields that the high profiles have after the parameter sets (ISO/IEC 14496-15, 5.3.3.1.2), which
/// retina leaves out.
fn avcc(record: &[u8], depth: Option<h26x::Depth>) -> Vec<u8> {
    let mut record = record.to_vec();
    if let Some(d) = depth {
        record.extend([
            0xfc | d.chroma_format,
            0xf8 | (d.luma - 8),
            0xf8 | (d.chroma - 8),
            0,
        ]);
    }
    record
}

/// retina gives the seconds of a frame as a fraction, not frames a second.
fn framerate(seconds: Option<(u32, u32)>, sdp: Option<f32>) -> Option<gst::Fraction> {
    let told = seconds.and_then(|(n, d)| fraction(d, n));
    told.or_else(|| fraction((sdp? * 1000.0).round() as u32, 1000))
        .filter(|f| f.numer() > 0 && f64::from(f.numer()) / f64::from(f.denom()) <= MAX_FPS)
}

fn aspect(pixel: Option<(u32, u32)>) -> Option<gst::Fraction> {
    let (h, v) = pixel?;
    fraction(h, v).filter(|f| f.numer() > 0)
}

fn fraction(n: u32, d: u32) -> Option<gst::Fraction> {
    let (n, d) = (i32::try_from(n).ok()?, i32::try_from(d).ok()?);
    (d > 0).then(|| gst::Fraction::new(n, d))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frame_rates_are_turned_round_and_nonsense_is_none() {
        assert_eq!(
            framerate(Some((6_000, 90_000)), None),
            Some(gst::Fraction::new(15, 1))
        );
        assert_eq!(
            framerate(Some((1_001, 30_000)), None),
            Some(gst::Fraction::new(30_000, 1_001))
        );
        assert_eq!(framerate(None, Some(12.5)), Some(gst::Fraction::new(25, 2)));
        for wrong in [(0, 0), (1, 0), (0, 1), (1, 90_000), (u32::MAX, u32::MAX)] {
            assert_eq!(framerate(Some(wrong), None), None, "{wrong:?}");
        }
        assert_eq!(framerate(None, Some(f32::NAN)), None);
        assert_eq!(aspect(Some((0, 0))), None);
        assert_eq!(aspect(Some((40, 33))), Some(gst::Fraction::new(40, 33)));
    }
}
