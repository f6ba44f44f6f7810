//! A hundred names that lead elsewhere, at every door through which a name comes in: nothing outside of the roots is
//! read, written or removed.

use std::collections::BTreeMap;
use std::path::Path;

use sentrycam::command::Command;
use sentrycam::config::{Config, SpoolConfig};
use sentrycam::model::{CameraId, RecordingId, SnapshotId};
use sentrycam::spool::{FileKind, Spool};
use sentrycam::twin::{Secrets, compile};
use sentrycam::units::ByteSize;
use serde_json::json;
use uuid::Uuid;

/// Names that some layer would take for a way out of its directory, or for another name.
fn corpus() -> Vec<String> {
    let plain = [
        "..",
        ".",
        "../",
        "./",
        "/",
        "//",
        "~",
        "~root",
        "-",
        "-rf",
        "--",
        "*",
        "?",
        "a*",
        "{a,b}",
        "$HOME",
        "$(id)",
        "`id`",
        "|id",
        ";id",
        "a;b",
        "a&b",
        "a b",
        "a\tb",
        "a\nb",
        "a\rb",
        "\0",
        "a\0b",
        "cam-1\0.mp4",
        "cam-1/..",
        "cam-1/../..",
        "cam-1/.",
        "cam-1/",
        "/cam-1",
        "cam-1//x",
        "a/b",
        "a\\b",
        "\\",
        "\\\\host\\share",
        "C:",
        "C:\\x",
        "c:/x",
        "con.",
        "nul:",
        "file:///etc/passwd",
        "http://x/",
        "..%2f..%2fetc%2fpasswd",
        "%2e%2e/",
        "%2e%2e%2f",
        "..%252f",
        "..%c0%af",
        "..%ef%bc%8f",
        "%00",
        "..;/",
        "..\u{2215}etc",
        "..\u{2044}etc",
        "\u{ff0e}\u{ff0e}/",
        "\u{ff0e}\u{ff0e}\u{ff0f}",
        "\u{2025}",
        "\u{2024}\u{2024}/",
        "caf\u{e9}",
        "cafe\u{301}",
        "\u{202e}gpj",
        "\u{200b}",
        "\u{feff}cam",
        "cam\u{ad}",
        "CAM",
        "Cam-1",
        "cam_1",
        "cam.1",
        "cam:1",
        "cam@1",
        "cam#1",
        "cam+1",
        "cam=1",
        "cam,1",
        "cam'1",
        "cam\"1",
        "<cam>",
        "",
        " ",
        " cam",
        "cam ",
        "cam\u{a0}",
        "_diag",
        "lost+found",
        ".hidden",
        ".part",
        "a.mp4",
        "a.mp4.part",
    ];
    let mut corpus: Vec<String> = plain.map(String::from).to_vec();
    for depth in [1, 2, 8, 64] {
        corpus.push(format!("{}etc/passwd", "../".repeat(depth)));
        corpus.push(format!("{}etc\\passwd", "..\\".repeat(depth)));
    }
    corpus.push("x".repeat(33));
    corpus.push("x".repeat(4096));
    corpus.push(format!("{}/../x", Uuid::nil()));
    corpus.push(format!("{}.mp4/../../x", Uuid::nil()));
    corpus
}

#[test]
fn no_name_from_outside_becomes_a_way_out() {
    let corpus = corpus();
    assert!(corpus.len() >= 100, "{}", corpus.len());
    let local = Config::parse("", &|_| Err("no files".into())).unwrap();
    let id = Uuid::now_v7().to_string();
    for name in &corpus {
        assert!(name.parse::<CameraId>().is_err(), "{name:?}");
        assert!(name.parse::<RecordingId>().is_err(), "{name:?}");
        assert!(name.parse::<SnapshotId>().is_err(), "{name:?}");
        // What JSON escapes, TOML escapes alike.
        let file = format!("[[camera]]\nid = {}\ntest = true\n", json!(name));
        assert!(
            Config::parse(&file, &|_| Err(String::new())).is_err(),
            "{name:?}"
        );
        let twin = json!({ "cameras": [{ "id": name, "url": "rtsp://192.168.1.2/live" }] });
        let twin = compile(twin.as_object().unwrap(), &Secrets::default(), &local);
        assert!(twin.is_err(), "{name:?}");
        for (kind, args) in [
            (
                "snapshot",
                json!({ "camera_id": name, "snapshot_id": id, "max_width": 320 }),
            ),
            (
                "snapshot",
                json!({ "camera_id": "cam", "snapshot_id": name, "max_width": 320 }),
            ),
            (
                "recording.start",
                json!({ "camera_id": name, "recording_id": id, "max_duration_s": 5 }),
            ),
            (
                "recording.start",
                json!({ "camera_id": "cam", "recording_id": name, "max_duration_s": 5 }),
            ),
            ("recording.stop", json!({ "recording_id": name })),
            (
                "recording.lock",
                json!({ "recording_id": name, "locked": true }),
            ),
            ("recording.upload", json!({ "recording_id": name })),
        ] {
            assert!(Command::parse(kind, &args).is_err(), "{kind} {name:?}");
        }
    }
}

/// Names and lengths of everything below, links not followed.
fn tree(dir: &Path) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let meta = entry.metadata().unwrap();
        let path = entry.path();
        if meta.is_dir() {
            all.extend(tree(&path));
        }
        all.insert(path.display().to_string(), meta.len());
    }
    all
}

#[test]
fn what_lies_in_the_spool_under_any_name_leads_to_nothing_outside() {
    let home = tempfile::tempdir().unwrap();
    let outside = home.path().join("outside");
    std::fs::create_dir_all(outside.join("cam-2")).unwrap();
    let id = RecordingId(Uuid::now_v7());
    for name in [
        "passwd".to_owned(),
        format!("cam-2/{id}.mp4"),
        format!("{id}.mp4"),
    ] {
        std::fs::write(outside.join(name), b"precious").unwrap();
    }
    let before = tree(&outside);
    let dir = home.path().join("clips");
    let spool = Spool::new(&SpoolConfig {
        dir: dir.clone(),
        require_mount: false,
        min_free: ByteSize(0),
    });
    let camera: CameraId = "cam-1".parse().unwrap();
    let own = spool.prepare(&camera).unwrap();
    let mut made = 0;
    for name in corpus() {
        // What a file system takes as one name; the rest of the corpus is nobody's file.
        let one = !name.is_empty()
            && !name.contains(['/', '\0'])
            && name.len() < 256
            && name != "."
            && name != "..";
        if one && !own.join(&name).exists() {
            std::fs::write(own.join(&name), b"foreign").unwrap();
            made += 1;
        }
    }
    assert!(made > 50, "{made}");
    // Links out: of a file, of a camera's directory.
    let link = |to: &Path, at: &Path| std::os::unix::fs::symlink(to, at).unwrap();
    link(&outside.join("passwd"), &spool.clip_path(&camera, id));
    link(&outside.join("cam-2"), &dir.join("cam-2"));
    link(&outside, &dir.join("cam-3"));
    let found = spool.scan().unwrap();
    assert!(found.iter().all(|f| f.path.starts_with(&own)), "{found:?}");
    assert!(
        found.iter().all(|f| f.kind == FileKind::Foreign),
        "a link is no clip: {found:?}"
    );
    spool.remove(&camera, id).unwrap();
    spool.clear().unwrap();
    let kept = tree(&own).len();
    assert_eq!(kept, made, "what is not ours stays");
    assert_eq!(tree(&outside), before);
    assert!(spool.clip_path(&camera, id).starts_with(&own));
}
