//! Which commands are read, and which are refused.

use super::*;
use serde_json::json;

const ID: &str = "019af5d8-7a00-7000-8000-0000000000d1";

#[test]
fn every_type_reads_its_arguments() {
    for (word, args) in [
        (
            "recording.start",
            json!({ "camera_id": "c", "recording_id": ID, "max_duration_s": 60 }),
        ),
        (
            "recording.start",
            json!({ "camera_id": "c", "recording_id": ID, "max_duration_s": 3600, "event_id": ID }),
        ),
        ("recording.stop", json!({ "recording_id": ID })),
        ("recording.lock", json!({ "recording_id": ID })),
        ("recording.unlock", json!({ "recording_id": ID })),
        ("snapshot", json!({ "camera_id": "c", "snapshot_id": ID })),
        (
            "snapshot",
            json!({ "camera_id": "c", "snapshot_id": ID, "max_width": 64 }),
        ),
        ("twin.refresh", json!({})),
        ("sync.now", json!({})),
        ("reboot", json!({})),
        ("reboot", json!({ "delay_s": 300 })),
        ("key.rotate", json!({})),
        ("unclaim", json!({ "wipe": "all" })),
        ("diag.collect", json!({ "parts": ["log", "db"] })),
        ("diag.collect", json!({})),
    ] {
        let command = Command::parse(word, &args).unwrap();
        assert_eq!(command.kind().as_str(), word);
        assert_eq!(Kind::from_word(word), Some(command.kind()));
    }
}

#[test]
fn unknown_types_and_fields_are_unsupported_and_bad_values_are_args() {
    for (word, args, code) in [
        ("exec", json!({ "cmd": "id" }), "unsupported"),
        ("firmware.update", json!({}), "unsupported"),
        ("stream.start", json!({}), "args"),
        ("Reboot", json!({}), "unsupported"),
        (
            "reboot",
            json!({ "delay_s": 1, "force": true }),
            "unsupported",
        ),
        ("sync.now", json!({ "x": 1 }), "unsupported"),
        ("sync.now", json!([1]), "args"),
        ("sync.now", json!(null), "args"),
        ("reboot", json!({ "delay_s": 301 }), "args"),
        ("reboot", json!({ "delay_s": -1 }), "args"),
        ("reboot", json!({ "delay_s": 1.5 }), "args"),
        ("reboot", json!({ "delay_s": "1" }), "args"),
        (
            "snapshot",
            json!({ "camera_id": "../etc", "snapshot_id": ID }),
            "args",
        ),
        (
            "snapshot",
            json!({ "camera_id": "c", "snapshot_id": "../x" }),
            "args",
        ),
        (
            "snapshot",
            json!({ "camera_id": "c", "snapshot_id": ID, "max_width": 63 }),
            "args",
        ),
        (
            "snapshot",
            json!({ "camera_id": "c", "snapshot_id": ID, "max_width": 3841 }),
            "args",
        ),
        (
            "snapshot",
            json!({ "camera_id": "c", "snapshot_id": ID, "quality": 101 }),
            "args",
        ),
        (
            "recording.start",
            json!({ "camera_id": "c", "recording_id": ID, "max_duration_s": 0 }),
            "args",
        ),
        (
            "recording.start",
            json!({ "camera_id": "c", "recording_id": ID }),
            "args",
        ),
        ("unclaim", json!({ "wipe": "everything" }), "args"),
        ("unclaim", json!({}), "args"),
        ("diag.collect", json!({ "parts": ["shadow"] }), "args"),
        ("diag.collect", json!({ "parts": [] }), "args"),
        (
            "diag.collect",
            json!({ "parts": ["log","log","log","log","log","log","log","log","log"] }),
            "args",
        ),
    ] {
        let refused = Command::parse(word, &args).unwrap_err();
        assert_eq!(refused.code, code, "{word} {args}: {}", refused.detail);
        assert!(!refused.detail.is_empty() && refused.detail.len() <= 512);
    }
}
