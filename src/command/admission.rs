//! Whether a document for this device is let in: the checks of the protocol in their order, on facts of the store.
//!
//! Size, header, signature and audience are behind it. What is left: expiry, id unseen, type known, arguments, policy,
//! capacity. The first that fails decides.

use super::document::{Life, Moment, Opened, life};
use super::kinds::{Command, Kind};
use super::limits::{MAX_OPEN, MAX_ROWS, REBOOTS_PER_HOUR};

/// What the store knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Facts {
    /// A row with this id exists.
    pub known: bool,
    /// What it asks for once only was asked for by another command.
    pub asked_before: bool,
    /// Commands that wait or run.
    pub open: usize,
    /// Restarts let in within the last hour.
    pub reboots: usize,
    /// Rows in all, after what may be forgotten is.
    pub rows: usize,
}

/// What becomes of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It gets a row and will run.
    Accept(Command),
    /// It gets a row that says so, and the cloud is told.
    Reject { code: &'static str, detail: String },
    /// It came before: nothing happens.
    Duplicate,
    /// Nothing happens, and nobody is told: the cloud knows by itself.
    Refuse { code: &'static str },
    /// Not now: nothing happens; it stays unacknowledged, and comes again.
    Later { code: &'static str },
}

/// Decides. `able` names what this device can carry out; `facts` is asked with what the command asks for once only.
pub fn decide(
    opened: &Opened,
    now: Moment,
    able: &[Kind],
    room: bool,
    facts: impl FnOnce(Option<&str>) -> Facts,
) -> Decision {
    let reject = |code, detail: &str| Decision::Reject {
        code,
        detail: detail.to_owned(),
    };
    let life = life(opened.exp, now);
    if life == Life::Over {
        return Decision::Refuse { code: "expired" };
    }
    let command = match &opened.asked {
        Ok(asked) => Command::parse(&asked.word, &asked.args).map_err(|e| (e.code, e.detail)),
        Err(wrong) => Err((wrong.code, wrong.detail.to_owned())),
    };
    let key = command.as_ref().ok().and_then(Command::once_key);
    let facts = facts(key.as_deref());
    if facts.known {
        return Decision::Duplicate;
    }
    // Without the time it cannot be told what is refused for its own: it waits for that as well.
    let late_is_safe = command.as_ref().is_ok_and(|c| c.kind().safe_without_time());
    if life == Life::Unknown || (life == Life::Perhaps && !late_is_safe) {
        return Decision::Later { code: "no-time" };
    }
    if facts.rows >= MAX_ROWS {
        return Decision::Later { code: "busy" };
    }
    if let Some(wrong) = opened.odd_times(now) {
        return reject(wrong.code, wrong.detail);
    }
    let command = match command {
        Ok(command) => command,
        Err((code, detail)) => return Decision::Reject { code, detail },
    };
    let kind = command.kind();
    if !able.contains(&kind) {
        return reject("unsupported", "this device cannot do that");
    }
    if facts.asked_before {
        return reject("duplicate", "another command asked for the same already");
    }
    if kind == Kind::Reboot && facts.reboots >= REBOOTS_PER_HOUR {
        return reject("limit", "3 restarts within an hour are the most");
    }
    if facts.open >= MAX_OPEN {
        return Decision::Later { code: "busy" };
    }
    if !room {
        return Decision::Later { code: "rate" };
    }
    Decision::Accept(command)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::document::{Asked, Wrong};
    use crate::model::CommandId;
    use crate::time::Wall;
    use serde_json::{Value, json};
    use uuid::Uuid;

    const NOW: i64 = 1_795_226_400;

    fn opened(word: &str, args: Value) -> Opened {
        Opened {
            id: CommandId(Uuid::from_u128(1)),
            n: 1,
            iat: NOW,
            exp: NOW + 300,
            asked: Ok(Asked {
                word: word.into(),
                args,
            }),
        }
    }

    fn trusted() -> Moment {
        Moment::Trusted(Wall::from_unix_seconds(NOW))
    }

    fn guess() -> Moment {
        Moment::Guess(Wall::from_unix_seconds(NOW))
    }

    fn code(decision: &Decision) -> &str {
        match decision {
            Decision::Accept(_) => "accept",
            Decision::Duplicate => "duplicate-id",
            Decision::Reject { code, .. }
            | Decision::Refuse { code }
            | Decision::Later { code } => code,
        }
    }

    /// Everything is wrong with it; from the last check to the first, each makes the ones behind it unseen.
    #[test]
    fn the_first_check_that_fails_decides() {
        let full = Facts {
            known: true,
            asked_before: true,
            open: 99,
            reboots: 9,
            rows: 0,
        };
        let over = Opened {
            exp: NOW,
            iat: NOW - 300,
            ..opened("nonsense", json!({}))
        };
        let go = |o: &Opened, able: &[Kind], room, facts: Facts| {
            code(&decide(o, trusted(), able, room, |_| facts)).to_owned()
        };
        assert_eq!(go(&over, &[], false, full), "expired");
        let unknown = opened("nonsense", json!({}));
        assert_eq!(go(&unknown, &[], false, full), "duplicate-id");
        let full = Facts {
            known: false,
            ..full
        };
        assert_eq!(go(&unknown, &[], false, full), "unsupported");
        let bad = opened("reboot", json!({ "delay_s": 999 }));
        assert_eq!(go(&bad, &[], false, full), "args");
        let reboot = opened("reboot", json!({}));
        assert_eq!(go(&reboot, &[], false, full), "unsupported");
        assert_eq!(go(&reboot, &Kind::ALL, false, full), "duplicate");
        let full = Facts {
            asked_before: false,
            ..full
        };
        assert_eq!(go(&reboot, &Kind::ALL, false, full), "limit");
        let full = Facts { reboots: 2, ..full };
        assert_eq!(go(&reboot, &Kind::ALL, false, full), "busy");
        let full = Facts { open: 31, ..full };
        assert_eq!(go(&reboot, &Kind::ALL, false, full), "rate");
        assert_eq!(go(&reboot, &Kind::ALL, true, full), "accept");
    }

    #[test]
    fn without_trusted_time_only_what_is_safe_and_lives_long_is_let_in() {
        let day = 86_400;
        for kind in Kind::ALL {
            let args = match kind {
                Kind::RecordingStart => {
                    json!({ "camera_id": "c", "recording_id": Uuid::from_u128(2),
                                                "max_duration_s": 5 })
                }
                Kind::RecordingStop
                | Kind::RecordingLock
                | Kind::RecordingUnlock
                | Kind::RecordingUpload => {
                    json!({ "recording_id": Uuid::from_u128(2) })
                }
                Kind::Snapshot => json!({ "camera_id": "c", "snapshot_id": Uuid::from_u128(2) }),
                Kind::StreamStart => {
                    json!({ "camera_id": "c", "session_id": Uuid::from_u128(2), "protocol": "srt",
                            "publish_endpoint": "srt://a.example:9", "expires_at": "2026-11-21T03:00:00Z" })
                }
                Kind::StreamRenew => {
                    json!({ "session_id": Uuid::from_u128(2), "expires_at": "2026-11-21T03:00:00Z" })
                }
                Kind::StreamStop => json!({ "session_id": Uuid::from_u128(2) }),
                Kind::Unclaim => json!({ "wipe": "all" }),
                _ => json!({}),
            };
            let short = opened(kind.as_str(), args);
            let long = Opened {
                exp: NOW + day + 1,
                ..short.clone()
            };
            let go = |o: &Opened, at| {
                let decision = decide(o, at, &Kind::ALL, true, |_| Facts::default());
                code(&decision).to_owned()
            };
            assert_eq!(go(&short, trusted()), "accept", "{kind:?}");
            assert_eq!(go(&short, guess()), "no-time", "{kind:?}");
            let expected = if kind.safe_without_time() {
                "accept"
            } else {
                "no-time"
            };
            assert_eq!(go(&long, guess()), expected, "{kind:?}");
        }
        let wrong = Opened {
            asked: Err(Wrong {
                code: "malformed",
                detail: "",
            }),
            ..opened("x", json!({}))
        };
        let waits = decide(&wrong, guess(), &Kind::ALL, true, |_| Facts::default());
        assert_eq!(waits, Decision::Later { code: "no-time" });
    }

    proptest::proptest! {
        #[test]
        fn nothing_is_let_in_after_its_expiry_or_twice(now: i32, exp: i32, known: bool, iat: i32) {
            let opened = Opened { iat: iat.into(), exp: exp.into(), ..opened("sync.now", json!({})) };
            let at = Moment::Trusted(Wall::from_unix_seconds(now.into()));
            let facts = Facts { known, ..Facts::default() };
            let decision = decide(&opened, at, &Kind::ALL, true, |_| facts);
            if let Decision::Accept(_) = decision {
                proptest::prop_assert!(exp > now && !known && iat <= now.saturating_add(300));
            }
        }
    }
}
