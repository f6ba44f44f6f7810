//! The messages of claiming (protocol section 8.3) as values: what is asked, and what each answer means.
//!
//! Nothing in an answer is trusted further than its form: every text is bounded and of a small alphabet before anyone
//! shows it, and whatever is not understood is [`Failure::Garbled`], which three times ends the window.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use url::Url;
use uuid::Uuid;

use super::seal::MAX_SEALED_BYTES;
use crate::model::Secret;
use crate::time::Wall;

/// An answer is not read further than this here.
const MAX_BODY_BYTES: usize = 64 << 10;
/// The letters of claim codes and user codes (RFC 8628 §6.1).
pub const CODE_ALPHABET: &str = "BCDFGHJKLMNPQRSTVWXZ";
/// Letters of a code.
pub const CODE_LETTERS: usize = 8;

/// A claim code as the tenant's administrator was given it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimCode(Secret);

impl ClaimCode {
    /// Reads a code; case, dashes and blanks do not matter.
    ///
    /// # Errors
    /// What a code looks like; the text does not repeat what was given.
    pub fn parse(text: &str) -> Result<ClaimCode, &'static str> {
        const FORM: &str = "a claim code is 8 letters such as WDJB-MJHT (no vowels, no digits)";
        if text.len() > 64 {
            return Err(FORM);
        }
        let blank = |c: &char| !matches!(c, '-' | ' ' | '\t' | '\r' | '\n');
        let letters: String = text.chars().filter(blank).collect();
        let letters = letters.to_ascii_uppercase();
        let right =
            letters.len() == CODE_LETTERS && letters.chars().all(|c| CODE_ALPHABET.contains(c));
        right.then(|| ClaimCode(Secret::new(letters))).ok_or(FORM)
    }

    /// The eight letters.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

/// What a device tells of itself to be recognised by a person; never a key to anything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// Of the first wired or wireless interface.
    pub mac: String,
    /// As the board has it.
    pub serial: String,
    /// As the board has it.
    pub model: String,
}

/// Body of `POST /edge/v1/claims`.
pub fn create_body(
    public: &[u8; 32],
    facts: &Facts,
    agent: &str,
    code: Option<&ClaimCode>,
) -> Vec<u8> {
    let body = serde_json::json!({
        "v": 1, "kem_pk": URL_SAFE_NO_PAD.encode(public), "mac": facts.mac, "serial": facts.serial,
        "model": facts.model, "agent": agent, "methods": ["B", "K", "U"],
        "claim_code": code.map(ClaimCode::expose),
    });
    body.to_string().into_bytes()
}

/// Body of `POST …/challenge`.
pub fn challenge_body(challenge: &str, count: u8) -> Vec<u8> {
    serde_json::json!({ "challenge_id": challenge, "count": count })
        .to_string()
        .into_bytes()
}

/// Why an answer did not bring the claim further.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// No answer, or not now: ask again, not before this where the cloud said so.
    Later(Option<Duration>),
    /// The cloud's own final word on this claim: its code, and what it says to people.
    Refused { code: String, detail: String },
    /// Not an answer of the protocol.
    Garbled,
}

/// An answer as it came.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// HTTP status.
    pub status: u16,
    /// Code of a problem document; empty where it is none.
    pub code: &'a str,
    /// How long the cloud asks to wait.
    pub retry_after: Option<Duration>,
    /// The body.
    pub body: &'a [u8],
}

/// A claim that the cloud opened for us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// Its name.
    pub id: Uuid,
    /// Proves that we asked for it.
    pub token: Secret,
    /// What the owner types in, eight letters.
    pub user_code: String,
    /// Where the owner types it in.
    pub verification_uri: Url,
    /// How long the cloud keeps it.
    pub expires_in: Duration,
    /// Time between polls.
    pub interval: Duration,
}

/// What a poll brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Polled {
    /// Nobody has bound it yet.
    Pending,
    /// The same, and we ask too often.
    SlowDown,
    /// Count presses.
    Challenge { id: String, window: Duration },
    /// Bound: the credentials, sealed to us.
    Sealed {
        blob: Vec<u8>,
        confirm_by: Option<Wall>,
    },
    /// None of these.
    Failed(Failure),
}

#[derive(Deserialize)]
struct WireCreated {
    claim_id: Uuid,
    claim_token: Secret,
    user_code: String,
    verification_uri: Url,
    expires_in: u64,
    interval: u64,
}

/// Reads the answer to `POST /edge/v1/claims`.
///
/// # Errors
/// [`Failure`].
pub fn parse_created(answer: &Answer<'_>) -> Result<Created, Failure> {
    if !matches!(answer.status, 200 | 201) {
        return Err(failure(answer));
    }
    let wire: WireCreated = json(answer.body).ok_or(Failure::Garbled)?;
    let user_code = ClaimCode::parse(&wire.user_code).map_err(|_| Failure::Garbled)?;
    let web = matches!(wire.verification_uri.scheme(), "https" | "http")
        && wire.verification_uri.as_str().len() <= 512;
    if !web || !is_token(wire.claim_token.expose(), 128) {
        return Err(Failure::Garbled);
    }
    Ok(Created {
        id: wire.claim_id,
        token: wire.claim_token,
        user_code: user_code.expose().to_owned(),
        verification_uri: wire.verification_uri,
        expires_in: Duration::from_secs(wire.expires_in.clamp(1, 3600)),
        interval: Duration::from_secs(wire.interval.clamp(1, 60)),
    })
}

#[derive(Deserialize)]
struct WireSealed {
    sealed: String,
    #[serde(default)]
    confirm_by: Option<String>,
}

#[derive(Deserialize)]
struct WireChallenge {
    challenge_id: String,
    window_s: u64,
}

/// Reads the answer to a poll.
pub fn parse_polled(answer: &Answer<'_>) -> Polled {
    if answer.status == 200 {
        let sealed = json::<WireSealed>(answer.body).and_then(|wire| {
            let blob = URL_SAFE_NO_PAD.decode(&wire.sealed).ok()?;
            (blob.len() <= MAX_SEALED_BYTES).then_some((blob, wire.confirm_by))
        });
        return match sealed {
            Some((blob, by)) => Polled::Sealed {
                blob,
                confirm_by: by.as_deref().and_then(Wall::parse_rfc3339),
            },
            None => Polled::Failed(Failure::Garbled),
        };
    }
    match (answer.status, code_of(answer).as_str()) {
        (400, "authorization_pending") => Polled::Pending,
        (400, "slow_down") => Polled::SlowDown,
        (400, "challenge") => match json::<WireChallenge>(answer.body) {
            Some(wire) if is_token(&wire.challenge_id, 64) => Polled::Challenge {
                id: wire.challenge_id,
                window: Duration::from_secs(wire.window_s.clamp(1, 60)),
            },
            _ => Polled::Failed(Failure::Garbled),
        },
        _ => Polled::Failed(failure(answer)),
    }
}

/// What came of a count that was sent.
pub fn parse_counted(answer: &Answer<'_>) -> Result<(), Failure> {
    match answer.status {
        200..300 => Ok(()),
        // Wrong, too late, or not asked for: the next poll tells what follows.
        400..500 if !code_of(answer).is_empty() && answer.status != 429 => Ok(()),
        _ => Err(failure(answer)),
    }
}

/// What the signed confirm brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Confirmed {
    /// The key is active.
    Active,
    /// The cloud says in its own words that there is nothing to confirm: the key was never active.
    Void,
    /// The clock was wrong or a nonce was seen twice: the answer's date is learned, sign again.
    Resign,
    /// The key is not known: what the cloud answers to a key that it has deleted.
    UnknownKey,
    /// Anything else: again, not before this where the cloud said so.
    Later(Option<Duration>),
}

/// Reads the answer to the confirm; `authentic` where its signature verified for this request.
pub fn parse_confirmed(answer: &Answer<'_>, authentic: bool) -> Confirmed {
    match (answer.status, answer.code) {
        (200..300, _) if authentic => Confirmed::Active,
        // A bare status may be a proxy's, and a 404 that of a wrong address: only these words count.
        (410, code) if !code.is_empty() => Confirmed::Void,
        (404, "unknown-claim") => Confirmed::Void,
        (401, "clock-skew" | "replayed-nonce") => Confirmed::Resign,
        (401, "unknown-key" | "invalid-signature") => Confirmed::UnknownKey,
        _ => Confirmed::Later(answer.retry_after),
    }
}

/// The code of an answer that is no success: of a problem document, or of an error as RFC 8628 has it.
fn code_of(answer: &Answer<'_>) -> String {
    #[derive(Deserialize)]
    struct OAuth {
        error: String,
    }
    let code = match answer.code {
        "" => json::<OAuth>(answer.body).map_or(String::new(), |o| o.error),
        code => code.to_owned(),
    };
    // Problem codes are written with dashes, RFC 8628's with underscores.
    match code.replace('-', "_") {
        code if is_token(&code, 64) => code,
        _ => String::new(),
    }
}

fn failure(answer: &Answer<'_>) -> Failure {
    #[derive(Deserialize)]
    struct Detail {
        #[serde(default)]
        detail: String,
    }
    let code = code_of(answer);
    match answer.status {
        429 | 408 | 500.. => Failure::Later(answer.retry_after),
        400..500 if !code.is_empty() => Failure::Refused {
            code,
            detail: json::<Detail>(answer.body).map_or(String::new(), |d| for_people(&d.detail)),
        },
        _ => Failure::Garbled,
    }
}

fn json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Option<T> {
    (body.len() <= MAX_BODY_BYTES)
        .then(|| serde_json::from_slice(body).ok())
        .flatten()
}

fn is_token(text: &str, longest: usize) -> bool {
    (1..=longest).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

/// One line without control characters, so that it can be shown on a terminal.
fn for_people(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREATED: &str = r#"{"claim_id":"019af5d8-7a00-7000-8000-000000000001",
        "claim_token":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8","user_code":"WDJBMJHT",
        "verification_uri":"https://app.example.com/claim","expires_in":600,"interval":5}"#;

    fn answer<'a>(status: u16, code: &'a str, body: &'a str) -> Answer<'a> {
        Answer {
            status,
            code,
            retry_after: None,
            body: body.as_bytes(),
        }
    }

    #[test]
    fn codes_are_read_as_people_write_them() {
        for text in ["WDJBMJHT", "wdjb-mjht", " wdjb mjht\n", "W-D-J-B-M-J-H-T"] {
            assert_eq!(ClaimCode::parse(text).unwrap().expose(), "WDJBMJHT");
        }
        for text in [
            "",
            "WDJBMJH",
            "WDJBMJHTT",
            "WDJBMJHA",
            "WDJBMJH1",
            "ЖDJBMJHT",
            &"B".repeat(65),
        ] {
            assert!(ClaimCode::parse(text).is_err(), "{text}");
        }
        let code = ClaimCode::parse("WDJBMJHT").unwrap();
        assert!(!format!("{code:?}").contains("WDJB"));
    }

    #[test]
    fn a_created_claim_is_read_and_bounded() {
        let created = parse_created(&answer(201, "", CREATED)).unwrap();
        assert_eq!(created.user_code, "WDJBMJHT");
        assert_eq!(created.interval, Duration::from_secs(5));
        let long = format!("https://app.example.com/{}", "x".repeat(600));
        for (from, to) in [
            ("WDJBMJHT", "\\u001b[2J"),
            ("https://app.example.com/claim", "javascript:alert(1)"),
            ("https://app.example.com/claim", long.as_str()),
            ("AAEC", "AA\\r\\nX: y"),
            ("\"interval\":5", "\"interval\":-1"),
            ("{\"claim_id\"", "{\"id\""),
        ] {
            let body = CREATED.replacen(from, to, 1);
            assert_eq!(
                parse_created(&answer(201, "", &body)),
                Err(Failure::Garbled),
                "{to}"
            );
        }
        let huge = CREATED.replace("600", "18446744073709551615");
        let created = parse_created(&answer(201, "", &huge)).unwrap();
        assert_eq!(created.expires_in, Duration::from_secs(3600));
    }

    #[test]
    fn each_answer_to_a_poll_has_its_meaning() {
        let refused = |code: &str, detail: &str| {
            Polled::Failed(Failure::Refused {
                code: code.into(),
                detail: detail.into(),
            })
        };
        for (status, code, body, meaning) in [
            (400, "authorization_pending", "{}", Polled::Pending),
            (400, "authorization-pending", "{}", Polled::Pending),
            (
                400,
                "",
                r#"{"error":"authorization_pending"}"#,
                Polled::Pending,
            ),
            (400, "slow_down", "{}", Polled::SlowDown),
            (
                400,
                "challenge",
                r#"{"challenge_id":"c-1","window_s":20}"#,
                Polled::Challenge {
                    id: "c-1".into(),
                    window: Duration::from_secs(20),
                },
            ),
            (
                400,
                "challenge",
                r#"{"challenge_id":"../x","window_s":20}"#,
                Polled::Failed(Failure::Garbled),
            ),
            (
                400,
                "access_denied",
                r#"{"detail":"no\u001b[2J thanks"}"#,
                refused("access_denied", "no[2J thanks"),
            ),
            (409, "conflict", "{}", refused("conflict", "")),
            (
                403,
                "license",
                r#"{"detail":"2 of 2 edge servers are claimed"}"#,
                refused("license", "2 of 2 edge servers are claimed"),
            ),
            (
                200,
                "",
                r#"{"sealed":"AAEC","confirm_by":"2026-11-21T02:00:00Z"}"#,
                Polled::Sealed {
                    blob: vec![0, 1, 2],
                    confirm_by: Some(Wall::from_unix_seconds(1_795_226_400)),
                },
            ),
            (
                200,
                "",
                r#"{"sealed":"not base64!"}"#,
                Polled::Failed(Failure::Garbled),
            ),
            (200, "", "<html>", Polled::Failed(Failure::Garbled)),
            (404, "", "<html>", Polled::Failed(Failure::Garbled)),
            (302, "", "", Polled::Failed(Failure::Garbled)),
            (429, "", "", Polled::Failed(Failure::Later(None))),
            (503, "unavailable", "", Polled::Failed(Failure::Later(None))),
        ] {
            assert_eq!(
                parse_polled(&answer(status, code, body)),
                meaning,
                "{status} {code} {body}"
            );
        }
    }

    #[test]
    fn only_signed_success_activates_and_only_the_clouds_own_words_void() {
        let confirmed =
            |status, code, authentic| parse_confirmed(&answer(status, code, ""), authentic);
        assert_eq!(confirmed(200, "", true), Confirmed::Active);
        assert_eq!(confirmed(200, "", false), Confirmed::Later(None));
        assert_eq!(confirmed(410, "expired", false), Confirmed::Void);
        assert_eq!(confirmed(404, "unknown-claim", false), Confirmed::Void);
        assert_eq!(confirmed(404, "not-found", false), Confirmed::Later(None));
        assert_eq!(confirmed(401, "clock-skew", false), Confirmed::Resign);
        assert_eq!(confirmed(401, "unknown-key", false), Confirmed::UnknownKey);
        for status in [401, 403, 404, 410, 500, 302] {
            assert_eq!(
                confirmed(status, "", false),
                Confirmed::Later(None),
                "{status}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn hostile_answers_never_panic(status: u16, code in ".{0,70}", body in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            let answer = Answer { status, code: &code, retry_after: None, body: &body };
            let _ = parse_created(&answer);
            let _ = parse_polled(&answer);
            let _ = parse_counted(&answer);
            let _ = parse_confirmed(&answer, true);
        }

        #[test]
        fn what_a_person_is_shown_has_no_control_characters(detail in ".{0,300}") {
            let body = serde_json::json!({ "detail": detail }).to_string();
            if let Polled::Failed(Failure::Refused { detail, .. }) = parse_polled(&answer(403, "license", &body)) {
                proptest::prop_assert!(detail.chars().count() <= 200 && !detail.chars().any(char::is_control));
            }
        }
    }
}
