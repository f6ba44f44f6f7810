//! Decoding for detection and snapshots: sizes, rates, formats, broken streams.

use gstreamer as gst;
use sentrycam::media::picture::{PictureError, jpeg_of_key_frame};
use sentrycam::media::sampler::{Fed, Sampler, SamplerEvent};
use sentrycam::media::{OwnedGray, Packet};
use tokio::sync::mpsc;

use crate::fixture::{Recipe, video, wait_until};

fn started(caps: &gst::Caps, fps: f32) -> (Sampler, mpsc::Receiver<SamplerEvent>) {
    let (tx, rx) = mpsc::channel(1_000);
    (Sampler::start(caps, fps, 320, tx).unwrap(), rx)
}

/// Pushes everything at the decoder's own speed; returns the pictures.
fn see(caps: &gst::Caps, packets: &[Packet], fps: f32, expected: usize) -> Vec<OwnedGray> {
    let (mut s, mut rx) = started(caps, fps);
    let mut frames = Vec::new();
    for chunk in packets.chunks(25) {
        let mut fed = 0;
        for p in chunk {
            fed += usize::from(s.push(p) == Fed::Taken);
        }
        assert!(fed > 0);
        wait_until(20, "the decoder to catch up", || s.backlog() == 0);
    }
    s.drain();
    wait_until(20, "the expected pictures", || {
        while let Ok(SamplerEvent::Frame(f, _)) = rx.try_recv() {
            frames.push(f);
        }
        frames.len() >= expected
    });
    assert_eq!(s.counts().packets_dropped, 0);
    assert!(s.stop());
    frames
}

#[test]
fn pictures_come_at_the_wanted_rate_size_and_time() {
    let r = Recipe {
        width: 1280,
        height: 720,
        ..Recipe::default()
    };
    let (caps, packets) = video(r);
    let frames = see(&caps, &packets, 5.0, 25);
    assert_eq!(frames.len(), 25);
    for (n, f) in frames.iter().enumerate() {
        assert_eq!((f.width, f.height, f.luma.len()), (320, 180, 320 * 180));
        let expected = n as f64 / 5.0;
        let at = f.pts.since(packets[0].pts).as_secs_f64();
        assert!((at - expected).abs() < 0.04, "{n}: {at}");
    }
    // The ball moves on black: every picture shows something, and not the same.
    let bright = |f: &OwnedGray| f.luma.iter().filter(|p| **p > 128).count();
    assert!(frames.iter().all(|f| (40..10_000).contains(&bright(f))));
    assert_ne!(frames[0].luma, frames[12].luma);
}

#[test]
fn b_frames_h265_and_ten_bit_are_seen_too() {
    let base = Recipe {
        frames: 90,
        width: 640,
        height: 360,
        ..Recipe::default()
    };
    for r in [
        Recipe { bframes: 3, ..base },
        Recipe { h265: true, ..base },
        Recipe {
            h265: true,
            ten_bit: true,
            ..base
        },
        Recipe {
            ten_bit: true,
            ..base
        },
    ] {
        let (caps, packets) = video(r);
        // With B-frames the choice falls on what they refer to: every fourth of 90.
        let least = if r.bframes > 0 { 22 } else { 29 };
        let frames = see(&caps, &packets, 10.0, least);
        assert!(
            (least..=31).contains(&frames.len()),
            "{r:?}: {}",
            frames.len()
        );
        assert!(frames.is_sorted_by_key(|f| f.pts), "{r:?}");
        let bright = frames[5].luma.iter().filter(|p| **p > 128).count();
        let dark = frames[5].luma.iter().filter(|p| **p < 40).count();
        assert!(bright > 50 && dark > 40_000, "{r:?}: {bright} {dark}");
    }
}

#[test]
fn what_a_key_frame_overtakes_is_never_decoded() {
    let (caps, packets) = video(Recipe::default());
    let (mut s, _rx) = started(&caps, 5.0);
    for p in &packets {
        s.push(p);
        wait_until(30, "room for the next packet", || s.backlog() < 20);
    }
    s.drain();
    let counts = s.counts();
    // Of each GOP all that follows its last chosen picture: 4 or 5 of 30 at 5 a second.
    let gops = packets.iter().filter(|p| p.key).count() as u64;
    assert!(
        counts.spared >= 4 * gops && counts.spared <= 6 * gops,
        "{counts:?}, {gops} GOPs"
    );
    assert_eq!(counts.fed + counts.spared, packets.len() as u64);
    assert_eq!(counts.packets_dropped, 0);
}

#[test]
fn of_a_fast_camera_with_long_gops_nothing_is_lost_however_seldom_a_picture_is_chosen() {
    let (caps, packets) = video(Recipe {
        frames: 600,
        fps: 60,
        gop: 600,
        width: 160,
        height: 120,
        ..Recipe::default()
    });
    let (mut s, _rx) = started(&caps, 1.0);
    for p in &packets {
        s.push(p);
        wait_until(30, "the decoder is not behind", || s.backlog() == 0);
    }
    s.drain();
    wait_until(30, "a picture a second", || s.counts().frames >= 10);
    let counts = s.counts();
    assert_eq!(counts.packets_dropped, 0, "{counts:?}");
    assert!(
        (10..=11).contains(&counts.frames) && counts.frames_dropped == 0,
        "{counts:?}"
    );
}

#[test]
fn key_frames_alone_come_at_once_when_drained() {
    let (caps, packets) = video(Recipe {
        bframes: 2,
        ..Recipe::default()
    });
    let (mut s, mut rx) = started(&caps, 10.0);
    for key in packets.iter().filter(|p| p.key) {
        assert_eq!(s.push(key), Fed::Taken);
        s.drain();
        wait_until(
            10,
            "the key frame's picture",
            || matches!(rx.try_recv(), Ok(SamplerEvent::Frame(f, _)) if f.pts == key.pts),
        );
    }
    // A whole GOP after that.
    let from = packets.iter().rposition(|p| p.key).unwrap();
    for p in &packets[from..] {
        s.push(p);
    }
    s.drain();
    wait_until(30, "the GOP's pictures", || s.counts().frames >= 5 + 8);
}

#[test]
fn what_is_read_again_comes_again_in_order_with_its_own_times() {
    let (caps, packets) = video(Recipe::default());
    let (mut s, mut rx) = started(&caps, 5.0);
    let keys: Vec<&Packet> = packets.iter().filter(|p| p.key).collect();
    let mut seen = Vec::new();
    for key in &keys[..3] {
        s.push(key);
        s.drain();
        wait_until(30, "the key frame's picture", || {
            let frame = rx.try_recv();
            if let Ok(SamplerEvent::Frame(f, mark)) = frame {
                seen.push((f, mark));
                return true;
            }
            false
        });
    }
    let run = s.rewind();
    let from = packets.iter().position(|p| p.pts == keys[1].pts).unwrap();
    for p in &packets[from..from + 45] {
        s.push(p);
    }
    s.drain();
    wait_until(30, "the pictures", || {
        while let Ok(SamplerEvent::Frame(f, mark)) = rx.try_recv() {
            seen.push((f, mark));
        }
        seen.len() >= 3 + 8
    });
    let again: Vec<_> = seen.iter().filter(|(_, mark)| mark.run == run).collect();
    assert_eq!(again.len(), 8, "1.5 s at 5 a second");
    assert_eq!(again[0].0.pts, keys[1].pts);
    assert!(again[0].1.key && again[5].1.key && !again[1].1.key);
    assert!(again.windows(2).all(|w| w[0].0.pts < w[1].0.pts));
    let alone = seen
        .iter()
        .find(|(f, m)| m.run != run && f.pts == keys[1].pts);
    assert_eq!(alone.unwrap().0.luma, again[0].0.luma, "the same picture");
}

#[test]
fn a_decoder_that_is_behind_loses_packets_up_to_a_key_frame_and_counts_them() {
    let (caps, packets) = video(Recipe {
        width: 1280,
        height: 720,
        frames: 300,
        ..Recipe::default()
    });
    let (mut s, _rx) = started(&caps, 5.0);
    let fed: Vec<Fed> = packets.iter().map(|p| s.push(p)).collect();
    let dropped = fed.iter().filter(|f| **f == Fed::Dropped).count();
    assert!(dropped > 50, "{dropped}");
    assert_eq!(s.counts().packets_dropped, dropped as u64);
    for w in fed.windows(2).zip(packets.windows(2)) {
        if let ([Fed::Dropped, Fed::Taken], [_, after]) = w {
            assert!(after.key);
        }
    }
}

#[test]
fn a_broken_stream_is_survived_or_reported() {
    let (caps, packets) = video(Recipe::default());
    let (mut s, mut rx) = started(&caps, 10.0);
    for (n, p) in packets.iter().enumerate() {
        let mut broken = p.clone();
        if n % 3 == 1 && n < 60 {
            broken.buffer = gst::Buffer::from_slice(vec![0xa5u8; 700]);
        }
        if s.push(&broken) == Fed::Failed {
            break;
        }
        wait_until(30, "the decoder to catch up", || s.backlog() < 20);
    }
    s.drain();
    let last = packets.last().unwrap().pts - std::time::Duration::from_secs(1);
    wait_until(
        10,
        "pictures after the damage, or the failure",
        || match rx.try_recv() {
            Ok(SamplerEvent::Frame(f, _)) => f.pts > last,
            Ok(SamplerEvent::Failed(text)) => !text.is_empty(),
            Err(_) => false,
        },
    );
}

#[test]
fn other_caps_are_refused() {
    gst::init().unwrap();
    let (tx, _rx) = mpsc::channel(1);
    let caps = gst::Caps::new_empty_simple("video/x-vp8");
    assert!(Sampler::start(&caps, 5.0, 320, tx).is_err());
}

#[test]
fn a_key_frame_becomes_a_jpeg() {
    for (h265, ten_bit) in [(false, false), (true, false), (true, true)] {
        let (caps, packets) = video(Recipe {
            h265,
            ten_bit,
            frames: 40,
            width: 1280,
            height: 720,
            ..Recipe::default()
        });
        let jpeg = jpeg_of_key_frame(&packets[0], &caps, 640, 80).unwrap();
        assert_eq!(jpeg[..3], [0xff, 0xd8, 0xff]);
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("a.jpg");
        std::fs::write(&path, &jpeg).unwrap();
        let out = std::process::Command::new("ffprobe")
            .args([
                "-v",
                "error",
                "-show_entries",
                "stream=width,height",
                "-of",
                "csv=p=0",
            ])
            .arg(&path)
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&out.stdout).trim(), "640,360");
        assert!(
            jpeg_of_key_frame(&packets[0], &caps, 320, 80)
                .unwrap()
                .len()
                < jpeg.len()
        );
        let delta = packets.iter().find(|p| !p.key).unwrap();
        assert!(matches!(
            jpeg_of_key_frame(delta, &caps, 640, 80),
            Err(PictureError::NotKey)
        ));
        let mut broken = packets[0].clone();
        broken.buffer = gst::Buffer::from_slice(vec![0u8; 500]);
        assert!(matches!(
            jpeg_of_key_frame(&broken, &caps, 640, 80),
            Err(PictureError::Broken(_))
        ));
    }
}
