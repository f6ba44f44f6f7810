//! What the world hears of one camera: `camera.up` and `camera.down` on every change, the status document each second.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::CameraContext;
use crate::agent::journal::Fact;
use crate::agent::records;
use crate::agent::status::{CameraStatus, Decoding};
use crate::config::{CameraConfig, SourceConfig};
use crate::media::Stats;
use crate::model::{CameraId, DownReason, RecordId, StreamInfo};
use crate::time::Mono;

/// Reports of one camera.
pub struct Reporter {
    camera: CameraId,
    name: String,
    source: &'static str,
    url: Option<String>,
    context: CameraContext,
    /// Last reason told; the same one is not told again.
    told: Option<DownReason>,
    up: bool,
    window: Option<Window>,
}

/// What a session shows in the status besides its figures.
#[derive(Debug, Clone)]
pub struct Shows {
    /// Word of the detection.
    pub detection: &'static str,
    /// What is decoded for it.
    pub decoding: Option<Decoding>,
    /// An event is going on.
    pub event_active: bool,
    /// A clip is being written.
    pub recording: bool,
}

/// Counters at the last look.
#[derive(Debug, Clone, Copy)]
struct Window {
    at: Mono,
    packets: u64,
    frames: u64,
    bytes: u64,
    last_packet: Mono,
}

impl Reporter {
    /// Reports about `config`'s camera.
    pub fn new(config: &CameraConfig, context: &CameraContext) -> Self {
        let status = CameraStatus {
            name: config.name.clone(),
            state: "starting".into(),
            detection: "off".into(),
            ..CameraStatus::default()
        };
        context.status.camera(config.id.as_str(), |c| *c = status);
        let source = match config.main {
            SourceConfig::Rtsp { .. } => "rtsp",
            SourceConfig::V4l2 { .. } => "v4l2",
            SourceConfig::File { .. } => "file",
            SourceConfig::Test { .. } => "test",
        };
        Self {
            camera: config.id.clone(),
            name: config.name.clone(),
            source,
            url: public_url(&config.main),
            context: context.clone(),
            told: None,
            up: false,
            window: None,
        }
    }

    /// People call it something else now.
    pub fn rename(&mut self, name: &str) {
        self.name = name.to_owned();
        self.context
            .status
            .camera(self.camera.as_str(), |c| c.name = name.to_owned());
    }

    /// Frames arrive.
    pub async fn up(&mut self, info: &StreamInfo) {
        let format = format!("{} {}x{}", info.codec, info.width, info.height);
        tracing::info!(camera = %self.camera, format, fps = info.fps, audio = info.has_audio, "camera is up");
        self.up = true;
        self.told = None;
        self.context.status.camera(self.camera.as_str(), |c| {
            c.state = "up".into();
            c.format = Some(format.clone());
        });
        let now = self.context.time.mono();
        let record = records::camera_up(
            self.id(),
            &self.camera,
            &records::Source {
                name: &self.name,
                kind: self.source,
                url: self.url.as_deref(),
            },
            info,
            self.rev(),
            now,
        );
        self.context.journal.write(Fact::Told, vec![record]).await;
    }

    /// No frames arrive; told once for each reason in a row.
    pub async fn down(&mut self, reason: &DownReason, retry_in: Duration) {
        self.window = None;
        self.context.status.camera(self.camera.as_str(), |c| {
            c.state = "down".into();
            c.reason = Some(reason.to_string());
            c.fps = 0.0;
            c.bitrate_kbps = 0.0;
            c.detection = "off".into();
            c.decoding = None;
            c.event_active = false;
            c.recording = false;
        });
        if !self.up
            && self
                .told
                .as_ref()
                .is_some_and(|told| told.code() == reason.code())
        {
            tracing::debug!(camera = %self.camera, %reason, "camera is still down");
            return;
        }
        tracing::warn!(camera = %self.camera, %reason, retry_in_s = retry_in.as_secs_f32(), "camera is down");
        self.up = false;
        self.told = Some(reason.clone());
        let now = self.context.time.mono();
        let detail = reason.to_string();
        let record = records::camera_down(
            self.id(),
            &self.camera,
            &self.name,
            reason.code(),
            &detail,
            self.rev(),
            now,
        );
        self.context.journal.write(Fact::Told, vec![record]).await;
    }

    /// A session begins to connect: the stall is counted from here.
    pub fn session_starts(&mut self, stats: &Stats) {
        let now = self.context.time.mono();
        self.context.status.camera(self.camera.as_str(), |c| {
            c.session_started_ms = Some(now.0 / 1_000_000);
        });
        let (packets, bytes) = (stats.packets.load(Relaxed), stats.bytes.load(Relaxed));
        self.window = Some(Window {
            at: now,
            packets,
            frames: 0,
            bytes,
            last_packet: now,
        });
    }

    /// Publishes the figures of the last second; returns when the last packet came.
    pub fn tick(&mut self, stats: &Stats, frames: u64, shows: Shows) -> Mono {
        let now = self.context.time.mono();
        let (packets, bytes) = (stats.packets.load(Relaxed), stats.bytes.load(Relaxed));
        let before = self.window.unwrap_or(Window {
            at: now,
            packets,
            frames,
            bytes,
            last_packet: now,
        });
        let last_packet = if packets > before.packets {
            now
        } else {
            before.last_packet
        };
        let seconds = now.since(before.at).as_secs_f64();
        let dropped = stats.dropped.load(Relaxed);
        self.context.status.camera(self.camera.as_str(), |c| {
            if seconds > 0.0 {
                // Half the old figure: smooth enough to read, quick enough to trust.
                c.fps = (c.fps + (frames - before.frames) as f64 / seconds) / 2.0;
                c.bitrate_kbps =
                    (c.bitrate_kbps + (bytes - before.bytes) as f64 / 125.0 / seconds) / 2.0;
            }
            if packets > before.packets {
                c.last_frame = Some(now);
            }
            c.detection = shows.detection.to_owned();
            c.decoding = shows.decoding;
            c.event_active = shows.event_active;
            c.recording = shows.recording;
            c.dropped = dropped;
        });
        self.window = Some(Window {
            at: now,
            packets,
            frames,
            bytes,
            last_packet,
        });
        last_packet
    }

    /// Milliseconds of trusted time: grows over reboots too, because the floor is on disk.
    fn rev(&self) -> u64 {
        u64::try_from(self.context.time.wall().0 / 1000).unwrap_or(0)
    }

    fn id(&self) -> RecordId {
        RecordId((self.context.ids)())
    }
}

/// Where the camera is, without what may be secret in it (user, query).
fn public_url(source: &SourceConfig) -> Option<String> {
    let SourceConfig::Rtsp { url, .. } = source else {
        return None;
    };
    let mut url = url.clone();
    // What has no host has no user either.
    let _ = (url.set_username(""), url.set_password(None));
    url.set_query(None);
    url.set_fragment(None);
    Some(url.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RtspTransport;

    #[test]
    fn the_cloud_learns_where_a_camera_is_and_no_secret() {
        let source = |url: &str| SourceConfig::Rtsp {
            url: url.parse().unwrap(),
            user: None,
            password: None,
            transport: RtspTransport::Tcp,
            ca_file: None,
            verify_tls: true,
        };
        let told = |url: &str| public_url(&source(url)).unwrap();
        assert_eq!(
            told("rtsp://cam:554/a/b?user=x&password=y"),
            "rtsp://cam:554/a/b"
        );
        assert_eq!(told("rtsps://u:p@[fd00::1]/s"), "rtsps://[fd00::1]/s");
    }
}
