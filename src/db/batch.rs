//! Batches of the uploader: which rows are in flight under which idempotency key, and what the cloud's answer does.
//!
//! A row is deleted by [`settle`] alone, on the cloud's own word for that row. A batch that was in flight when the
//! process died is found again by [`in_flight`] and sent under the same key.

use rusqlite::{Connection, OptionalExtension, named_params, params};
use uuid::Uuid;

use super::dead_letter::bury;
use super::{DbError, Run};
use crate::model::Class;
use crate::model::limits::{MAX_BATCH_BYTES, MAX_RECORD_BYTES};
use crate::model::{BootId, RecordId};
use crate::outbox::batch::shares;
use crate::time::{Mono, TimeQuality};
use crate::wire::answer::{RecordVerdict, Results};
use crate::wire::envelope::{BootClock, Stored};

/// What an envelope adds to a stored body, at most.
const ENVELOPE_BYTES: usize = 512;

const WAITING: &str = "select rows from outbox_usage order by class";
const PICK: &str =
    "select seq, bytes from outbox where class = :class and batch is null order by seq limit :n";
const IN_FLIGHT: &str =
    "select o.seq, o.id, o.boottime_ns, o.body, b.boot_id, b.offset_us, b.quality
    from outbox o join boots b on b.id = o.boot where o.batch = :batch order by o.seq";

/// Rows under one idempotency key.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// The idempotency key of every attempt.
    pub key: Uuid,
    /// In order of sequence.
    pub rows: Vec<Stored>,
}

/// The batch in flight, or the next one of at most `limit` rows, marked under `fresh_key`. `None`: nothing waits.
pub fn take(conn: &Connection, limit: usize, fresh_key: Uuid) -> Result<Option<Batch>, DbError> {
    if let Some(batch) = in_flight(conn)? {
        return Ok(Some(batch));
    }
    let mut waiting = [0usize; 4];
    {
        let mut stmt = conn.prepare_cached(WAITING)?;
        let mut rows = stmt.query([])?;
        for slot in &mut waiting {
            if let Some(row) = rows.next()? {
                *slot = usize::try_from(row.get::<_, i64>(0)?).unwrap_or(0);
            }
        }
    }
    let shares = shares(waiting, limit);
    let mut bytes = 2;
    let mut marked = 0;
    for class in Class::ALL {
        let mut stmt = conn.prepare_cached(PICK)?;
        let mut rows = stmt.query(
            named_params! { ":class": class.index() as i64, ":n": shares[class.index()] as i64 },
        )?;
        let mut seqs = Vec::with_capacity(shares[class.index()]);
        while let Some(row) = rows.next()? {
            let size =
                usize::try_from(row.get::<_, i64>(1)?).unwrap_or(MAX_RECORD_BYTES) + ENVELOPE_BYTES;
            if bytes + size > MAX_BATCH_BYTES && marked + seqs.len() > 0 {
                break;
            }
            bytes += size;
            seqs.push(row.get::<_, i64>(0)?);
        }
        let mut mark = conn.prepare_cached(
            "update outbox set batch = ?1, attempts = attempts + 1 where seq = ?2",
        )?;
        for seq in &seqs {
            mark.execute(params![fresh_key, seq])?;
        }
        marked += seqs.len();
    }
    if marked == 0 {
        Ok(None)
    } else {
        in_flight(conn)
    }
}

/// The batch that was marked and not settled yet.
pub fn in_flight(conn: &Connection) -> Result<Option<Batch>, DbError> {
    let key: Option<Uuid> = conn
        .prepare_cached("select batch from outbox where batch is not null limit 1")?
        .query_row([], |r| r.get(0))
        .optional()?;
    let Some(key) = key else { return Ok(None) };
    let mut stmt = conn.prepare_cached(IN_FLIGHT)?;
    let rows = stmt
        .query_map(named_params! { ":batch": key }, |r| {
            Ok(Stored {
                seq: r.get::<_, i64>(0)? as u64,
                id: RecordId(r.get(1)?),
                at: Mono(r.get::<_, i64>(2)? as u64),
                body: r.get(3)?,
                boot: BootId(r.get(4)?),
                clock: BootClock {
                    offset_us: r.get(5)?,
                    quality: quality(r.get(6)?),
                },
            })
        })?
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Some(Batch { key, rows }))
}

pub(super) fn quality(column: i64) -> TimeQuality {
    match column {
        2 => TimeQuality::Synced,
        1 => TimeQuality::Floor,
        _ => TimeQuality::None,
    }
}

/// What an answer did to the outbox.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Settled {
    /// Committed by the cloud and deleted here.
    pub delivered: usize,
    /// Moved to the dead letters.
    pub rejected: usize,
    /// Kept for another try.
    pub kept: usize,
}

/// Applies the cloud's verdicts to the batch `key`: one transaction. Rows without a verdict are kept.
pub fn settle(
    conn: &Connection,
    run: &Run,
    key: Uuid,
    results: &Results,
    now: Mono,
) -> Result<Settled, DbError> {
    let Some(batch) = in_flight(conn)?.filter(|b| b.key == key) else {
        return Ok(Settled::default());
    };
    let mut settled = Settled::default();
    let mut delete = conn.prepare_cached("delete from outbox where seq = ?1")?;
    for row in &batch.rows {
        match results.records.get(&row.id) {
            Some(RecordVerdict::Settled) => {
                delete.execute(params![row.seq as i64])?;
                settled.delivered += 1;
            }
            Some(RecordVerdict::Rejected { code, detail }) => {
                bury(conn, run, row.seq, code, detail, now)?;
                settled.rejected += 1;
            }
            Some(RecordVerdict::Retry) | None => settled.kept += 1,
        }
    }
    release(conn)?;
    Ok(settled)
}

/// Takes the batch apart; its rows wait again, oldest first.
pub fn release(conn: &Connection) -> Result<(), DbError> {
    // A metric that was in flight may have a successor by now: the newest counts.
    conn.execute(
        "delete from outbox where batch is not null and coalesce_key is not null and class = 3
         and exists (select 1 from outbox n where n.coalesce_key = outbox.coalesce_key and n.batch is null)",
        [],
    )?;
    // A gap record that was sent may be in the cloud as it stands: it is not extended any more, the next gap is another.
    conn.execute(
        "update outbox set coalesce_key = null where batch is not null and coalesce_key is not null and class <> 3",
        [],
    )?;
    conn.prepare_cached("update outbox set batch = null where batch is not null")?
        .execute([])?;
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::open::testing;
    use super::super::outbox::put;
    use super::*;
    use crate::model::Severity;
    use crate::wire::envelope::Record;
    use serde_json::json;

    pub(in crate::db) fn fill(
        conn: &Connection,
        run: &Run,
        class: Class,
        n: usize,
    ) -> Vec<RecordId> {
        (0..n)
            .map(|i| {
                let id = RecordId((run.ids)());
                let record = Record {
                    id,
                    kind: "motion.started",
                    class,
                    subject: Some(format!("cam-{i}")),
                    severity: Severity::Info,
                    at: Mono(i as u64),
                    data: json!({}),
                };
                put(conn, run, &record).unwrap();
                id
            })
            .collect()
    }

    pub(in crate::db) fn count(conn: &Connection, table: &str) -> i64 {
        conn.query_row(&format!("select count(*) from {table}"), [], |r| r.get(0))
            .unwrap()
    }

    #[test]
    fn a_batch_keeps_its_key_until_it_is_settled() {
        let (_dir, conn, run) = testing::store();
        let ids = fill(&conn, &run, Class::Alarm, 5);
        let first = take(&conn, 3, Uuid::from_u128(1)).unwrap().unwrap();
        let again = take(&conn, 3, Uuid::from_u128(2)).unwrap().unwrap();
        assert_eq!(first, again);
        assert_eq!(
            first.rows.iter().map(|r| r.id).collect::<Vec<_>>(),
            ids[..3]
        );
        let results = Results {
            records: [
                (ids[0], RecordVerdict::Settled),
                (
                    ids[1],
                    RecordVerdict::Rejected {
                        code: "schema".into(),
                        detail: "x".into(),
                    },
                ),
            ]
            .into(),
            commands_pending: 0,
            twin_version: None,
        };
        let settled = settle(&conn, &run, first.key, &results, Mono(9)).unwrap();
        assert_eq!(
            settled,
            Settled {
                delivered: 1,
                rejected: 1,
                kept: 1
            }
        );
        assert_eq!(
            (count(&conn, "outbox"), count(&conn, "dead_letter")),
            (3, 1)
        );
        // Settling twice changes nothing.
        assert_eq!(
            settle(&conn, &run, first.key, &results, Mono(9)).unwrap(),
            Settled::default()
        );
        assert_eq!(
            take(&conn, 9, Uuid::from_u128(3)).unwrap().unwrap().rows[0].id,
            ids[2]
        );
    }

    #[test]
    fn verdicts_on_rows_of_no_batch_delete_nothing() {
        let (_dir, conn, run) = testing::store();
        let ids = fill(&conn, &run, Class::Alarm, 3);
        let batch = take(&conn, 1, Uuid::from_u128(1)).unwrap().unwrap();
        let all = Results {
            records: ids.iter().map(|id| (*id, RecordVerdict::Settled)).collect(),
            commands_pending: 0,
            twin_version: None,
        };
        assert_eq!(
            settle(&conn, &run, batch.key, &all, Mono(0))
                .unwrap()
                .delivered,
            1
        );
        assert_eq!(count(&conn, "outbox"), 2);
    }

    #[test]
    fn a_batch_stays_below_its_byte_limit() {
        let (_dir, conn, run) = testing::store();
        for _ in 0..20 {
            let record = Record {
                id: RecordId((run.ids)()),
                kind: "motion.updated",
                class: Class::Alarm,
                subject: None,
                severity: Severity::Info,
                at: Mono(0),
                data: json!({ "fill": "x".repeat(60_000) }),
            };
            put(&conn, &run, &record).unwrap();
        }
        let batch = take(&conn, 256, Uuid::from_u128(1)).unwrap().unwrap();
        assert_eq!(batch.rows.len(), 8);
    }

    #[test]
    fn a_released_metric_gives_way_to_its_successor() {
        let (_dir, conn, run) = testing::store();
        let put_metric = || {
            let record = Record {
                id: RecordId((run.ids)()),
                kind: "agent.heartbeat",
                class: Class::Metric,
                subject: None,
                severity: Severity::Info,
                at: Mono(0),
                data: json!({}),
            };
            put(&conn, &run, &record).unwrap();
        };
        put_metric();
        take(&conn, 9, Uuid::from_u128(1)).unwrap().unwrap();
        put_metric();
        release(&conn).unwrap();
        assert_eq!(count(&conn, "outbox"), 1);
    }
}
