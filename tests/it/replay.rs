//! `motion replay` and `motion suggest` on real files: codecs, events, pictures, proposals, bad input.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sentrycam::media::clip_frames::{ClipFault, ClipFrames};
use sentrycam::media::clip_pictures::{ClipPictures, RgbPicture};
use sentrycam_testcam::{ClipSpec, Picture, Scene, write_clip};
use serde_json::Value;

use crate::fixture::ffprobe;

/// Six seconds of stillness, four of a box that crosses the picture, three of stillness; all tests share its shape.
fn crossing(dir: &Path) -> PathBuf {
    let path = dir.join("crossing.mp4");
    let spec = ClipSpec {
        picture: Picture {
            fps: 10,
            gop: 20,
            counter: false,
            scene: Scene {
                quiet: 6,
                motion: 4,
            },
            ..Picture::default()
        },
        seconds: 13,
        ..ClipSpec::default()
    };
    write_clip(&path, &spec).unwrap();
    path
}

/// A grey room of 320×240 at 10 frames a second in which a white thing of `size` is at `x`, `y` (ffmpeg's expressions of t).
fn room(path: &Path, seconds: u32, size: &str, x: &str, y: &str, codec: &[&str]) {
    let graph = format!(
        "color=gray:s=320x240:r=10:d={seconds}[b];color=white:s={size}:r=10:d={seconds}[w];[b][w]overlay=x='{x}':y='{y}'"
    );
    let status = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-y", "-filter_complex", &graph])
        .args(codec)
        .arg(path)
        .status()
        .expect("ffmpeg is installed");
    assert!(status.success(), "{}", path.display());
}

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sentrycam"))
        .arg("motion")
        .args(args)
        .output()
        .unwrap()
}

fn json(args: &[&str]) -> Value {
    let out = run(args);
    let err = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{args:?}: {err}");
    serde_json::from_slice(&out.stdout).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn every_codec_gives_the_same_small_grey_pictures() {
    let dir = tempfile::tempdir().unwrap();
    let clips = [
        (
            "h264.mp4",
            &["-c:v", "libx264", "-pix_fmt", "yuv420p", "-bf", "2"][..],
        ),
        (
            "h265.mkv",
            &["-c:v", "libx265", "-x265-params", "log-level=error"][..],
        ),
        (
            "mjpeg.avi",
            &["-c:v", "mjpeg", "-q:v", "2", "-pix_fmt", "yuvj420p"][..],
        ),
        ("ffv1.mkv", &["-c:v", "ffv1", "-pix_fmt", "yuv444p"][..]),
        ("rgb.mkv", &["-c:v", "ffv1", "-pix_fmt", "bgr0"][..]),
    ];
    for (name, codec) in clips {
        let path = dir.path().join(name);
        room(&path, 4, "80x120", "t*40", "60", codec);
        let clip = ClipFrames::open(&path, 5.0, 160).unwrap();
        let length = clip.duration().unwrap().as_secs_f64();
        assert!((3.8..4.3).contains(&length), "{name}: {length}");
        let frames: Vec<_> = clip.map(Result::unwrap).collect();
        assert_eq!(frames.len(), 20, "{name}");
        for (n, f) in frames.iter().enumerate() {
            assert_eq!(
                (f.width, f.height, f.luma.len()),
                (160, 120, 160 * 120),
                "{name}"
            );
            let late = f.pts.0 as f64 / 1e9 - n as f64 / 5.0;
            assert!(late.abs() < 0.06, "{name} {n}: {late}");
            let bright = f.luma.iter().filter(|p| **p > 200).count();
            assert!((2_200..2_600).contains(&bright), "{name} {n}: {bright}");
        }
        let all = ClipFrames::open(&path, 0.0, 4_000).unwrap();
        let sizes: Vec<_> = all
            .map(|f| f.map(|f| (f.width, f.height)).unwrap())
            .collect();
        assert_eq!(sizes, [(320, 240); 40], "{name}");
    }
}

#[test]
fn what_is_no_clip_is_said_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("empty.mp4"), "").unwrap();
    std::fs::write(path("text.mp4"), "this is no video\n".repeat(400)).unwrap();
    let sound = ["-f", "lavfi", "-i", "sine=d=2", "-c:a", "aac"];
    let made = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error"])
        .args(sound)
        .arg(path("sound.mp4"))
        .status();
    assert!(made.unwrap().success());
    let fault = |name: &str| ClipFrames::open(&path(name), 5.0, 320).unwrap_err();
    assert!(matches!(fault("none.mp4"), ClipFault::Unreadable { .. }));
    assert!(fault("empty.mp4").to_string().contains("it is empty"));
    assert!(fault("").to_string().contains("is a directory"));
    for name in ["text.mp4", "sound.mp4"] {
        assert!(
            matches!(fault(name), ClipFault::NoVideo { .. }),
            "{}",
            fault(name)
        );
    }
}

#[test]
fn a_clip_that_breaks_off_is_judged_up_to_there() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole.mkv");
    room(
        &whole,
        20,
        "60x60",
        "if(gt(t,5),t*12,-99)",
        "90",
        &["-c:v", "mjpeg", "-pix_fmt", "yuvj420p"],
    );
    let bytes = std::fs::read(&whole).unwrap();
    let cut = dir.path().join("cut.mkv");
    std::fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    let frames = ClipFrames::open(&cut, 5.0, 320).unwrap();
    let good = frames.take_while(Result::is_ok).count();
    assert!((20..80).contains(&good), "{good}");
    let out = run(&["replay", "--json", text(&cut)]);
    let seen: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(
        seen["clips"][0]["events"].as_array().unwrap().len(),
        1,
        "{seen:#}"
    );
}

#[test]
fn replay_tells_the_event_and_draws_it() {
    let dir = tempfile::tempdir().unwrap();
    let clip = crossing(dir.path());
    let (sheet, film) = (dir.path().join("sheet.png"), dir.path().join("film.mp4"));
    let seen = json(&[
        "replay",
        "--json",
        text(&clip),
        "--sheet",
        text(&sheet),
        "--video",
        text(&film),
    ]);
    let events = seen["clips"][0]["events"].as_array().unwrap();
    assert_eq!(events.len(), 1, "{seen:#}");
    let number = |key: &str| events[0][key].as_f64().unwrap();
    assert!((5.9..6.5).contains(&number("start_s")), "{seen:#}");
    assert!((9.0..10.5).contains(&number("end_s")), "{seen:#}");
    assert!(number("peak_score") > 0.4);
    assert!(events[0]["largest"]["w"].as_f64().unwrap() > 0.1);
    assert_eq!(seen["settings"]["sensitivity"], 5);
    // The annotated video is whole, and its boxes are there when something moves and not before.
    let probe = ffprobe(&film);
    assert_eq!((probe.frames, probe.complaints.as_str()), (130, ""));
    let pictures: Vec<RgbPicture> = ClipPictures::open(&film, 640)
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert!(
        pictures[0].height > 360,
        "room for the curve: {}",
        pictures[0].height
    );
    let yellow = |n: usize| {
        let p = &pictures[n];
        let above = &p.rgb[..p.width * 355 * 3];
        above
            .chunks(3)
            .filter(|c| c[0] > 170 && c[1] > 140 && c[2] < 110)
            .count()
    };
    assert!(yellow(80) > 200, "{}", yellow(80));
    assert!(yellow(30) < 20, "{}", yellow(30));
    // The sheet decodes as a picture of the known width.
    let sheets: Vec<RgbPicture> = ClipPictures::open(&sheet, 1320)
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert!(sheets[0].height > 400, "{}", sheets[0].height);
    assert!(
        sheets[0]
            .rgb
            .chunks(3)
            .filter(|c| c[0] > 240 && c[1] > 200 && c[2] < 40)
            .count()
            > 500
    );
}

#[test]
fn replay_judges_by_a_cameras_settings() {
    let dir = tempfile::tempdir().unwrap();
    let clip = crossing(dir.path());
    let config = dir.path().join("cameras.toml");
    let camera = |id: &str, zone: &str| {
        format!(
            "[[camera]]\nid = \"{id}\"\ntest = true\n[[camera.motion.exclude]]\npoints = [{zone}]\n"
        )
    };
    let all = "[0, 0], [1, 0], [1, 1], [0, 1]";
    let corner = "[0, 0], [0.1, 0], [0.1, 0.1]";
    std::fs::write(&config, camera("blind", all) + &camera("door", corner)).unwrap();
    let events = |camera: &str| {
        let seen = json(&[
            "replay",
            "--json",
            text(&clip),
            "--config",
            text(&config),
            "--camera",
            camera,
        ]);
        assert_eq!(seen["settings"]["camera"], camera);
        seen["clips"][0]["events"].as_array().unwrap().len()
    };
    assert_eq!((events("blind"), events("door")), (0, 1));
    let out = run(&["replay", text(&clip), "--config", text(&config)]);
    let err = String::from_utf8_lossy(&out.stderr);
    assert!(
        err.contains("--camera: blind, door") && out.status.code() == Some(1),
        "{err}"
    );
    std::fs::write(&config, "[[camera]]\nid = \"door\"\n").unwrap();
    let out = run(&["replay", text(&clip), "--config", text(&config)]);
    assert_eq!(out.status.code(), Some(78));
}

#[test]
fn one_bad_clip_does_not_hide_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let clip = crossing(dir.path());
    let out = run(&["replay", "--json", "/nowhere/a.mp4", text(&clip)]);
    assert_eq!(out.status.code(), Some(1));
    let seen: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert!(
        seen["clips"][0]["error"]
            .as_str()
            .unwrap()
            .contains("cannot read /nowhere/a.mp4")
    );
    assert_eq!(seen["clips"][1]["events"].as_array().unwrap().len(), 1);
    let out = run(&["replay", text(&clip), "--video", text(&clip)]);
    assert!(String::from_utf8_lossy(&out.stderr).contains("is one of the clips"));
    assert_eq!(
        run(&["replay", text(&clip), "--sensitivity", "11"])
            .status
            .code(),
        Some(2)
    );
}

#[test]
fn suggested_zones_silence_the_corner_and_keep_the_visitor() {
    let dir = tempfile::tempdir().unwrap();
    // Small, because the detector of a debug build is slow and some thirty of them look at each picture.
    let h264 = ["-s", "160x120", "-c:v", "libx264", "-pix_fmt", "yuv420p"];
    let path = |name: &str| dir.path().join(name);
    for folder in ["wanted", "unwanted"] {
        std::fs::create_dir(path(folder)).unwrap();
    }
    // As large as a visitor, so that sensitivity alone cannot tell them apart.
    room(
        &path("wanted/visitor.mp4"),
        16,
        "30x50",
        "if(between(t,4,9),(t-4)*60,-99)",
        "170",
        &h264,
    );
    room(
        &path("unwanted/bush.mp4"),
        16,
        "40x40",
        "if(gt(t,4),10+30*abs(sin(t*2)),-99)",
        "10",
        &h264,
    );
    let found = json(&["suggest", "--json", text(dir.path())]);
    let count = |when: &str, what: &str| found[when][what].as_u64().unwrap();
    assert_eq!(
        (count("before", "found"), count("after", "found")),
        (1, 1),
        "{found:#}"
    );
    assert!(
        count("before", "false_events") > 0 && count("after", "false_events") == 0,
        "{found:#}"
    );
    assert!(!found["exclude"].as_array().unwrap().is_empty());
    assert!(found["excluded_share"].as_f64().unwrap() < 0.3);
    // Pasted into a configuration, it does what it promised.
    let config = path("pasted.toml");
    let snippet = found["toml"].as_str().unwrap();
    std::fs::write(
        &config,
        format!("[[camera]]\nid = \"yard\"\ntest = true\n{snippet}"),
    )
    .unwrap();
    let (wanted, unwanted) = (path("wanted/visitor.mp4"), path("unwanted/bush.mp4"));
    let seen = json(&[
        "replay",
        "--json",
        "--config",
        text(&config),
        text(&wanted),
        text(&unwanted),
    ]);
    let events = |n: usize| seen["clips"][n]["events"].as_array().unwrap().len();
    assert_eq!((events(0), events(1)), (1, 0), "{seen:#}");
    // The other two forms of labels, and what they lack.
    let label = |path: &Path, label: &str| format!("{}={label}", path.display());
    let out = run(&[
        "suggest",
        &label(&wanted, "wanted"),
        "--unwanted",
        text(&unwanted),
    ]);
    let table = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(
        out.status.success() && table.contains("[[camera.motion.exclude]]"),
        "{table}"
    );
    let out = run(&["suggest", "--wanted", text(&wanted)]);
    assert!(String::from_utf8_lossy(&out.stderr).contains("no clip is labelled unwanted"));
    let out = run(&[
        "suggest",
        "--wanted",
        text(&wanted),
        "--unwanted",
        "/nowhere.mp4",
    ]);
    assert!(String::from_utf8_lossy(&out.stderr).contains("cannot read /nowhere.mp4"));
}
