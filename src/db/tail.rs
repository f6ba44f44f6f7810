//! The outbox as the MQTT link follows it: what came after a sequence number, whether or not the uploader has it in a
//! batch. Read-only; nothing here deletes or marks.

use rusqlite::{Connection, named_params};

use super::DbError;
use super::batch::quality;
use crate::model::{BootId, Class, RecordId};
use crate::time::Mono;
use crate::wire::envelope::{BootClock, Stored};

// The rows of a batch are few, the others are found by (class, seq): nothing is scanned.
const AFTER: &str = "
    select o.seq, o.id, o.boottime_ns, o.body, b.boot_id, b.offset_us, b.quality from (
        select seq, id, boottime_ns, body, boot from outbox
            where class = :class and seq > :after and batch is null
        union all
        select seq, id, boottime_ns, body, boot from outbox
            where batch is not null and class = :class and seq > :after
    ) o join boots b on b.id = o.boot order by o.seq limit :n";
const NEWEST: &str = "select coalesce(max(seq), 0) from outbox";

/// The newest sequence number that is still there; 0 where none is.
pub fn newest(conn: &Connection) -> Result<u64, DbError> {
    let seq: i64 = conn.prepare_cached(NEWEST)?.query_row([], |r| r.get(0))?;
    Ok(u64::try_from(seq).unwrap_or(0))
}

/// At most `n` records of a class after this one, in order.
pub fn after(
    conn: &Connection,
    class: Class,
    after: u64,
    n: usize,
) -> Result<Vec<Stored>, DbError> {
    let mut stmt = conn.prepare_cached(AFTER)?;
    let rows = stmt.query_map(
        named_params! { ":class": class.index() as i64, ":after": after as i64, ":n": n as i64 },
        |r| {
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
        },
    )?;
    Ok(rows.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::super::batch::{take, tests::fill};
    use super::super::open::testing;
    use super::*;
    use uuid::Uuid;

    #[test]
    fn it_follows_a_class_in_order_through_batches() {
        let (_dir, conn, run) = testing::store();
        assert_eq!(newest(&conn).unwrap(), 0);
        let first = fill(&conn, &run, Class::Critical, 3);
        fill(&conn, &run, Class::Alarm, 2);
        take(&conn, 2, Uuid::from_u128(1)).unwrap();
        let second = fill(&conn, &run, Class::Critical, 2);
        let ids = |after: u64, n| -> Vec<RecordId> {
            let rows = super::after(&conn, Class::Critical, after, n).unwrap();
            rows.iter().map(|r| r.id).collect()
        };
        assert_eq!(ids(0, 9), [&first[..], &second[..]].concat());
        assert_eq!(ids(0, 2), first[..2]);
        assert_eq!(ids(3, 9), second);
        assert_eq!(newest(&conn).unwrap(), 7);
        assert_eq!(run.puts.load(std::sync::atomic::Ordering::Relaxed), 7);
    }

    #[test]
    fn it_scans_no_growing_table() {
        let (_dir, conn, _run) = testing::store();
        for sql in [AFTER, NEWEST] {
            let mut stmt = conn.prepare(&format!("explain query plan {sql}")).unwrap();
            let mut rows = stmt.raw_query();
            while let Some(row) = rows.next().unwrap() {
                let step: String = row.get(3).unwrap();
                assert!(!step.starts_with("SCAN outbox"), "{step}");
            }
        }
    }
}
