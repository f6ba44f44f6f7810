//! Dead letters: records that the cloud will never accept. Kept for people to look at, and sent again only by hand.
//!
//! Bounded by count and, where the time is proven, by age. What is given up is named in a `sync.gap`.

use std::time::Duration;

use rusqlite::{Connection, named_params, params};

use super::outbox::{Gap, note_gap};
use super::{DbError, Run};
use crate::model::{Class, RecordId};
use crate::time::{Mono, Wall};

/// Letters that are kept at most; the oldest go.
const MAX_LETTERS: i64 = 1000;
/// A letter is kept for so long at most.
pub const MAX_AGE: Duration = Duration::from_secs(30 * 24 * 3600);

/// A letter of an earlier epoch may have the sequence number already; the newcomer then takes the next free one.
const BURY: &str = "insert into dead_letter
        (seq, id, class, body, boot, boottime_ns, code, detail, died_boot, died_ns)
    select case when exists (select 1 from dead_letter d where d.seq = o.seq)
                then (select max(seq) + 1 from dead_letter) else o.seq end,
        o.id, o.class, o.body, o.boot, o.boottime_ns, :code, :detail, :died_boot, :died_ns
    from outbox o where o.seq = :seq on conflict (id) do nothing";
const BEYOND_COUNT: &str =
    "seq in (select seq from dead_letter order by seq desc limit -1 offset :bound)";
/// A letter of a boot whose time was never known has no age.
const DIED_BEFORE: &str =
    "seq in (select d.seq from dead_letter d join boots b on b.id = d.died_boot
    where b.quality = 2 and b.offset_us + d.died_ns / 1000 < :bound)";

/// Moves one row to the dead letters. The oldest falls off their end.
pub fn bury(
    conn: &Connection,
    run: &Run,
    seq: u64,
    code: &str,
    detail: &str,
    now: Mono,
) -> Result<(), DbError> {
    conn.prepare_cached(BURY)?.execute(named_params! {
        ":seq": seq as i64, ":code": code, ":detail": detail, ":died_boot": run.boot, ":died_ns": now.0 as i64,
    })?;
    conn.prepare_cached("delete from outbox where seq = ?1")?
        .execute(params![seq as i64])?;
    give_up(conn, run, BEYOND_COUNT, MAX_LETTERS, now).map(drop)
}

/// Gives up what died more than [`MAX_AGE`] before `proven`, a time that two sources agree on; returns how many.
pub fn expire(conn: &Connection, run: &Run, proven: Wall, now: Mono) -> Result<u64, DbError> {
    give_up(conn, run, DIED_BEFORE, (proven - MAX_AGE).0, now)
}

fn give_up(
    conn: &Connection,
    run: &Run,
    which: &str,
    bound: i64,
    now: Mono,
) -> Result<u64, DbError> {
    let counted = format!(
        "select class, min(seq), max(seq), count(*), sum(length(cast(body as blob))) from dead_letter
         where {which} group by class"
    );
    let gaps = conn
        .prepare_cached(&counted)?
        .query_map(named_params! { ":bound": bound }, |r| {
            Ok(Gap {
                class: Class::from_index(r.get(0)?).unwrap_or(Class::Critical),
                from: r.get::<_, i64>(1)? as u64,
                to: r.get::<_, i64>(2)? as u64,
                count: r.get::<_, i64>(3)? as u64,
                bytes: r.get::<_, i64>(4)? as u64,
            })
        })?
        .collect::<Result<Vec<_>, _>>()?;
    if gaps.is_empty() {
        return Ok(0);
    }
    for gap in &gaps {
        note_gap(conn, run, gap, "dead_letter", now)?;
    }
    conn.prepare_cached(&format!("delete from dead_letter where {which}"))?
        .execute(named_params! { ":bound": bound })?;
    Ok(gaps.iter().map(|gap| gap.count).sum())
}

/// Puts dead letters back into the outbox under their own ids; all of them, or one.
pub fn revive(conn: &Connection, only: Option<RecordId>) -> Result<usize, DbError> {
    let revived = conn.execute(
        "insert or ignore into outbox (id, class, bytes, body, boot, boottime_ns)
         select id, class, length(cast(body as blob)), body, boot, boottime_ns from dead_letter
         where :id is null or id = :id order by seq",
        named_params! { ":id": only.map(|id| id.0) },
    )?;
    conn.execute(
        "delete from dead_letter where :id is null or id = :id",
        named_params! { ":id": only.map(|id| id.0) },
    )?;
    Ok(revived)
}

#[cfg(test)]
mod tests {
    use super::super::batch::take;
    use super::super::batch::tests::{count, fill};
    use super::super::open::{set_boot_clock, testing};
    use super::*;
    use crate::time::TimeQuality;
    use crate::wire::envelope::BootClock;
    use uuid::Uuid;

    const DAY_US: i64 = 24 * 3600 * 1_000_000;
    const BOOTED: Wall = Wall(1_795_226_400_000_000);

    fn died(days: u64) -> Mono {
        Mono(days * DAY_US as u64 * 1000)
    }

    fn synced(conn: &Connection, run: &Run) {
        let clock = BootClock {
            offset_us: BOOTED.0,
            quality: TimeQuality::Synced,
        };
        set_boot_clock(conn, run, clock, BOOTED).unwrap();
    }

    #[test]
    fn after_thirty_days_a_letter_is_given_up_and_named() {
        let (_dir, conn, run) = testing::store();
        let ids = fill(&conn, &run, Class::Alarm, 3);
        for (seq, day) in [(1, 0), (2, 10), (3, 20)] {
            bury(&conn, &run, seq, "schema", "", died(day)).unwrap();
        }
        synced(&conn, &run);
        let at = |days: i64| Wall(BOOTED.0 + days * DAY_US);
        assert_eq!(expire(&conn, &run, at(30), died(30)).unwrap(), 0);
        assert_eq!(expire(&conn, &run, at(41), died(41)).unwrap(), 2);
        let left: Uuid = conn
            .query_row("select id from dead_letter", [], |r| r.get(0))
            .unwrap();
        assert_eq!(left, ids[2].0);
        let gap: String = conn
            .query_row("select body from outbox where class = 0", [], |r| r.get(0))
            .unwrap();
        let gap: serde_json::Value = serde_json::from_str(&gap).unwrap();
        let data = &gap["data"];
        assert_eq!(
            (
                &data["count"],
                &data["from_seq"],
                &data["to_seq"],
                &data["reason"]
            ),
            (&2.into(), &1.into(), &2.into(), &"dead_letter".into())
        );
    }

    #[test]
    fn a_letter_of_a_boot_without_time_has_no_age() {
        let (_dir, conn, run) = testing::store();
        fill(&conn, &run, Class::Alarm, 1);
        bury(&conn, &run, 1, "schema", "", Mono(0)).unwrap();
        let later = Wall(BOOTED.0 + 3650 * DAY_US);
        assert_eq!(expire(&conn, &run, later, Mono(1)).unwrap(), 0);
        assert_eq!(
            (count(&conn, "dead_letter"), count(&conn, "outbox")),
            (1, 0)
        );
    }

    #[test]
    fn more_than_a_thousand_letters_are_given_up_from_the_oldest_on() {
        let (_dir, conn, run) = testing::store();
        fill(&conn, &run, Class::Alarm, 1003);
        for seq in 1..=1003 {
            bury(&conn, &run, seq, "schema", "", Mono(0)).unwrap();
        }
        assert_eq!(count(&conn, "dead_letter"), MAX_LETTERS);
        assert_eq!(count(&conn, "dead_letter where seq <= 3"), 0);
        assert_eq!(count(&conn, "outbox where class = 0"), 1);
    }

    #[test]
    fn dead_letters_come_back_by_hand_under_their_ids() {
        let (_dir, conn, run) = testing::store();
        let ids = fill(&conn, &run, Class::Metadata, 2);
        let seq: i64 = conn
            .query_row("select min(seq) from outbox", [], |r| r.get(0))
            .unwrap();
        bury(&conn, &run, seq as u64, "schema", "", Mono(0)).unwrap();
        assert_eq!(revive(&conn, None).unwrap(), 1);
        let batch = take(&conn, 9, Uuid::from_u128(1)).unwrap().unwrap();
        assert!(batch.rows.iter().any(|r| r.id == ids[0]));
        assert_eq!(count(&conn, "dead_letter"), 0);
    }

    #[test]
    fn a_letter_of_an_earlier_epoch_with_the_same_number_costs_nothing() {
        let (_dir, conn, run) = testing::store();
        let ids = fill(&conn, &run, Class::Alarm, 3);
        bury(&conn, &run, 1, "schema", "", Mono(0)).unwrap();
        // As after a damaged file: numbers start over, the letters are carried along.
        conn.execute("update outbox set seq = seq - 1", []).unwrap();
        bury(&conn, &run, 1, "schema", "", Mono(0)).unwrap();
        let mut stmt = conn
            .prepare("select id from dead_letter order by seq")
            .unwrap();
        let dead: Vec<RecordId> = stmt
            .query_map([], |r| r.get(0).map(RecordId))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        assert_eq!(dead, ids[..2]);
    }
}
