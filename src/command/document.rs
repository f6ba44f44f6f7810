//! The payload of a verified command document: who it is for, which command, how long it lives, what it asks.
//!
//! ```json
//! {"iss":"sentrycam-cloud","aud":"<edge_id>","jti":"<uuid>","n":7,"iat":…,"exp":…,"cmd":{"type":"…","args":{…}}}
//! ```

use serde_json::{Map, Value};

use crate::model::CommandId;
use crate::time::Wall;
use crate::wire::strict::{self, Bounds};

/// A document that lives longer than this is refused: what is remembered of commands is bounded.
pub const LONGEST_LIFE_S: i64 = 30 * 86_400;
/// A document may come from a cloud whose clock is ahead by this.
pub const SKEW_S: i64 = 300;
/// Where the time is not known, a document has to live this much longer than the earliest time that it can be.
const FAR_S: i64 = 86_400;
const ISSUER: &str = "sentrycam-cloud";
const BOUNDS: Bounds = Bounds {
    depth: 6,
    values: 256,
};

/// A document for this device: as much as can be said before its type is looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct Opened {
    /// The command's identity.
    pub id: CommandId,
    /// Its number at the cloud, counted for this device.
    pub n: u64,
    /// Issued, seconds since 1970.
    pub iat: i64,
    /// Not to be run from here on.
    pub exp: i64,
    /// Type and arguments, or what is wrong with the rest.
    pub asked: Result<Asked, Wrong>,
}

/// What it asks, not yet checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// Its type.
    pub word: String,
    /// Its arguments.
    pub args: Value,
}

/// Code and words for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wrong {
    /// `malformed` or `unsupported`.
    pub code: &'static str,
    /// What exactly.
    pub detail: &'static str,
}

/// What is known of the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Trusted (T2, T3).
    Trusted(Wall),
    /// T0, T1: a guess.
    Guess(Wall),
}

/// Whether a document may still be acted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// Yes.
    Alive,
    /// Surely not any more.
    Over,
    /// The time is not known; it lives long enough for what does no harm when it is late.
    Perhaps,
    /// The time is not known, and it is short-lived.
    Unknown,
}

/// Judges an expiry.
pub fn life(exp: i64, now: Moment) -> Life {
    match now {
        Moment::Trusted(now) if exp <= now.unix_seconds() => Life::Over,
        Moment::Trusted(_) => Life::Alive,
        Moment::Guess(now) if exp > now.unix_seconds().saturating_add(FAR_S) => Life::Perhaps,
        Moment::Guess(_) => Life::Unknown,
    }
}

/// Opens the payload for the device `edge_id`.
///
/// # Errors
/// A code, `malformed` or `audience`, where it is not known which command it is, or for whom.
pub fn open(payload: &[u8], edge_id: &str) -> Result<Opened, &'static str> {
    let Ok(Value::Object(mut claims)) = strict::parse(payload, BOUNDS) else {
        return Err("malformed");
    };
    match claims.remove("aud") {
        Some(Value::String(aud)) if aud == edge_id => {}
        Some(Value::String(_)) => return Err("audience"),
        _ => return Err("malformed"),
    }
    let Some(Value::String(jti)) = claims.remove("jti") else {
        return Err("malformed");
    };
    // One way to write an id, so that one command has one.
    let id: CommandId = jti.parse().map_err(|_| "malformed")?;
    if id.to_string() != jti || id.0.is_nil() {
        return Err("malformed");
    }
    let mut seconds = |name: &str| {
        let value = claims.remove(name).as_ref().and_then(Value::as_i64);
        value.filter(|s| *s >= 0).ok_or("malformed")
    };
    let (n, iat, exp) = (seconds("n")?, seconds("iat")?, seconds("exp")?);
    Ok(Opened {
        id,
        n: n.unsigned_abs(),
        iat,
        exp,
        asked: asked(claims),
    })
}

fn asked(mut rest: Map<String, Value>) -> Result<Asked, Wrong> {
    let wrong = |code, detail| Err(Wrong { code, detail });
    if rest.remove("iss").as_ref().and_then(Value::as_str) != Some(ISSUER) {
        return wrong("malformed", "iss is not the cloud");
    }
    let Some(Value::Object(mut cmd)) = rest.remove("cmd") else {
        return wrong("malformed", "there is no cmd");
    };
    if !rest.is_empty() {
        return wrong("unsupported", "an unknown claim");
    }
    let Some(Value::String(word)) = cmd.remove("type") else {
        return wrong("malformed", "cmd has no type");
    };
    let args = match cmd.remove("args") {
        None => Value::Object(Map::new()),
        Some(args @ Value::Object(_)) => args,
        Some(_) => return wrong("malformed", "args is no object"),
    };
    if !cmd.is_empty() {
        return wrong("unsupported", "an unknown member of cmd");
    }
    Ok(Asked { word, args })
}

impl Opened {
    /// What is wrong with its own times.
    pub fn odd_times(&self, now: Moment) -> Option<Wrong> {
        let wrong = |detail| {
            Some(Wrong {
                code: "times",
                detail,
            })
        };
        if self.exp <= self.iat || self.exp - self.iat > LONGEST_LIFE_S {
            return wrong("exp is not within 30 days after iat");
        }
        match now {
            Moment::Trusted(now) if self.iat > now.unix_seconds().saturating_add(SKEW_S) => {
                wrong("iat is in the future")
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ID: &str = "019af5d8-7a00-7000-8000-0000000000c1";

    fn claims() -> Value {
        json!({ "iss": "sentrycam-cloud", "aud": "e-1", "jti": ID, "n": 8, "iat": 1000, "exp": 1300,
                "cmd": { "type": "sync.now", "args": {} } })
    }

    fn open_value(value: &Value) -> Result<Opened, &'static str> {
        open(value.to_string().as_bytes(), "e-1")
    }

    #[test]
    fn a_document_opens() {
        let opened = open_value(&claims()).unwrap();
        assert_eq!((opened.n, opened.iat, opened.exp), (8, 1000, 1300));
        assert_eq!(opened.id.to_string(), ID);
        assert_eq!(opened.asked.unwrap().word, "sync.now");
    }

    #[test]
    fn without_audience_and_id_nothing_is_known_of_it() {
        let change = |key: &str, value: Value| {
            let mut c = claims();
            c[key] = value;
            open_value(&c)
        };
        assert_eq!(change("aud", json!("e-2")), Err("audience"));
        for (key, value) in [
            ("aud", json!(["e-1"])),
            ("aud", json!(null)),
            ("jti", json!("x")),
            ("jti", json!(ID.to_uppercase())),
            ("jti", json!(ID.replace('-', ""))),
            ("jti", json!("00000000-0000-0000-0000-000000000000")),
            ("n", json!(-1)),
            ("n", json!(1.5)),
            ("iat", json!("1000")),
            ("exp", json!(null)),
            ("exp", json!(true)),
        ] {
            assert_eq!(
                change(key, value.clone()),
                Err("malformed"),
                "{key} {value}"
            );
        }
        for text in ["", "[]", "1", "{", "{\"aud\":\"e-1\",\"aud\":\"e-1\"}"] {
            assert_eq!(open(text.as_bytes(), "e-1"), Err("malformed"));
        }
    }

    #[test]
    fn what_is_wrong_behind_that_is_told_with_the_id() {
        let change = |pointer: &str, value: Value| {
            let mut c = claims();
            *c.pointer_mut(pointer).unwrap() = value;
            open_value(&c).unwrap().asked.unwrap_err().code
        };
        assert_eq!(change("/iss", json!("somebody")), "malformed");
        assert_eq!(change("/cmd", json!("sync.now")), "malformed");
        assert_eq!(change("/cmd/type", json!(7)), "malformed");
        assert_eq!(change("/cmd/args", json!([])), "malformed");
        let mut c = claims();
        c["sub"] = json!("root");
        assert_eq!(
            open_value(&c).unwrap().asked.unwrap_err().code,
            "unsupported"
        );
        let mut c = claims();
        c["cmd"]["shell"] = json!(true);
        assert_eq!(
            open_value(&c).unwrap().asked.unwrap_err().code,
            "unsupported"
        );
    }

    #[test]
    fn life_is_judged_by_trusted_time_only() {
        let at = Wall::from_unix_seconds;
        assert_eq!(life(1300, Moment::Trusted(at(1299))), Life::Alive);
        assert_eq!(life(1300, Moment::Trusted(at(1300))), Life::Over);
        assert_eq!(life(1300, Moment::Guess(at(1299))), Life::Unknown);
        assert_eq!(life(1300, Moment::Guess(at(9999))), Life::Unknown);
        assert_eq!(life(200_000, Moment::Guess(at(1000))), Life::Perhaps);
    }

    #[test]
    fn odd_times_are_named() {
        let now = Moment::Trusted(Wall::from_unix_seconds(1000));
        let times = |iat: i64, exp: i64| {
            let mut c = claims();
            (c["iat"], c["exp"]) = (json!(iat), json!(exp));
            open_value(&c).unwrap().odd_times(now).is_some()
        };
        assert!(!times(1000, 1300) && !times(1300, 1600) && !times(0, LONGEST_LIFE_S));
        assert!(times(1301, 1600), "issued in the future");
        assert!(times(1000, 1000) && times(1000, 999) && times(0, LONGEST_LIFE_S + 1));
    }

    proptest::proptest! {
        #[test]
        fn no_payload_makes_it_panic(bytes: Vec<u8>, text in "\\PC{0,80}") {
            let _ = open(&bytes, "e-1");
            let _ = open(text.as_bytes(), "e-1");
        }

        #[test]
        fn no_time_makes_it_panic(exp: i64, now: i64, iat: i64) {
            let _ = life(exp, Moment::Trusted(Wall(now)));
            let _ = life(exp, Moment::Guess(Wall(now)));
            let (exp, iat) = (exp.saturating_abs(), iat.saturating_abs());
            let opened = Opened { id: CommandId(uuid::Uuid::nil()), n: 0, iat, exp,
                                  asked: Err(Wrong { code: "", detail: "" }) };
            let _ = opened.odd_times(Moment::Trusted(Wall(now)));
        }
    }
}
