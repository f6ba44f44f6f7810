//! What is kept, what could go, and that it went: the store's side of [`crate::recording::retention`].
//!
//! A file is deleted in three steps, of which each leaves the truth behind: its row says `deleted` and is garbage, with
//! the record that tells it, in one transaction; then the file goes; then the row is garbage no more.

use std::time::Duration;

use rusqlite::{Connection, named_params, params};
use uuid::Uuid;

use super::{DbError, Run};
use crate::model::{CameraId, RecordingId};
use crate::recording::retention::{Item, Standing, Usage, Why};
use crate::time::{Mono, Wall};

/// Rows of deleted and lost files that are kept, so that it can be told what became of them.
pub const GONE_KEPT: u32 = 20_000;

const USED: &str = "select camera_id, sum(size_bytes), sum(case when locked = 0 and upload <> 'uploading' then size_bytes else 0 end)
    from recordings where state = 'kept' group by camera_id
    union all select camera_id, sum(size_bytes), sum(case when upload <> 'uploading' then size_bytes else 0 end)
    from snapshots where state = 'kept' group by camera_id";

/// Clips and pictures seen alike, with their place in the order of deletion: uploaded 0, local 1, due from 2 on by what
/// they show. Without a cloud nothing is ever uploaded, and all of them are alike.
const FILES: &str = "with files (kind, id, camera, bytes, place, boot, ns) as (
    select 0, id, camera_id, size_bytes,
        case when upload = 'uploaded' then 0 when upload = 'local' or not :uploads then 1
             when exists (select 1 from uploads u where u.kind = 0 and u.id = recordings.id and u.asked = 1) then 5
             when mode = 'continuous' then 2 when mode = 'motion' then 4 else 5 end, boot, started_ns
    from recordings where state = 'kept' and locked = 0 and upload <> 'uploading'
    union all
    select 1, id, camera_id, size_bytes,
        case when upload = 'uploaded' then 0 when upload = 'local' or not :uploads then 1 else 3 end, boot, taken_ns
    from snapshots where state = 'kept' and upload <> 'uploading')";

/// What is kept under which table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileId {
    /// A clip.
    Clip(Uuid),
    /// A picture.
    Picture(Uuid),
}

impl FileId {
    /// The id of its file.
    pub fn uuid(self) -> Uuid {
        match self {
            FileId::Clip(id) | FileId::Picture(id) => id,
        }
    }

    fn table(self) -> &'static str {
        match self {
            FileId::Clip(_) => "recordings",
            FileId::Picture(_) => "snapshots",
        }
    }
}

/// Bytes by camera of what is closed, and how much of it could go; what grows and what is free is the caller's to add.
pub fn used(conn: &Connection) -> Result<Usage, DbError> {
    let mut usage = Usage::default();
    let mut stmt = conn.prepare_cached(USED)?;
    let mut rows = stmt.query([])?;
    while let Some(row) = rows.next()? {
        let camera: String = row.get(0)?;
        *usage.cameras.entry(camera).or_default() += row.get::<_, i64>(1)? as u64;
        usage.deletable += row.get::<_, i64>(2)? as u64;
    }
    Ok(usage)
}

/// A clip that grows, and what clips of its camera usually come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenClip {
    /// Its identity.
    pub id: RecordingId,
    /// Its camera.
    pub camera: CameraId,
    /// The largest of its camera's last clips; nothing before the first one is kept.
    pub usual: u64,
}

/// Clips that are being written.
pub fn open_clips(conn: &Connection) -> Result<Vec<OpenClip>, DbError> {
    let mut stmt = conn.prepare_cached(
        "select o.id, o.camera_id, (select max(size_bytes) from (
             select k.size_bytes from recordings k indexed by recordings_by_time
             where k.camera_id = o.camera_id and k.state = 'kept' order by k.boot desc, k.started_ns desc limit 8))
         from recordings o where o.state = 'recording'",
    )?;
    let rows = stmt.query_map([], |r| {
        let camera: String = r.get(1)?;
        let usual: Option<i64> = r.get(2)?;
        Ok(camera.parse().ok().map(|camera| OpenClip {
            id: RecordingId(r.get(0).unwrap_or_default()),
            camera,
            usual: usual.unwrap_or(0) as u64,
        }))
    })?;
    Ok(rows
        .collect::<Result<Vec<_>, _>>()?
        .into_iter()
        .flatten()
        .collect())
}

/// What could go, first what goes first: of one camera or of all, at most `limit`.
pub fn candidates(
    conn: &Connection,
    camera: Option<&str>,
    uploads: bool,
    limit: u32,
) -> Result<Vec<Item<FileId>>, DbError> {
    let mut stmt = conn.prepare_cached(&format!(
        "{FILES} select kind, id, camera, bytes, place, boot, ns, null from files
         where :camera is null or camera = :camera order by place, boot, ns limit :limit"
    ))?;
    let rows = stmt.query_map(
        named_params! { ":camera": camera, ":uploads": uploads, ":limit": limit },
        item,
    )?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// What is older than `max_age` at `proven`, oldest first; a boot whose time was never learned has no age.
pub fn too_old(
    conn: &Connection,
    proven: Wall,
    max_age: Duration,
    uploads: bool,
    limit: u32,
) -> Result<Vec<Item<FileId>>, DbError> {
    let mut stmt = conn.prepare_cached(&format!(
        "{FILES} select kind, files.id, camera, bytes, place, boot, ns, :now - (b.offset_us + ns / 1000)
         from files join boots b on b.id = files.boot
         where b.quality = 2 and b.offset_us + ns / 1000 < :bound order by boot, ns limit :limit"
    ))?;
    let rows = stmt.query_map(
        named_params! { ":uploads": uploads, ":now": proven.0, ":bound": (proven - max_age).0, ":limit": limit },
        item,
    )?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn item(r: &rusqlite::Row<'_>) -> rusqlite::Result<Item<FileId>> {
    let id: Uuid = r.get(1)?;
    let place: u8 = r.get(4)?;
    let age_us: Option<i64> = r.get(7)?;
    Ok(Item {
        key: if r.get::<_, i64>(0)? == 0 {
            FileId::Clip(id)
        } else {
            FileId::Picture(id)
        },
        camera: r.get(2)?,
        bytes: r.get::<_, i64>(3)? as u64,
        standing: match place {
            0 => Standing::Uploaded,
            1 => Standing::Local,
            n => Standing::Due(n - 2),
        },
        begun: (r.get(5)?, r.get::<_, i64>(6)? as u64),
        age: age_us
            .and_then(|us| u64::try_from(us).ok())
            .map(Duration::from_micros),
        hold: None,
    })
}

/// A file goes: its row says so and is garbage. `None`: it may not go any more; else the revision for its record.
pub fn delete(conn: &Connection, id: FileId, why: Why) -> Result<Option<u32>, DbError> {
    let unlocked = match id {
        FileId::Clip(_) => "and locked = 0",
        FileId::Picture(_) => "",
    };
    let mut stmt = conn.prepare_cached(&format!(
        "update {} set state = 'deleted', garbage = 1, deleted_why = ?2, rev = rev + 1
         where id = ?1 and state = 'kept' and upload <> 'uploading' {unlocked} returning rev",
        id.table()
    ))?;
    let mut rows = stmt.query(params![id.uuid(), why.as_str()])?;
    Ok(rows.next()?.map(|r| r.get(0)).transpose()?)
}

/// Files that are deleted and not known to be gone.
pub fn garbage(conn: &Connection, limit: u32) -> Result<Vec<(FileId, String)>, DbError> {
    let mut stmt = conn.prepare_cached(
        "select 0, id, camera_id from recordings where garbage = 1
         union all select 1, id, camera_id from snapshots where garbage = 1 limit ?1",
    )?;
    let rows = stmt.query_map([limit], |r| {
        let id = r.get(1)?;
        let id = if r.get::<_, i64>(0)? == 0 {
            FileId::Clip(id)
        } else {
            FileId::Picture(id)
        };
        Ok((id, r.get(2)?))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The file of a deleted row is gone.
pub fn swept(conn: &Connection, id: FileId) -> Result<(), DbError> {
    conn.prepare_cached(&format!(
        "update {} set garbage = 0 where id = ?1 and state = 'deleted'",
        id.table()
    ))?
    .execute(params![id.uuid()])?;
    Ok(())
}

/// Forgets the oldest rows of deleted and lost files beyond [`GONE_KEPT`], some at a time.
pub fn forget(conn: &Connection, keep: u32) -> Result<usize, DbError> {
    let mut forgotten = 0;
    for (table, ns) in [("recordings", "started_ns"), ("snapshots", "taken_ns")] {
        let gone = "state in ('lost', 'deleted') and garbage = 0";
        forgotten += conn.execute(
            &format!(
                "delete from {table} where id in (select id from {table} where {gone}
                 order by boot desc, {ns} desc limit 256 offset ?1)"
            ),
            params![keep],
        )?;
    }
    Ok(forgotten)
}

/// Protects a clip from being deleted, or no more. `None`: there is no such clip; else its state.
pub fn lock(conn: &Connection, id: RecordingId, locked: bool) -> Result<Option<String>, DbError> {
    let mut stmt = conn.prepare_cached(
        "update recordings set locked = ?2 where id = ?1 and (?2 = 0 or state in ('kept', 'recording')) returning state",
    )?;
    let state: Option<String> = {
        let mut rows = stmt.query(params![id.0, locked])?;
        rows.next()?.map(|r| r.get(0)).transpose()?
    };
    match state {
        Some(state) => Ok(Some(state)),
        None => Ok(super::recordings::state(conn, id)?.map(|(state, _)| state)),
    }
}

/// A record of a clip is to be made: its new revision and its camera.
pub fn revise(conn: &Connection, id: RecordingId) -> Result<Option<(u32, String)>, DbError> {
    let mut stmt = conn.prepare_cached(
        "update recordings set rev = rev + 1 where id = ?1 returning rev, camera_id",
    )?;
    let mut rows = stmt.query(params![id.0])?;
    let row = rows.next()?;
    row.map(|r| Ok((r.get(0)?, r.get(1)?))).transpose()
}

/// Adopts a file of which the store knew nothing: its row as the file tells it, in a boot of its own that comes before
/// all others, whose nanoseconds are those since 1970.
pub fn adopt_boot(conn: &Connection) -> Result<i64, DbError> {
    conn.execute(
        "insert into boots (id, boot_id, offset_us, quality)
         select min(0, coalesce((select min(id) from boots), 1) - 1), ?1, 0, 1 where true
         on conflict (boot_id) do nothing",
        params![Uuid::nil()],
    )?;
    Ok(conn.query_row(
        "select id from boots where boot_id = ?1",
        params![Uuid::nil()],
        |r| r.get(0),
    )?)
}

/// A run whose records are about moments in the boot of adopted files.
pub fn adopting(conn: &Connection, run: &Run) -> Result<Run, DbError> {
    Ok(Run {
        boot: adopt_boot(conn)?,
        ..run.clone()
    })
}

/// Wall time on the scale of [`adopt_boot`].
pub fn adopted_moment(wall: Wall) -> Mono {
    Mono((wall.0.max(0) as u64).saturating_mul(1000))
}

#[cfg(test)]
#[path = "retention_tests.rs"]
mod tests;
