//! `db check`: what it finds, what `--repair` makes of it, and that a lost database costs no clip.

use std::path::{Path, PathBuf};

use sentrycam::db::{FILE_NAME, schema};
use sentrycam::time::Wall;
use sentrycam_testcam::{Scene, TestCamera};
use serde_json::Value;

use crate::agent::{kept, pattern};
use crate::fixture::ffprobe;
use crate::running::Running;

fn config(camera: &TestCamera) -> String {
    format!(
        "[spool]\nmin_free = \"1 MiB\"\n[[camera]]\nid = \"a\"\nurl = \"{}\"\n[camera.recording]\nmode = \"continuous\"\n\
         segment = \"5 s\"\n[camera.motion]\nenabled = false\n",
        camera.url()
    )
}

/// An agent that has recorded three segments or more, and has ended.
fn recorded() -> (Running, Vec<Value>) {
    let camera = TestCamera::start(pattern(Scene {
        quiet: 60,
        motion: 1,
    }))
    .unwrap();
    let mut agent = Running::start(&config(&camera));
    agent.wait(60, &["clips"], "two segments", |c| {
        (kept(c).len() >= 2).then_some(())
    });
    assert_eq!(agent.stop(), Some(0));
    let clips = kept(&agent.ask(&["clips"]));
    assert!(clips.len() >= 3);
    (agent, clips)
}

/// The exit code and the report.
pub fn check(agent: &Running, more: &[&str]) -> (i32, Value) {
    let out = agent.command(&[&["db", "check", "--json"], more].concat());
    let report = serde_json::from_slice(&out.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&out.stderr)));
    (out.status.code().unwrap(), report)
}

pub fn findings(report: &Value) -> Vec<&str> {
    let mut found: Vec<&str> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f["finding"].as_str().unwrap())
        .collect();
    found.sort_unstable();
    found
}

fn lose_database(state_dir: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(state_dir.join(format!("{FILE_NAME}{suffix}")));
    }
}

fn ms(clip: &Value) -> i64 {
    let at = Wall::parse_rfc3339(clip["started_at"].as_str().unwrap());
    at.unwrap().0 / 1000
}

#[test]
fn a_sound_store_is_sound_and_each_disagreement_is_found_and_put_in_order() {
    let (agent, clips) = recorded();
    assert_eq!(check(&agent, &[]).0, 0);
    let path = |n: usize| -> PathBuf { agent.clip_path(&clips[n]) };

    // A file that is gone; one that was cut; one whose name nobody knows; rubbish; somebody else's.
    let dir = path(0).parent().unwrap().to_owned();
    std::fs::remove_file(path(0)).unwrap();
    let other = dir.join("019af5d8-7a00-7000-8000-0000000000d1.mp4");
    std::fs::copy(path(2), &other).unwrap();
    let cut = std::fs::File::options().write(true).open(path(1)).unwrap();
    let length = cut.metadata().unwrap().len();
    cut.set_len(length / 2).unwrap();
    let rubbish = dir.join("019af5d8-7a00-7000-8000-0000000000d2.mp4.part");
    std::fs::write(&rubbish, b"no clip").unwrap();
    let lost = "update recordings set state = 'lost' where path = ?1";
    let conn = schema::open_writer(&agent.state_dir().join(FILE_NAME)).unwrap();
    assert_eq!(
        conn.execute(lost, [clips[2]["path"].as_str().unwrap()])
            .unwrap(),
        1
    );
    drop(conn);
    let theirs = dir.join("holiday.mp4");
    std::fs::write(&theirs, b"theirs").unwrap();

    let (code, report) = check(&agent, &[]);
    assert_eq!(code, 1);
    assert_eq!(
        findings(&report),
        [
            "file_without_row",
            "file_without_row",
            "found_again",
            "other_length",
            "row_without_file"
        ],
        "{report}"
    );
    assert_eq!(report["foreign_files"], 1);
    let (code, report) = check(&agent, &["--repair"]);
    assert_eq!(code, 0, "{report}");
    assert_eq!(report["repaired"]["failed"], 0);
    assert_eq!(report["repaired"]["adopted"], 1);
    assert!(theirs.exists() && !rubbish.exists() && other.exists());
    let after = agent.ask(&["clips"]);
    let state = |id: &str| {
        let clip = after.as_array().unwrap().iter().find(|c| c["id"] == id);
        clip.map_or("-".into(), |c| c["state"].as_str().unwrap().to_owned())
    };
    assert_eq!(state(clips[0]["id"].as_str().unwrap()), "lost");
    assert_eq!(state("019af5d8-7a00-7000-8000-0000000000d1"), "kept");
    assert_eq!(state(clips[2]["id"].as_str().unwrap()), "kept");
    for clip in kept(&after) {
        let probe = ffprobe(&agent.clip_path(&clip));
        assert!(probe.frames > 0, "{clip}");
    }
    assert_eq!(
        check(&agent, &["--repair"]).0,
        0,
        "once more changes nothing"
    );
}

#[test]
fn a_lost_database_costs_no_clip() {
    let (agent, before) = recorded();
    lose_database(&agent.state_dir());
    let (code, report) = check(&agent, &[]);
    assert_eq!((code, report["database"].as_str()), (1, Some("not there")));
    let (code, report) = check(&agent, &["--repair"]);
    assert_eq!(code, 0, "{report}");
    assert_eq!(report["repaired"]["adopted"], before.len());
    same(&before, &kept(&agent.ask(&["clips"])));
}

#[test]
fn an_agent_that_finds_no_database_adopts_the_clips_itself() {
    let (mut agent, before) = recorded();
    lose_database(&agent.state_dir());
    agent.launch(&[]);
    let clips = agent.wait(
        40,
        &["clips", "-n", "1000"],
        "the clips are there again",
        |c| {
            let kept = kept(c);
            before
                .iter()
                .all(|b| kept.iter().any(|k| k["id"] == b["id"]))
                .then_some(kept)
        },
    );
    let again: Vec<Value> = clips
        .into_iter()
        .filter(|k| before.iter().any(|b| b["id"] == k["id"]))
        .collect();
    same(&before, &again);
    let told = agent.ask(&["outbox", "ls", "-n", "1000"]);
    let closed = |r: &&Value| r["kind"] == "recording.closed.v1";
    assert!(told.as_array().unwrap().iter().filter(closed).count() >= before.len());
    assert_eq!(agent.stop(), Some(0));
}

/// The same clips in the same order, as far as files can tell.
fn same(before: &[Value], after: &[Value]) {
    assert_eq!(before.len(), after.len());
    for (b, a) in before.iter().zip(after) {
        for key in ["id", "camera", "path", "size_bytes", "format", "state"] {
            assert_eq!(b[key], a[key], "{key}");
        }
        let (was, is) = (
            b["duration_s"].as_f64().unwrap(),
            a["duration_s"].as_f64().unwrap(),
        );
        assert!((was - is).abs() < 0.2, "{was} s became {is} s");
        assert!(
            (ms(b) - ms(a)).abs() < 2500,
            "{} became {}",
            b["started_at"],
            a["started_at"]
        );
    }
}

#[test]
fn a_damaged_database_is_salvaged_and_what_was_lost_of_it_is_rebuilt() {
    let (agent, before) = recorded();
    let path = agent.state_dir().join(FILE_NAME);
    let length = std::fs::metadata(&path).unwrap().len();
    std::fs::write(&path, vec![0x5a; length as usize]).unwrap();
    let (code, report) = check(&agent, &[]);
    assert_eq!(code, 1, "{report}");
    let (code, report) = check(&agent, &["--repair"]);
    assert_eq!(code, 0, "{report}");
    assert_eq!(kept(&agent.ask(&["clips"])).len(), before.len());
}

#[test]
fn nothing_is_repaired_under_a_running_agent() {
    let (mut agent, _) = recorded();
    agent.launch(&[]);
    agent.wait(20, &["status"], "it runs", |s| s["pid"].as_u64());
    let out = agent.command(&["db", "check", "--repair"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&out.stderr).contains("stop it first"));
    let (code, report) = check(&agent, &[]);
    assert_eq!(
        (code, &report["agent_runs"]),
        (0, &Value::Bool(true)),
        "{report}"
    );
    let second = agent.command(&["run"]);
    assert_eq!(second.status.code(), Some(1), "one agent at a time");
    assert!(agent.runs());
    assert_eq!(agent.stop(), Some(0));
}
