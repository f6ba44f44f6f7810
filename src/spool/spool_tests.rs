use super::whole::write_whole;
use super::*;

fn spool(dir: &Path, require_mount: bool) -> Result<Spool, SpoolError> {
    Spool::open(&SpoolConfig {
        dir: dir.to_owned(),
        require_mount,
        min_free: ByteSize(0),
    })
}

fn ids() -> (CameraId, RecordingId) {
    ("cam-1".parse().unwrap(), RecordingId(uuid::Uuid::now_v7()))
}

#[test]
fn files_are_named_by_camera_and_id_and_found_again() {
    let tmp = tempfile::tempdir().unwrap();
    let s = spool(&tmp.path().join("spool"), false).unwrap();
    let (cam, id) = ids();
    s.prepare(&cam).unwrap();
    let clip = s.clip_path(&cam, id);
    fs::write(part_of(&clip), b"12345").unwrap();
    fs::write(clip.with_file_name("notes.txt"), b"x").unwrap();
    write_whole(&s.picture_path(&cam, id), b"jpeg").unwrap();
    let mut found = s.scan().unwrap();
    found.sort_by_key(|f| f.bytes);
    let kinds: Vec<_> = found.iter().map(|f| (f.kind, f.id, f.bytes)).collect();
    assert_eq!(
        kinds,
        [
            (FileKind::Foreign, None, 1),
            (FileKind::Picture, Some(id), 4),
            (FileKind::Part, Some(id), 5)
        ]
    );
    assert!(found.iter().all(|f| f.camera.as_ref() == Some(&cam)));
    assert_eq!(s.remove(&cam, id).unwrap(), ByteSize(9));
    assert_eq!(s.remove(&cam, id).unwrap(), ByteSize(0));
    assert_eq!(s.scan().unwrap().len(), 1);
}

#[test]
fn a_missing_disk_is_refused_before_anything_is_created() {
    let tmp = tempfile::tempdir_in("/var").unwrap();
    let dir = tmp.path().join("spool");
    let on_root = fs::metadata(tmp.path()).unwrap().dev() == fs::metadata("/").unwrap().dev();
    let opened = spool(&dir, true);
    if on_root {
        let e = opened.unwrap_err();
        assert!(matches!(e, SpoolError::NotMounted { .. }));
        assert!(e.to_string().contains("require_mount"));
        assert!(!dir.exists());
    } else {
        opened.unwrap();
    }
    // /dev/shm is a mount of its own wherever Linux runs.
    let shm = tempfile::tempdir_in("/dev/shm").unwrap();
    spool(&shm.path().join("spool"), true).unwrap();
}

#[test]
fn space_is_told_in_bytes() {
    let tmp = tempfile::tempdir().unwrap();
    let space = spool(tmp.path(), false).unwrap().space().unwrap();
    assert!(space.total.0 > 1 << 20 && space.free <= space.total);
}

#[test]
fn only_names_that_the_agent_gives_are_its_own() {
    assert_eq!(classify("a.mp4").0, FileKind::Foreign);
    assert_eq!(classify("..mp4").0, FileKind::Foreign);
    let upper = "0191E0A4-0000-7000-8000-00000000000A.mp4";
    assert_eq!(classify(upper).0, FileKind::Foreign);
    assert_eq!(
        classify(&upper.to_lowercase().replace(".mp4", "")).0,
        FileKind::Foreign
    );
    assert_eq!(classify(&upper.to_lowercase()).0, FileKind::Clip);
}
