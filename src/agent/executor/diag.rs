//! `diag.collect`: what helps to find a fault, in one file of at most 5 MiB, without secrets.
//!
//! Status, configuration, log and database have no secrets in them to begin with; addresses lose user and password once
//! more on the way out.

use std::io::Write as _;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Map, Value, json};

use super::{Done, Executor, Fault, Hands, fault};
use crate::command::kinds::Part;
use crate::config::redacted;
use crate::db::{commands, open, outbox, schema};
use crate::model::{CommandId, Sha256};
use crate::spool::DIAG_DIR as DIR;
use crate::spool::whole::write_whole;
use crate::supervise::log_tail;

/// A bundle, packed and unpacked.
const MAX_BYTES: usize = 5 << 20;
/// Bundles kept.
const KEPT: usize = 4;

/// Collects the parts into `<spool>/_diag/<command>.json.gz`.
pub(super) async fn collect(
    hands: &Hands,
    executor: &Executor,
    id: CommandId,
    parts: &[Part],
) -> Result<Done, Fault> {
    let mut bundle = Map::new();
    bundle.insert("version".into(), json!(env!("CARGO_PKG_VERSION")));
    bundle.insert("made_at".into(), json!(executor.time.wall().rfc3339()));
    let mut names = Vec::new();
    let db = executor.db.path().to_owned();
    for part in Part::ALL.into_iter().filter(|p| parts.contains(p)) {
        let (name, value) = match part {
            Part::Status => ("status", json!(hands.status.snapshot(executor.time.mono()))),
            Part::Config => ("config", (hands.config)()),
            Part::Log => ("log", json!(log_tail::lines())),
            Part::Db => {
                let path = db.clone();
                let look = tokio::task::spawn_blocking(move || database(&path));
                ("db", look.await.unwrap_or_else(|e| json!(e.to_string())))
            }
        };
        names.push(name);
        bundle.insert(name.into(), value);
    }
    let mut bundle = Value::Object(bundle);
    redact(&mut bundle);
    let (spool, min_free) = (hands.spool.clone(), hands.min_free);
    let write = tokio::task::spawn_blocking(move || {
        let text = bundle.to_string();
        if text.len() > MAX_BYTES {
            return fault("too-large", format!("{} bytes", text.len()));
        }
        let mut packer = GzEncoder::new(Vec::new(), Compression::default());
        let packed = packer
            .write_all(text.as_bytes())
            .and_then(|()| packer.finish())
            .or_else(|e| fault("storage", e))?;
        let dir = spool
            .check_mount()
            .and_then(|()| spool.side_dir(DIR))
            .or_else(|e| fault("storage", e))?;
        if spool.space().is_ok_and(|space| space.free < min_free) {
            return fault("no-space", "the clip disk is full");
        }
        let name = format!("{id}.json.gz");
        write_whole(&dir.join(&name), &packed).or_else(|e| fault("storage", e))?;
        tidy(&dir, &name);
        let (sha256, size) = Sha256::of_reader(&packed[..]).or_else(|e| fault("storage", e))?;
        Ok((format!("{DIR}/{name}"), size, sha256))
    });
    let (path, size, sha256) = match write.await {
        Ok(written) => written?,
        Err(e) => return fault("storage", e),
    };
    let result = json!({ "parts": names, "path_name": path, "size_bytes": size, "sha256": sha256.to_string() });
    Ok(Done {
        result: Some(result),
        ..Done::default()
    })
}

/// Whether the file is sound, and its rows in figures; read beside the writer.
fn database(path: &Path) -> Value {
    let look = || {
        let conn = schema::open_reader(path)?;
        let check = open::quick_check(&conn).map_or_else(|e| e.to_string(), |()| "ok".into());
        let usage = outbox::usage(&conn)?;
        let (rows, bytes) = (usage.map(|u| u.rows), usage.map(|u| u.bytes));
        let recent = commands::list(&conn, 20)?;
        Ok::<_, crate::db::DbError>(
            json!({ "check": check, "outbox_rows": rows, "outbox_bytes": bytes,
                                            "commands": recent }),
        )
    };
    look().unwrap_or_else(|e| json!({ "check": e.to_string() }))
}

/// Takes user, password and query out of every address in every text.
fn redact(value: &mut Value) {
    match value {
        Value::String(text) if text.contains("://") => {
            let words = text.split_inclusive(char::is_whitespace).map(|word| {
                let bare = word.trim_end();
                redacted(bare) + &word[bare.len()..]
            });
            *text = words.collect();
        }
        Value::Array(items) => items.iter_mut().for_each(redact),
        Value::Object(members) => members.values_mut().for_each(redact),
        _ => {}
    }
}

/// Removes the oldest bundles. Ids are made in order of time.
fn tidy(dir: &Path, newest: &str) {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return;
    };
    let names = entries
        .flatten()
        .filter_map(|e| e.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| name != newest).collect();
    names.sort();
    let surplus = (names.len() + 1).saturating_sub(KEPT);
    for name in names.iter().take(surplus) {
        let _ = std::fs::remove_file(dir.join(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lose_user_and_password() {
        let mut value = json!({ "log": ["open rtsp://bob:secret@10.0.0.1/x failed", "plain",
                                        "rtsp://h/y?user=bob&password=secret failed\nrtsp://u:p@i/ too",
                                        "[rtsp://u:p@h/x,rtsp://u:p@h/y]"],
                                "a": { "url": "https://u:p@h/" } });
        redact(&mut value);
        let text = value.to_string();
        assert!(!text.contains("secret") && !text.contains("u:p"), "{text}");
        assert!(text.contains("rtsp://***@10.0.0.1/x failed"), "{text}");
        assert!(
            text.contains("rtsp://h/y?*** failed\\nrtsp://***@i/ too"),
            "{text}"
        );
    }

    #[test]
    fn few_bundles_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..9 {
            std::fs::write(dir.path().join(format!("{n}.json.gz")), b"").unwrap();
        }
        tidy(dir.path(), "0.json.gz");
        let mut left: Vec<_> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["0.json.gz", "6.json.gz", "7.json.gz", "8.json.gz"]);
    }
}
