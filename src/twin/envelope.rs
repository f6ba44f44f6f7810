//! The claims around a twin's document: who wrote it, for whom, and which version it is.

use serde_json::{Map, Value};

use super::MAX_BYTES;
use crate::time::Wall;
use crate::wire::strict::{self, Bounds};

/// Who writes twins.
const ISSUER: &str = "sentrycam-cloud";
/// A twin may be this far ahead of our clock, in microseconds.
const MAX_SKEW_US: i64 = 300_000_000;
/// A picture's corner is 8 deep; 64 cameras with all their zones have about 140,000 values, which is too large in bytes.
const BOUNDS: Bounds = Bounds {
    depth: 16,
    values: 60_000,
};
const KNOWN: [&str; 5] = ["iss", "aud", "iat", "version", "doc"];

/// A document and its version.
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope {
    /// Grows with every change.
    pub version: u64,
    /// The document, unchecked.
    pub doc: Map<String, Value>,
}

/// Why claims are refused before their document is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Longer than [`MAX_BYTES`].
    #[error("too-large")]
    TooLarge,
    /// No JSON object, a key twice, too deep, or claims of the wrong form.
    #[error("malformed")]
    Malformed,
    /// For another device, or by somebody else.
    #[error("not-for-us")]
    NotForUs,
    /// Written later than now.
    #[error("from-the-future")]
    FromTheFuture,
}

impl Envelope {
    /// Reads verified claims; `now` where the time is known.
    ///
    /// # Errors
    /// [`Refusal`]; nothing of the claims can be believed then, not even the version.
    pub fn parse(claims: &[u8], edge_id: &str, now: Option<Wall>) -> Result<Envelope, Refusal> {
        if claims.len() > MAX_BYTES {
            return Err(Refusal::TooLarge);
        }
        let Ok(Value::Object(mut map)) = strict::parse(claims, BOUNDS) else {
            return Err(Refusal::Malformed);
        };
        if map.keys().any(|k| !KNOWN.contains(&k.as_str())) {
            return Err(Refusal::Malformed);
        }
        if map.get("iss").and_then(Value::as_str) != Some(ISSUER)
            || map.get("aud").and_then(Value::as_str) != Some(edge_id)
        {
            return Err(Refusal::NotForUs);
        }
        let iat = map.get("iat").and_then(Value::as_i64);
        let issued = Wall::from_unix_seconds(iat.ok_or(Refusal::Malformed)?);
        if now.is_some_and(|now| issued.since_us(now) > MAX_SKEW_US) {
            return Err(Refusal::FromTheFuture);
        }
        let version = map.get("version").and_then(Value::as_u64);
        let version = version.filter(|v| (1..=strict::MAX_INTEGER).contains(v));
        match (version, map.remove("doc")) {
            (Some(version), Some(Value::Object(doc))) => Ok(Envelope { version, doc }),
            _ => Err(Refusal::Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Envelope, Refusal> {
        let now = Some(Wall::from_unix_seconds(1_800_000_000));
        Envelope::parse(text.as_bytes(), "e-1", now)
    }

    #[test]
    fn claims_are_of_us_for_us_and_not_of_tomorrow() {
        let good = r#"{"iss":"sentrycam-cloud","aud":"e-1","iat":1800000200,"version":3,"doc":{}}"#;
        assert_eq!(parse(good).unwrap().version, 3);
        use Refusal::{FromTheFuture, Malformed, NotForUs};
        for (from, to, why) in [
            ("e-1", "e-2", NotForUs),
            ("\"e-1\"", "[\"e-1\"]", NotForUs),
            ("sentrycam-cloud", "broker", NotForUs),
            ("1800000200", "1800000400", FromTheFuture),
            ("1800000200", "9007199254740991", FromTheFuture),
            ("1800000200", "\"now\"", Malformed),
            ("1800000200", "1e300", Malformed),
            (":3", ":0", Malformed),
            (":3", ":-3", Malformed),
            (":3", ":3.5", Malformed),
            (":3", ":18446744073709551615", Malformed),
            (":3", ":\"3\"", Malformed),
            (":3", ":3,\"version\":4", Malformed),
            (":3", ":3,\"exp\":1", Malformed),
            ("{}", "[]", Malformed),
            ("{}", "null", Malformed),
            (",\"doc\":{}", "", Malformed),
        ] {
            assert_eq!(parse(&good.replace(from, to)), Err(why), "{from} {to}");
        }
        assert_eq!(parse(&" ".repeat(MAX_BYTES + 1)), Err(Refusal::TooLarge));
    }
}
