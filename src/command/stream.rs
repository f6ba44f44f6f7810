//! Arguments of the commands of live view. Addresses and keys are secrets: an address may hold a key, too.

use serde::{Deserialize, Deserializer};

use super::kinds::NotOurs;
use crate::model::{CameraId, LiveProtocol, Secret, SessionId};
use crate::time::Wall;

const LONGEST_ENDPOINT: usize = 2048;
const LONGEST_KEY: usize = 1024;

/// Arguments of `stream.start`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamStart {
    /// The session's identity, chosen by the cloud.
    pub session_id: SessionId,
    /// Which camera.
    pub camera_id: CameraId,
    /// How.
    pub protocol: LiveProtocol,
    /// Where to.
    pub publish_endpoint: Secret,
    /// What is shown there.
    #[serde(default)]
    pub stream_key: Option<Secret>,
    /// End of the lease.
    #[serde(deserialize_with = "moment")]
    pub expires_at: Wall,
}

/// Arguments of `stream.renew`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamRenew {
    /// Which.
    pub session_id: SessionId,
    /// End of the lease from now on.
    #[serde(deserialize_with = "moment")]
    pub expires_at: Wall,
}

/// Arguments of `stream.stop`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamStop {
    /// Which.
    pub session_id: SessionId,
}

impl StreamStart {
    /// Lengths and characters.
    pub(super) fn check(&self) -> Result<(), NotOurs> {
        let refuse = |detail: &str| {
            Err(NotOurs {
                code: "args",
                detail: detail.to_owned(),
            })
        };
        let endpoint = self.publish_endpoint.expose();
        if !(1..=LONGEST_ENDPOINT).contains(&endpoint.len()) {
            return refuse("publish_endpoint has not 1 to 2048 characters");
        }
        let good = |key: &str| {
            (1..=LONGEST_KEY).contains(&key.len()) && !key.chars().any(char::is_control)
        };
        if !self.stream_key.as_ref().is_none_or(|k| good(k.expose())) {
            return refuse("stream_key has not 1 to 1024 printable characters");
        }
        Ok(())
    }
}

fn moment<'de, D: Deserializer<'de>>(d: D) -> Result<Wall, D::Error> {
    let wrong = || serde::de::Error::custom("expires_at is not RFC 3339");
    let text = String::deserialize(d)?;
    Wall::parse_rfc3339(&text).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use crate::command::{Command, Kind};
    use serde_json::{Value, json};

    const ID: &str = "019af5d8-7a00-7000-8000-0000000000d1";

    fn start() -> Value {
        json!({ "session_id": ID, "camera_id": "door", "protocol": "rtmps",
                "publish_endpoint": "rtmps://live.example.com/app", "stream_key": "canary",
                "expires_at": "2026-11-21T03:00:00Z" })
    }

    #[test]
    fn the_three_commands_read_and_never_show_the_key() {
        let command = Command::parse("stream.start", &start()).unwrap();
        assert_eq!(command.kind(), Kind::StreamStart);
        assert_eq!(command.once_key(), Some(format!("stream.start/{ID}")));
        let shown = format!("{command:?}");
        assert!(
            !shown.contains("canary") && !shown.contains("live.example.com"),
            "{shown}"
        );
        let args = json!({ "session_id": ID, "expires_at": "2026-11-21T03:00:00+01:00" });
        assert_eq!(
            Command::parse("stream.renew", &args).unwrap().kind(),
            Kind::StreamRenew
        );
        let args = json!({ "session_id": ID });
        assert_eq!(
            Command::parse("stream.stop", &args).unwrap().kind(),
            Kind::StreamStop
        );
    }

    #[test]
    fn what_is_missing_wrong_or_unknown_is_refused() {
        let with = |name: &str, value: Value| {
            let mut args = start();
            args[name] = value;
            Command::parse("stream.start", &args)
        };
        assert!(
            with("stream_key", Value::Null).is_ok(),
            "there need not be one"
        );
        for (name, value, code) in [
            ("protocol", json!("http"), "args"),
            ("protocol", json!("RTSP"), "args"),
            ("camera_id", json!("../x"), "args"),
            ("session_id", json!("x"), "args"),
            ("publish_endpoint", json!(""), "args"),
            ("publish_endpoint", json!("x".repeat(2049)), "args"),
            ("stream_key", json!(""), "args"),
            ("stream_key", json!("canary\n"), "args"),
            ("stream_key", json!("k".repeat(1025)), "args"),
            ("expires_at", json!("tomorrow"), "args"),
            ("expires_at", json!(1_795_226_400), "args"),
            ("transcode", json!(true), "unsupported"),
        ] {
            let refused = with(name, value).unwrap_err();
            assert_eq!(refused.code, code, "{name}: {}", refused.detail);
            assert!(!refused.detail.contains("canary"), "{}", refused.detail);
        }
    }
}
