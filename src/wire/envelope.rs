//! Records as CloudEvents 1.0 JSON (batched mode), rendered when they are sent.
//!
//! SQLite keeps a [`Record`]'s body with its moments as boot-time readings (`{"$at": ns}`); [`render`] turns them into
//! RFC 3339 with what is known of that boot's clock by then. So a record made before the clock was known leaves with
//! the right time, and nothing has to be rewritten in place.

use serde_json::{Map, Value, json};

use crate::model::Class;
use crate::model::{BootId, EpochId, RecordId, Severity};
use crate::time::{Mono, TimeQuality, Wall};

const TYPE_PREFIX: &str = "io.sentrycam.";
const MOMENT_KEY: &str = "$at";

/// A record as a task makes it: what happened, to what, how much it matters.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Its identity and the cloud's idempotency key.
    pub id: RecordId,
    /// Type without prefix and version, e.g. `motion.started`.
    pub kind: &'static str,
    /// Outbox class: priority, quota and what happens when full.
    pub class: Class,
    /// `subject`: the camera, where there is one.
    pub subject: Option<String>,
    /// How much it matters.
    pub severity: Severity,
    /// When it happened.
    pub at: Mono,
    /// The payload; moments by [`moment`].
    pub data: Value,
}

/// A moment inside [`Record::data`], rendered as RFC 3339 when the record is sent.
pub fn moment(at: Mono) -> Value {
    json!({ MOMENT_KEY: at.0 })
}

impl Record {
    /// The body that the outbox stores: attributes that never change, and the data.
    pub fn stored_body(&self) -> String {
        json!({
            "type": format!("{TYPE_PREFIX}{}.v1", self.kind),
            "subject": self.subject,
            "severity": self.severity,
            "data": self.data,
        })
        .to_string()
    }
}

/// What is known of one boot's clock: `wall = boot time + offset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BootClock {
    /// Microseconds to add to CLOCK_BOOTTIME.
    pub offset_us: i64,
    /// How far the result can be trusted.
    pub quality: TimeQuality,
}

impl BootClock {
    /// Maps a moment of that boot to wall time.
    pub fn wall(self, at: Mono) -> Wall {
        Wall(
            i64::try_from(at.0 / 1000)
                .unwrap_or(i64::MAX)
                .saturating_add(self.offset_us),
        )
    }
}

/// A row of the outbox, ready to be rendered.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// Sequence number within the epoch.
    pub seq: u64,
    /// Identity.
    pub id: RecordId,
    /// The boot in which it was made.
    pub boot: BootId,
    /// When, on that boot's scale.
    pub at: Mono,
    /// As [`Record::stored_body`] wrote it.
    pub body: String,
    /// That boot's clock as known now.
    pub clock: BootClock,
}

/// Renders one record as a CloudEvent. `None` if the stored body is not the JSON object that was written.
pub fn render(edge_id: &str, epoch: EpochId, row: &Stored) -> Option<String> {
    let Ok(Value::Object(mut stored)) = serde_json::from_str::<Value>(&row.body) else {
        return None;
    };
    let mut data = stored.remove("data")?;
    resolve_moments(&mut data, row.clock);
    let mut event = Map::new();
    let mut put = |key: &str, value: Value| event.insert(key.to_owned(), value);
    put("specversion", "1.0".into());
    put("id", row.id.to_string().into());
    put("source", format!("urn:sentrycam:edge:{edge_id}").into());
    put("type", stored.remove("type")?);
    match stored.remove("subject") {
        None | Some(Value::Null) => {}
        Some(subject) => drop(put("subject", subject)),
    }
    put("time", row.clock.wall(row.at).rfc3339().into());
    put("timequality", serde_json::to_value(row.clock.quality).ok()?);
    put("sequence", format!("{:020}", row.seq).into());
    put("epoch", epoch.to_string().into());
    put("bootid", row.boot.to_string().into());
    put("severity", stored.remove("severity")?);
    put("datacontenttype", "application/json".into());
    put("data", data);
    serde_json::to_string(&event).ok()
}

fn resolve_moments(value: &mut Value, clock: BootClock) {
    match value {
        Value::Object(map) => {
            if map.len() == 1
                && let Some(ns) = map.get(MOMENT_KEY).and_then(Value::as_u64)
            {
                *value = clock.wall(Mono(ns)).rfc3339().into();
            } else {
                map.values_mut().for_each(|v| resolve_moments(v, clock));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|v| resolve_moments(v, clock)),
        _ => {}
    }
}

/// Joins rendered records into a batch body.
pub fn batch_body(events: &[String]) -> Vec<u8> {
    let mut out = Vec::with_capacity(events.iter().map(|e| e.len() + 1).sum::<usize>() + 2);
    out.push(b'[');
    for (i, event) in events.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        out.extend_from_slice(event.as_bytes());
    }
    out.push(b']');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn moments_follow_what_is_known_of_the_boot() {
        let record = Record {
            id: RecordId(Uuid::from_u128(7)),
            kind: "motion.started",
            class: Class::Alarm,
            subject: Some("cam-1".into()),
            severity: Severity::Warning,
            at: Mono(5_000_000_000),
            data: json!({"started_at": moment(Mono(4_000_000_000)), "score": 0.5}),
        };
        let mut row = Stored {
            seq: 42,
            id: record.id,
            boot: BootId(Uuid::from_u128(1)),
            at: record.at,
            body: record.stored_body(),
            clock: BootClock {
                offset_us: 0,
                quality: TimeQuality::None,
            },
        };
        let before: Value =
            serde_json::from_str(&render("e-1", EpochId(Uuid::nil()), &row).unwrap()).unwrap();
        assert_eq!(before["time"], "1970-01-01T00:00:05.000Z");
        assert_eq!(before["timequality"], "none");
        row.clock = BootClock {
            offset_us: 1_795_226_395_000_000,
            quality: TimeQuality::Synced,
        };
        let after: Value =
            serde_json::from_str(&render("e-1", EpochId(Uuid::nil()), &row).unwrap()).unwrap();
        assert_eq!(after["time"], "2026-11-21T02:00:00.000Z");
        assert_eq!(after["data"]["started_at"], "2026-11-21T01:59:59.000Z");
        assert_eq!(after["sequence"], "00000000000000000042");
        assert_eq!(after["type"], "io.sentrycam.motion.started.v1");
        assert_eq!(after["subject"], "cam-1");
    }

    #[test]
    fn a_damaged_body_is_no_record() {
        let row = Stored {
            seq: 1,
            id: RecordId(Uuid::nil()),
            boot: BootId(Uuid::nil()),
            at: Mono(0),
            body: "[]".into(),
            clock: BootClock {
                offset_us: 0,
                quality: TimeQuality::None,
            },
        };
        assert_eq!(render("e-1", EpochId(Uuid::nil()), &row), None);
    }

    #[test]
    fn a_batch_is_a_json_array() {
        assert_eq!(batch_body(&[]), b"[]");
        assert_eq!(batch_body(&["1".into(), "2".into()]), b"[1,2]");
    }
}
