//! `clips export`: what covers a span of time as one MP4, proved by the counter that each frame shows.

use std::path::Path;
use std::time::Duration;

use sentrycam::media::clip::ClipWriter;
use sentrycam::media::join::Joiner;
use sentrycam::media::{Packet, Track};
use sentrycam::recording::joining::{Source as Clip, plan};
use sentrycam::time::{Pts, Wall};
use sentrycam_testcam::{Codec, Options, Picture, Scene, Source, TestCamera};
use serde_json::Value;

use crate::agent::{EXCLUDE_COUNTER, FPS, counters, kept, pattern};
use crate::fixture::{Recipe, audio, caps, ffprobe, interleave, video};
use crate::running::Running;

fn continuous(camera: &TestCamera) -> String {
    format!(
        "[spool]\nmin_free = \"1 MiB\"\n[[camera]]\nid = \"a\"\nurl = \"{}\"\n[camera.recording]\nmode = \"continuous\"\n\
         segment = \"5 s\"\n[camera.motion]\nenabled = false\n",
        camera.url()
    )
}

fn still() -> TestCamera {
    TestCamera::start(pattern(Scene {
        quiet: 60,
        motion: 1,
    }))
    .unwrap()
}

fn start(clip: &Value) -> i64 {
    Wall::parse_rfc3339(clip["started_at"].as_str().unwrap())
        .unwrap()
        .0
}

fn at(us: i64) -> String {
    Wall(us).rfc3339()
}

struct Made {
    code: i32,
    report: Value,
    error: String,
}

fn export(agent: &Running, from: i64, to: i64, more: &[&str]) -> Made {
    let file = agent.state_dir().join("out.mp4");
    let (from, to, file) = (at(from), at(to), file.display().to_string());
    let args = [
        "clips", "export", "--camera", "a", "--from", &from, "--to", &to, "-o", &file, "--json",
    ];
    let out = agent.command(&[&args[..], more].concat());
    Made {
        code: out.status.code().unwrap(),
        report: serde_json::from_slice(&out.stdout).unwrap_or_default(),
        error: String::from_utf8_lossy(&out.stderr).into(),
    }
}

/// Its frames; it decodes without a complaint and begins with a key frame.
fn frames(file: &Value) -> Vec<u32> {
    let path = std::path::PathBuf::from(file["path"].as_str().unwrap());
    let probe = ffprobe(&path);
    assert!(
        probe.complaints.is_empty() && probe.first_is_key && probe.start.abs() < 0.001,
        "{probe:?}"
    );
    assert_eq!(file["frames"], probe.frames);
    assert!(
        (file["duration_s"].as_f64().unwrap() - probe.duration).abs() < 0.2,
        "{file} {probe:?}"
    );
    counters(&path)
}

fn holes(shown: &[u32]) -> Vec<(u32, u32)> {
    let pairs = shown.windows(2).filter(|w| w[1] != w[0] + 1);
    pairs.map(|w| (w[0], w[1])).collect()
}

#[test]
fn segments_become_one_film_without_a_missing_or_doubled_frame() {
    let camera = still();
    let mut agent = Running::start(&continuous(&camera));
    agent.wait(60, &["clips"], "three segments", |c| {
        (kept(c).len() >= 3).then_some(())
    });
    assert_eq!(agent.stop(), Some(0));
    let clips = kept(&agent.ask(&["clips"]));
    let first = counters(&agent.clip_path(&clips[0]))[0];
    let (from, to) = (start(&clips[0]) + 2_500_000, start(&clips[2]) + 2_000_000);
    let made = export(&agent, from, to, &[]);
    assert_eq!(made.code, 0, "{}", made.error);
    let files = made.report["files"].as_array().unwrap();
    assert_eq!((files.len(), &files[0]["clips"]), (1, &3.into()));
    assert_eq!(made.report["gaps"], serde_json::json!([]));
    let shown = frames(&files[0]);
    assert_eq!(holes(&shown), []);
    // 2.5 s into the first one, back to its key frame at 2 s; one key frame a second.
    let begins = shown[0] - first;
    assert!(
        (FPS..=5 * FPS / 2 + 1).contains(&begins),
        "begins {begins} frames in"
    );
    let length = (to - from) as f64 / 1e6 * f64::from(FPS);
    let more = shown.len() as f64 - length;
    assert!(
        (-2.0..=f64::from(FPS) + 2.0).contains(&more),
        "{} frames, not {length}",
        shown.len()
    );

    let again = export(&agent, from, to, &[]);
    assert!(
        again.code == 1 && again.error.contains("exists already"),
        "{}",
        again.error
    );
    let lost = agent.command(&[
        "clips",
        "export",
        "--camera",
        "a",
        "--from",
        &at(from),
        "--to",
        &at(to),
        "-o",
        "/no/such/dir/a.mp4",
    ]);
    let said = String::from_utf8_lossy(&lost.stderr);
    assert!(
        said.contains("there is no directory /no/such/dir"),
        "{said}"
    );
    // A bare name is a file in the directory where one is; times are taken as the tables print them.
    let table = |us| at(us).get(..19).unwrap().replace('T', " ");
    let (table_from, table_to) = (table(from), table(to));
    let bare = std::process::Command::new(env!("CARGO_BIN_EXE_sentrycam"))
        .current_dir(agent.state_dir())
        .arg("--config")
        .arg(agent.state_dir().with_file_name("sentrycam.toml"))
        .args([
            "clips",
            "export",
            "--camera",
            "a",
            "--from",
            &table_from,
            "--to",
            &table_to,
        ])
        .args(["-o", "bare.mp4"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&bare.stderr);
    assert!(bare.status.success(), "{said}");
    assert!(ffprobe(&agent.state_dir().join("bare.mp4")).frames > 0);
    let nothing = export(&agent, from - 3_600_000_000, from - 3_500_000_000, &[]);
    assert!(
        nothing.code == 1 && nothing.error.contains("no clip of camera a"),
        "{}",
        nothing.error
    );
    let backwards = export(&agent, to, from, &[]);
    assert!(
        backwards.error.contains("must be later"),
        "{}",
        backwards.error
    );
    let list = agent.ask(&["clips", "list"]);
    assert_eq!(
        list.as_array().unwrap().len(),
        agent.ask(&["clips"]).as_array().unwrap().len()
    );
}

#[test]
fn a_gap_is_skipped_and_told() {
    let camera = still();
    let mut agent = Running::start(&continuous(&camera));
    agent.wait(60, &["clips"], "a segment", |c| {
        (!kept(c).is_empty()).then_some(())
    });
    assert_eq!(agent.stop(), Some(0));
    let before = kept(&agent.ask(&["clips"])).len();
    agent.launch(&[]);
    agent.wait(60, &["clips"], "more", |c| {
        (kept(c).len() > before).then_some(())
    });
    assert_eq!(agent.stop(), Some(0));
    let clips = kept(&agent.ask(&["clips"]));
    let end = start(&clips[clips.len() - 1]) + 200_000;
    let made = export(&agent, start(&clips[0]), end, &[]);
    assert_eq!(made.code, 0, "{}", made.error);
    let gaps = made.report["gaps"].as_array().unwrap();
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    let shown = frames(&made.report["files"][0]);
    let holes = holes(&shown);
    assert_eq!(holes.len(), 1, "{holes:?}");
    let missing = f64::from(holes[0].1 - holes[0].0) / f64::from(FPS);
    let told = gaps[0]["seconds"].as_f64().unwrap();
    assert!(
        (missing - told).abs() < 1.5,
        "{missing} s are missing, {told} s are told"
    );
}

#[test]
fn clips_of_events_that_overlap_are_joined_frame_by_frame() {
    let camera = TestCamera::start(pattern(Scene {
        quiet: 6,
        motion: 2,
    }))
    .unwrap();
    let mut agent = Running::start(&format!(
        "[spool]\nmin_free = \"1 MiB\"\n[[camera]]\nid = \"a\"\nurl = \"{}\"\n[camera.recording]\npre_roll = \"10 s\"\n\
         post_roll = \"2 s\"\n[camera.motion]\nfps = 15\n{EXCLUDE_COUNTER}",
        camera.url()
    ));
    agent.wait(90, &["clips"], "three events", |c| {
        (kept(c).len() >= 3).then_some(())
    });
    assert_eq!(agent.stop(), Some(0));
    let clips = kept(&agent.ask(&["clips"]));
    let length = |c: &Value| (c["duration_s"].as_f64().unwrap() * 1e6) as i64;
    let overlaps = clips
        .windows(2)
        .filter(|w| start(&w[0]) + length(&w[0]) > start(&w[1]));
    assert!(
        overlaps.count() >= 1,
        "the pre-roll reaches into the clip before: {clips:?}"
    );
    let end = start(&clips[2]) + length(&clips[2]);
    let made = export(&agent, start(&clips[0]), end, &[]);
    assert_eq!(made.code, 0, "{}", made.error);
    assert_eq!(made.report["gaps"], serde_json::json!([]));
    assert_eq!(holes(&frames(&made.report["files"][0])), []);
}

#[test]
fn a_picture_that_changes_its_size_is_refused_or_split() {
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
    let mut agent = Running::start(&continuous(&camera));
    agent.wait(60, &["clips"], "clips of both sizes", |c| {
        let formats: Vec<_> = kept(c).iter().map(|c| c["format"].clone()).collect();
        (formats.contains(&"h264 640x360".into()) && formats.contains(&"h264 320x240".into()))
            .then_some(())
    });
    assert_eq!(agent.stop(), Some(0));
    let clips = kept(&agent.ask(&["clips"]));
    let (from, to) = (start(&clips[0]), start(&clips[clips.len() - 1]) + 1_000_000);
    let refused = export(&agent, from, to, &[]);
    assert_eq!(refused.code, 1);
    assert!(
        refused.error.contains("from h264 640x360 to h264 320x240"),
        "{}",
        refused.error
    );
    let left = std::fs::read_dir(agent.state_dir()).unwrap().flatten();
    let left = left.filter(|e| e.file_name().to_string_lossy().starts_with("out"));
    assert_eq!(left.count(), 0, "nothing is left of it");
    let split = export(&agent, from, to, &["--split"]);
    assert_eq!(split.code, 0, "{}", split.error);
    let files = split.report["files"].as_array().unwrap();
    assert_eq!(files.len(), 2);
    for (file, format) in files.iter().zip(["h264 640x360", "h264 320x240"]) {
        assert_eq!(file["format"], format);
        let probe = ffprobe(std::path::Path::new(file["path"].as_str().unwrap()));
        assert!(probe.frames > 0 && probe.complaints.is_empty(), "{probe:?}");
    }
}

/// Writes packets into a clip of their own; returns when it begins and how long it is.
fn write(path: &Path, packets: &[Packet], tracks: &sentrycam::media::TrackCaps) -> (Pts, Duration) {
    let mut writer = ClipWriter::open(path, tracks, true).unwrap();
    for packet in packets {
        writer.push(packet).unwrap();
    }
    let file = writer.finish().unwrap();
    (file.first_pts, file.duration)
}

#[test]
fn sound_b_frames_and_h265_survive_the_joining() {
    for (bframes, h265) in [(0, false), (2, false), (2, true)] {
        let recipe = Recipe {
            frames: 240,
            bframes,
            h265,
            ..Recipe::default()
        };
        let (video_caps, pictures) = video(recipe);
        let (audio_caps, sound) = audio(8);
        let tracks = caps(&video_caps, Some(&audio_caps));
        let all = interleave(pictures.clone(), sound);
        let key = |p: &Packet| p.track == Track::Video && p.key && p.pts >= Pts(4_000_000_000);
        let middle = all.iter().position(key).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let wall = Wall(1_795_226_400_000_000);
        let mut clips = Vec::new();
        for (name, part) in [("1.mp4", &all[..middle]), ("2.mp4", &all[middle..])] {
            let path = dir.path().join(name);
            let (first, length) = write(&path, part, &tracks);
            let start = wall + Duration::from_nanos(first.0);
            clips.push(Clip {
                key: path,
                start,
                end: start + length,
            });
        }
        let (pieces, gaps) = plan(clips, wall, wall + Duration::from_secs(9));
        assert_eq!(pieces.len(), 2);
        assert!(gaps.len() <= 1, "{gaps:?}");
        let out = dir.path().join("out.mp4");
        let mut joiner = Joiner::new(&out, false);
        for piece in &pieces {
            joiner.add(piece).unwrap();
        }
        let joined = joiner.finish().unwrap();
        assert!(!joined[0].without_audio);
        let probe = ffprobe(&out);
        assert!(
            probe.complaints.is_empty() && probe.first_is_key,
            "{probe:?}"
        );
        // At the seam the last pictures shown may be decoded after the key frame that cuts them off.
        assert!(
            probe.frames + u64::from(bframes) >= 240 && probe.frames <= 240,
            "{probe:?}"
        );
        assert!(probe.audio_packets > 350, "{probe:?}");
        assert!((probe.duration - 8.0).abs() < 0.2, "{probe:?}");
    }
}
