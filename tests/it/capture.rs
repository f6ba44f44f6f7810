//! Capture against RTSP cameras that behave and cameras that do not.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use sentrycam::config::{RtspTransport, SourceConfig};
use sentrycam::media::{CaptureEvent, Packet, Track, probe};
use sentrycam::model::{DownReason, StreamInfo, VideoCodec};
use sentrycam_testcam::{
    Audio, Auth, BadCamera, ClipSpec, Codec, Misbehaviour, Options, Picture, Proxy, Source,
    TestCamera, issued, self_signed, write_clip,
};

use crate::watch::{DEADLINE, NOW, Watch, camera, rtsp, rtsp_as};

fn pattern(codec: Codec) -> Source {
    Source::Pattern(Picture::default(), codec)
}

/// Up, a key frame first, and a second of packets whose times rise.
async fn delivers(source: &SourceConfig) -> (StreamInfo, Vec<Packet>) {
    let mut w = Watch::start(source, false);
    let (info, caps, anchor) = w.up().await;
    assert_eq!(anchor.zero, NOW);
    assert!(caps.video.structure(0).unwrap().has_field("codec_data"));
    let mut packets = Vec::new();
    while packets.len() < 20 {
        packets.push(w.packet(Track::Video).await);
    }
    assert!(packets[0].key);
    for pair in packets.windows(2) {
        assert!(pair[1].buffer.dts() > pair[0].buffer.dts(), "{pair:?}");
        assert_eq!(
            pair[1].buffer.pts().map(|t| t.nseconds()),
            Some(pair[1].pts.0)
        );
    }
    (info, packets)
}

#[tokio::test]
async fn h264_comes_over_tcp_udp_and_auto() {
    // A camera for each: it answers 503 while it takes the stream of the client before down.
    for transport in [RtspTransport::Tcp, RtspTransport::Udp, RtspTransport::Auto] {
        let cam = camera(Options::default());
        let (info, _) = delivers(&rtsp(&cam.url(), transport)).await;
        assert_eq!(
            (info.codec, info.width, info.height),
            (VideoCodec::H264, 640, 360)
        );
        assert!((info.fps - 15.0).abs() < 0.1, "{info:?}");
        assert!(!info.has_audio);
    }
}

#[tokio::test]
async fn h265_is_passed_through() {
    let cam = camera(Options {
        source: pattern(Codec::H265),
        ..Options::default()
    });
    let (info, _) = delivers(&rtsp(&cam.url(), RtspTransport::Tcp)).await;
    assert_eq!((info.codec, info.width), (VideoCodec::H265, 640));
}

#[tokio::test]
async fn b_frames_keep_their_order() {
    let picture = Picture {
        b_frames: 2,
        gop: 30,
        ..Picture::default()
    };
    let cam = camera(Options {
        source: Source::Pattern(picture, Codec::H264),
        ..Options::default()
    });
    let (_, packets) = delivers(&rtsp(&cam.url(), RtspTransport::Tcp)).await;
    assert!(
        packets.windows(2).any(|p| p[1].pts < p[0].pts),
        "no b-frame came: {:?}",
        packets
            .iter()
            .map(|p| p.pts.0 / 1_000_000)
            .collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn basic_and_digest_let_in_and_keep_out() {
    for auth in [
        Auth::Basic("me".into(), "canary-p4ss".into()),
        Auth::Digest("me".into(), "canary-p4ss".into()),
    ] {
        let cam = camera(Options {
            auth: Some(auth),
            ..Options::default()
        });
        delivers(&rtsp_as(&cam.url(), "me", "canary-p4ss")).await;
        for wrong in [
            rtsp_as(&cam.url(), "me", "canary-wr0ng"),
            rtsp(&cam.url(), RtspTransport::Tcp),
        ] {
            assert_eq!(
                Watch::start(&wrong, false).down().await,
                DownReason::Unauthorized
            );
        }
    }
}

#[tokio::test]
async fn rtsps_needs_a_certificate_that_is_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = self_signed(dir.path()).unwrap();
    // A camera for each session: it answers 503 while it takes a stream down.
    let [cam, one, another] = [(); 3].map(|()| {
        camera(Options {
            tls: Some((cert.clone(), key.clone())),
            ..Options::default()
        })
    });
    let with = |cam: &TestCamera, ca: Option<&std::path::Path>, verify: bool| {
        let mut source = rtsp(&cam.url(), RtspTransport::Tcp);
        if let SourceConfig::Rtsp {
            ca_file,
            verify_tls,
            ..
        } = &mut source
        {
            *ca_file = ca.map(Into::into);
            *verify_tls = verify;
        }
        source
    };
    delivers(&with(&one, Some(&cert), true)).await;
    delivers(&with(&another, None, false)).await;
    let refused = Watch::start(&with(&cam, None, true), false).down().await;
    assert_eq!(refused.code(), "unreachable", "{refused}");
    let other = tempfile::tempdir().unwrap();
    let (foreign, _) = self_signed(other.path()).unwrap();
    let refused = Watch::start(&with(&cam, Some(&foreign), true), false)
        .down()
        .await;
    assert_eq!(refused.code(), "unreachable", "{refused}");
}

#[tokio::test]
async fn an_authority_is_believed_for_its_names_only() {
    for (name, code) in [
        ("127.0.0.1", None),
        ("elsewhere.example", Some("unreachable")),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (ca, cert, key) = issued(dir.path(), name).unwrap();
        let cam = camera(Options {
            tls: Some((cert, key)),
            ..Options::default()
        });
        let mut source = rtsp(&cam.url(), RtspTransport::Tcp);
        if let SourceConfig::Rtsp { ca_file, .. } = &mut source {
            *ca_file = Some(ca);
        }
        match code {
            None => drop(delivers(&source).await),
            Some(code) => assert_eq!(Watch::start(&source, false).down().await.code(), code),
        }
    }
}

#[tokio::test]
async fn aac_is_kept_in_both_payloads() {
    for audio in [Audio::Aac, Audio::AacLatm] {
        let cam = camera(Options {
            audio: Some(audio),
            ..Options::default()
        });
        let mut w = Watch::start(&rtsp(&cam.url(), RtspTransport::Tcp), true);
        let (info, caps, _) = w.up().await;
        assert!(info.has_audio, "{audio:?}");
        let caps = caps.audio.unwrap();
        let s = caps.structure(0).unwrap();
        assert!(s.has_field("codec_data"), "{s}");
        assert_eq!(s.get::<i32>("rate").unwrap(), 48_000);
        w.packet(Track::Audio).await;
        w.packet(Track::Video).await;
    }
}

#[tokio::test]
async fn g711_never_costs_the_video() {
    let cam = camera(Options {
        audio: Some(Audio::Pcma),
        ..Options::default()
    });
    let mut w = Watch::start(&rtsp(&cam.url(), RtspTransport::Tcp), true);
    let (info, caps, _) = w.up().await;
    assert!(!info.has_audio && caps.audio.is_none());
    w.packet(Track::Video).await;
    assert!(w.session.offers().contains(&"audio PCMA".to_owned()));
}

#[tokio::test]
async fn a_stall_is_flat_and_a_reset_is_down() {
    let cam = camera(Options::default());
    let proxy = Proxy::start(cam.address()).unwrap();
    let mut w = Watch::start(
        &rtsp(&cam.url_at(proxy.address()), RtspTransport::Tcp),
        false,
    );
    w.up().await;
    w.packet(Track::Video).await;
    proxy.stall();
    // Silence on the channel for a second is a flat counter: at 15 fps about 15 packets would have come.
    while tokio::time::timeout(Duration::from_secs(1), w.rx.recv())
        .await
        .is_ok()
    {}
    let stats = w.session.stats();
    let flat = stats.packets.load(Relaxed);
    assert!(
        tokio::time::timeout(Duration::from_secs(1), w.rx.recv())
            .await
            .is_err()
    );
    assert_eq!(stats.packets.load(Relaxed), flat);
    proxy.resume();
    w.packet(Track::Video).await;
    proxy.reset();
    let reason = w.down().await;
    assert!(
        matches!(reason, DownReason::Ended | DownReason::Failed(_)),
        "{reason:?}"
    );
    proxy.close_listener();
    let gone = Watch::start(
        &rtsp(&cam.url_at(proxy.address()), RtspTransport::Tcp),
        false,
    )
    .down()
    .await;
    assert_eq!(gone.code(), "unreachable", "{gone}");
    proxy.reopen().unwrap();
    let source = rtsp(&cam.url_at(proxy.address()), RtspTransport::Tcp);
    loop {
        match Watch::start(&source, false).next().await {
            CaptureEvent::Up { .. } => break,
            // It takes the stream of the client before down.
            CaptureEvent::Down(reason) if reason.to_string().contains("503") => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn every_misbehaviour_has_its_reason() {
    for (how, expected) in [
        (Misbehaviour::Refuse, &["unreachable"][..]),
        (Misbehaviour::Unauthorized, &["unauthorized"]),
        (Misbehaviour::NotFound, &["not_found"]),
        (Misbehaviour::OnlyJpeg, &["unsupported"]),
        (
            Misbehaviour::ResetAfter(40),
            &["unreachable", "failed", "ended"],
        ),
        (Misbehaviour::Garbage, &["unreachable", "failed"]),
        (
            Misbehaviour::AbsurdSdp,
            &["unreachable", "failed", "unsupported"],
        ),
    ] {
        let cam = BadCamera::start(how).unwrap();
        let mut w = Watch::start(&rtsp_as(&cam.url(), "me", "canary-p4ss"), false);
        let reason = w.down().await;
        assert!(expected.contains(&reason.code()), "{how:?}: {reason:?}");
        assert!(!reason.to_string().contains("canary"), "{reason}");
    }
}

#[tokio::test]
async fn a_camera_that_is_busy_with_our_first_connection_is_asked_some_more_times() {
    let cam = BadCamera::start(Misbehaviour::Busy).unwrap();
    let source = rtsp(&cam.url(), RtspTransport::Tcp);
    let reason = Watch::start(&source, false).down().await;
    assert!(reason.to_string().contains("503"), "{reason}");
    assert_eq!(cam.connections(), 1 + 6);

    // Without a connection of ours before it, its word is final.
    let reason = Watch::start(&source, false).down().await;
    assert!(reason.to_string().contains("503"), "{reason}");
    assert_eq!(cam.connections(), 1 + 6 + 1);
}

#[tokio::test]
async fn a_silent_camera_can_be_left_at_any_time() {
    let cam = BadCamera::start(Misbehaviour::Silent).unwrap();
    let mut w = Watch::start(&rtsp(&cam.url(), RtspTransport::Tcp), false);
    while cam.connections() == 0 {
        tokio::task::yield_now().await;
    }
    w.session.stop();
    let end = tokio::time::timeout(DEADLINE, w.rx.recv()).await;
    assert!(
        matches!(end, Ok(None)),
        "{end:?}: a stopped session just closes its channel"
    );
}

#[tokio::test]
async fn a_new_size_is_announced_before_its_key_frame() {
    let picture = Picture {
        switch_size: Some((320, 192, 60)),
        ..Picture::default()
    };
    let cam = camera(Options {
        source: Source::Pattern(picture, Codec::H264),
        ..Options::default()
    });
    let mut w = Watch::start(&rtsp(&cam.url(), RtspTransport::Tcp), false);
    assert_eq!(w.up().await.0.width, 640);
    loop {
        match w.next().await {
            CaptureEvent::Changed { info, .. } => {
                assert_eq!((info.width, info.height), (320, 192));
                break;
            }
            CaptureEvent::Down(r) => panic!("down: {r}"),
            _ => {}
        }
    }
    assert!(w.packet(Track::Video).await.key);
}

#[tokio::test]
async fn a_looped_camera_file_goes_on_for_its_client() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clip.mp4");
    write_clip(&path, &ClipSpec::default()).unwrap();
    let cam = camera(Options {
        source: Source::File { path, repeat: true },
        ..Options::default()
    });
    let mut w = Watch::start(&rtsp(&cam.url(), RtspTransport::Tcp), false);
    w.up().await;
    let mut last = w.packet(Track::Video).await;
    for n in 1..75 {
        let p = w.packet(Track::Video).await;
        let gap = p.pts.since(last.pts);
        assert!(
            p.pts > last.pts && gap < Duration::from_millis(300),
            "{n}: {gap:?} {:?} {:?}",
            last.pts,
            p.pts
        );
        last = p;
    }
}

#[tokio::test]
async fn a_camera_is_described_with_a_picture() {
    let cam = camera(Options {
        audio: Some(Audio::Pcma),
        ..Options::default()
    });
    let source = rtsp(&cam.url(), RtspTransport::Tcp);
    let d = probe::describe(&source, DEADLINE, NOW).await.unwrap();
    assert_eq!((d.codec, d.width, d.height), (VideoCodec::H264, 640, 360));
    assert!(d.profile.is_some() && !d.aac, "{d:?}");
    assert!(d.offers.contains(&"audio PCMA".to_owned()));
    assert!(d.jpeg.unwrap().starts_with(&[0xff, 0xd8]));

    // What is measured, on encoded footage: a live encoder skips frames on a busy machine, and two seconds of its
    // stream may then hold one key frame.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clip.mp4");
    let spec = ClipSpec {
        seconds: 4,
        ..ClipSpec::default()
    };
    write_clip(&path, &spec).unwrap();
    let cam = camera(Options {
        source: Source::File { path, repeat: true },
        ..Options::default()
    });
    let source = rtsp(&cam.url(), RtspTransport::Tcp);
    let d = probe::describe(&source, DEADLINE, NOW).await.unwrap();
    assert_eq!(d.gop, Some(15), "{d:?}");
    assert!(d.bitrate_bps.unwrap() > 10_000, "{d:?}");
    let cam = BadCamera::start(Misbehaviour::NotFound).unwrap();
    let source = rtsp(&cam.url(), RtspTransport::Tcp);
    let e = probe::describe(&source, DEADLINE, NOW).await.unwrap_err();
    assert_eq!(e.code(), "not_found");
}
