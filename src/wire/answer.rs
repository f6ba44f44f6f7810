//! What the cloud answered to a batch, and what the device does about it (the table of protocol section 3.4).
//!
//! The rule behind the table: a record leaves the outbox only on its own `accepted` or `duplicate`. Whatever else
//! comes back, truncated, hostile or from a captive portal, deletes nothing.

use std::collections::HashMap;
use std::time::Duration;

use serde::Deserialize;

use crate::model::RecordId;
use crate::time::Wall;

/// The cloud's verdict on one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordVerdict {
    /// Committed, now or earlier: delete it.
    Settled,
    /// Will never be accepted: move it to the dead letters.
    Rejected { code: String, detail: String },
    /// Keep it and send it again.
    Retry,
}

/// A parsed 200 answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Results {
    /// By record; a record that is missing is kept.
    pub records: HashMap<RecordId, RecordVerdict>,
    /// Commands wait at the cloud.
    pub commands_pending: u64,
    /// The newest version of the twin.
    pub twin_version: Option<u64>,
}

#[derive(Deserialize)]
struct WireResults {
    results: Vec<WireResult>,
    #[serde(default)]
    commands_pending: u64,
    #[serde(default)]
    twin_version: Option<u64>,
}

#[derive(Deserialize)]
struct WireResult {
    id: RecordId,
    status: String,
    #[serde(default)]
    code: String,
    #[serde(default)]
    detail: String,
}

/// Parses the body of a 200. `None`: not a result list; nothing may be deleted.
pub fn parse_results(body: &[u8]) -> Option<Results> {
    if body.len() > crate::model::limits::MAX_ANSWER_BYTES {
        return None;
    }
    let wire: WireResults = serde_json::from_slice(body).ok()?;
    if wire.results.len() > crate::model::limits::MAX_BATCH_RECORDS {
        return None;
    }
    let mut results = Results {
        commands_pending: wire.commands_pending,
        twin_version: wire.twin_version,
        ..Results::default()
    };
    for r in wire.results {
        let verdict = match r.status.as_str() {
            "accepted" | "duplicate" => RecordVerdict::Settled,
            "rejected" => RecordVerdict::Rejected {
                code: cut(r.code, 64),
                detail: cut(r.detail, 512),
            },
            _ => RecordVerdict::Retry,
        };
        // Two verdicts on one record contradict each other: keep it.
        results
            .records
            .entry(r.id)
            .and_modify(|v| {
                if *v != verdict {
                    *v = RecordVerdict::Retry
                }
            })
            .or_insert(verdict);
    }
    Some(results)
}

fn cut(mut s: String, max: usize) -> String {
    if s.len() > max {
        let end = (0..=max)
            .rev()
            .find(|i| s.is_char_boundary(*i))
            .unwrap_or(0);
        s.truncate(end);
    }
    s
}

/// The `code` of a problem (RFC 9457, `urn:sentrycam:problem:<code>`); empty where there is none.
pub fn problem_code(content_type: &str, body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Problem {
        #[serde(rename = "type")]
        kind: String,
    }
    if !content_type.starts_with("application/problem+json")
        || body.len() > crate::model::limits::MAX_ANSWER_BYTES
    {
        return String::new();
    }
    serde_json::from_slice::<Problem>(body)
        .ok()
        .and_then(|p| {
            p.kind
                .strip_prefix("urn:sentrycam:problem:")
                .map(|code| cut(code.to_owned(), 64))
        })
        .unwrap_or_default()
}

/// `Retry-After` as a length of time from `now` (RFC 9110 §10.2.3: seconds or an HTTP date), one day at most.
pub fn retry_after(value: &str, now: Wall) -> Option<Duration> {
    let longest = Duration::from_secs(86_400);
    if let Ok(seconds) = value.trim().parse::<u64>() {
        return Some(Duration::from_secs(seconds).min(longest));
    }
    let date = parse_http_date(value)?;
    Some(Duration::from_micros(u64::try_from(date.since_us(now)).unwrap_or(0)).min(longest))
}

/// Reads an HTTP date (RFC 9110 §5.6.7, IMF-fixdate).
pub fn parse_http_date(value: &str) -> Option<Wall> {
    let t = jiff::fmt::rfc2822::parse(value.trim()).ok()?;
    Some(Wall(t.timestamp().as_microsecond()))
}

/// What happened to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// No answer: network, TLS, or an answer that is not HTTP.
    NoAnswer,
    /// No answer: the certificate is not valid at the time that we take it to be.
    WrongDates,
    /// Connected, but no whole answer in time.
    TimedOut,
    /// An answer with this status, problem code and `Retry-After`; `authentic` where its signature verified.
    Answer {
        status: u16,
        code: String,
        retry_after: Option<Duration>,
        results: Option<Results>,
        authentic: bool,
    },
}

impl Outcome {
    /// Nothing was heard of the cloud: the way may be closed.
    pub fn is_silence(&self) -> bool {
        matches!(self, Outcome::NoAnswer | Outcome::TimedOut)
    }
}

/// What the device does next. Every kind but [`Reaction::Settle`] keeps all records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reaction {
    /// Apply the verdicts, go on.
    Settle(Results),
    /// Wait (this long where the cloud said so, else back off) and send the same batch again.
    Backoff(Option<Duration>),
    /// Back off, then send less at once: the link may be too slow for this much.
    Smaller,
    /// Send again at once with a new nonce, once; then back off. The answer's `Date` corrects the clock first.
    Resign,
    /// Make the batch smaller; a batch of one goes to the dead letters. `alarm` counts it as a fault.
    Split { code: &'static str, alarm: bool },
    /// The key is not accepted: pause 5 min, doubling to 1 h. Nothing is wiped.
    AuthLost,
    /// The account is suspended or the licence is missing: try again in 15 min.
    Suspended,
    /// The address is wrong: try again in an hour.
    Misconfigured,
    /// The cloud refuses compression: off for 24 h, same records again.
    NoCompression,
    /// The batch needs a new idempotency key.
    NewKey,
    /// The cloud wants a newer agent: keep buffering, try again in an hour.
    TooOld,
    /// A proven word of the cloud that this device is no longer its owner's.
    Unclaimed,
}

/// Decides what an answer means. An answer that would destroy something counts only when it is authentic (S4).
pub fn react(outcome: Outcome) -> Reaction {
    let (status, code, retry_after, results, authentic) = match outcome {
        Outcome::NoAnswer | Outcome::WrongDates => return Reaction::Backoff(None),
        Outcome::TimedOut => return Reaction::Smaller,
        Outcome::Answer {
            status,
            code,
            retry_after,
            results,
            authentic,
        } => (status, code, retry_after, results, authentic),
    };
    match status {
        200..=299 => match results {
            Some(results) => Reaction::Settle(results),
            None => Reaction::Backoff(retry_after),
        },
        // Only the cloud's own words end in the dead letters; a proxy's 400 says nothing about a record.
        400 if code == "malformed" || code == "digest-mismatch" => Reaction::Split {
            code: "malformed",
            alarm: true,
        },
        401 => match code.as_str() {
            "clock-skew" | "replayed-nonce" | "missing-component" => Reaction::Resign,
            "unknown-key" | "invalid-signature" => Reaction::AuthLost,
            _ => Reaction::Backoff(retry_after),
        },
        403 => Reaction::Suspended,
        404 | 405 => Reaction::Misconfigured,
        409 => Reaction::Backoff(Some(retry_after.unwrap_or(Duration::from_secs(2)))),
        410 if authentic && code == "unclaimed" => Reaction::Unclaimed,
        413 => Reaction::Split {
            code: "too-large",
            alarm: false,
        },
        415 => Reaction::NoCompression,
        422 => Reaction::NewKey,
        426 => Reaction::TooOld,
        _ => Reaction::Backoff(retry_after),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, code: &str) -> Outcome {
        Outcome::Answer {
            status,
            code: code.into(),
            retry_after: None,
            results: None,
            authentic: false,
        }
    }

    #[test]
    fn only_settled_records_may_be_deleted() {
        let body = br#"{"results":[{"id":"019af5d8-7a00-7000-8000-000000000001","status":"accepted"},
            {"id":"019af5d8-7a00-7000-8000-000000000002","status":"duplicate"},
            {"id":"019af5d8-7a00-7000-8000-000000000003","status":"rejected","code":"schema","detail":"x"},
            {"id":"019af5d8-7a00-7000-8000-000000000004","status":"retry","code":"db"},
            {"id":"019af5d8-7a00-7000-8000-000000000005","status":"something new"}],"commands_pending":3,"twin_version":7}"#;
        let results = parse_results(body).unwrap();
        let verdict = |n: u128| {
            results.records[&RecordId(uuid::Uuid::from_u128(
                0x019a_f5d8_7a00_7000_8000_0000_0000_0000 + n,
            ))]
                .clone()
        };
        assert_eq!(verdict(1), RecordVerdict::Settled);
        assert_eq!(verdict(2), RecordVerdict::Settled);
        assert!(matches!(verdict(3), RecordVerdict::Rejected { .. }));
        assert_eq!(verdict(4), RecordVerdict::Retry);
        assert_eq!(verdict(5), RecordVerdict::Retry);
        assert_eq!(
            (results.commands_pending, results.twin_version),
            (3, Some(7))
        );
    }

    #[test]
    fn contradicting_verdicts_keep_the_record() {
        let id = "019af5d8-7a00-7000-8000-000000000001";
        let body = format!(
            r#"{{"results":[{{"id":"{id}","status":"accepted"}},{{"id":"{id}","status":"rejected"}}]}}"#
        );
        let results = parse_results(body.as_bytes()).unwrap();
        assert_eq!(results.records[&id.parse().unwrap()], RecordVerdict::Retry);
    }

    #[test]
    fn a_200_that_is_no_result_list_deletes_nothing() {
        for body in [
            &b""[..],
            b"<html>sign in to the hotel's network</html>",
            b"{}",
            b"{\"results\":7}",
            b"[]",
            b"{\"results\":[{}]}",
        ] {
            assert_eq!(parse_results(body), None, "{body:?}");
        }
        assert_eq!(react(answer(200, "")), Reaction::Backoff(None));
    }

    #[test]
    fn the_table_of_errors() {
        assert_eq!(react(Outcome::NoAnswer), Reaction::Backoff(None));
        assert_eq!(react(Outcome::TimedOut), Reaction::Smaller);
        assert_eq!(react(answer(400, "")), Reaction::Backoff(None));
        assert_eq!(
            react(answer(400, "malformed")),
            Reaction::Split {
                code: "malformed",
                alarm: true
            }
        );
        assert_eq!(
            react(answer(400, "digest-mismatch")),
            Reaction::Split {
                code: "malformed",
                alarm: true
            }
        );
        assert_eq!(react(answer(401, "clock-skew")), Reaction::Resign);
        assert_eq!(react(answer(401, "replayed-nonce")), Reaction::Resign);
        assert_eq!(react(answer(401, "missing-component")), Reaction::Resign);
        assert_eq!(react(answer(401, "unknown-key")), Reaction::AuthLost);
        assert_eq!(react(answer(401, "invalid-signature")), Reaction::AuthLost);
        assert_eq!(react(answer(401, "")), Reaction::Backoff(None));
        assert_eq!(react(answer(403, "suspended")), Reaction::Suspended);
        assert_eq!(react(answer(404, "")), Reaction::Misconfigured);
        assert_eq!(react(answer(405, "")), Reaction::Misconfigured);
        assert_eq!(
            react(answer(409, "in-progress")),
            Reaction::Backoff(Some(Duration::from_secs(2)))
        );
        assert_eq!(
            react(answer(413, "too-large")),
            Reaction::Split {
                code: "too-large",
                alarm: false
            }
        );
        assert_eq!(react(answer(415, "encoding")), Reaction::NoCompression);
        assert_eq!(react(answer(422, "idempotency-mismatch")), Reaction::NewKey);
        assert_eq!(react(answer(426, "agent-too-old")), Reaction::TooOld);
        for status in [408, 429, 500, 502, 503, 504, 302, 418] {
            assert_eq!(
                react(answer(status, "")),
                Reaction::Backoff(None),
                "{status}"
            );
        }
    }

    #[test]
    fn an_unsigned_410_wipes_nothing() {
        assert_eq!(react(answer(410, "unclaimed")), Reaction::Backoff(None));
        let signed = Outcome::Answer {
            status: 410,
            code: "unclaimed".into(),
            retry_after: None,
            results: None,
            authentic: true,
        };
        assert_eq!(react(signed), Reaction::Unclaimed);
    }

    #[test]
    fn retry_after_reads_seconds_and_dates() {
        let now = Wall::from_unix_seconds(1_795_226_400);
        assert_eq!(retry_after("120", now), Some(Duration::from_secs(120)));
        assert_eq!(
            retry_after("Sat, 21 Nov 2026 02:01:00 GMT", now),
            Some(Duration::from_secs(60))
        );
        assert_eq!(
            retry_after("Sat, 21 Nov 2026 01:00:00 GMT", now),
            Some(Duration::ZERO)
        );
        assert_eq!(
            retry_after("99999999999", now),
            Some(Duration::from_secs(86_400))
        );
        assert_eq!(retry_after("soon", now), None);
    }

    proptest::proptest! {
        #[test]
        fn hostile_answers_never_panic(body in proptest::collection::vec(proptest::num::u8::ANY, 0..512), text in ".{0,100}") {
            let _ = parse_results(&body);
            let _ = problem_code("application/problem+json", &body);
            let _ = retry_after(&text, Wall::EPOCH);
        }
    }
}
