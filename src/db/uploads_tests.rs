use super::super::open::testing;
use super::super::recordings::{KeptFile, Opening, keep, mark, open};
use super::*;
use crate::model::{
    CameraId, Class as RecordClass, ClipState, RecordId, RecordMode, Severity, StreamInfo,
    VideoCodec,
};
use crate::time::Mono;

fn clip(conn: &Connection, run: &Run, n: u128, camera: &str, mode: RecordMode) -> FileId {
    let id = RecordingId(Uuid::from_u128(n));
    let camera: CameraId = camera.parse().unwrap();
    let info = StreamInfo {
        codec: VideoCodec::H264,
        width: 1,
        height: 1,
        fps: 1.0,
        has_audio: false,
    };
    let started = Mono(n as u64);
    open(
        conn,
        run,
        &camera,
        &Opening {
            id,
            event: None,
            started,
            mode,
            info,
            path: String::new(),
        },
    )
    .unwrap();
    let file = KeptFile {
        size_bytes: 10,
        duration_ms: 1,
        sha256: Sha256([n as u8; 32]),
        truncated: false,
    };
    keep(conn, id, &file).unwrap();
    FileId::Clip(id.0)
}

fn wants(list: &[(Option<&str>, &[What])]) -> Wants {
    list.iter()
        .map(|(c, w)| (c.map(str::to_owned), w.to_vec()))
        .collect()
}

fn due(conn: &Connection) -> Vec<u128> {
    waiting(conn)
        .unwrap()
        .iter()
        .map(|w| w.file.uuid().as_u128())
        .collect()
}

fn told(rev: u32) -> Record {
    Record {
        id: RecordId(Uuid::from_u128(rev.into())),
        kind: "recording.uploaded",
        class: RecordClass::Metadata,
        subject: None,
        severity: Severity::Info,
        at: Mono(1),
        data: serde_json::json!({ "rev": rev }),
    }
}

#[test]
fn policy_of_each_camera_says_what_waits() {
    let (_dir, conn, run) = testing::store();
    clip(&conn, &run, 1, "a", RecordMode::Motion);
    clip(&conn, &run, 2, "a", RecordMode::Continuous);
    clip(&conn, &run, 3, "b", RecordMode::Motion);
    clip(&conn, &run, 4, "b", RecordMode::Continuous);
    let events = [What::Motion, What::Manual, What::Picture];
    let changed = apply_policy(
        &conn,
        &wants(&[(None, &events), (Some("b"), &What::ALL)]),
        false,
    )
    .unwrap();
    assert_eq!((changed, due(&conn)), (1, vec![1, 3, 4]));
    apply_policy(&conn, &wants(&[(None, &[])]), false).unwrap();
    assert_eq!(due(&conn), []);
    assert_eq!(queue(&conn).unwrap().local_files, 4);
    // A wider policy brings them back, but not what failed for good.
    assert!(failed(&conn, FileId::Clip(Uuid::from_u128(1)), "changed").unwrap());
    assert!(
        !failed(&conn, FileId::Clip(Uuid::from_u128(1)), "changed").unwrap(),
        "it is told once"
    );
    apply_policy(&conn, &wants(&[(None, &events)]), true).unwrap();
    assert_eq!(due(&conn), [3]);
    // What a person asks for waits, unless nothing at all may leave.
    assert_eq!(
        ask(&conn, RecordingId(Uuid::from_u128(4))).unwrap(),
        Asked::Queued
    );
    apply_policy(&conn, &wants(&[(None, &[])]), true).unwrap();
    assert_eq!(due(&conn), []);
    apply_policy(&conn, &wants(&[(None, &[What::Manual])]), true).unwrap();
    assert_eq!(due(&conn), [4]);
    assert_eq!(waiting(&conn).unwrap()[0].place.class, Class::Asked);
    assert_eq!(
        ask(&conn, RecordingId(Uuid::from_u128(99))).unwrap(),
        Asked::Unknown
    );
}

#[test]
fn what_is_held_is_not_deleted_and_waits_again_after_a_crash() {
    let (_dir, conn, run) = testing::store();
    let file = clip(&conn, &run, 1, "a", RecordMode::Motion);
    assert!(hold(&conn, file).unwrap() && hold(&conn, file).unwrap());
    let why = crate::recording::retention::Why::Quota;
    assert_eq!(
        super::super::retention::delete(&conn, file, why).unwrap(),
        None
    );
    after_start(&conn).unwrap();
    assert!(
        super::super::retention::delete(&conn, file, why)
            .unwrap()
            .is_some()
    );
    assert!(!hold(&conn, file).unwrap(), "it is gone");
    let rows: i64 = conn
        .query_row("select count(*) from uploads", [], |r| r.get(0))
        .unwrap();
    assert_eq!(rows, 0, "and so is what was known of its upload");
}

#[test]
fn tags_belong_to_one_upload_and_bytes_to_a_day() {
    let (_dir, conn, run) = testing::store();
    let file = clip(&conn, &run, 1, "a", RecordMode::Motion);
    hold(&conn, file).unwrap();
    let (one, two) = (Uuid::from_u128(11), Uuid::from_u128(12));
    assert!(begun(&conn, file, one).unwrap().is_empty());
    sent(&conn, file, 7, "2026-11-21", Some((1, "\"a\""))).unwrap();
    sent(&conn, file, 5, "2026-11-21", None).unwrap();
    sent(&conn, file, 3, "2026-11-22", Some((2, "\"b\""))).unwrap();
    assert_eq!(
        begun(&conn, file, one).unwrap(),
        BTreeMap::from([(1, "\"a\"".into()), (2, "\"b\"".into())])
    );
    assert_eq!(
        (
            sent_on(&conn, "2026-11-21").unwrap(),
            sent_on(&conn, "2026-11-22").unwrap()
        ),
        (12, 3)
    );
    assert!(waiting(&conn).unwrap()[0].place.under_way);
    assert!(
        begun(&conn, file, two).unwrap().is_empty(),
        "another upload knows none of them"
    );
    release(&conn, file, true).unwrap();
    let again = &waiting(&conn).unwrap()[0];
    assert_eq!((again.attempts, again.upload_id), (1, None));
}

#[test]
fn the_end_is_told_once_with_a_new_revision() {
    let (_dir, conn, run) = testing::store();
    let file = clip(&conn, &run, 1, "a", RecordMode::Motion);
    hold(&conn, file).unwrap();
    done(&conn, &run, file, told).unwrap();
    done(&conn, &run, file, told).unwrap();
    let records: i64 = conn
        .query_row("select count(*) from outbox", [], |r| r.get(0))
        .unwrap();
    assert_eq!((records, due(&conn)), (1, vec![]));
    assert_eq!(
        ask(&conn, RecordingId(file.uuid())).unwrap(),
        Asked::Available
    );
    let lost = RecordingId(clip(&conn, &run, 2, "a", RecordMode::Motion).uuid());
    mark(&conn, lost, ClipState::Lost).unwrap();
    assert_eq!(ask(&conn, lost).unwrap(), Asked::Gone("lost".into()));
}

#[test]
fn the_oldest_is_seen_behind_any_number_of_new_ones() {
    let (_dir, conn, run) = testing::store();
    for n in 1..200 {
        clip(&conn, &run, n, "a", RecordMode::Motion);
    }
    let seen = due(&conn);
    assert!(
        seen.contains(&1) && seen.contains(&199) && seen.len() < 60,
        "{seen:?}"
    );
}
