//! One record of a batch: a CloudEvent (1.0, JSON) with the extensions of section 4.1, checked.
//!
//! What this module accepts, the database accepts: sizes, words, ranges and the zero byte (which JSON
//! has and PostgreSQL's text has not) are settled here, so that storing a batch normally cannot fail
//! for one record's sake. A type that is not known is a record like any other.

use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use crate::project::Payload;

/// Most bytes of one record as JSON.
const MAX_RECORD_BYTES: usize = 64 * 1024;
/// Most levels of `data`.
const MAX_DEPTH: usize = 16;

const SNAPSHOT: &str = "io.sentrycam.snapshot.taken.v1";

/// A record that will never be accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The word a device logs and counts by.
    pub code: &'static str,
    /// What is wrong, for people.
    pub detail: String,
}

/// A checked record.
#[derive(Debug, Clone)]
pub struct Record {
    /// CloudEvents `id`.
    pub id: Uuid,
    /// CloudEvents `type`, whole.
    pub kind: String,
    /// The camera, mostly.
    pub subject: Option<String>,
    /// The device's time.
    pub time: Timestamp,
    /// How much that time is worth.
    pub timequality: Option<String>,
    /// Which database of the device.
    pub epoch: Uuid,
    /// Place in that database.
    pub sequence: i64,
    /// Which boot of the device.
    pub boot_id: Option<Uuid>,
    /// `info`, `warning` or `critical`.
    pub severity: Severity,
    /// The envelope as sent.
    pub envelope: Value,
    /// What the projections make of `data`.
    pub payload: Payload,
}

/// The three words of severity, in order.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing to do.
    Info,
    /// Worth a look.
    Warning,
    /// Raises an alert.
    Critical,
}

impl Severity {
    /// The word in the database.
    pub fn word(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

fn schema(detail: impl Into<String>) -> Rejection {
    Rejection {
        code: "schema",
        detail: detail.into(),
    }
}

fn text<'a>(envelope: &'a Value, name: &str) -> Result<Option<&'a str>, Rejection> {
    match envelope.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(schema(format!("{name} must be a string"))),
    }
}

fn required<'a>(envelope: &'a Value, name: &str) -> Result<&'a str, Rejection> {
    text(envelope, name)?.ok_or_else(|| schema(format!("{name} is missing")))
}

fn uuid(envelope: &Value, name: &str) -> Result<Option<Uuid>, Rejection> {
    text(envelope, name)?
        .map(|text| Uuid::try_parse(text).map_err(|_| schema(format!("{name} must be a uuid"))))
        .transpose()
}

impl Record {
    /// The camera that it is about, if it is about one; `snapshot.taken` has no projection and says it in its data.
    pub fn camera_id(&self) -> Option<&str> {
        let snapshot = || {
            let data = self
                .envelope
                .get("data")
                .filter(|_| self.kind == SNAPSHOT)?;
            data.get("camera_id").and_then(Value::as_str)
        };
        self.payload.camera_id().or_else(snapshot)
    }

    /// Checks one item of a batch that the device `edge_id` sent.
    ///
    /// # Errors
    /// `schema` when an attribute is missing or wrong, `source` when it is another device's record,
    /// `too-large` for its size.
    pub fn check(envelope: &Value, edge_id: &str) -> Result<Self, Rejection> {
        if !envelope.is_object() {
            return Err(schema("a record must be an object"));
        }
        if envelope.to_string().len() > MAX_RECORD_BYTES {
            return Err(Rejection {
                code: "too-large",
                detail: "a record is at most 64 KiB".into(),
            });
        }
        clean(envelope, 0)?;
        if required(envelope, "specversion")? != "1.0" {
            return Err(schema("specversion must be 1.0"));
        }
        let id = uuid(envelope, "id")?.ok_or_else(|| schema("id is missing"))?;
        if required(envelope, "source")?.strip_prefix("urn:sentrycam:edge:") != Some(edge_id) {
            let detail = "source must be urn:sentrycam:edge:<edge_id> of the device that sends it";
            return Err(Rejection {
                code: "source",
                detail: detail.into(),
            });
        }
        let kind = required(envelope, "type")?;
        if !(1..=128).contains(&kind.chars().count()) {
            return Err(schema("type must have 1 to 128 characters"));
        }
        let subject = text(envelope, "subject")?;
        if subject.is_some_and(|subject| !(1..=128).contains(&subject.chars().count())) {
            return Err(schema("subject must have 1 to 128 characters"));
        }
        let time = required(envelope, "time")?
            .parse::<Timestamp>()
            .map_err(|_| schema("time must be an RFC 3339 time"))?;
        let timequality = text(envelope, "timequality")?;
        if !matches!(timequality, None | Some("none" | "floor" | "synced")) {
            return Err(schema("timequality must be none, floor or synced"));
        }
        let sequence = required(envelope, "sequence")?;
        if sequence.len() != 20 || !sequence.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(schema("sequence must have 20 digits"));
        }
        let sequence = sequence
            .parse::<i64>()
            .map_err(|_| schema("sequence is out of range"))?;
        let epoch = uuid(envelope, "epoch")?.ok_or_else(|| schema("epoch is missing"))?;
        let severity = match text(envelope, "severity")? {
            None | Some("info") => Severity::Info,
            Some("warning") => Severity::Warning,
            Some("critical") => Severity::Critical,
            Some(_) => return Err(schema("severity must be info, warning or critical")),
        };
        let payload = Payload::read(kind, envelope.get("data").unwrap_or(&Value::Null))
            .map_err(|error| schema(format!("data: {error}")))?;
        Ok(Self {
            id,
            kind: kind.to_owned(),
            subject: subject.map(str::to_owned),
            time,
            timequality: timequality.map(str::to_owned),
            epoch,
            sequence,
            boot_id: uuid(envelope, "bootid")?,
            severity,
            envelope: envelope.clone(),
            payload,
        })
    }
}

/// Refuses the zero character and deep nesting. The envelope itself is level 0, `data` level 1.
fn clean(value: &Value, depth: usize) -> Result<(), Rejection> {
    let clean_text = |text: &str| {
        if text.contains('\0') {
            Err(schema("a string has a zero character"))
        } else {
            Ok(())
        }
    };
    if depth > MAX_DEPTH && (value.is_object() || value.is_array()) {
        return Err(schema("data is nested more than 16 levels"));
    }
    match value {
        Value::String(text) => clean_text(text),
        Value::Array(items) => items.iter().try_for_each(|item| clean(item, depth + 1)),
        Value::Object(members) => members.iter().try_for_each(|(name, member)| {
            clean_text(name)?;
            clean(member, depth + 1)
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn envelope() -> Value {
        json!({
            "specversion": "1.0", "id": "019af5d8-7a00-7000-8000-000000000001",
            "source": "urn:sentrycam:edge:e-1", "type": "io.example.anything.v9",
            "time": "2026-11-21T02:00:00.000Z", "sequence": "00000000000000000042",
            "epoch": "019af5d8-0000-7000-8000-0000000000aa", "data": {},
        })
    }

    #[test]
    fn an_unknown_type_is_a_record() {
        let record = Record::check(&envelope(), "e-1").unwrap();
        assert_eq!(record.sequence, 42);
        assert!(matches!(record.payload, Payload::Other));
    }

    #[test]
    fn each_wrong_attribute_is_rejected_with_its_name() {
        for (name, value, code) in [
            ("specversion", json!("0.3"), "schema"),
            ("specversion", json!(null), "schema"),
            ("id", json!("1"), "schema"),
            ("id", json!(1), "schema"),
            ("source", json!("urn:sentrycam:edge:e-2"), "source"),
            ("source", json!("e-1"), "source"),
            ("type", json!(""), "schema"),
            ("type", json!("x".repeat(129)), "schema"),
            ("subject", json!(7), "schema"),
            ("time", json!("yesterday"), "schema"),
            ("timequality", json!("good"), "schema"),
            ("sequence", json!("42"), "schema"),
            ("sequence", json!(42), "schema"),
            ("sequence", json!("99999999999999999999"), "schema"),
            ("epoch", json!(""), "schema"),
            ("bootid", json!("x"), "schema"),
            ("severity", json!("high"), "schema"),
            ("data", json!({"a": "nul \0"}), "schema"),
            ("data", json!("x".repeat(70_000)), "too-large"),
        ] {
            let mut changed = envelope();
            changed[name] = value.clone();
            let rejection = Record::check(&changed, "e-1").unwrap_err();
            assert_eq!(rejection.code, code, "{name}: {}", rejection.detail);
        }
        assert_eq!(Record::check(&json!([]), "e-1").unwrap_err().code, "schema");
    }

    #[test]
    fn data_may_have_sixteen_levels_and_no_more() {
        let nested = |levels| (1..levels).fold(json!([]), |inner, _| json!([inner]));
        let mut fits = envelope();
        fits["data"] = nested(16);
        assert!(Record::check(&fits, "e-1").is_ok());
        fits["data"] = nested(17);
        assert_eq!(Record::check(&fits, "e-1").unwrap_err().code, "schema");
    }
}
