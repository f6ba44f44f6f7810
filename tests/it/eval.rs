//! `motion eval` on footage whose truth is known, because the test drew it.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// A body that crosses a still, slightly noisy room between 6 s and 10 s.
const ROOM: &str = "color=0x606060:s=160x120:r=10:d=12,noise=alls=6:allf=t:all_seed=7[b];color=0xe0e0e0:s=20x40:r=10:d=12[w];\
                    [b][w]overlay=x='(t-6)*45-20':y=40:enable='between(t,6,10)'";
/// The same in labels.
const TRUTH: &str = "color=black:s=160x120:r=10:d=12[b];color=white:s=20x40:r=10:d=12[w];\
                     [b][w]overlay=x='(t-6)*45-20':y=40:enable='between(t,6,10)'";

fn ffmpeg(args: &[&str]) {
    let status = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-y"])
        .args(args)
        .status()
        .expect("ffmpeg is installed");
    assert!(status.success(), "{args:?}");
}

fn eval(dir: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sentrycam"))
        .args(["motion", "eval"])
        .arg(dir)
        .args(more)
        .output()
        .unwrap()
}

fn json(dir: &Path) -> Value {
    let out = eval(dir, &["--json"]);
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    serde_json::from_slice(&out.stdout).unwrap()
}

/// DIR/room with video and masks.
fn room(dir: &Path) {
    let room = dir.join("room");
    std::fs::create_dir(&room).unwrap();
    let file = |name: &str| room.join(name).to_str().unwrap().to_owned();
    let lossless = ["-c:v", "ffv1", "-pix_fmt"];
    ffmpeg(&[
        "-filter_complex",
        ROOM,
        lossless[0],
        lossless[1],
        lossless[2],
        "yuv420p",
        &file("input.mkv"),
    ]);
    ffmpeg(&[
        "-filter_complex",
        TRUTH,
        lossless[0],
        lossless[1],
        lossless[2],
        "gray",
        &file("gt.mkv"),
    ]);
    std::fs::write(
        room.join("meta.json"),
        r#"{ "file": "input.mkv", "score_range": [40, 118] }"#,
    )
    .unwrap();
    let events = r#"{ "duration": 12.0, "events": [{ "start": 6.1, "end": 9.9 }], "ignore": [] }"#;
    std::fs::write(room.join("events.json"), events).unwrap();
}

#[test]
fn a_body_that_was_drawn_is_found_pixel_by_pixel_and_as_one_event() {
    let dir = tempfile::tempdir().unwrap();
    room(dir.path());
    let report = json(dir.path());
    let pixels = &report["masks"]["sequences"]["room"];
    assert_eq!(
        (pixels["width"].as_u64(), pixels["frames"].as_u64()),
        (Some(160), Some(120))
    );
    for (what, least) in [("f", 0.8), ("recall", 0.8), ("precision", 0.7)] {
        let value = pixels[what].as_f64().unwrap();
        assert!((least..=1.0).contains(&value), "{what}: {pixels}");
        assert_eq!(report["masks"]["mean"][what], pixels[what]);
    }
    let events = &report["events"]["total"];
    assert_eq!(
        (events["events"].as_u64(), events["found"].as_u64()),
        (Some(1), Some(1)),
        "{events}"
    );
    assert_eq!(events["false_alarms"], 0, "{events}");
    assert!(events["median_late_s"].as_f64().unwrap() <= 0.5, "{events}");

    let table = eval(dir.path(), &["--sensitivity", "8"]);
    let text = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(
        text.contains("room") && text.contains("PRECISION") && text.contains("1 of 1"),
        "{text}"
    );
}

#[test]
fn cdnet_as_it_is_published_scores_like_the_same_pictures_in_one_file() {
    let dir = tempfile::tempdir().unwrap();
    room(dir.path());
    let video = json(dir.path())["masks"]["mean"]["f"].as_f64().unwrap();
    let source = dir.path().join("room");
    let images = tempfile::tempdir().unwrap();
    let target = images.path().join("baseline/room");
    for (from, folder, name) in [
        ("input.mkv", "input", "in%06d.jpg"),
        ("gt.mkv", "groundtruth", "gt%06d.png"),
    ] {
        std::fs::create_dir_all(target.join(folder)).unwrap();
        let (from, to) = (source.join(from), target.join(folder).join(name));
        ffmpeg(&[
            "-i",
            from.to_str().unwrap(),
            "-q:v",
            "2",
            to.to_str().unwrap(),
        ]);
    }
    std::fs::write(target.join("temporalROI.txt"), "41 119\n").unwrap();
    let report = json(images.path());
    let found = report["masks"]["sequences"]["room"]["f"].as_f64().unwrap();
    assert!((found - video).abs() < 0.06, "{found} against {video}");
    assert_eq!(report["events"]["total"], Value::Null);
}

#[test]
fn what_is_not_labelled_is_said_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let fails = |wanted: &str| {
        let out = eval(dir.path(), &[]);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(!out.status.success() && said.contains(wanted), "{said}");
    };
    fails("nothing labelled");
    std::fs::write(dir.path().join("events.json"), "{}").unwrap();
    fails("expected duration");
    std::fs::write(dir.path().join("events.json"), "{").unwrap();
    fails("no JSON");
}
