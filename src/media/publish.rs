//! Publishes packets to a media server as they are: RTSP RECORD, RTMP, SRT. Never transcodes.
//!
//! ```text
//! push ─▶ appsrc ─┬─▶ h264parse|h265parse ─▶ rtspclientsink
//!                 ├─▶ flvmux ─▶ rtmp2sink
//!                 └─▶ h264parse|h265parse ─▶ mpegtsmux ─▶ srtsink
//! ```
//!
//! A pipeline of its own: what stalls or breaks here never hurts the capture. [`Publisher::push`] never blocks; a server
//! that falls behind loses packets up to the next key frame, counted. Starting and stopping block for a bounded time:
//! not for the async runtime.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSrc;
use tokio::sync::mpsc;

use super::gst::{GstError, chain, exists, make};
use super::{Packet, Track, TrackCaps, clip, teardown};
use crate::live::Way;
use crate::model::{LiveProtocol, Secret};
use crate::time::Pts;

/// Packets that wait for the server: a long GOP, which a session begins with, and some more. When full, packets are
/// dropped up to the next key frame.
pub const QUEUE_PACKETS: u64 = 400;
/// The same in bytes: 16 s at 4 Mbit/s.
pub const QUEUE_BYTES: u64 = 8 << 20;
/// How long [`Publisher::stop`] waits.
pub const STOP_LIMIT: Duration = Duration::from_secs(2);

/// The protocols that this machine's GStreamer can publish with.  None before the first camera starts it.
pub fn protocols() -> Vec<LiveProtocol> {
    let has = |elements: &[&str]| elements.iter().all(|e| exists(e));
    let can = |protocol: &LiveProtocol| match protocol {
        LiveProtocol::Rtsp | LiveProtocol::Rtsps => {
            has(&["rtspclientsink", "h264parse", "rtph264pay"])
        }
        LiveProtocol::Rtmp | LiveProtocol::Rtmps => has(&["flvmux", "rtmp2sink"]),
        LiveProtocol::Srt => has(&["srtsink", "mpegtsmux", "h264parse"]),
        // GStreamer 1.22 has a sink for it, but not the RTP congestion control that makes it useful.
        LiveProtocol::Whip => false,
    };
    LiveProtocol::ALL.into_iter().filter(can).collect()
}

/// The pipeline gave up; nothing follows. Stop the publisher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// The server wants another key.
    pub auth: bool,
    /// Why, for people; without keys.
    pub text: String,
}

/// What became of a pushed packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fed {
    /// It is on its way.
    Taken,
    /// Not needed: audio, or before the first key frame.
    Skipped,
    /// The server is behind; the next key frame is taken again.
    Dropped,
    /// The pipeline takes nothing more.
    Failed,
}

/// A running publisher.
#[derive(Debug)]
pub struct Publisher {
    pipeline: gst::Pipeline,
    source: AppSrc,
    /// Where it tells how much it sent by itself.
    srt: Option<gst::Element>,
    begun: bool,
    needs_key: bool,
    dropped: Arc<AtomicU64>,
}

impl Publisher {
    /// Starts to publish a stream of `caps` to `to`: for RTSP and RTMP a plain connection (whoever listens there puts
    /// it in TLS), for SRT the server itself. Tells its end to `tx` with `try_send`. Blocks for at most 5 s.
    ///
    /// # Errors
    /// [`GstError::Missing`], or [`GstError::Pipeline`] where it does not start.
    pub fn start(
        caps: &TrackCaps,
        way: &Way,
        to: SocketAddr,
        tx: mpsc::Sender<Broken>,
    ) -> Result<Publisher, GstError> {
        let pipeline = gst::Pipeline::new();
        let source = AppSrc::builder()
            .caps(&caps.video)
            .format(gst::Format::Time)
            .handle_segment_change(true)
            .is_live(true)
            .max_bytes(0)
            .build();
        let elements = sink(&caps.video, way, to)?;
        let mut all: Vec<&gst::Element> = vec![source.upcast_ref()];
        all.extend(&elements);
        chain(&pipeline, &all)?;
        if let Some(bus) = pipeline.bus() {
            let secrets = secrets_of(way);
            let told = AtomicBool::new(false);
            bus.set_sync_handler(move |_, message| {
                if let gst::MessageView::Error(e) = message.view()
                    && !told.swap(true, Relaxed)
                {
                    let broken = Broken {
                        auth: e.error().matches(gst::ResourceError::NotAuthorized),
                        text: shown(e.error().message(), e.debug().as_deref(), &secrets),
                    };
                    // When full, one is told already.
                    let _ = tx.try_send(broken);
                }
                gst::BusSyncReply::Drop
            });
        }
        let srt = matches!(way, Way::Srt { .. })
            .then(|| elements.last().cloned())
            .flatten();
        let publisher = Publisher {
            pipeline,
            source,
            srt,
            begun: false,
            needs_key: true,
            dropped: Arc::default(),
        };
        if teardown::to_playing(&publisher.pipeline) {
            Ok(publisher)
        } else {
            Err(GstError::Pipeline("the publisher does not start".into()))
        }
    }

    /// Gives it the next packet; begins at a key frame. Never blocks.
    pub fn push(&mut self, packet: &Packet) -> Fed {
        if packet.track != Track::Video {
            return Fed::Skipped;
        }
        if self.needs_key && !packet.key {
            if !self.begun {
                return Fed::Skipped;
            }
            self.dropped.fetch_add(1, Relaxed);
            return Fed::Dropped;
        }
        let full = self.source.current_level_buffers() >= QUEUE_PACKETS
            || self.source.current_level_bytes() + packet.size() as u64 > QUEUE_BYTES;
        if full {
            self.needs_key = true;
            self.dropped.fetch_add(1, Relaxed);
            return Fed::Dropped;
        }
        if !self.begun {
            let first = Pts(packet.pts.0);
            if clip::begin(&self.source, first).is_err() {
                return Fed::Failed;
            }
            self.begun = true;
        }
        self.needs_key = false;
        match self.source.push_buffer(clip::stamped(packet)) {
            Ok(_) => Fed::Taken,
            Err(_) => Fed::Failed,
        }
    }

    /// Packets that were dropped because the server was behind.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// Packets that wait.
    pub fn queued(&self) -> u64 {
        self.source.current_level_buffers()
    }

    /// Bytes that an SRT server has been sent; nothing for the others, whose connection counts.
    pub fn srt_sent(&self) -> Option<u64> {
        let stats: gst::Structure = self.srt.as_ref()?.property("stats");
        let sent = stats.get::<u64>("bytes-sent");
        Some(
            sent.or_else(|_| stats.get::<u64>("bytes-sent-total"))
                .unwrap_or(0),
        )
    }

    /// Ends it; `false` where it still hangs after [`STOP_LIMIT`]. Blocks.
    pub fn stop(self) -> bool {
        teardown::stop_within(&self.pipeline, STOP_LIMIT)
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        if self.pipeline.current_state() != gst::State::Null {
            teardown::stop_within(&self.pipeline, Duration::ZERO);
        }
    }
}

/// Parser, muxer and sink of a protocol, in order.
fn sink(video: &gst::Caps, way: &Way, to: SocketAddr) -> Result<Vec<gst::Element>, GstError> {
    match way {
        Way::Rtsp { path, login } => {
            let sink = make("rtspclientsink")?;
            sink.set_property("location", format!("rtsp://{to}{}", path.expose()));
            sink.set_property_from_str("protocols", "tcp");
            // Microseconds.
            sink.set_property("tcp-timeout", 5_000_000u64);
            if let Some((user, password)) = login {
                sink.set_property("user-id", user.expose());
                sink.set_property("user-pw", password.expose());
            }
            let [parser, filter] = byte_stream(video)?;
            Ok(vec![parser, filter, sink])
        }
        Way::Rtmp { app, stream } => {
            if video
                .structure(0)
                .is_none_or(|s| s.name() != "video/x-h264")
            {
                return Err(GstError::Pipeline("RTMP carries H.264 only".into()));
            }
            let mux = make("flvmux")?;
            mux.set_property("streamable", true);
            let sink = make("rtmp2sink")?;
            sink.set_property("host", to.ip().to_string());
            sink.set_property("port", i32::from(to.port()));
            sink.set_property("application", app.expose());
            sink.set_property("stream", stream.expose());
            sink.set_property("sync", false);
            sink.set_property("async", false);
            sink.set_property("enable-last-sample", false);
            Ok(vec![mux, sink])
        }
        Way::Srt {
            streamid,
            passphrase,
        } => {
            let mux = make("mpegtsmux")?;
            // Seven packets of 188 bytes are what a datagram of SRT holds.
            mux.set_property("alignment", 7i32);
            let sink = make("srtsink")?;
            sink.set_property("uri", format!("srt://{to}?mode=caller"));
            if let Some(id) = streamid {
                sink.set_property("streamid", id.expose());
            }
            if let Some(passphrase) = passphrase {
                sink.set_property("passphrase", passphrase.expose());
            }
            sink.set_property("auto-reconnect", false);
            sink.set_property("sync", false);
            sink.set_property("async", false);
            sink.set_property("enable-last-sample", false);
            let [parser, filter] = byte_stream(video)?;
            Ok(vec![parser, filter, mux, sink])
        }
    }
}

/// Start codes, and parameter sets before every key frame, so that whoever comes later can begin at any of them.
fn byte_stream(video: &gst::Caps) -> Result<[gst::Element; 2], GstError> {
    let name = video.structure(0).map(|s| s.name().as_str());
    let (parser, name) = match name {
        Some("video/x-h264") => ("h264parse", "video/x-h264"),
        Some("video/x-h265") => ("h265parse", "video/x-h265"),
        _ => return Err(GstError::Pipeline(format!("cannot publish {video}"))),
    };
    let parser = make(parser)?;
    parser.set_property("config-interval", -1i32);
    let filter = make("capsfilter")?;
    filter.set_property("caps", super::gst::h26x_caps(name, "byte-stream"));
    Ok([parser, filter])
}

fn secrets_of(way: &Way) -> Vec<Secret> {
    match way {
        Way::Rtsp { path, login } => {
            let login = login.iter().flat_map(|(user, password)| [user, password]);
            login.chain([path]).cloned().collect()
        }
        Way::Rtmp { app, stream } => vec![stream.clone(), app.clone()],
        Way::Srt {
            streamid,
            passphrase,
        } => [streamid, passphrase]
            .into_iter()
            .flatten()
            .cloned()
            .collect(),
    }
}

/// What GStreamer said, without any of the keys.
fn shown(message: &str, debug: Option<&str>, secrets: &[Secret]) -> String {
    let why = debug.and_then(|d| d.split_once(":\n")).map(|(_, why)| why);
    let mut text = match why {
        Some(why) => format!("{message}: {why}"),
        None => message.to_owned(),
    };
    for secret in secrets.iter().map(Secret::expose).filter(|s| !s.is_empty()) {
        text = text.replace(secret, "***");
    }
    super::gst::clean(&text, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_is_in_what_is_shown() {
        let way = Way::Rtsp {
            path: Secret::new("/live/canary1?t=canary2"),
            login: Some((Secret::new("me"), Secret::new("canary3"))),
        };
        let debug =
            "x.c(1): f (): /p:\nrtsp://127.0.0.1:5/live/canary1?t=canary2 said no to canary3";
        let text = shown("Could not write.", Some(debug), &secrets_of(&way));
        assert!(
            !text.contains("canary") && text.contains("said no"),
            "{text}"
        );
    }
}
