//! How the clip disk is: one word for what can be done with it, made of what the system says and what writing met.

use std::time::Duration;

use serde::Serialize;

/// A flush that takes longer is worth telling.
pub const SLOW: Duration = Duration::from_secs(2);
/// Fewer free inodes than this are as good as none: a clip takes one, its directory perhaps another.
const FEW_INODES: u64 = 8;

/// What was seen of the disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Look {
    /// It had to be mounted and is not.
    pub missing: bool,
    /// It did not answer, or with this error.
    pub unreadable: Option<String>,
    /// Mounted read-only, perhaps by itself after an error.
    pub read_only: bool,
    /// Bytes.
    pub free: u64,
    /// Bytes that must be free for a clip to begin.
    pub floor: u64,
    /// `None` where the file system makes them as it needs them.
    pub inodes_free: Option<u64>,
    /// The last clip could not be written, because of this.
    pub write_error: Option<String>,
    /// How long the last clip took to be flushed.
    pub flush: Option<Duration>,
}

/// How the disk is; the worst that is true of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Storage {
    /// Clips can be written.
    #[default]
    Ok,
    /// Clips can be written, but flushing them takes long.
    Slow,
    /// Writing fails though nothing says why; it is tried again and again.
    Failing,
    /// Less is free than must be.
    Full,
    /// No file can be made.
    NoInodes,
    /// Mounted read-only.
    ReadOnly,
    /// It does not answer.
    Unreadable,
    /// Not mounted.
    Missing,
}

impl Storage {
    /// The word on the wire and in `status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Storage::Ok => "ok",
            Storage::Slow => "slow",
            Storage::Failing => "failing",
            Storage::Full => "full",
            Storage::NoInodes => "no_inodes",
            Storage::ReadOnly => "read_only",
            Storage::Unreadable => "unreadable",
            Storage::Missing => "missing",
        }
    }

    /// It is worth while to begin a clip.
    pub fn takes_clips(self) -> bool {
        self <= Storage::Failing
    }

    /// What a person can do.
    pub fn advice(self) -> &'static str {
        match self {
            Storage::Ok => "clips can be written",
            Storage::Slow => "flushing clips takes seconds: the card is worn out or too slow",
            Storage::Failing => "clips cannot be written: see the log, and dmesg for I/O errors",
            Storage::Full => {
                "too little is free and nothing may be deleted: lower retention.quota, unlock clips, or remove other files"
            }
            Storage::NoInodes => "the file system has no inodes left: remove small files",
            Storage::ReadOnly => {
                "mounted read-only, perhaps after an I/O error: check and remount the disk"
            }
            Storage::Unreadable => "the disk does not answer",
            Storage::Missing => "not mounted: mount it, or set spool.require_mount = false",
        }
    }
}

/// Judges what was seen.
pub fn judge(look: &Look) -> Storage {
    if look.missing {
        Storage::Missing
    } else if look.unreadable.is_some() {
        Storage::Unreadable
    } else if look.read_only {
        Storage::ReadOnly
    } else if look.inodes_free.is_some_and(|n| n < FEW_INODES) {
        Storage::NoInodes
    } else if look.free < look.floor {
        Storage::Full
    } else if look.write_error.is_some() {
        Storage::Failing
    } else if look.flush.is_some_and(|took| took > SLOW) {
        Storage::Slow
    } else {
        Storage::Ok
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_is_told_and_only_what_cannot_work_is_not_tried() {
        let sound = Look {
            free: 100,
            floor: 10,
            inodes_free: Some(1000),
            ..Look::default()
        };
        let cases = [
            (sound.clone(), Storage::Ok, true),
            (
                Look {
                    inodes_free: None,
                    ..sound.clone()
                },
                Storage::Ok,
                true,
            ),
            (
                Look {
                    flush: Some(Duration::from_secs(3)),
                    ..sound.clone()
                },
                Storage::Slow,
                true,
            ),
            (
                Look {
                    write_error: Some("EIO".into()),
                    ..sound.clone()
                },
                Storage::Failing,
                true,
            ),
            (
                Look {
                    free: 9,
                    write_error: Some("full".into()),
                    ..sound.clone()
                },
                Storage::Full,
                false,
            ),
            (
                Look {
                    inodes_free: Some(3),
                    ..sound.clone()
                },
                Storage::NoInodes,
                false,
            ),
            (
                Look {
                    read_only: true,
                    free: 9,
                    ..sound.clone()
                },
                Storage::ReadOnly,
                false,
            ),
            (
                Look {
                    unreadable: Some("EIO".into()),
                    ..sound.clone()
                },
                Storage::Unreadable,
                false,
            ),
            (
                Look {
                    missing: true,
                    read_only: true,
                    ..sound
                },
                Storage::Missing,
                false,
            ),
        ];
        for (look, storage, tried) in cases {
            assert_eq!(judge(&look), storage, "{look:?}");
            assert_eq!(storage.takes_clips(), tried, "{look:?}");
            assert!(!storage.advice().is_empty() && storage.as_str() == serde_json::json!(storage));
        }
    }
}
