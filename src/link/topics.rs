//! Topic names of one device, and which of its own a message came on.

use uuid::Uuid;

/// What can come down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Down {
    /// A signed command.
    Command,
    /// The signed desired state.
    Twin,
    /// "Ask by HTTPS now."
    Poke,
}

/// `edge/v1/<edge_id>/…`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topics {
    base: String,
}

impl Topics {
    /// Of this device; the id is of the checked form, so it holds no separator and no wildcard.
    pub fn of(edge_id: &str) -> Topics {
        Topics {
            base: format!("edge/v1/{edge_id}"),
        }
    }

    /// Presence, retained.
    pub fn state(&self) -> String {
        format!("{}/up/state", self.base)
    }

    /// States of one command.
    pub fn command_status(&self, command: Uuid) -> String {
        format!("{}/up/cmd/{command}/status", self.base)
    }

    /// The reported twin, retained.
    pub fn reported(&self) -> String {
        format!("{}/up/twin", self.base)
    }

    /// Copies of alarms.
    pub fn hint(&self) -> String {
        format!("{}/up/hint", self.base)
    }

    /// What to subscribe to, with its QoS.
    pub fn subscriptions(&self) -> Vec<(String, u8)> {
        [("cmd", 1), ("twin", 1), ("poke", 0)]
            .map(|(name, qos)| (format!("{}/down/{name}", self.base), qos))
            .into()
    }

    /// Which of its topics this is; `None`: not ours.
    pub fn down(&self, topic: &[u8]) -> Option<Down> {
        let rest = topic.strip_prefix(self.base.as_bytes())?;
        match rest {
            b"/down/cmd" => Some(Down::Command),
            b"/down/twin" => Some(Down::Twin),
            b"/down/poke" => Some(Down::Poke),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_device_s_own_topics_are_known() {
        let topics = Topics::of("e-1");
        assert_eq!(topics.down(b"edge/v1/e-1/down/cmd"), Some(Down::Command));
        assert_eq!(topics.down(b"edge/v1/e-1/down/twin"), Some(Down::Twin));
        assert_eq!(topics.down(b"edge/v1/e-1/down/poke"), Some(Down::Poke));
        for foreign in [
            &b"edge/v1/e-2/down/cmd"[..],
            b"edge/v1/e-11/down/cmd",
            b"edge/v1/e-1/down/cmd/x",
            b"edge/v1/e-1/up/state",
            b"",
            b"\xff\xfe",
        ] {
            assert_eq!(topics.down(foreign), None);
        }
        assert_eq!(
            topics.command_status(Uuid::nil()),
            "edge/v1/e-1/up/cmd/00000000-0000-0000-0000-000000000000/status"
        );
    }
}
