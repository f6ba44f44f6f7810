//! An RTSP camera over UDP or TLS, or one that [`super::source_retina`] does not understand: `rtspsrc`, and a branch for each codec that can be recorded, built before the camera has said
//! what it sends.
//!
//! ```text
//!             ┌ rtph264depay ! h264parse ! avc  ! appsink
//!  rtspsrc ───┼ rtph265depay ! h265parse ! hvc1 ! appsink      one of the two
//!             ├ rtpmp4gdepay ! aacparse  ! raw  ! appsink      one of the two, where audio is wanted
//!             └ rtpmp4adepay ! aacparse  ! raw  ! appsink
//! ```
//!
//! Streams that fit no branch (G.711, ONVIF metadata, JPEG) are never set up, so that they cost nothing and cannot
//! break the video. The password goes to `rtspsrc` as a property and is never part of a URL.

use std::sync::{Mutex, PoisonError};

use gstreamer as gst;
use gstreamer::prelude::*;

use super::capture::Build;
use super::flow::Wake;
use super::gst::{GstError, chain, h26x_caps, make};
use super::{Track, tls};
use crate::config::{RtspTransport, SourceConfig};
use crate::model::DownReason;

/// Jitter buffer in milliseconds: enough for Wi-Fi cameras, small beside a GOP.
const LATENCY_MS: u32 = 200;

/// RTSP over TCP answers within this time or fails, in microseconds.
const TCP_TIMEOUT_US: u64 = 10_000_000;

/// No UDP packet within this time means TCP, in microseconds.
const UDP_TIMEOUT_US: u64 = 3_000_000;

/// TEARDOWN is given this long, in nanoseconds.
const TEARDOWN_NS: u64 = 200_000_000;

/// What the camera is told of us.
pub(super) const USER_AGENT: &str = concat!("sentrycam/", env!("CARGO_PKG_VERSION"));

/// The branch that a stream goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Branch {
    H264,
    H265,
    /// RFC 3640.
    AacGeneric,
    /// RFC 6416.
    AacLatm,
}

impl Branch {
    /// What the SDP calls `encoding-name`, or `None` for what is not recorded.
    pub(super) fn of(media: &str, encoding: &str) -> Option<Branch> {
        match (media, encoding.to_ascii_uppercase().as_str()) {
            ("video", "H264") => Some(Branch::H264),
            ("video", "H265") => Some(Branch::H265),
            ("audio", "MPEG4-GENERIC") => Some(Branch::AacGeneric),
            ("audio", "MP4A-LATM") => Some(Branch::AacLatm),
            _ => None,
        }
    }

    pub(super) fn track(self) -> Track {
        match self {
            Branch::H264 | Branch::H265 => Track::Video,
            Branch::AacGeneric | Branch::AacLatm => Track::Audio,
        }
    }
}

/// Which streams of the SDP were chosen: the first that fits of each track.
#[derive(Debug, Default)]
pub(super) struct Choice {
    pub(super) video: Option<u32>,
    pub(super) audio: Option<u32>,
}

impl Choice {
    /// True where stream `number` is to be set up. Asked again after a change of transport; the answer stays.
    pub(super) fn take(&mut self, number: u32, media: &str, encoding: &str, audio: bool) -> bool {
        let slot = match Branch::of(media, encoding).map(Branch::track) {
            Some(Track::Video) => &mut self.video,
            Some(Track::Audio) if audio => &mut self.audio,
            _ => return false,
        };
        *slot.get_or_insert(number) == number
    }
}

pub(super) fn build(b: &Build<'_>, source: &SourceConfig) -> Result<(), DownReason> {
    let SourceConfig::Rtsp { url, .. } = source else {
        return Err(DownReason::Failed("not an rtsp source".into()));
    };
    if !matches!(url.scheme(), "rtsp" | "rtsps") {
        return Err(DownReason::Unsupported(format!("scheme {}", url.scheme())));
    }
    let src = make("rtspsrc")?;
    configure(&src, source)?;
    b.pipeline.add(&src).map_err(GstError::from)?;
    let mut branches = vec![
        (Branch::H264, branch(b, Branch::H264)?),
        (Branch::H265, branch(b, Branch::H265)?),
    ];
    if b.audio {
        branches.push((Branch::AacGeneric, branch(b, Branch::AacGeneric)?));
        branches.push((Branch::AacLatm, branch(b, Branch::AacLatm)?));
    }
    choose_streams(b, &src);
    link_pads(&src, branches);
    Ok(())
}

fn configure(src: &gst::Element, source: &SourceConfig) -> Result<(), DownReason> {
    let SourceConfig::Rtsp {
        url,
        user,
        password,
        transport,
        ca_file,
        verify_tls,
    } = source
    else {
        return Ok(());
    };
    src.set_property("location", bare(url).as_str());
    if let Some(user) = user {
        src.set_property("user-id", user.as_str());
    }
    if let Some(password) = password {
        src.set_property("user-pw", password.expose());
    }
    src.set_property_from_str(
        "protocols",
        match (transport, url.scheme()) {
            (RtspTransport::Tcp, _) | (_, "rtsps") => "tcp",
            (RtspTransport::Udp, _) => "udp",
            (RtspTransport::Auto, _) => "udp+tcp",
        },
    );
    src.set_property("timeout", UDP_TIMEOUT_US);
    src.set_property("tcp-timeout", TCP_TIMEOUT_US);
    src.set_property("teardown-timeout", TEARDOWN_NS);
    src.set_property("latency", LATENCY_MS);
    src.set_property("drop-on-latency", false);
    // Slave: arrival time smoothed over the camera's clock, so that the anchor holds for weeks.
    src.set_property_from_str("buffer-mode", "slave");
    src.set_property("do-rtcp", true);
    src.set_property("user-agent", USER_AGENT);
    if url.scheme() == "rtsps" {
        tls::configure(src, url, ca_file.as_deref(), *verify_tls)?;
    }
    Ok(())
}

/// The URL without userinfo: no message may show it.
pub(super) fn bare(url: &url::Url) -> url::Url {
    let mut bare = url.clone();
    // Neither fails for a URL with a host; one without has no userinfo.
    let _ = (bare.set_username(""), bare.set_password(None));
    bare
}

/// Builds one branch and answers the pad that RTP goes to.
fn branch(b: &Build<'_>, kind: Branch) -> Result<gst::Pad, GstError> {
    let (depay, parse, caps) = match kind {
        Branch::H264 => (
            "rtph264depay",
            "h264parse",
            h26x_caps("video/x-h264", "avc"),
        ),
        Branch::H265 => (
            "rtph265depay",
            "h265parse",
            h26x_caps("video/x-h265", "hvc1"),
        ),
        Branch::AacGeneric => ("rtpmp4gdepay", "aacparse", aac_caps()),
        Branch::AacLatm => ("rtpmp4adepay", "aacparse", aac_caps()),
    };
    let depay = make(depay)?;
    let parse = make(parse)?;
    let filter = make("capsfilter")?;
    filter.set_property("caps", caps);
    let sink = b.flow.sink(kind.track(), false);
    chain(b.pipeline, &[&depay, &parse, &filter, sink.upcast_ref()])?;
    depay
        .static_pad("sink")
        .ok_or_else(|| GstError::Pipeline("a depayloader without sink".into()))
}

/// Caps of AAC as MP4 holds it.
pub(super) fn aac_caps() -> gst::Caps {
    gst::Caps::builder("audio/mpeg")
        .field("mpegversion", 4i32)
        .field("stream-format", "raw")
        .build()
}

fn choose_streams(b: &Build<'_>, src: &gst::Element) {
    let audio = b.audio;
    let flow = std::sync::Arc::downgrade(b.flow);
    let choice = Mutex::new(Choice::default());
    src.connect("select-stream", false, move |values| {
        let number = values.get(1)?.get::<u32>().ok()?;
        let caps = values.get(2)?.get::<gst::Caps>().ok()?;
        let text = |f| field(&caps, f).unwrap_or_default();
        let (media, encoding) = (text("media"), text("encoding-name"));
        let mut choice = choice.lock().unwrap_or_else(PoisonError::into_inner);
        let take = choice.take(number, &media, &encoding, audio);
        if let Some(flow) = flow.upgrade() {
            if take && choice.audio == Some(number) {
                flow.expect_audio();
            }
            flow.offered(&media, &encoding);
        }
        Some(take.to_value())
    });
    let flow = std::sync::Arc::downgrade(b.flow);
    src.connect_no_more_pads(move |_| {
        if let Some(flow) = flow.upgrade().filter(|f| f.nothing_to_record()) {
            flow.wake(Wake::Down(DownReason::Unsupported(flow.nothing_text())));
        }
    });
}

fn link_pads(src: &gst::Element, branches: Vec<(Branch, gst::Pad)>) {
    let branches: Vec<_> = branches
        .into_iter()
        .map(|(kind, pad)| (kind, pad.downgrade()))
        .collect();
    src.connect_pad_added(move |_, pad| {
        let Some(caps) = pad.current_caps().or_else(|| Some(pad.query_caps(None))) else {
            return;
        };
        let text = |f| field(&caps, f).unwrap_or_default();
        let kind = Branch::of(&text("media"), &text("encoding-name"));
        let sink = branches
            .iter()
            .find(|(k, _)| Some(*k) == kind)
            .and_then(|(_, p)| p.upgrade());
        let Some(sink) = sink else {
            return;
        };
        // A change of transport brings new pads.
        if let Some(old) = sink.peer() {
            let _ = old.unlink(&sink);
        }
        if let Err(e) = pad.link(&sink) {
            tracing::debug!(?kind, error = ?e, "a stream of the camera does not link");
        }
    });
}

fn field(caps: &gst::Caps, name: &str) -> Option<String> {
    caps.structure(0)?.get::<String>(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_recordable_stream_of_each_track_is_set_up() {
        let mut c = Choice::default();
        assert!(!c.take(0, "application", "VND.ONVIF.METADATA", true));
        assert!(!c.take(1, "audio", "PCMA", true));
        assert!(c.take(2, "video", "h264", true));
        assert!(!c.take(3, "video", "H265", true));
        assert!(c.take(4, "audio", "MPEG4-GENERIC", true));
        assert!(!c.take(5, "audio", "MP4A-LATM", true));
        assert!(
            c.take(2, "video", "H264", true),
            "asked again after a change of transport"
        );
        let mut without = Choice::default();
        assert!(!without.take(0, "audio", "MPEG4-GENERIC", false));
    }
}
