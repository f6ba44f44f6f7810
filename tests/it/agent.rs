//! The whole agent on real cameras and real footage: clips that show exactly their event.

use std::path::Path;
use std::process::Command;

use sentrycam_testcam::{Codec, Options, Picture, Scene, Source, TestCamera, read_counter};
use serde_json::Value;

use crate::fixture::{ffprobe, footage};
use crate::running::Running;

pub const WIDTH: usize = 640;
const HEIGHT: usize = 360;
pub const FPS: u32 = 15;

/// The burnt-in counter changes with every frame: it is not watched.
pub const EXCLUDE_COUNTER: &str =
    "[[camera.motion.exclude]]\npoints = [[0, 0], [1, 0], [1, 0.15], [0, 0.15]]\n";

pub fn pattern(scene: Scene) -> Options {
    let picture = Picture {
        fps: FPS,
        gop: FPS,
        scene,
        ..Picture::default()
    };
    Options {
        source: Source::Pattern(picture, Codec::H264),
        ..Options::default()
    }
}

/// A small camera, for tests of what comes after detection.
pub fn small(scene: Scene) -> Picture {
    Picture {
        width: 320,
        height: 180,
        fps: 10,
        gop: 10,
        scene,
        ..Picture::default()
    }
}

/// Serves a picture.
pub fn serve(picture: Picture) -> TestCamera {
    TestCamera::start(Options {
        source: Source::Pattern(picture, Codec::H264),
        ..Options::default()
    })
    .unwrap()
}

/// Frame numbers of a clip, every frame decoded by another program.
pub fn counters(path: &Path) -> Vec<u32> {
    let out = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(path)
        .args([
            "-fps_mode",
            "passthrough",
            // As fine as the file's: two frames that jitter are not one.
            "-enc_time_base",
            "-1",
            "-pix_fmt",
            "gray",
            "-f",
            "rawvideo",
            "-",
        ])
        .output()
        .unwrap();
    assert!(
        out.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    let frames = out.stdout.chunks_exact(WIDTH * HEIGHT);
    frames
        .map(|f| read_counter(f, WIDTH, WIDTH).expect("the counter is legible"))
        .collect()
}

fn assert_without_gap(numbers: &[u32]) {
    let hole = numbers.windows(2).find(|w| w[1] != w[0] + 1);
    assert_eq!(hole, None, "frames are missing in {numbers:?}");
}

fn first_ended(events: &Value) -> Option<Value> {
    events
        .as_array()?
        .iter()
        .rev()
        .find(|e| e["state"] == "ended")
        .cloned()
}

pub fn kept(clips: &Value) -> Vec<Value> {
    let mut kept: Vec<Value> = clips
        .as_array()
        .map(|l| l.iter().filter(|c| c["state"] == "kept").cloned().collect())
        .unwrap_or_default();
    kept.reverse();
    kept
}

#[test]
fn a_clip_shows_its_event_from_pre_roll_to_post_roll_without_a_missing_frame() {
    let scene = Scene {
        quiet: 8,
        motion: 4,
    };
    let camera = TestCamera::start(pattern(scene)).unwrap();
    let mut agent = Running::start(&format!(
        "[[camera]]\nid = \"a\"\nurl = \"{}\"\n[camera.recording]\npre_roll = \"3 s\"\npost_roll = \"2 s\"\n\
         [camera.motion]\nfps = 15\n{EXCLUDE_COUNTER}",
        camera.url()
    ));
    let clip = agent.wait(60, &["clips"], "a clip is kept", |c| {
        kept(c).first().cloned()
    });
    let event = first_ended(&agent.ask(&["events"])).unwrap();
    assert_eq!(clip["event"], event["id"]);
    assert_eq!(event["end_reason"], "quiet");
    let path = agent.clip_path(&clip);
    let probe = ffprobe(&path);
    assert!(probe.first_is_key && probe.start.abs() < 0.001, "{probe:?}");
    let shown = counters(&path);
    assert_without_gap(&shown);
    // Which motion it was: the first frame in the clip in which the box moves.
    let moving: Vec<u32> = shown
        .iter()
        .copied()
        .filter(|n| scene.moving(*n, FPS))
        .collect();
    assert_eq!(
        moving.len() as u32,
        scene.motion * FPS,
        "the whole motion is in the clip"
    );
    let (first, last) = (shown[0], shown[shown.len() - 1]);
    let before = moving[0] - first;
    // 3 s of pre-roll, up to one GOP more to the key frame, up to half a second until the detector sees it move.
    assert!(
        (3 * FPS - FPS / 2..=4 * FPS + 1).contains(&before),
        "{before} frames before the motion"
    );
    let after = last - moving[moving.len() - 1];
    // 2 s of post-roll, up to 1.5 s until what stands still rests; a clip that is open grows by what a verdict is late.
    assert!(
        (FPS..scene.quiet * FPS).contains(&after),
        "{after} frames after the motion"
    );
    assert_eq!(agent.stop(), Some(0));
}

#[test]
fn stopping_is_the_last_that_is_told() {
    let camera = TestCamera::start(pattern(Scene {
        quiet: 1,
        motion: 600,
    }))
    .unwrap();
    let mut agent = Running::start(&format!(
        "[[camera]]\nid = \"a\"\nurl = \"{}\"\n[camera.motion]\n{EXCLUDE_COUNTER}",
        camera.url()
    ));
    agent.wait(60, &["status"], "an event is recorded", |s| {
        let a = &s["cameras"]["a"];
        (a["event_active"] == true && a["recording"] == true).then_some(())
    });
    assert_eq!(agent.stop(), Some(0));
    let mut told: Vec<(u64, String)> = agent
        .ask(&["outbox", "ls"])
        .as_array()
        .unwrap()
        .iter()
        .map(|r| {
            (
                r["seq"].as_u64().unwrap(),
                r["kind"].as_str().unwrap().to_owned(),
            )
        })
        .collect();
    told.sort();
    let kinds: Vec<&str> = told.iter().map(|(_, kind)| kind.as_str()).collect();
    assert!(kinds.contains(&"motion.ended.v1"), "{kinds:?}");
    assert!(kinds.contains(&"recording.closed.v1"), "{kinds:?}");
    assert_eq!(kinds.last(), Some(&"agent.stopping.v1"), "{kinds:?}");
}

#[test]
fn segments_follow_each_other_without_a_missing_frame() {
    let camera = TestCamera::start(pattern(Scene {
        quiet: 60,
        motion: 1,
    }))
    .unwrap();
    let mut agent = Running::start(&format!(
        "[[camera]]\nid = \"a\"\nurl = \"{}\"\n[camera.recording]\nmode = \"continuous\"\nsegment = \"5 s\"\n\
         [camera.motion]\nenabled = false\n",
        camera.url()
    ));
    agent.wait(60, &["clips"], "two segments are kept", |c| {
        (kept(c).len() >= 2).then_some(())
    });
    assert_eq!(agent.stop(), Some(0));
    let segments = kept(&agent.ask(&["clips"]));
    assert!(segments.len() >= 3, "the last one is kept at the end too");
    let all: Vec<u32> = segments
        .iter()
        .flat_map(|s| counters(&agent.clip_path(s)))
        .collect();
    assert_without_gap(&all);
}

#[test]
fn an_event_goes_on_in_another_clip_when_the_picture_changes_its_size() {
    let picture = Picture {
        fps: FPS,
        gop: FPS,
        switch_size: Some((320, 240, 8 * FPS)),
        ..Picture::default()
    };
    let camera = TestCamera::start(Options {
        source: Source::Pattern(picture, Codec::H264),
        ..Options::default()
    })
    .unwrap();
    let mut agent = Running::start(&format!(
        "[[camera]]\nid = \"a\"\nurl = \"{}\"\n",
        camera.url()
    ));
    agent.wait(60, &["status"], "the camera changed its size", |s| {
        (s["cameras"]["a"]["format"] == "h264 320x240" && s["cameras"]["a"]["recording"] == true)
            .then_some(())
    });
    agent.wait(30, &["clips"], "a clip of the first size", |c| {
        (!kept(c).is_empty()).then_some(())
    });
    assert_eq!(agent.stop(), Some(0));
    let clips = kept(&agent.ask(&["clips"]));
    let formats: Vec<&str> = clips
        .iter()
        .map(|c| c["format"].as_str().unwrap())
        .collect();
    assert!(
        formats.contains(&"h264 640x360") && formats.contains(&"h264 320x240"),
        "{formats:?}"
    );
    for clip in &clips {
        let probe = ffprobe(&agent.clip_path(clip));
        assert!(
            probe.frames > 0 && probe.complaints.is_empty(),
            "{clip}: {probe:?}"
        );
    }
}

#[test]
fn real_footage_becomes_one_event_at_the_right_time() {
    let footage = footage();
    let mut agent = Running::start(&format!(
        "[[camera]]\nid = \"street\"\nfile = \"{}\"\n",
        footage.display()
    ));
    let event = agent.wait(90, &["events"], "an event ends", first_ended);
    let time = |v: &Value| {
        v.as_str()
            .unwrap()
            .parse::<jiff::Timestamp>()
            .unwrap()
            .as_millisecond() as f64
            / 1000.0
    };
    let up = agent.wait(5, &["outbox", "ls"], "the camera was up", |o| {
        o.as_array()?
            .iter()
            .find(|r| r["kind"] == "camera.up.v1")
            .map(|r| time(&r["made_at"]))
    });
    // The pedestrians begin to walk after 14 s and stop after 30 s.
    let (start, end) = (
        time(&event["started_at"]) - up,
        time(&event["ended_at"]) - up,
    );
    assert!((13.5..16.0).contains(&start), "started after {start} s");
    assert!((28.0..37.0).contains(&end), "ended after {end} s");
    let clip = agent.wait(20, &["clips"], "its clip is kept", |c| {
        kept(c).first().cloned()
    });
    let probe = ffprobe(&agent.clip_path(&clip));
    assert!(
        probe.duration >= (end - start) + 5.0 && probe.complaints.is_empty(),
        "{probe:?}"
    );
    agent.stop();
}
