//! Capture of files, the test pattern and devices, and the encoder behind them.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use sentrycam::config::SourceConfig;
use sentrycam::media::{LumaWish, Track, encoder};
use sentrycam::model::{DownReason, VideoCodec};
use sentrycam_testcam::{ClipSpec, Codec, write_clip};

use crate::watch::{DEADLINE, Watch};

#[tokio::test]
async fn a_full_channel_drops_to_the_next_key_frame() {
    let source = SourceConfig::Test {
        width: 320,
        height: 240,
        fps: 30,
        bitrate_kbps: 300,
    };
    let mut w = Watch::with(&source, false, None, 16);
    let stats = w.session.stats();
    let full = tokio::time::timeout(DEADLINE, async {
        while stats.dropped.load(Relaxed) < 5 {
            tokio::task::yield_now().await;
        }
    });
    full.await.unwrap();
    w.up().await;
    let mut last = w.packet(Track::Video).await;
    loop {
        let p = w.packet(Track::Video).await;
        if p.pts.since(last.pts) > Duration::from_millis(60) {
            assert!(p.key, "after a gap comes a key frame");
            break;
        }
        last = p;
    }
}

#[tokio::test]
async fn the_test_pattern_brings_luma_without_a_decoder() {
    let source = SourceConfig::Test {
        width: 640,
        height: 480,
        fps: 15,
        bitrate_kbps: 500,
    };
    let wish = LumaWish {
        max_width: 320,
        fps: 5.0,
    };
    let mut w = Watch::with(&source, false, Some(wish), 1024);
    let (info, ..) = w.up().await;
    assert_eq!((info.width, info.height), (640, 480));
    let (a, b) = (w.luma().await, w.luma().await);
    assert_eq!((a.width, a.height, a.luma.len()), (320, 240, 320 * 240));
    assert!(
        b.pts.since(a.pts) >= Duration::from_millis(150),
        "{:?}",
        b.pts.since(a.pts)
    );
}

#[tokio::test]
async fn a_repeated_file_has_no_seam() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["clip.mp4", "clip.mkv"] {
        let path = dir.path().join(name);
        let spec = ClipSpec {
            aac: true,
            ..ClipSpec::default()
        };
        write_clip(&path, &spec).unwrap();
        let source = SourceConfig::File { path, repeat: true };
        let mut w = Watch::start(&source, true);
        let (info, ..) = w.up().await;
        assert!(info.has_audio && info.width == 640, "{info:?}");
        let mut last = w.packet(Track::Video).await;
        assert!(last.key);
        // Two seconds at 15 fps a round: the seams lie within the first 75 frames.
        for n in 1..75 {
            let p = w.packet(Track::Video).await;
            let gap = p.pts.since(last.pts);
            assert!(
                p.pts > last.pts && gap < Duration::from_millis(200),
                "{name} {n}: {gap:?}"
            );
            assert!(p.key || n % 15 != 0, "{name}: frame {n} begins a GOP");
            last = p;
        }
    }
}

#[tokio::test]
async fn a_file_ends_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("h265.mp4");
    let spec = ClipSpec {
        codec: Codec::H265,
        seconds: 1,
        ..ClipSpec::default()
    };
    write_clip(&path, &spec).unwrap();
    let mut w = Watch::start(
        &SourceConfig::File {
            path: path.clone(),
            repeat: false,
        },
        false,
    );
    assert_eq!(w.up().await.0.codec, VideoCodec::H265);
    assert_eq!(w.down().await, DownReason::Ended);
    assert_eq!(w.session.stats().packets.load(Relaxed), 15);
    let absent = SourceConfig::File {
        path: dir.path().join("absent.mp4"),
        repeat: false,
    };
    assert_eq!(
        Watch::start(&absent, false).down().await.code(),
        "not_found"
    );
}

#[tokio::test]
async fn an_absent_device_is_unreachable() {
    let source = SourceConfig::V4l2 {
        device: "/dev/video-absent".into(),
        width: None,
        height: None,
        fps: None,
        format: None,
        bitrate_kbps: 1000,
    };
    let reason = Watch::start(&source, false).down().await;
    assert_eq!(reason.code(), "unreachable", "{reason}");
}

#[test]
fn encoders_are_proven_and_the_next_takes_over() {
    sentrycam::media::gst::init().unwrap();
    let best = encoder::best().expect("a software encoder is installed");
    assert!(encoder::works(best));
    assert!(
        !encoder::works(encoder::Encoder::V4l2),
        "there is no such hardware here"
    );
    encoder::disqualify(best);
    let next = encoder::best().expect("a second software encoder is installed");
    assert_ne!(next, best);
    assert_eq!(encoder::live(), Some(next));
}
