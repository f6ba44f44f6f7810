//! A capture session with its receiving end, and short names for sources.

use std::time::Duration;

use sentrycam::config::{RtspTransport, SourceConfig};
use sentrycam::media::{
    CaptureEvent, CaptureSession, LumaWish, OwnedGray, Packet, StreamKind, Track, TrackCaps,
};
use sentrycam::model::{DownReason, Secret, StreamInfo};
use sentrycam::time::{Anchor, Mono};
use sentrycam_testcam::{Options, TestCamera};
use tokio::sync::mpsc;

pub const DEADLINE: Duration = Duration::from_secs(30);
pub const NOW: Mono = Mono(1_000_000_000_000);

/// A session and its receiving end.
pub struct Watch {
    pub session: CaptureSession,
    pub rx: mpsc::Receiver<CaptureEvent>,
}

impl Watch {
    pub fn start(source: &SourceConfig, audio: bool) -> Watch {
        Watch::with(source, audio, None, 1024)
    }

    pub fn with(source: &SourceConfig, audio: bool, luma: Option<LumaWish>, room: usize) -> Watch {
        let (tx, rx) = mpsc::channel(room);
        let session =
            CaptureSession::start(StreamKind::Main, source, luma, audio, NOW, tx).unwrap();
        Watch { session, rx }
    }

    pub async fn next(&mut self) -> CaptureEvent {
        tokio::time::timeout(DEADLINE, self.rx.recv())
            .await
            .expect("an event in time")
            .expect("the session goes on")
    }

    pub async fn up(&mut self) -> (StreamInfo, TrackCaps, Anchor) {
        match self.next().await {
            CaptureEvent::Up { info, caps, anchor } => (info, caps, anchor),
            other => panic!("expected up, found {other:?}"),
        }
    }

    /// The next packet of a track.
    pub async fn packet(&mut self, track: Track) -> Packet {
        loop {
            match self.next().await {
                CaptureEvent::Packet(p) if p.track == track => return p,
                CaptureEvent::Down(r) => panic!("down: {r}"),
                _ => {}
            }
        }
    }

    pub async fn luma(&mut self) -> OwnedGray {
        loop {
            if let CaptureEvent::Luma(g) = self.next().await {
                return g;
            }
        }
    }

    /// The reason of the end, which must be the last event.
    pub async fn down(&mut self) -> DownReason {
        loop {
            if let CaptureEvent::Down(reason) = self.next().await {
                let after = tokio::time::timeout(DEADLINE, self.rx.recv()).await;
                assert!(matches!(after, Ok(None)), "{after:?} after down");
                return reason;
            }
        }
    }
}

pub fn rtsp(url: &str, transport: RtspTransport) -> SourceConfig {
    SourceConfig::Rtsp {
        url: url.parse().unwrap(),
        user: None,
        password: None,
        transport,
        ca_file: None,
        verify_tls: true,
    }
}

pub fn rtsp_as(url: &str, user_is: &str, pass: &str) -> SourceConfig {
    let mut source = rtsp(url, RtspTransport::Tcp);
    if let SourceConfig::Rtsp { user, password, .. } = &mut source {
        *user = Some(user_is.into());
        *password = Some(Secret::new(pass));
    }
    source
}

pub fn camera(options: Options) -> TestCamera {
    TestCamera::start(options).unwrap()
}
