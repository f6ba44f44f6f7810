//! A damaged database: put it aside, carry over what can be read.
//!
//! Tables are read row by row from both ends, so that one damaged page costs the rows on it and not those behind it.
//! Ids are kept, hence the cloud still counts every record once; sequence numbers are new, under the new epoch.

use std::path::{Path, PathBuf};

use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, params_from_iter};

use super::DbError;
use crate::time::Wall;

/// Rows that were carried over, and how many are known to be lost at least.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Salvage {
    /// Rows carried over.
    pub salvaged: u64,
    /// Tables that could not be read to the end.
    pub damaged_tables: u64,
}

/// Renames the database and its WAL to `*.corrupt-<time>`; older ones of that kind are removed, one is kept.
pub fn put_aside(path: &Path, now: Wall) -> Result<PathBuf, DbError> {
    let io = |e: std::io::Error| DbError::Io(e.to_string());
    let name = path
        .file_name()
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_default();
    let dir = path.parent().unwrap_or(Path::new("."));
    for entry in std::fs::read_dir(dir).map_err(io)?.flatten() {
        if entry
            .file_name()
            .to_string_lossy()
            .starts_with(&format!("{name}.corrupt-"))
        {
            std::fs::remove_file(entry.path()).map_err(io)?;
        }
    }
    let aside = dir.join(format!("{name}.corrupt-{}", now.unix_seconds()));
    for suffix in ["-wal", "-shm", ""] {
        let from = dir.join(format!("{name}{suffix}"));
        if from.exists() {
            let to = dir.join(format!(
                "{}{suffix}",
                aside.file_name().unwrap_or_default().to_string_lossy()
            ));
            std::fs::rename(from, to).map_err(io)?;
        }
    }
    Ok(aside)
}

/// Columns that are carried over, in an order that respects references; `outbox.seq` is made anew.
const TABLES: [(&str, &str, &str); 10] = [
    ("boots", "id, boot_id, offset_us, quality", "id"),
    (
        "events",
        "id, camera_id, boot, started_ns, ended_ns, state, end_reason, rev, peak_score, zones, no_picture",
        "id",
    ),
    (
        "recordings",
        "id, camera_id, event_id, boot, started_ns, ended_ns, mode, state, codec, width, height, has_audio, path, \
         size_bytes, duration_ms, sha256, truncated, rev, locked, upload, garbage, deleted_why",
        "id",
    ),
    (
        "snapshots",
        "id, camera_id, boot, taken_ns, state, width, height, path, size_bytes, sha256, rev, \
         upload, garbage, deleted_why, event_id, kind",
        "id",
    ),
    (
        "commands",
        "id, n, type, args, once_key, way, issued_s, expires_s, state, rev, code, detail, result, boot, received_ns, \
         received_s, started_boot, started_ns, ended_boot, ended_ns",
        "id",
    ),
    (
        "outbox",
        "id, class, bytes, body, boot, boottime_ns, attempts",
        "seq",
    ),
    (
        "dead_letter",
        "seq, id, class, body, boot, boottime_ns, code, detail, died_boot, died_ns",
        "seq",
    ),
    (
        "twin",
        "id, edge_id, desired, status, reasons, judge, version, document, fallback_version, fallback_document, \
         until_boot, until_ns, until_us, carried",
        "id",
    ),
    (
        "uploads",
        "kind, id, asked, upload_id, parts, sent, attempts, failed",
        "kind, id",
    ),
    ("upload_days", "day, bytes", "day"),
];

/// Carries over what `damaged` still tells into `fresh`.
pub fn salvage(damaged: &Path, fresh: &mut Connection) -> Result<Salvage, DbError> {
    let mut salvage = Salvage::default();
    let Ok(old) = Connection::open_with_flags(damaged, OpenFlags::SQLITE_OPEN_READ_WRITE) else {
        return Ok(Salvage {
            damaged_tables: TABLES.len() as u64,
            ..salvage
        });
    };
    // The schema of a damaged file proves nothing; constraints of the fresh one decide row by row.
    fresh.execute_batch("pragma foreign_keys = off")?;
    let tx = fresh.transaction()?;
    for (table, columns, order) in TABLES {
        let columns = &known_columns(&old, table, columns);
        let marks = vec!["?"; columns.split(',').count()].join(", ");
        let insert = format!("insert or ignore into {table} ({columns}) values ({marks})");
        let mut whole = false;
        for direction in ["asc", "desc"] {
            if whole {
                break;
            }
            let order = order.replace(", ", &format!(" {direction}, "));
            let select = format!("select {columns} from {table} order by {order} {direction}");
            match copy(&old, &tx, &select, &insert) {
                Ok(count) => {
                    salvage.salvaged += count;
                    whole = true;
                }
                Err(count) => salvage.salvaged += count,
            }
        }
        salvage.damaged_tables += u64::from(!whole);
    }
    // A row whose boot was lost keeps its order but has no time.
    for table in [
        "events",
        "recordings",
        "snapshots",
        "commands",
        "outbox",
        "dead_letter",
    ] {
        tx.execute(
            &format!(
                "insert or ignore into boots (id, boot_id, offset_us, quality)
                 select distinct boot, randomblob(16), 0, 0 from {table} where boot not in (select id from boots)"
            ),
            [],
        )?;
    }
    tx.execute(
        "update recordings set event_id = null where event_id not in (select id from events)",
        [],
    )?;
    for column in ["started_boot", "ended_boot"] {
        tx.execute(
            &format!(
                "update commands set {column} = null where {column} not in (select id from boots)"
            ),
            [],
        )?;
    }
    // What is on its way belongs to a file.
    for (kind, table) in [(0, "recordings"), (1, "snapshots")] {
        tx.execute(
            &format!(
                "delete from uploads where kind = {kind} and id not in (select id from {table})"
            ),
            [],
        )?;
    }
    tx.commit()?;
    fresh.execute_batch("pragma foreign_keys = on")?;
    Ok(salvage)
}

/// An older program's table has fewer columns; what it lacks gets its default.
fn known_columns(old: &Connection, table: &str, columns: &str) -> String {
    let known = || -> rusqlite::Result<Vec<String>> {
        let mut stmt = old.prepare("select name from pragma_table_info(?1)")?;
        stmt.query_map([table], |r| r.get(0))?.collect()
    };
    let known = known().unwrap_or_default();
    let has = |column: &&str| known.is_empty() || known.iter().any(|k| k == column);
    let columns: Vec<&str> = columns.split(',').map(str::trim).filter(has).collect();
    columns.join(", ")
}

/// Copies rows until the end (`Ok`) or the damage (`Err`); both tell how many were new.
fn copy(old: &Connection, new: &Connection, select: &str, insert: &str) -> Result<u64, u64> {
    let mut count = 0;
    let Ok(mut read) = old.prepare(select) else {
        return Err(0);
    };
    let width = read.column_count();
    let Ok(mut write) = new.prepare(insert) else {
        return Err(0);
    };
    let Ok(mut rows) = read.query([]) else {
        return Err(0);
    };
    loop {
        match rows.next() {
            Ok(Some(row)) => {
                let values: Result<Vec<Value>, _> = (0..width).map(|i| row.get(i)).collect();
                let Ok(values) = values else { continue };
                count += write.execute(params_from_iter(values)).unwrap_or(0) as u64;
            }
            Ok(None) => return Ok(count),
            Err(_) => return Err(count),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::open::{open, testing};
    use super::super::{FILE_NAME, Urgency, outbox};
    use crate::model::Class;
    use crate::model::{RecordId, Severity};
    use crate::time::Mono;
    use crate::wire::envelope::Record;
    use serde_json::json;

    fn fill(dir: &std::path::Path, rows: usize) {
        let rt = tokio::runtime::Runtime::new().unwrap();
        let (db, closer, _) = open(testing::options(dir), rt.handle().clone()).unwrap();
        rt.block_on(db.call(Urgency::Now, move |c, run| {
            for i in 0..rows {
                let record = Record {
                    id: RecordId((run.ids)()),
                    kind: "motion.started",
                    class: Class::Alarm,
                    subject: Some("cam-1".into()),
                    severity: Severity::Info,
                    at: Mono(i as u64),
                    data: json!({ "fill": "x".repeat(500) }),
                };
                outbox::put(c, run, &record)?;
            }
            Ok(())
        }))
        .unwrap();
        drop(db);
        closer.close().unwrap();
    }

    fn reopen(dir: &std::path::Path) -> (super::super::open::OpenReport, i64) {
        std::fs::write(dir.join("sentrycam.db.in-use"), b"").unwrap();
        let rt = tokio::runtime::Runtime::new().unwrap();
        let (db, _closer, report) = open(testing::options(dir), rt.handle().clone()).unwrap();
        let rows = rt
            .block_on(db.call(Urgency::Now, |c, _| {
                Ok(c.query_row("select count(*) from outbox", [], |r| r.get(0))?)
            }))
            .unwrap();
        (report, rows)
    }

    #[test]
    fn a_damaged_page_costs_its_rows_and_not_the_others() {
        let dir = tempfile::tempdir().unwrap();
        fill(dir.path(), 400);
        let path = dir.path().join(FILE_NAME);
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2 / 4096 * 4096;
        bytes[middle..middle + 4096].fill(0xff);
        std::fs::write(&path, bytes).unwrap();
        let (report, rows) = reopen(dir.path());
        let (aside, salvage) = report.recovered.unwrap();
        assert!(aside.exists());
        assert!(
            rows > 300,
            "only {rows} of 400 rows were salvaged: {salvage:?}"
        );
    }

    #[test]
    fn what_is_on_its_way_and_what_it_cost_today_is_carried_over() {
        let dir = tempfile::tempdir().unwrap();
        fill(dir.path(), 400);
        let path = dir.path().join(FILE_NAME);
        let old = super::Connection::open(&path).unwrap();
        old.execute_batch(
            "insert into recordings (id, camera_id, boot, started_ns, mode, state, codec, width, height, has_audio, path,
                 size_bytes, duration_ms, sha256, rev, upload)
                 values (x'00000000000000000000000000000001', 'cam-1', 1, 5, 'motion', 'kept', 'h264', 640, 360, 0,
                         'cam-1/1.mp4', 9, 9, zeroblob(32), 1, 'uploading');
             insert into uploads (kind, id, asked, upload_id, parts, sent)
                 values (0, x'00000000000000000000000000000001', 1, randomblob(16), '{\"1\":\"tag\"}', 77),
                        (1, x'00000000000000000000000000000002', 0, null, '{}', 0);
             insert into upload_days values ('2026-11-21', 12345);
             pragma wal_checkpoint(truncate);",
        )
        .unwrap();
        // A page of the outbox, which is most of the file.
        let page: i64 = old
            .query_row(
                "select rootpage from sqlite_schema where name = 'outbox'",
                [],
                |r| r.get(0),
            )
            .unwrap();
        drop(old);
        let mut bytes = std::fs::read(&path).unwrap();
        let at = (page as usize - 1) * 4096;
        bytes[at..at + 4096].fill(0xff);
        std::fs::write(&path, bytes).unwrap();
        let (report, _) = reopen(dir.path());
        assert!(report.recovered.is_some());
        let new = super::Connection::open(&path).unwrap();
        let told: (i64, i64, i64, String, i64) = new
            .query_row(
                "select count(*), kind, asked, parts, sent from uploads",
                [],
                |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?)),
            )
            .unwrap();
        assert_eq!(told, (1, 0, 1, "{\"1\":\"tag\"}".to_owned(), 77));
        let day: i64 = new
            .query_row("select bytes from upload_days", [], |r| r.get(0))
            .unwrap();
        assert_eq!(day, 12345);
    }

    #[test]
    fn a_file_that_is_no_database_is_put_aside_and_work_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE_NAME), vec![7u8; 8192]).unwrap();
        let (report, rows) = reopen(dir.path());
        assert!(report.recovered.is_some());
        assert_eq!(rows, 0);
    }

    #[test]
    fn one_damaged_file_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            std::fs::write(dir.path().join(FILE_NAME), vec![7u8; 8192]).unwrap();
            let _ = std::fs::remove_file(dir.path().join("sentrycam.db-wal"));
            reopen(dir.path());
        }
        let kept = std::fs::read_dir(dir.path())
            .unwrap()
            .flatten()
            .filter(|e| e.file_name().to_string_lossy().contains(".corrupt-"))
            .filter(|e| !e.file_name().to_string_lossy().ends_with("-wal"))
            .filter(|e| !e.file_name().to_string_lossy().ends_with("-shm"))
            .count();
        assert_eq!(kept, 1);
    }
}
