//! Quotas on the whole agent: what goes and in which order, what never goes, that every deletion is told, and that a kill
//! anywhere in a deletion leaves no lie.

use std::path::{Path, PathBuf};

use sentrycam::db::recordings::{self, KeptFile, Opening};
use sentrycam::db::{self, IdSource, Urgency, open, schema};
use sentrycam::model::{BootId, CameraId, RecordMode, RecordingId, Sha256, StreamInfo, VideoCodec};
use sentrycam::outbox::quota::Quotas;
use sentrycam::supervise::failpoint;
use sentrycam::time::{Mono, TimeQuality, Wall};
use sentrycam::wire::envelope::BootClock;
use sentrycam_testcam::{Scene, TestCamera};
use serde_json::Value;
use uuid::Uuid;

use crate::agent::{kept, pattern};
use crate::fixture::{ffprobe, wait_until};
use crate::running::Running;

const MIB: u64 = 1 << 20;

/// A clip of an earlier boot, made up: row and file.
pub struct Old {
    pub id: RecordingId,
    pub file: PathBuf,
}

/// Makes up clips of `bytes` each, oldest first.
pub fn old_clips(state_dir: &Path, spool: &Path, bytes: u64, count: u64) -> Vec<Old> {
    let ids: IdSource = std::sync::Arc::new(Uuid::now_v7);
    let options = open::Options {
        dir: state_dir.to_owned(),
        boot: BootId(Uuid::now_v7()),
        clock: BootClock {
            offset_us: 0,
            quality: TimeQuality::None,
        },
        now: Wall(0),
        quotas: Quotas::default(),
        ids,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap();
    let (db, closer, _) = open::open(options, runtime.handle().clone()).unwrap();
    let camera: CameraId = "a".parse().unwrap();
    std::fs::create_dir_all(spool.join("a")).unwrap();
    let made = (0..count).map(|n| {
        let id = RecordingId(Uuid::now_v7());
        let path = format!("a/{id}.mp4");
        let file = spool.join(&path);
        std::fs::write(&file, vec![n as u8; bytes as usize]).unwrap();
        let (opening, camera) = (opening(id, path, n), camera.clone());
        let row = db.call(Urgency::Now, move |c, run| {
            recordings::open(c, run, &camera, &opening)?;
            let file = KeptFile {
                size_bytes: bytes,
                duration_ms: 5000,
                sha256: Sha256([0; 32]),
                truncated: false,
            };
            recordings::keep(c, id, &file)
        });
        runtime.block_on(row).unwrap();
        Old { id, file }
    });
    let made = made.collect();
    drop(db);
    closer.close().unwrap();
    made
}

fn opening(id: RecordingId, path: String, n: u64) -> Opening {
    Opening {
        id,
        event: None,
        started: Mono(n * 1_000_000_000),
        mode: RecordMode::Continuous,
        info: StreamInfo {
            codec: VideoCodec::H264,
            width: 640,
            height: 360,
            fps: 15.0,
            has_audio: false,
        },
        path,
    }
}

fn set(state_dir: &Path, clip: &Old, change: &str) {
    let conn = schema::open_writer(&state_dir.join(db::FILE_NAME)).unwrap();
    let sql = format!("update recordings set {change} where id = ?1");
    assert_eq!(conn.execute(&sql, [clip.id.0]).unwrap(), 1);
}

/// Bytes of all files below a directory.
fn used(dir: &Path) -> u64 {
    let mut sum = 0;
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(meta) = entry.metadata() else { continue };
        sum += if meta.is_dir() {
            used(&entry.path())
        } else {
            meta.len()
        };
    }
    sum
}

fn quiet() -> TestCamera {
    TestCamera::start(pattern(Scene {
        quiet: 60,
        motion: 1,
    }))
    .unwrap()
}

fn continuous(camera: &TestCamera, more: &str) -> String {
    format!(
        "{more}\n[[camera]]\nid = \"a\"\nurl = \"{}\"\n[camera.recording]\nmode = \"continuous\"\nsegment = \"5 s\"\n\
         [camera.motion]\nenabled = false\n",
        camera.url()
    )
}

#[test]
fn the_quota_holds_what_is_locked_stays_and_every_deletion_is_told() {
    let camera = quiet();
    let mut agent = Running::prepare(&continuous(
        &camera,
        "[spool]\nmin_free = \"1 MiB\"\n[retention]\nquota = \"8 MiB\"",
    ));
    let spool = agent.state_dir().join("clips");
    let old = old_clips(&agent.state_dir(), &spool, 2 * MIB, 8);
    set(&agent.state_dir(), &old[0], "locked = 1");
    set(&agent.state_dir(), &old[1], "upload = 'uploading'");
    set(&agent.state_dir(), &old[6], "upload = 'uploaded'");
    agent.launch(&[]);
    // 16 MiB are there, 8 may be: without a cloud the oldest go, but for the one that is held. What was being uploaded when
    // the last run ended is not any more.
    agent.wait(20, &["status"], "the quota is met", |s| {
        (s["storage"]["used_bytes"].as_u64()? <= 8 * MIB).then_some(())
    });
    let there: Vec<bool> = old.iter().map(|o| o.file.exists()).collect();
    // The uploaded one went first; then the oldest that may go.
    let gone = [1, 2, 3, 6].iter().any(|i| there[*i]);
    // A growing segment may have cost the next one by now.
    assert!(there[0] && there[5] && there[7] && !gone, "{there:?}");
    agent.wait(60, &["clips"], "two new segments", |c| {
        let made = |c: &&Value| c["state"] == "kept" && c["duration_s"] != 5.0;
        (c.as_array()?.iter().filter(made).count() >= 2).then_some(())
    });
    let most = 8 * MIB + 2 * MIB;
    assert!(used(&spool) <= most, "{} bytes are kept", used(&spool));
    let clips = agent.ask(&["clips", "-n", "100"]);
    let deleted: Vec<&Value> = clips
        .as_array()
        .unwrap()
        .iter()
        .filter(|c| c["state"] == "deleted")
        .collect();
    assert!(
        deleted.len() >= 4 && deleted.iter().all(|c| c["deleted_why"] == "quota"),
        "{deleted:?}"
    );
    let told: Vec<Value> = agent
        .ask(&["outbox", "ls", "-n", "1000"])
        .as_array()
        .unwrap()
        .iter()
        .filter(|r| r["kind"] == "recording.deleted.v1")
        .cloned()
        .collect();
    // Asked later: what goes meanwhile is told, too.
    assert!(told.len() >= deleted.len(), "{} told", told.len());
    assert!(told.iter().all(|r| r["body"]["data"]["reason"] == "quota"));
    let status = String::from_utf8(agent.command(&["status"]).stdout).unwrap();
    assert!(
        status.contains("of 8 MiB") && status.contains("for quota"),
        "{status}"
    );

    // It may go once it is unlocked, and then it is the first to go.
    assert!(old[0].file.exists());
    let (locked, unlocked) = (old[7].id.to_string(), old[0].id.to_string());
    assert!(agent.command(&["clips", "lock", &locked]).status.success());
    assert!(
        agent
            .command(&["clips", "unlock", &unlocked])
            .status
            .success()
    );
    wait_until(60, "the unlocked one goes", || !old[0].file.exists());
    assert!(old[7].file.exists());
    let gone = agent.command(&["clips", "lock", &unlocked]);
    assert!(
        String::from_utf8_lossy(&gone.stderr).contains("is deleted already"),
        "{gone:?}"
    );
    assert_eq!(agent.stop(), Some(0));
    for clip in kept(&clips).iter().filter(|c| c["duration_s"] != 5.0) {
        let path = agent.clip_path(clip);
        assert!(!path.exists() || ffprobe(&path).frames > 0);
    }
}

#[test]
fn a_full_disk_is_emptied_before_recording_stops() {
    let Some(disk) = crate::disk_faults::Tmpfs::mount("size=48m") else {
        return;
    };
    let camera = quiet();
    let mut agent = Running::prepare(&continuous(
        &camera,
        &format!(
            "[spool]\ndir = \"{}\"\nmin_free = \"24 MiB\"\n[retention]\nquota = \"off\"",
            disk.path().display()
        ),
    ));
    let old = old_clips(&agent.state_dir(), disk.path(), 4 * MIB, 8);
    agent.launch(&[]);
    agent.wait(30, &["clips"], "a new segment", |c| {
        kept(c).iter().find(|c| c["duration_s"] != 5.0).map(|_| ())
    });
    assert!(!old[0].file.exists() && old[7].file.exists());
    let status = agent.ask(&["status"]);
    assert!(
        status["storage"]["deleted"]["space"]["files"].as_u64() > Some(0),
        "{status}"
    );
    agent.wait(30, &["status"], "the disk is well again", |s| {
        (s["storage"]["state"] == "ok").then_some(())
    });
    assert_eq!(agent.stop(), Some(0));
}

#[test]
fn a_kill_anywhere_in_a_deletion_leaves_no_lie() {
    for place in ["janitor.decided", "janitor.removed"] {
        let mut agent =
            Running::prepare("[retention]\nquota = \"8 MiB\"\n[spool]\nmin_free = \"1 MiB\"\n");
        let spool = agent.state_dir().join("clips");
        let old = old_clips(&agent.state_dir(), &spool, 2 * MIB, 7);
        agent.launch(&[(failpoint::VARIABLE, place)]);
        wait_until(20, "it is killed in the middle", || !agent.runs());
        let there = |n: usize| old[..n].iter().filter(|o| o.file.exists()).count();
        let expected = if place == "janitor.decided" { 3 } else { 0 };
        assert_eq!(there(3), expected, "{place}");
        agent.launch(&[]);
        agent.wait(20, &["status"], "what was begun is ended", |_| {
            (there(3) == 0).then_some(())
        });
        agent.wait(20, &["status"], "the janitor has looked", |s| {
            s["storage"]["used_bytes"].as_u64()
        });
        assert_eq!(agent.stop(), Some(0));
        assert_eq!(there(7), 4, "{place}: nothing more went");
        let deleted = |list: &Value, key: &str, word: &str| {
            list.as_array()
                .unwrap()
                .iter()
                .filter(|v| v[key] == word)
                .count()
        };
        assert_eq!(deleted(&agent.ask(&["clips"]), "state", "deleted"), 3);
        let told = agent.ask(&["outbox", "ls", "-n", "1000"]);
        assert_eq!(
            deleted(&told, "kind", "recording.deleted.v1"),
            3,
            "each is told once"
        );
        let check = agent.command(&["db", "check", "--json"]);
        let report: Value = serde_json::from_slice(&check.stdout).unwrap();
        assert_eq!(report["sound"], true, "{report}");
    }
}
