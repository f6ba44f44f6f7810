//! `motion.*` records → `events`.
//!
//! ```text
//!  (nothing) ── started or updated ──▶ active ── ended ──▶ ended      ended is final: nothing reopens it
//!      └───────────────── ended ──────────────────────────▶
//! ```

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::parts::{self, Part, Parts};
use super::{Payload, check_camera_id, check_not_negative};
use crate::db::DbError;
use crate::edge::verify::Caller;
use crate::ingest::record::{Record, Severity};

/// Which record of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The first.
    Started,
    /// Any number between.
    Updated,
    /// The last.
    Ended,
}

/// How far a side may be outside of the picture: what rounding to 32 bits can do.
const SLACK: f64 = 1e-3;

/// A rectangle of the picture, 0 to 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Region {
    x: f64,
    y: f64,
    w: f64,
    h: f64,
    /// Number of the track that the box belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    track: Option<i64>,
}

/// `data` of the three types.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Data {
    /// The event's own id, the same in all its records.
    pub event_id: Uuid,
    /// Which camera saw it.
    pub camera_id: String,
    /// Counts up with each record of the event.
    pub rev: i64,
    /// Started and ended have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// Ended has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// Milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<i64>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// `motion`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub triggered_by: Option<String>,
    /// 0 to 1, now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// 0 to 1, the highest until now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_score: Option<f64>,
    /// Where in the picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regions: Option<Vec<Region>>,
    /// Names of the zones touched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zones: Option<Vec<String>>,
    /// Seconds of video from before the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preroll_s: Option<f64>,
    /// Why it ended: quiet, max_length, camera_lost, shutdown, crash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The recording that shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recording_id: Option<Uuid>,
}

impl Data {
    /// Checks what types cannot say.
    ///
    /// # Errors
    /// Which member is missing or out of range.
    pub fn check(&self, kind: Kind) -> Result<(), String> {
        check_camera_id(&self.camera_id)?;
        check_not_negative("rev", Some(self.rev))?;
        check_not_negative("duration_ms", self.duration_ms)?;
        for (name, score) in [("score", self.score), ("peak_score", self.peak_score)] {
            if score.is_some_and(|score| !(0.0..=1.0).contains(&score)) {
                return Err(format!("{name} is not within 0 and 1"));
            }
        }
        let regions = self.regions.iter().flatten();
        if regions
            .flat_map(|r| [r.x, r.y, r.w, r.h])
            .any(|side| !(-SLACK..=1.0 + SLACK).contains(&side))
        {
            return Err("a region is not within 0 and 1".into());
        }
        if kind != Kind::Updated && self.started_at.is_none() {
            return Err("started_at is missing".into());
        }
        if kind == Kind::Ended && self.ended_at.is_none() {
            return Err("ended_at is missing".into());
        }
        Ok(())
    }
}

/// Everything known of one event.
pub type Event = Parts<Kind, Data>;

/// The columns that follow from it.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    camera_id: String,
    title: Option<String>,
    triggered_by: Option<String>,
    /// The highest of any part.
    pub severity: Severity,
    status: &'static str,
    /// Start, or the earliest time known.
    pub occurred_at: Timestamp,
    ended_at: Option<Timestamp>,
    duration_ms: Option<i64>,
    recording_id: Option<Uuid>,
    meta: Value,
    rev: i64,
    epoch: Uuid,
    sequence: i64,
}

/// Derives the columns; none for an event without a part.
pub fn row(event: &Event) -> Option<Row> {
    let newest = event.newest()?;
    let ended = event.get(&Kind::Ended);
    let earliest = event.newest_first().map(|part| part.time).min()?;
    let peak = event
        .newest_first()
        .flat_map(|part| [part.data.score, part.data.peak_score])
        .flatten()
        .reduce(f64::max);
    let mut meta = json!({ "module": "motion" });
    let members = [
        ("score", event.said(|data| data.score).map(Value::from)),
        ("peak_score", peak.map(Value::from)),
        (
            "regions",
            event
                .said(|data| data.regions.clone())
                .map(|regions| json!(regions)),
        ),
        (
            "track_id",
            event
                .said(|data| data.regions.as_ref()?.first()?.track)
                .map(Value::from),
        ),
        (
            "zones",
            event.said(|data| data.zones.clone()).map(Value::from),
        ),
        (
            "reason",
            event.said(|data| data.reason.clone()).map(Value::from),
        ),
        (
            "preroll_s",
            event.said(|data| data.preroll_s).map(Value::from),
        ),
    ];
    for (name, value) in members {
        if let Some(value) = value {
            meta[name] = value;
        }
    }
    Some(Row {
        camera_id: newest.data.camera_id.clone(),
        title: event.said(|data| data.title.clone()),
        triggered_by: event.said(|data| data.triggered_by.clone()),
        severity: event.newest_first().map(|part| part.severity).max()?,
        status: if ended.is_some() { "ended" } else { "active" },
        occurred_at: event.said(|data| data.started_at).unwrap_or(earliest),
        ended_at: ended.and_then(|part| part.data.ended_at),
        duration_ms: ended.and_then(|part| part.data.duration_ms),
        recording_id: event.said(|data| data.recording_id),
        meta,
        rev: newest.rev,
        epoch: newest.epoch,
        sequence: newest.sequence,
    })
}

const LOAD: &str =
    "select event_uid, parts from events where device_id = $1 and event_uid = any($2)";

const SAVE: &str = "
    insert into events (id, organization_id, device_id, event_uid, camera_id, event_type, title,
                        triggered_by, severity, status, occurred_at, ended_at, duration_ms,
                        recording_id, meta, parts, rev, epoch, sequence)
    select r.id, $1, $2, r.uid, r.camera, 'motion', r.title, r.trigger, r.severity, r.status,
           r.occurred, r.ended, r.duration, r.recording, r.meta, r.parts, r.rev, r.epoch, r.sequence
    from unnest($3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
                $10::timestamptz[], $11::timestamptz[], $12::bigint[], $13::uuid[], $14::jsonb[],
                $15::jsonb[], $16::bigint[], $17::uuid[], $18::bigint[])
      r (id, uid, camera, title, trigger, severity, status, occurred, ended, duration, recording,
         meta, parts, rev, epoch, sequence)
    on conflict (device_id, event_uid) do update set
      camera_id = excluded.camera_id, title = excluded.title, triggered_by = excluded.triggered_by,
      severity = excluded.severity, status = excluded.status, occurred_at = excluded.occurred_at,
      ended_at = excluded.ended_at, duration_ms = excluded.duration_ms,
      recording_id = excluded.recording_id, meta = excluded.meta, parts = excluded.parts,
      rev = excluded.rev, epoch = excluded.epoch, sequence = excluded.sequence, updated_at = now()";

/// Merges the records of a batch into their events.
pub(super) async fn project(
    tx: &Transaction<'_>,
    caller: &Caller,
    records: &[&Record],
) -> Result<(), DbError> {
    let said = records.iter().filter_map(|record| match &record.payload {
        Payload::Motion(kind, data) => {
            let part = Part::of(record, data.rev, (**data).clone());
            Some((data.event_id, *kind, part))
        }
        _ => None,
    });
    let events = parts::merge(tx, LOAD, caller.device_id, said.collect()).await?;
    if events.is_empty() {
        return Ok(());
    }
    let rows: Vec<(Uuid, Value, Row)> = events
        .iter()
        .filter_map(|(uid, event)| Some((*uid, json!(event), row(event)?)))
        .collect();
    macro_rules! column {
        ($field:ident) => {
            rows.iter()
                .map(|(_, _, row)| row.$field.clone())
                .collect::<Vec<_>>()
        };
    }
    let new_ids: Vec<Uuid> = rows.iter().map(|_| Uuid::now_v7()).collect();
    let uids: Vec<Uuid> = rows.iter().map(|(uid, _, _)| *uid).collect();
    let parts: Vec<&Value> = rows.iter().map(|(_, parts, _)| parts).collect();
    let severities: Vec<&str> = rows.iter().map(|(_, _, row)| row.severity.word()).collect();
    let save = tx.prepare_cached(SAVE).await?;
    tx.execute(
        &save,
        &[
            &caller.organization_id,
            &caller.device_id,
            &new_ids,
            &uids,
            &column!(camera_id),
            &column!(title),
            &column!(triggered_by),
            &severities,
            &column!(status),
            &column!(occurred_at),
            &column!(ended_at),
            &column!(duration_ms),
            &column!(recording_id),
            &column!(meta),
            &parts,
            &column!(rev),
            &column!(epoch),
            &column!(sequence),
        ],
    )
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(kind: Kind, rev: i64, time_s: i64) -> (Kind, Part<Data>) {
        let start = Timestamp::from_second(1_795_226_400).unwrap();
        let at = Timestamp::from_second(1_795_226_400 + time_s).unwrap();
        let data = Data {
            event_id: Uuid::nil(),
            camera_id: "cam-1".into(),
            rev,
            started_at: (kind != Kind::Updated).then_some(start),
            ended_at: (kind == Kind::Ended).then_some(at),
            duration_ms: (kind == Kind::Ended).then_some(time_s * 1000),
            title: (kind == Kind::Started).then(|| "Motion".into()),
            triggered_by: None,
            score: (kind != Kind::Ended).then_some(0.1 * rev as f64),
            peak_score: (kind != Kind::Started).then_some(0.1 * rev as f64),
            regions: None,
            zones: (kind == Kind::Started).then(|| vec!["door".into()]),
            preroll_s: None,
            reason: None,
            recording_id: None,
        };
        let severity = if rev == 2 {
            Severity::Warning
        } else {
            Severity::Info
        };
        let part = Part {
            rev,
            sequence: rev,
            epoch: Uuid::nil(),
            time: at,
            severity,
            data,
        };
        (kind, part)
    }

    /// Calls `visit` with every order of the items (Heap's algorithm).
    fn every_order<T: Clone>(items: &mut Vec<T>, k: usize, visit: &mut impl FnMut(&[T])) {
        if k <= 1 {
            return visit(items);
        }
        for i in 0..k {
            every_order(items, k - 1, visit);
            let j = if k.is_multiple_of(2) { i } else { 0 };
            items.swap(j, k - 1);
        }
    }

    #[test]
    fn every_order_of_the_records_leads_to_the_same_row() {
        let mut records = vec![
            part(Kind::Started, 1, 0),
            part(Kind::Updated, 2, 1),
            part(Kind::Updated, 3, 2),
            part(Kind::Updated, 4, 3),
            part(Kind::Updated, 4, 3),
            part(Kind::Ended, 5, 4),
        ];
        let mut rows = Vec::new();
        let count = records.len();
        every_order(&mut records, count, &mut |order| {
            let mut event = Event::default();
            for (kind, part) in order {
                event.add(*kind, part.clone());
                assert!(row(&event).is_some());
            }
            rows.push(row(&event).unwrap());
        });
        assert_eq!(rows.len(), 720);
        assert!(rows.iter().all(|row| *row == rows[0]));
        assert_eq!(rows[0].status, "ended");
        assert_eq!(rows[0].title.as_deref(), Some("Motion"));
        assert_eq!(rows[0].rev, 5);
        assert_eq!(rows[0].meta["peak_score"], 0.5);
    }

    #[test]
    fn an_update_alone_is_an_active_event_with_a_provisional_start() {
        let mut event = Event::default();
        let (kind, updated) = part(Kind::Updated, 3, 2);
        event.add(kind, updated.clone());
        let alone = row(&event).unwrap();
        assert_eq!((alone.status, alone.occurred_at), ("active", updated.time));
        let (kind, started) = part(Kind::Started, 1, 0);
        event.add(kind, started.clone());
        assert_eq!(row(&event).unwrap().occurred_at, started.time);
    }

    #[test]
    fn data_out_of_range_is_refused_by_name() {
        let base = part(Kind::Started, 1, 0).1.data;
        let high = Data {
            score: Some(1.1),
            ..base.clone()
        };
        assert_eq!(
            high.check(Kind::Started).unwrap_err(),
            "score is not within 0 and 1"
        );
        let nameless = Data {
            camera_id: String::new(),
            ..base.clone()
        };
        assert!(nameless.check(Kind::Started).is_err());
        assert!(base.check(Kind::Ended).unwrap_err().contains("ended_at"));
        let outside = Data {
            regions: Some(vec![Region {
                x: 0.0,
                y: 0.0,
                w: 2.0,
                h: 0.1,
                track: None,
            }]),
            ..base
        };
        assert!(outside.check(Kind::Started).is_err());
    }
}
