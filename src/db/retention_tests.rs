use super::super::open::testing;
use super::super::recordings::{KeptFile, Opening, find, keep, open};
use super::*;
use crate::model::{ClipState, RecordMode, Sha256, StreamInfo, VideoCodec};

fn id(n: u128) -> RecordingId {
    RecordingId(Uuid::from_u128(n))
}

fn clip(conn: &Connection, run: &Run, n: u128, mode: RecordMode, bytes: Option<u64>) {
    let camera: CameraId = "a".parse().unwrap();
    let opening = Opening {
        id: id(n),
        event: None,
        started: Mono(n as u64 * 1_000_000_000),
        mode,
        info: StreamInfo {
            codec: VideoCodec::H264,
            width: 640,
            height: 360,
            fps: 15.0,
            has_audio: false,
        },
        path: format!("a/{}.mp4", id(n)),
    };
    open(conn, run, &camera, &opening).unwrap();
    if let Some(size_bytes) = bytes {
        let file = KeptFile {
            size_bytes,
            duration_ms: 1000,
            sha256: Sha256([0; 32]),
            truncated: false,
        };
        keep(conn, id(n), &file).unwrap();
    }
}

fn set(conn: &Connection, n: u128, change: &str) {
    conn.execute(
        &format!("update recordings set {change} where id = ?1"),
        params![id(n).0],
    )
    .unwrap();
}

fn picture(conn: &Connection, run: &Run, n: u128) {
    conn.execute(
        "insert into snapshots (id, camera_id, boot, taken_ns, state, width, height, path, size_bytes, sha256, rev)
         values (?1, 'a', ?2, ?3, 'kept', 1, 1, 'a/x.jpg', 7, zeroblob(32), 1)",
        params![id(n).0, run.boot, n as i64 * 1_000_000_000],
    )
    .unwrap();
}

fn order(conn: &Connection, uploads: bool) -> Vec<u128> {
    let found = candidates(conn, None, uploads, 100).unwrap();
    found.iter().map(|i| i.key.uuid().as_u128()).collect()
}

#[test]
fn the_order_of_deletion_is_by_upload_importance_and_time_and_holds_are_left_out() {
    let (_dir, conn, run) = testing::store();
    for (n, mode) in [
        (1, RecordMode::Manual),
        (2, RecordMode::Motion),
        (3, RecordMode::Continuous),
        (4, RecordMode::Continuous),
        (5, RecordMode::Motion),
        (6, RecordMode::Motion),
        (8, RecordMode::Motion),
        (9, RecordMode::Motion),
    ] {
        clip(&conn, &run, n, mode, Some(100));
    }
    clip(&conn, &run, 10, RecordMode::Motion, None);
    picture(&conn, &run, 7);
    set(&conn, 5, "upload = 'local'");
    set(&conn, 6, "upload = 'uploaded'");
    set(&conn, 8, "locked = 1");
    set(&conn, 9, "upload = 'uploading'");
    assert_eq!(order(&conn, true), [6, 5, 3, 4, 7, 2, 1]);
    assert_eq!(
        order(&conn, false),
        [6, 1, 2, 3, 4, 5, 7],
        "without a cloud only age decides"
    );
    let usage = used(&conn).unwrap();
    assert_eq!(usage.cameras["a"], 807);
    assert_eq!(usage.deletable, 607);
    let growing = open_clips(&conn).unwrap();
    assert_eq!((growing[0].id, growing[0].usual), (id(10), 100));
}

#[test]
fn a_deleted_row_is_garbage_until_its_file_is_gone_and_what_is_held_stays() {
    let (_dir, conn, run) = testing::store();
    for n in 1..4 {
        clip(&conn, &run, n, RecordMode::Motion, Some(100));
    }
    set(&conn, 2, "locked = 1");
    set(&conn, 3, "upload = 'uploading'");
    let gone = FileId::Clip(id(1).0);
    assert_eq!(delete(&conn, gone, Why::Quota).unwrap(), Some(3));
    assert_eq!(delete(&conn, gone, Why::Quota).unwrap(), None, "only once");
    assert_eq!(
        delete(&conn, FileId::Clip(id(2).0), Why::Age).unwrap(),
        None
    );
    assert_eq!(
        delete(&conn, FileId::Clip(id(3).0), Why::Space).unwrap(),
        None
    );
    assert_eq!(garbage(&conn, 9).unwrap(), [(gone, "a".to_owned())]);
    swept(&conn, gone).unwrap();
    assert_eq!(garbage(&conn, 9).unwrap(), []);
    assert_eq!(
        find(&conn, id(1)).unwrap().unwrap().state,
        ClipState::Deleted.as_str()
    );
}

#[test]
fn a_lock_needs_a_clip_and_comes_off_again() {
    let (_dir, conn, run) = testing::store();
    clip(&conn, &run, 1, RecordMode::Motion, Some(100));
    assert_eq!(lock(&conn, id(1), true).unwrap().as_deref(), Some("kept"));
    assert_eq!(order(&conn, true), Vec::<u128>::new());
    assert_eq!(lock(&conn, id(1), false).unwrap().as_deref(), Some("kept"));
    assert_eq!(order(&conn, true), [1]);
    assert_eq!(lock(&conn, id(2), true).unwrap(), None);
    delete(&conn, FileId::Clip(id(1).0), Why::Quota).unwrap();
    assert_eq!(
        lock(&conn, id(1), true).unwrap().as_deref(),
        Some("deleted")
    );
}

#[test]
fn age_is_that_of_boots_whose_time_is_known() {
    let (_dir, conn, run) = testing::store();
    clip(&conn, &run, 1, RecordMode::Motion, Some(100));
    clip(&conn, &run, 50, RecordMode::Motion, Some(100));
    let hour = Duration::from_secs(3600);
    let now = Wall(100_000_000) + hour;
    let old =
        |conn: &Connection| too_old(conn, now, hour + Duration::from_secs(60), true, 9).unwrap();
    assert_eq!(old(&conn), []);
    conn.execute("update boots set quality = 2, offset_us = 0", [])
        .unwrap();
    let found = old(&conn);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].key, FileId::Clip(id(1).0));
    assert_eq!(found[0].age, Some(hour + Duration::from_secs(99)));
}

#[test]
fn the_oldest_rows_of_what_is_gone_are_forgotten_but_no_garbage() {
    let (_dir, conn, run) = testing::store();
    for n in 1..6 {
        clip(&conn, &run, n, RecordMode::Motion, Some(100));
        delete(&conn, FileId::Clip(id(n).0), Why::Quota).unwrap();
        if n != 1 {
            swept(&conn, FileId::Clip(id(n).0)).unwrap();
        }
    }
    assert_eq!(forget(&conn, 2).unwrap(), 2);
    let left: Vec<bool> = (1..6)
        .map(|n| find(&conn, id(n)).unwrap().is_some())
        .collect();
    assert_eq!(left, [true, false, false, true, true]);
}

#[test]
fn adopted_files_come_before_everything_else() {
    let (_dir, conn, run) = testing::store();
    let boot = adopt_boot(&conn).unwrap();
    assert_eq!(adopt_boot(&conn).unwrap(), boot);
    assert!(boot < run.boot);
}

#[test]
fn what_runs_at_every_pass_does_not_scan_the_tables() {
    let (_dir, conn, _run) = testing::store();
    for sql in [
        USED,
        "select id from recordings where garbage = 1",
        "select id from snapshots where garbage = 1",
        "select id from recordings where state in ('lost', 'deleted') and garbage = 0
         order by boot desc, started_ns desc limit 256 offset 5",
    ] {
        let mut stmt = conn.prepare(&format!("explain query plan {sql}")).unwrap();
        let plan: Vec<String> = stmt
            .query_map([], |r| r.get(3))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        let scans = plan
            .iter()
            .filter(|s| s.starts_with("SCAN") && !s.contains("INDEX"));
        assert_eq!(scans.count(), 0, "{sql}: {plan:?}");
    }
}
