//! Putting records into the outbox, within the quotas, with every loss named.
//!
//! A put belongs to the transaction of the fact that it reports. When a class is full its oldest unsent rows go (see
//! [`crate::outbox::quota`]) and one `sync.gap` record per class grows by what went.

use std::sync::atomic::Ordering;

use rusqlite::{Connection, OptionalExtension, named_params, params};
use serde_json::{Value, json};

use super::{DbError, Run};
use crate::model::Class;
use crate::model::limits::MAX_RECORD_BYTES;
use crate::model::{RecordId, Severity};
use crate::outbox::quota::make_room;
use crate::time::Mono;
use crate::wire::envelope::Record;

/// Room for attributes that are added when a record is rendered.
const ENVELOPE_BYTES: usize = 1024;

const INSERT: &str = "insert into outbox (id, class, bytes, body, boot, boottime_ns, coalesce_key)
    values (:id, :class, :bytes, :body, :boot, :ns, :key)";
const COALESCE: &str = "delete from outbox where coalesce_key = :key and batch is null";
const OLDEST: &str =
    "select seq, bytes from outbox where class = :class and batch is null order by seq";
const USAGE: &str = "select class, rows, bytes from outbox_usage order by class";
const OPEN_GAP: &str = "select seq, body from outbox where coalesce_key = :key and batch is null";

/// Rows and bytes that a class holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Rows, batched ones included.
    pub rows: u64,
    /// Bytes of stored bodies.
    pub bytes: u64,
}

/// What each class holds (index = class).
pub fn usage(conn: &Connection) -> Result<[Usage; 4], DbError> {
    let mut usage = [Usage::default(); 4];
    let mut stmt = conn.prepare_cached(USAGE)?;
    let mut rows = stmt.query([])?;
    while let Some(row) = rows.next()? {
        if let Some(class) = Class::from_index(row.get(0)?) {
            usage[class.index()] = Usage {
                rows: row.get::<_, i64>(1)? as u64,
                bytes: row.get::<_, i64>(2)? as u64,
            };
        }
    }
    Ok(usage)
}

/// Puts a record; what has to go for it goes, and is named.
///
/// # Errors
/// [`DbError::Refused`] where the record is larger than the wire allows, or its id is known already.
pub fn put(conn: &Connection, run: &Run, record: &Record) -> Result<(), DbError> {
    let body = record.stored_body();
    if body.len() + ENVELOPE_BYTES > MAX_RECORD_BYTES {
        return Err(DbError::Refused(format!(
            "a {} record of {} bytes is too large",
            record.kind,
            body.len()
        )));
    }
    let key = (record.class == Class::Metric).then(|| {
        format!(
            "{}/{}",
            record.kind,
            record.subject.as_deref().unwrap_or_default()
        )
    });
    if let Some(key) = &key {
        conn.prepare_cached(COALESCE)?
            .execute(named_params! { ":key": key })?;
    }
    let used = usage(conn)?.map(|u| u.bytes);
    for eviction in make_room(&run.quotas, used, record.class, body.len() as u64) {
        evict(conn, run, eviction.class, eviction.bytes, record.at)?;
    }
    insert(conn, run, record, &body, key.as_deref())
}

fn insert(
    conn: &Connection,
    run: &Run,
    record: &Record,
    body: &str,
    key: Option<&str>,
) -> Result<(), DbError> {
    conn.prepare_cached(INSERT)?.execute(named_params! {
        ":id": record.id.0,
        ":class": record.class.index() as i64,
        ":bytes": body.len() as i64,
        ":body": body,
        ":boot": run.boot,
        ":ns": record.at.0 as i64,
        ":key": key,
    })?;
    if record.class.commits_at_once() {
        run.puts.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Removes the oldest rows of a class that are in no batch, at least `bytes` of them, and names them.
fn evict(conn: &Connection, run: &Run, class: Class, bytes: u64, at: Mono) -> Result<(), DbError> {
    let (mut first, mut last, mut count, mut freed) = (None, 0i64, 0u64, 0u64);
    {
        let mut stmt = conn.prepare_cached(OLDEST)?;
        let mut rows = stmt.query(named_params! { ":class": class.index() as i64 })?;
        while freed < bytes
            && let Some(row) = rows.next()?
        {
            last = row.get(0)?;
            first.get_or_insert(last);
            freed += row.get::<_, i64>(1)? as u64;
            count += 1;
        }
    }
    let Some(first) = first else { return Ok(()) };
    conn.prepare_cached(
        "delete from outbox where class = ?1 and batch is null and seq between ?2 and ?3",
    )?
    .execute(params![class.index() as i64, first, last])?;
    note_gap(
        conn,
        run,
        &Gap {
            class,
            from: first as u64,
            to: last as u64,
            count,
            bytes: freed,
        },
        "quota",
        at,
    )
}

/// Records that will never reach the cloud.
pub(super) struct Gap {
    pub class: Class,
    pub from: u64,
    pub to: u64,
    pub count: u64,
    pub bytes: u64,
}

/// Inserts the class's `sync.gap` record of this reason, or extends the one that was not sent yet.
pub(super) fn note_gap(
    conn: &Connection,
    run: &Run,
    gap: &Gap,
    reason: &str,
    at: Mono,
) -> Result<(), DbError> {
    let key = format!("sync.gap/{}/{reason}", gap.class.name());
    let open: Option<(i64, String)> = conn
        .prepare_cached(OPEN_GAP)?
        .query_row(named_params! { ":key": key }, |r| {
            Ok((r.get(0)?, r.get(1)?))
        })
        .optional()?;
    let (mut from, mut to, mut count, mut bytes) = (gap.from, gap.to, gap.count, gap.bytes);
    if let Some((_, body)) = &open
        && let Ok(value) = serde_json::from_str::<Value>(body)
    {
        let old = |name: &str| value["data"][name].as_u64().unwrap_or(0);
        from = from.min(old("from_seq"));
        to = to.max(old("to_seq"));
        count += old("count");
        bytes += old("bytes");
    }
    let record = Record {
        id: RecordId((run.ids)()),
        kind: "sync.gap",
        class: Class::Critical,
        subject: None,
        severity: Severity::Warning,
        at,
        data: json!({ "class": gap.class.name(), "from_seq": from, "to_seq": to, "count": count, "bytes": bytes,
                      "reason": reason }),
    };
    let body = record.stored_body();
    match open {
        Some((seq, _)) => {
            conn.prepare_cached("update outbox set body = ?1, bytes = ?2 where seq = ?3")?
                .execute(params![body, body.len() as i64, seq])?;
            Ok(())
        }
        None => insert(conn, run, &record, &body, Some(&key)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::open::testing;
    use super::*;
    use crate::outbox::quota::Quotas;

    fn record(run: &Run, class: Class, kind: &'static str, size: usize) -> Record {
        Record {
            id: RecordId((run.ids)()),
            kind,
            class,
            subject: Some("cam-1".into()),
            severity: Severity::Info,
            at: Mono(1),
            data: json!({ "fill": "x".repeat(size) }),
        }
    }

    fn kinds(conn: &Connection) -> Vec<(i64, String)> {
        let mut stmt = conn
            .prepare("select class, body ->> '$.type' from outbox order by seq")
            .unwrap();
        stmt.query_map([], |r| Ok((r.get(0)?, r.get(1)?)))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap()
    }

    #[test]
    fn metrics_are_replaced_by_the_newest() {
        let (_dir, conn, run) = testing::store();
        for _ in 0..3 {
            put(
                &conn,
                &run,
                &record(&run, Class::Metric, "agent.health", 10),
            )
            .unwrap();
        }
        put(
            &conn,
            &run,
            &record(&run, Class::Metric, "agent.heartbeat", 10),
        )
        .unwrap();
        assert_eq!(kinds(&conn).len(), 2);
        assert_eq!(usage(&conn).unwrap()[3].rows, 2);
    }

    #[test]
    fn every_eviction_is_named_and_the_gap_grows() {
        let (_dir, conn, mut run) = testing::store();
        run.quotas = Quotas([10_000, 1_000, 0, 0]);
        for _ in 0..10 {
            put(
                &conn,
                &run,
                &record(&run, Class::Alarm, "motion.started", 200),
            )
            .unwrap();
        }
        let used = usage(&conn).unwrap();
        assert!(used[1].bytes <= 1_000, "{used:?}");
        let gap: String = conn
            .query_row(
                "select body from outbox where coalesce_key = 'sync.gap/P1/quota'",
                [],
                |r| r.get(0),
            )
            .unwrap();
        let gap: Value = serde_json::from_str(&gap).unwrap();
        assert_eq!(gap["data"]["count"].as_u64().unwrap() + used[1].rows, 10);
        assert_eq!(gap["data"]["from_seq"], 1);
        assert_eq!(gap["type"], "io.sentrycam.sync.gap.v1");
    }

    #[test]
    fn usage_is_kept_by_triggers() {
        let (_dir, conn, run) = testing::store();
        for _ in 0..5 {
            put(
                &conn,
                &run,
                &record(&run, Class::Alarm, "motion.started", 50),
            )
            .unwrap();
        }
        conn.execute("delete from outbox where seq < 3", [])
            .unwrap();
        let counted: (i64, i64) = conn
            .query_row(
                "select count(*), sum(bytes) from outbox where class = 1",
                [],
                |r| Ok((r.get(0)?, r.get(1)?)),
            )
            .unwrap();
        let kept = usage(&conn).unwrap()[1];
        assert_eq!((kept.rows as i64, kept.bytes as i64), counted);
    }

    #[test]
    fn a_record_that_the_wire_cannot_carry_is_refused() {
        let (_dir, conn, run) = testing::store();
        assert!(matches!(
            put(
                &conn,
                &run,
                &record(&run, Class::Alarm, "motion.started", MAX_RECORD_BYTES)
            ),
            Err(DbError::Refused(_))
        ));
    }
}
