//! What an upload is made of. Pure.
//!
//! Below 8 MiB a file is one plain PUT; above, a multipart upload of parts of 5 MiB, the least that S3
//! takes, so that a broken connection costs little.

use std::collections::BTreeMap;

use serde::Deserialize;
use uuid::Uuid;

use crate::problem::Problem;
use crate::storage::Part;
use crate::storage::keys::Kind;

/// From this size on, in parts.
pub const MULTIPART_FROM: u64 = 8 * 1024 * 1024;
/// Bytes of a part; the last has what is left.
pub const PART_SIZE: u64 = 5 * 1024 * 1024;
/// Most bytes of a recording: 820 parts, fewer than a storage lists in one answer.
pub const MAX_RECORDING: u64 = 4 * 1024 * 1024 * 1024;
/// Most bytes of a picture.
pub const MAX_SNAPSHOT: u64 = 16 * 1024 * 1024;
/// Most addresses of one answer; the device asks again for the rest.
pub const MAX_ADDRESSES: usize = 32;

/// Body of `POST /edge/v1/uploads`.
#[derive(Debug, Clone, Deserialize)]
pub struct Wanted {
    recording_id: Option<Uuid>,
    snapshot_id: Option<Uuid>,
    size: u64,
    sha256: String,
    content_type: String,
}

/// The same, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// What it is.
    pub kind: Kind,
    /// Its id on the device.
    pub uid: Uuid,
    /// Bytes.
    pub size: u64,
    /// Lower-case hexadecimal.
    pub sha256: String,
    /// One of those of its kind.
    pub content_type: &'static str,
    /// Ending of its key.
    pub ending: &'static str,
}

impl Wanted {
    /// Checks what types cannot say.
    ///
    /// # Errors
    /// 400 `malformed`, or 413 `too-large`.
    pub fn check(&self) -> Result<Checked, Problem> {
        let (kind, uid) = match (self.recording_id, self.snapshot_id) {
            (Some(uid), None) => (Kind::Recording, uid),
            (None, Some(uid)) => (Kind::Snapshot, uid),
            _ => {
                return Err(Problem::malformed(
                    "one of recording_id and snapshot_id is needed",
                ));
            }
        };
        let is_hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        if self.sha256.len() != 64 || !self.sha256.bytes().all(is_hex) {
            return Err(Problem::malformed(
                "sha256 must be 64 lower-case hexadecimal digits",
            ));
        }
        let (content_type, ending) = kind
            .content_types()
            .iter()
            .find(|(name, _)| *name == self.content_type)
            .ok_or_else(|| {
                Problem::malformed(
                    "content_type must be video/mp4, or image/jpeg or image/png for a snapshot",
                )
            })?;
        let most = match kind {
            Kind::Recording => MAX_RECORDING,
            Kind::Snapshot => MAX_SNAPSHOT,
        };
        if self.size == 0 {
            return Err(Problem::malformed("size must not be 0"));
        }
        if self.size > most {
            return Err(Problem::too_large(format!("at most {most} bytes")));
        }
        Ok(Checked {
            kind,
            uid,
            size: self.size,
            sha256: self.sha256.clone(),
            content_type,
            ending,
        })
    }
}

/// Bytes of a part of a file of this size; 0 for one plain PUT.
pub fn part_size(size: u64) -> u64 {
    if size < MULTIPART_FROM { 0 } else { PART_SIZE }
}

/// One range of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Range {
    /// Part number, from 1.
    pub n: u16,
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
}

/// The ranges of a file, in order; a plain PUT is one.
pub fn ranges(size: u64, part_size: u64) -> Vec<Range> {
    let step = if part_size == 0 { size } else { part_size };
    (1..)
        .map_while(|n: u16| {
            let offset = u64::from(n - 1) * step;
            (offset < size).then(|| Range {
                n,
                offset,
                size: step.min(size - offset),
            })
        })
        .collect()
}

/// The ranges that the storage does not have, or has in another size.
pub fn missing(ranges: &[Range], parts: &BTreeMap<u16, Part>) -> Vec<Range> {
    let is_there = |range: &Range| {
        parts
            .get(&range.n)
            .is_some_and(|part| part.size == range.size)
    };
    ranges
        .iter()
        .filter(|range| !is_there(range))
        .copied()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn ranges_cover_a_file_without_gap_or_overlap() {
        for size in [
            1,
            2,
            MULTIPART_FROM - 1,
            MULTIPART_FROM,
            MULTIPART_FROM + 1,
            2 * PART_SIZE,
            100 * PART_SIZE + 1,
            MAX_RECORDING,
        ] {
            let part = part_size(size);
            let ranges = ranges(size, part);
            let mut next = 0;
            for (at, range) in ranges.iter().enumerate() {
                assert_eq!((usize::from(range.n), range.offset), (at + 1, next));
                next += range.size;
                let is_last = at + 1 == ranges.len();
                assert!(range.size > 0 && (is_last || range.size == PART_SIZE));
            }
            assert_eq!(next, size);
            assert_eq!(ranges.len() == 1, size < MULTIPART_FROM);
            assert!(ranges.len() <= 1000);
        }
    }

    #[test]
    fn a_part_of_another_size_is_missing() {
        let ranges = ranges(12 * 1024 * 1024, PART_SIZE);
        let part = |size| Part { size, etag: None };
        let has = BTreeMap::from([(1, part(PART_SIZE)), (2, part(PART_SIZE - 1)), (9, part(1))]);
        let numbers: Vec<u16> = missing(&ranges, &has).iter().map(|range| range.n).collect();
        assert_eq!(numbers, [2, 3]);
    }

    #[test]
    fn what_cannot_be_uploaded_is_refused() {
        let right = json!({
            "recording_id": Uuid::nil(), "size": 1, "sha256": "a".repeat(64), "content_type": "video/mp4",
        });
        let check = |value: &Value| {
            let wanted: Wanted = serde_json::from_value(value.clone()).unwrap();
            wanted.check().map_err(|problem| problem.code)
        };
        assert_eq!(check(&right).unwrap().ending, "mp4");
        for (name, value, code) in [
            ("recording_id", Value::Null, "malformed"),
            ("snapshot_id", json!(Uuid::nil()), "malformed"),
            ("size", json!(0), "malformed"),
            ("size", json!(MAX_RECORDING + 1), "too-large"),
            ("sha256", json!("A".repeat(64)), "malformed"),
            ("sha256", json!("a".repeat(63)), "malformed"),
            ("content_type", json!("text/html"), "malformed"),
            ("content_type", json!("image/jpeg"), "malformed"),
        ] {
            let mut wrong = right.clone();
            wrong[name] = value;
            assert_eq!(check(&wrong).unwrap_err(), code, "{wrong}");
        }
    }
}
