//! GStreamer's manners in one place: initialised once, elements made with an error that says what to install, and
//! errors turned into a [`DownReason`].
//!
//! No text that leaves this module holds a user name or password: userinfo in URLs and the password itself are
//! replaced by `***`.

use std::sync::OnceLock;

use gstreamer as gst;
use gstreamer::glib;
use gstreamer::prelude::*;

use crate::model::{DownReason, Secret};

/// Why GStreamer cannot do what was asked of it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum GstError {
    /// The library does not start; nothing will work until the installation is repaired.
    #[error("gstreamer does not start: {0}")]
    Init(String),
    /// A plugin is not installed.
    #[error("gstreamer element {element} is missing, install {package}")]
    Missing {
        element: String,
        package: &'static str,
    },
    /// Elements do not fit together, or refuse to start.
    #[error("gstreamer pipeline: {0}")]
    Pipeline(String),
}

impl From<GstError> for DownReason {
    fn from(e: GstError) -> DownReason {
        match e {
            GstError::Missing { .. } => DownReason::Unsupported(e.to_string()),
            GstError::Init(_) | GstError::Pipeline(_) => DownReason::Failed(e.to_string()),
        }
    }
}

impl From<glib::BoolError> for GstError {
    fn from(e: glib::BoolError) -> GstError {
        GstError::Pipeline(e.message.to_string())
    }
}

static DONE: OnceLock<Result<(), String>> = OnceLock::new();

/// Starts GStreamer once a process; later calls answer what the first one found. The first call of a user may scan
/// all plugins (seconds), so call it before anything is in a hurry.
///
/// # Errors
/// [`GstError::Init`].
pub fn init() -> Result<(), GstError> {
    DONE.get_or_init(|| gst::init().map_err(|e| e.to_string()))
        .clone()
        .map_err(GstError::Init)
}

/// Makes an element.
///
/// # Errors
/// [`GstError::Missing`] names the Debian package.
pub fn make(element: &str) -> Result<gst::Element, GstError> {
    gst::ElementFactory::make(element)
        .build()
        .map_err(|_| GstError::Missing {
            element: element.to_owned(),
            package: package_of(element),
        })
}

/// True where the element is installed; false before [`init`].
pub fn exists(element: &str) -> bool {
    matches!(DONE.get(), Some(Ok(()))) && gst::ElementFactory::find(element).is_some()
}

/// The Debian package that brings an element.
pub fn package_of(element: &str) -> &'static str {
    match element {
        "queue" | "capsfilter" | "filesrc" | "fakesink" => "libgstreamer1.0-0",
        "appsink" | "appsrc" | "videotestsrc" | "videoconvert" | "videoscale" | "videorate" => {
            "gstreamer1.0-plugins-base"
        }
        "x264enc" => "gstreamer1.0-plugins-ugly",
        "rtspclientsink" => "gstreamer1.0-rtsp",
        "h264parse" | "h265parse" | "mpegtsmux" | "srtsink" | "rtmp2sink" | "openh264enc"
        | "openh264dec" | "vah264enc" => "gstreamer1.0-plugins-bad",
        "vaapih264enc" => "gstreamer1.0-vaapi",
        e if e.starts_with("avdec_") || e.starts_with("avenc_") => "gstreamer1.0-libav",
        _ => "gstreamer1.0-plugins-good",
    }
}

/// What an error's words are about: the same code means different things from a network and from a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// An RTSP camera.
    Network,
    /// A V4L2 device.
    Device,
    /// A file or the test pattern.
    Local,
}

/// Maps GStreamer's error (domain and code) to a reason. `debug` is GStreamer's second text; its last line says what
/// really happened.
pub fn down_reason(
    origin: Origin,
    error: &glib::Error,
    debug: Option<&str>,
    password: Option<&Secret>,
) -> DownReason {
    let detail = detail(error.message(), debug, password);
    let gone = ["No such device", "disconnected", "(19)"]
        .iter()
        .any(|w| detail.contains(w));
    match error.kind::<gst::ResourceError>() {
        Some(gst::ResourceError::NotAuthorized) if origin == Origin::Network => {
            return DownReason::Unauthorized;
        }
        Some(gst::ResourceError::NotFound) => {
            return match origin {
                Origin::Device => DownReason::Unreachable(detail),
                Origin::Network | Origin::Local => DownReason::NotFound(detail),
            };
        }
        Some(
            gst::ResourceError::OpenRead
            | gst::ResourceError::OpenWrite
            | gst::ResourceError::OpenReadWrite,
        ) if origin != Origin::Local => return DownReason::Unreachable(detail),
        Some(_) if origin == Origin::Device && gone => return DownReason::Unreachable(detail),
        _ => {}
    }
    match error.kind::<gst::StreamError>() {
        Some(
            gst::StreamError::WrongType
            | gst::StreamError::TypeNotFound
            | gst::StreamError::CodecNotFound
            | gst::StreamError::Format
            | gst::StreamError::Demux,
        ) => return DownReason::Unsupported(detail),
        Some(gst::StreamError::Failed) if detail.contains("not-negotiated") => {
            return DownReason::Unsupported(detail);
        }
        _ => {}
    }
    if error.matches(gst::CoreError::MissingPlugin) {
        return DownReason::Unsupported(detail);
    }
    DownReason::Failed(detail)
}

/// One line: GStreamer's message and the last line of its debug text, redacted, at most 240 characters.
fn detail(message: &str, debug: Option<&str>, password: Option<&Secret>) -> String {
    let message = message.trim().trim_end_matches('.');
    let why = debug
        .and_then(|d| d.split_once(":\n").map(|(_, why)| why))
        .map(|why| why.split_whitespace().collect::<Vec<_>>().join(" "))
        .unwrap_or_default();
    let text = match why.trim_end_matches('.') {
        "" => message.to_owned(),
        why if why.starts_with(message) => why.to_owned(),
        why => format!("{message}: {why}"),
    };
    clean(&text, password)
}

/// What may be shown of a text from outside: no password, no userinfo, one line of at most 240 characters.
pub(super) fn clean(text: &str, password: Option<&Secret>) -> String {
    let mut text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some(p) = password.map(Secret::expose).filter(|p| !p.is_empty()) {
        text = text.replace(p, "***");
    }
    redact(&text).chars().take(240).collect()
}

/// Replaces the userinfo of every URL in `text` by `***`.
pub fn redact(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (head, tail) = rest.split_at(at + 3);
        out.push_str(head);
        let authority_end = tail
            .find(|c: char| c == '/' || c == '?' || c == '#' || c.is_whitespace())
            .unwrap_or(tail.len());
        let (authority, after) = tail.split_at(authority_end);
        match authority.rsplit_once('@') {
            Some((_, host)) => {
                out.push_str("***@");
                out.push_str(host);
            }
            None => out.push_str(authority),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Caps of one structure, from a name and fields that are known to be right.
pub(super) fn h26x_caps(name: &str, stream_format: &str) -> gst::Caps {
    gst::Caps::builder(name)
        .field("stream-format", stream_format)
        .field("alignment", "au")
        .build()
}

/// Adds elements to a pipeline and links them in order.
pub(super) fn chain(pipeline: &gst::Pipeline, elements: &[&gst::Element]) -> Result<(), GstError> {
    pipeline.add_many(elements.iter().copied())?;
    gst::Element::link_many(elements.iter().copied())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn userinfo_is_stripped_from_every_url() {
        assert_eq!(
            redact("open rtsp://u:p@ss@10.0.0.1:554/a?b failed, rtsp://h/x@y too"),
            "open rtsp://***@10.0.0.1:554/a?b failed, rtsp://h/x@y too"
        );
        assert_eq!(redact("rtsps://me:geheim@cam"), "rtsps://***@cam");
    }

    #[test]
    fn the_reason_follows_the_code_and_never_shows_the_password() {
        let debug = "gstrtspsrc.c(8233): f (): /GstPipeline:p/GstRTSPSrc:s:\nFailed to connect to rtsp://a:hunter2@h hunter2. (Generic error)";
        let e = glib::Error::new(
            gst::ResourceError::OpenReadWrite,
            "Could not open resource.",
        );
        let secret = Secret::new("hunter2");
        let r = down_reason(Origin::Network, &e, Some(debug), Some(&secret));
        assert_eq!(r.code(), "unreachable");
        assert!(!r.to_string().contains("hunter2"), "{r}");
        assert!(r.to_string().contains("Failed to connect"), "{r}");
        let e = glib::Error::new(gst::ResourceError::NotAuthorized, "Unauthorized");
        assert_eq!(
            down_reason(Origin::Network, &e, None, None),
            DownReason::Unauthorized
        );
        let e = glib::Error::new(gst::ResourceError::NotFound, "x");
        assert_eq!(
            down_reason(Origin::Network, &e, None, None).code(),
            "not_found"
        );
        assert_eq!(
            down_reason(Origin::Device, &e, None, None).code(),
            "unreachable"
        );
        let e = glib::Error::new(gst::ResourceError::Read, "Could not read from resource.");
        let d = "v4l2src.c(1): f (): /p:\npoll error 1: No such device (19)";
        assert_eq!(
            down_reason(Origin::Device, &e, Some(d), None).code(),
            "unreachable"
        );
        let e = glib::Error::new(gst::StreamError::CodecNotFound, "no stream");
        assert_eq!(
            down_reason(Origin::Network, &e, None, None).code(),
            "unsupported"
        );
    }

    #[test]
    fn a_missing_element_says_what_to_install() {
        init().unwrap();
        let e = make("v4l2nosuch").unwrap_err();
        assert_eq!(
            e.to_string(),
            "gstreamer element v4l2nosuch is missing, install gstreamer1.0-plugins-good"
        );
    }
}
