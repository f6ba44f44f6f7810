//! What the broker's reason codes mean here (OASIS MQTT 5.0, section 2.4).

/// What the broker said of one publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It has it.
    Delivered,
    /// Nobody listens (0x10): the record is read by HTTPS.
    NobodyListens,
    /// Not allowed (0x87, 0x90): an alarm; nothing is published for five minutes.
    Denied,
    /// Later (0x97 and the like): nothing is published for a while.
    Later,
    /// Never in this form (0x99, too large): not this way; HTTPS decides what becomes of the record.
    Unfit,
}

impl Verdict {
    /// Of a PUBACK's code.
    pub fn of(code: u8) -> Verdict {
        match code {
            0x00 => Verdict::Delivered,
            0x10 => Verdict::NobodyListens,
            0x87 | 0x90 => Verdict::Denied,
            0x95 | 0x99 => Verdict::Unfit,
            _ => Verdict::Later,
        }
    }
}

/// Why a connection is over, or was none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// No connection, or it broke: network, TLS, the broker's process.
    Lost(String),
    /// The broker closed the connection in order, without a word why.
    Closed,
    /// No CONNACK within 10 s.
    NoConnack,
    /// CONNACK with this code.
    Refused(u8),
    /// No SUBACK within 15 s.
    NoSuback,
    /// The broker does not let us listen.
    SubscriptionRefused(u8),
    /// No PUBACK within 15 s.
    NoPuback,
    /// A ping was not answered.
    NoPong,
    /// DISCONNECT with this code.
    Disconnected(u8),
    /// What came is not MQTT, or not allowed in it.
    Protocol(&'static str),
    /// We ended it in order.
    Stopped,
}

/// What follows from an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Try again with backoff.
    Again,
    /// Repeating it would be answered the same: backoff goes on growing even if the session had worked.
    Suspect,
    /// The broker does not want this device: 5 min, then longer.
    Pause,
    /// Somebody else took the session.
    TakenOver,
    /// It looks so, where the session had been up and the broker goes on answering.
    PerhapsTakenOver,
}

impl Ended {
    /// What follows.
    pub fn remedy(&self) -> Remedy {
        match self {
            Ended::Refused(0x84..=0x87 | 0x8a | 0x8c | 0x9a | 0x9b)
            | Ended::SubscriptionRefused(_) => Remedy::Pause,
            Ended::Disconnected(0x8e) => Remedy::TakenOver,
            // Mosquitto 2.0 gives a session away without DISCONNECT; a broker that dies does not end TLS in order.
            Ended::Closed => Remedy::PerhapsTakenOver,
            Ended::Disconnected(0x81 | 0x82 | 0x8f..=0x95 | 0x99..=0x9b) | Ended::Protocol(_) => {
                Remedy::Suspect
            }
            _ => Remedy::Again,
        }
    }

    /// Whether the publication that was under way may be the cause.
    pub fn blames_publication(&self) -> bool {
        matches!(
            self,
            Ended::Disconnected(0x81 | 0x82 | 0x90 | 0x94 | 0x95 | 0x99..=0x9b)
        )
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Ended::Lost(why) => f.write_str(why),
            Ended::Closed => f.write_str("the broker closed the connection"),
            Ended::NoConnack => f.write_str("the broker does not answer (no CONNACK)"),
            Ended::Refused(code) => write!(f, "the broker refuses us: {}", words(*code)),
            Ended::NoSuback => f.write_str("the broker does not answer (no SUBACK)"),
            Ended::SubscriptionRefused(code) => {
                write!(f, "the broker does not let us listen: {}", words(*code))
            }
            Ended::NoPuback => f.write_str("the broker does not answer (no PUBACK)"),
            Ended::NoPong => f.write_str("the broker does not answer (no PINGRESP)"),
            Ended::Disconnected(code) => {
                write!(f, "the broker ended the session: {}", words(*code))
            }
            Ended::Protocol(what) => write!(f, "the broker sent what is not MQTT: {what}"),
            Ended::Stopped => f.write_str("stopped"),
        }
    }
}

fn words(code: u8) -> String {
    let text = match code {
        0x00 => "normal end",
        0x80 => "unspecified error",
        0x81 => "malformed packet",
        0x82 => "protocol error",
        0x83 => "implementation specific",
        0x84 => "protocol version",
        0x85 => "client id",
        0x86 => "user name or password",
        0x87 => "not authorized",
        0x88 => "unavailable",
        0x89 => "busy",
        0x8a => "banned",
        0x8b => "shutting down",
        0x8c => "authentication method",
        0x8d => "keep-alive timeout",
        0x8e => "another client took the session over",
        0x95 => "packet too large",
        0x97 => "quota exceeded",
        0x98 => "administrative action",
        0x9f => "connection rate",
        _ => "",
    };
    format!("{text} (0x{code:02x})").trim_start().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_has_its_meaning() {
        assert_eq!(Verdict::of(0x00), Verdict::Delivered);
        assert_eq!(Verdict::of(0x10), Verdict::NobodyListens);
        assert_eq!(Verdict::of(0x87), Verdict::Denied);
        assert_eq!(Verdict::of(0x97), Verdict::Later);
        assert_eq!(Verdict::of(0x99), Verdict::Unfit);
        assert_eq!(Ended::Refused(0x86).remedy(), Remedy::Pause);
        assert_eq!(Ended::Refused(0x87).remedy(), Remedy::Pause);
        assert_eq!(Ended::Refused(0x88).remedy(), Remedy::Again);
        assert_eq!(Ended::Disconnected(0x8e).remedy(), Remedy::TakenOver);
        assert_eq!(Ended::Closed.remedy(), Remedy::PerhapsTakenOver);
        assert_eq!(Ended::Disconnected(0x8b).remedy(), Remedy::Again);
        assert_eq!(Ended::Protocol("x").remedy(), Remedy::Suspect);
        assert!(Ended::Disconnected(0x95).blames_publication());
        assert!(!Ended::Disconnected(0x8b).blames_publication());
        assert_eq!(
            Ended::Refused(0x86).to_string(),
            "the broker refuses us: user name or password (0x86)"
        );
    }
}
