//! Identifiers. UUIDs are version 7 (time-ordered) and are made by the shells, never by a decision.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(s: &str) -> Result<Self, uuid::Error> {
                s.parse().map($name)
            }
        }
    };
}

uuid_id!(
    /// An event (motion from start to end); the cloud's `events.event_uid`.
    EventId
);
uuid_id!(
    /// One record on the wire; the CloudEvents `id` and the cloud's idempotency key.
    RecordId
);
uuid_id!(
    /// One clip or segment; also the stem of its file name in the spool.
    RecordingId
);
uuid_id!(
    /// A command of the cloud (`jti`); it takes effect at most once.
    CommandId
);
uuid_id!(
    /// A picture taken on command; also the stem of its file name in the spool.
    SnapshotId
);
uuid_id!(
    /// One live session: a camera published for so long.
    SessionId
);
uuid_id!(
    /// Made when the SQLite file is created; with a sequence number it names every record ever.
    EpochId
);
uuid_id!(
    /// `/proc/sys/kernel/random/boot_id`: the boot in which a [`crate::time::Mono`] value was read.
    BootId
);

/// A camera's name in configuration, records and paths: 1–32 of `a-z 0-9 -`, starting with a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct CameraId(String);

impl CameraId {
    /// The longest allowed name in bytes.
    pub const MAX_LEN: usize = 32;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CameraId {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let ok = (1..=Self::MAX_LEN).contains(&s.len())
            && s.bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !s.starts_with('-');
        if ok {
            Ok(CameraId(s.to_owned()))
        } else {
            Err(format!(
                "expected 1 to 32 of a-z, 0-9 and '-', not starting with '-', found {s:?}"
            ))
        }
    }
}

impl<'de> Deserialize<'de> for CameraId {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for CameraId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn camera_ids_are_safe_in_paths_and_topics() {
        assert!("cam-1".parse::<CameraId>().is_ok());
        for bad in ["", "../x", "Cam", "-a", "a/b", "a b", &"x".repeat(33)] {
            assert!(bad.parse::<CameraId>().is_err(), "{bad:?}");
        }
    }
}
