//! What a session is, from the device's records, its command and its lease. Pure.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::command::state::Status;
use crate::project::parts::Parts;

/// Which record of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It is published.
    Live,
    /// It is over as it should be.
    Ended,
    /// It is over as it should not be.
    Failed,
}

/// `data` of these types.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Data {
    /// The session.
    pub session_id: Uuid,
    /// Counts up with each record of the session.
    pub rev: i64,
    /// First picture at the media server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// Last picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// Why it is over, as a word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Published so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<i64>,
}

/// Everything the device said of one session.
pub type Session = Parts<Kind, Data>;

/// What the cloud knows beside the records.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// Of its `stream.start`.
    pub command: Status,
    /// Why that ended.
    pub code: Option<&'a str>,
    /// When that ended.
    pub completed_at: Option<Timestamp>,
    /// When the cloud gave it up.
    pub lapsed_at: Option<Timestamp>,
}

/// The row that follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The word.
    pub status: &'static str,
    /// When it was over.
    pub ended_at: Option<Timestamp>,
    /// Why.
    pub reason: Option<String>,
}

/// Decides; a device's end is final, the cloud's own only until the device speaks.
pub fn decide(session: &Session, known: Known<'_>) -> Shown {
    let ends = [Kind::Ended, Kind::Failed].map(|kind| (kind, session.get(&kind)));
    let end = ends
        .into_iter()
        .filter_map(|(kind, part)| Some((kind, part?)))
        .max_by_key(|(_, part)| (part.rev, part.sequence));
    let over = |status, at, reason: Option<&str>| Shown {
        status,
        ended_at: at,
        reason: reason.map(|reason| reason.chars().take(64).collect()),
    };
    if let Some((kind, part)) = end {
        let status = if kind == Kind::Ended {
            "ended"
        } else {
            "failed"
        };
        let at = part.data.ended_at.unwrap_or(part.time);
        return over(status, Some(at), part.data.reason.as_deref());
    }
    if let Some(at) = known.lapsed_at {
        return over("ended", Some(at), Some("lease"));
    }
    if session.get(&Kind::Live).is_some() {
        return over("live", None, None);
    }
    let code = known.code.or(Some(known.command.word()));
    match known.command {
        Status::Canceled | Status::Expired => over("canceled", known.completed_at, code),
        Status::Failed | Status::Rejected | Status::TimedOut => {
            over("failed", known.completed_at, code)
        }
        _ => over("requested", None, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::record::Severity;
    use crate::project::parts::Part;

    fn said(kind: Kind, rev: i64) -> (Kind, Part<Data>) {
        let data = Data {
            session_id: Uuid::nil(),
            rev,
            started_at: None,
            ended_at: None,
            reason: Some("word".into()),
            detail: None,
            bytes: None,
        };
        let part = Part {
            rev,
            sequence: rev,
            epoch: Uuid::nil(),
            time: Timestamp::UNIX_EPOCH,
            severity: Severity::Info,
            data,
        };
        (kind, part)
    }

    fn status(records: &[(Kind, i64)], command: Status, lapsed: bool) -> &'static str {
        let mut session = Session::default();
        for &(kind, rev) in records {
            let (kind, part) = said(kind, rev);
            session.add(kind, part);
        }
        let at = Some(Timestamp::UNIX_EPOCH);
        let known = Known {
            command,
            code: None,
            completed_at: at.filter(|_| command.is_end()),
            lapsed_at: at.filter(|_| lapsed),
        };
        let shown = decide(&session, known);
        let is_over = matches!(shown.status, "ended" | "failed" | "canceled");
        assert_eq!(shown.ended_at.is_some(), is_over, "{shown:?}");
        shown.status
    }

    #[test]
    fn the_device_has_the_last_word() {
        use Kind::*;
        for (records, command, lapsed, shown) in [
            (&[][..], Status::Queued, false, "requested"),
            (&[], Status::Succeeded, false, "requested"),
            (&[], Status::Rejected, false, "failed"),
            (&[], Status::TimedOut, false, "failed"),
            (&[], Status::Expired, false, "canceled"),
            (&[], Status::Canceled, false, "canceled"),
            (&[], Status::Succeeded, true, "ended"),
            (&[(Live, 1)], Status::Acknowledged, false, "live"),
            // The command's time was over, yet it came up.
            (&[(Live, 1)], Status::TimedOut, false, "live"),
            (&[(Live, 1)], Status::Succeeded, true, "ended"),
            (&[(Failed, 2)], Status::Succeeded, true, "failed"),
            (&[(Ended, 2), (Live, 1)], Status::Succeeded, false, "ended"),
            (
                &[(Live, 3), (Failed, 2)],
                Status::Succeeded,
                false,
                "failed",
            ),
            (
                &[(Ended, 2), (Failed, 3)],
                Status::Succeeded,
                false,
                "failed",
            ),
        ] {
            assert_eq!(
                status(records, command, lapsed),
                shown,
                "{records:?} {command:?}"
            );
        }
    }
}
