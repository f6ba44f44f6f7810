//! Decode on demand, for real: a camera that is quiet and then moves.

use sentrycam_testcam::{Codec, Options, Picture, Scene, Source, TestCamera};
use serde_json::Value;

use crate::agent::{EXCLUDE_COUNTER, FPS, counters, kept};
use crate::running::Running;

const SCENE: Scene = Scene {
    quiet: 26,
    motion: 4,
};

fn decoded(status: &Value) -> Option<(f64, f64)> {
    let d = &status["cameras"]["a"]["decoding"];
    Some((d["decoded"].as_f64()?, d["packets"].as_f64()?))
}

#[test]
fn a_quiet_camera_is_decoded_at_its_key_frames_and_an_event_begins_where_it_began() {
    quiet_then_moving(None);
}

#[test]
fn a_quiet_sub_stream_is_decoded_at_its_key_frames_and_the_main_streams_event_begins_where_it_began()
 {
    quiet_then_moving(Some((320, 180)));
}

fn quiet_then_moving(sub: Option<(u32, u32)>) {
    let camera = TestCamera::start(Options {
        source: Source::Pattern(
            Picture {
                fps: FPS,
                gop: 2 * FPS,
                scene: SCENE,
                ..Picture::default()
            },
            Codec::H264,
        ),
        sub,
        ..Options::default()
    })
    .unwrap();
    let sub = sub.map(|_| format!("sub_url = \"{}\"\n", camera.sub_url()));
    let sub = sub.unwrap_or_default();
    let mut agent = Running::start(&format!(
        "[[camera]]\nid = \"a\"\nurl = \"{}\"\n{sub}[camera.recording]\npre_roll = \"3 s\"\npost_roll = \"2 s\"\n\
         [camera.motion]\n{EXCLUDE_COUNTER}",
        camera.url()
    ));
    let mode = |s: &Value, mode: &str| s["cameras"]["a"]["decoding"]["mode"] == mode;
    let mut begin = agent.wait(40, &["status"], "key frames alone are decoded", |s| {
        mode(s, "key frames").then(|| decoded(s)).flatten()
    });
    let table = agent.command(&["status"]).stdout;
    let table = String::from_utf8_lossy(&table).into_owned();
    assert!(table.contains("key frames"), "{table}");
    // One picture of 30, and one more where the window begins or ends. A look for nothing is allowed: it begins anew.
    let share = agent.wait(90, &["status"], "6 s of key frames alone", |s| {
        let now = decoded(s)?;
        let (fed, of) = (now.0 - begin.0, now.1 - begin.1);
        if !mode(s, "key frames") || fed > 0.08 * of + 1.0 {
            begin = now;
            return None;
        }
        (of >= 6.0 * f64::from(FPS)).then_some(fed / of)
    });
    assert!((0.01..=0.08).contains(&share), "{share}");
    let clip = agent.wait(90, &["clips"], "a clip is kept", |c| {
        kept(c).first().cloned()
    });
    let event = agent.wait(10, &["events"], "its event ended", |e| {
        let ended = |e: &&Value| e["id"] == clip["event"] && e["state"] == "ended";
        e.as_array()?.iter().find(ended).cloned()
    });
    let shown = counters(&agent.clip_path(&clip));
    let moving: Vec<usize> = (0..shown.len())
        .filter(|i| SCENE.moving(shown[*i], FPS))
        .collect();
    assert_eq!(
        moving.len() as u32,
        SCENE.motion * FPS,
        "the whole motion is in the clip: {shown:?}"
    );
    let at = |v: &Value| v.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let into = at(&event["started_at"]).duration_since(at(&clip["started_at"]));
    let error = into.as_secs_f64() - moving[0] as f64 / f64::from(FPS);
    assert!(
        error.abs() <= 0.3,
        "the start is wrong by {error} s: {event} {clip} {} of {shown:?}\n{}",
        moving[0],
        agent.log()
    );
    // Up to one GOP more to the key frame.
    let before = moving[0] as u32;
    assert!((3 * FPS - 5..=5 * FPS + 5).contains(&before), "{before}");
    agent.wait(40, &["status"], "key frames alone again", |s| {
        mode(s, "key frames").then_some(())
    });
    assert_eq!(agent.stop(), Some(0));
}

#[test]
fn a_camera_with_long_gops_or_that_wants_it_is_decoded_as_a_whole_and_says_so() {
    let camera = TestCamera::start(Options {
        source: Source::Pattern(
            Picture {
                fps: FPS,
                gop: 5 * FPS,
                scene: SCENE,
                ..Picture::default()
            },
            Codec::H264,
        ),
        ..Options::default()
    })
    .unwrap();
    let mut agent = Running::start(&format!(
        "[[camera]]\nid = \"a\"\nurl = \"{0}\"\n[camera.motion]\n{EXCLUDE_COUNTER}\n\
         [[camera]]\nid = \"b\"\nurl = \"{0}\"\n[camera.motion]\ndecode = \"all\"\n{EXCLUDE_COUNTER}",
        camera.url()
    ));
    let (done, all) = agent.wait(60, &["status"], "20 s of it", |s| {
        decoded(s).filter(|d| d.1 >= 20.0 * f64::from(FPS))
    });
    let status = agent.ask(&["status"]);
    let mode = &status["cameras"]["a"]["decoding"]["mode"];
    assert_eq!(mode, "all: key frames too far apart");
    assert_eq!(status["cameras"]["b"]["decoding"]["mode"], "all");
    // Of each GOP what follows its last chosen picture is spared, as ever.
    assert!(done / all > 0.8, "{done} of {all}");
    assert_eq!(agent.stop(), Some(0));
}
