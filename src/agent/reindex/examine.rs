//! What is really in a file, and when it was made.

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use crate::db::retention;
use crate::db::snapshots::Picture;
use crate::media::picture::jpeg_size;
use crate::model::{CameraId, PictureKind, RecordingId, Sha256, SnapshotId};
use crate::spool::salvage::{Outcome, Salvaged, salvage};
use crate::spool::{Spool, SpoolError, part_of};
use crate::time::Wall;

/// A clip's id is made when its row is; its first frame is older by the pre-roll, which has this limit.
const LONGEST_PRE_ROLL: Duration = Duration::from_secs(70);
/// Pictures that are read into memory are smaller.
const MAX_PICTURE: u64 = 32 << 20;

/// What a file turned out to be.
pub(super) enum Seen {
    /// It plays; when it begins.
    Clip(Salvaged, Wall),
    /// Nothing in it does; it is removed.
    Nothing,
    /// It is not there.
    Gone,
}

/// What is in a clip's file; what is not finished is made a clip of, what cannot be played is removed.
pub(super) fn examine(
    spool: &Spool,
    camera: &CameraId,
    id: RecordingId,
) -> Result<Seen, SpoolError> {
    let path = spool.clip_path(camera, id);
    let part = part_of(&path);
    if path.exists() && part.exists() {
        // The closed one is complete, or it would not have its name.
        crate::spool::unlink(&part)?;
    }
    let there = [&path, &part].into_iter().find(|p| p.exists());
    let Some(modified) = there.map(|p| modified(p)) else {
        return Ok(Seen::Gone);
    };
    match salvage(&part)? {
        Outcome::Nothing { .. } => Ok(Seen::Nothing),
        Outcome::Salvaged(clip) => {
            let start = begun(id.0, modified, clip.duration);
            Ok(Seen::Clip(clip, start))
        }
    }
}

fn modified(path: &Path) -> Option<Wall> {
    let time = std::fs::metadata(path).ok()?.modified().ok()?;
    let since = time.duration_since(UNIX_EPOCH).ok()?;
    Some(Wall::EPOCH + since)
}

/// When the first frame was captured: the file's last change less its length, where that fits what its id tells; else the
/// moment at which its id was made.
fn begun(id: uuid::Uuid, modified: Option<Wall>, length: Duration) -> Wall {
    let made = id.get_timestamp().map(|t| {
        let (s, ns) = t.to_unix();
        Wall::from_unix_seconds(s as i64) + Duration::from_nanos(ns.into())
    });
    match (made, modified.map(|m| m - length)) {
        (Some(made), Some(start)) if start > made - LONGEST_PRE_ROLL && start < made => start,
        (Some(made), _) => made,
        (None, Some(start)) => start,
        (None, None) => Wall::EPOCH,
    }
}

pub(super) fn look_at(
    spool: &Spool,
    camera: CameraId,
    id: SnapshotId,
) -> Result<Option<Picture>, SpoolError> {
    let path = spool.picture_path(&camera, RecordingId(id.0));
    let io = crate::spool::failed("read", &path);
    let meta = match std::fs::metadata(&path) {
        Ok(meta) if meta.len() <= MAX_PICTURE => meta,
        Ok(_) => return Ok(None),
        Err(e) => return Err(io(e)),
    };
    let jpeg = std::fs::read(&path).map_err(io)?;
    let Some((width, height)) = jpeg_size(&jpeg) else {
        return Ok(None);
    };
    let Ok((sha256, _)) = Sha256::of_reader(&jpeg[..]) else {
        return Ok(None);
    };
    Ok(Some(Picture {
        id,
        path: format!("{camera}/{id}.jpg"),
        camera,
        taken: retention::adopted_moment(begun(id.0, modified(&path), Duration::ZERO)),
        width,
        height,
        size_bytes: meta.len(),
        sha256,
        // A file does not tell what it was taken for.
        event: None,
        kind: PictureKind::Snapshot,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clip_begins_by_its_file_where_its_id_agrees() {
        // 2026-11-21T02:00:00Z in a UUIDv7.
        let made = Wall(1_795_226_400_000_000);
        let id =
            uuid::Uuid::from_u128((1_795_226_400_000u128 << 80) | (0x7 << 76) | (0x8 << 60) | 5);
        let s = Duration::from_secs;
        assert_eq!(
            begun(id, Some(made + s(25)), s(30)),
            made - s(5),
            "five seconds of pre-roll"
        );
        assert_eq!(
            begun(id, Some(made + s(9999)), s(30)),
            made,
            "it was copied"
        );
        assert_eq!(begun(id, None, s(30)), made);
        assert_eq!(begun(uuid::Uuid::nil(), Some(made), s(30)), made - s(30));
    }
}
