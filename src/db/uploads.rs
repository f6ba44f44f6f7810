//! Rows of the media upload: what waits, how far it is, what it has cost today.
//!
//! `recordings.upload` and `snapshots.upload` say where a file stands, so that retention knows: `due` waits, `local` stays here,
//! `uploading` is being read and must not go, `uploaded` is verified by the cloud.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, params};
use serde_json::Value;
use uuid::Uuid;

use super::retention::FileId;
use super::{DbError, Run, outbox};
use crate::model::{RecordingId, Sha256};
use crate::upload::gate::What;
use crate::upload::order::{Candidate, Class};
use crate::wire::envelope::Record;

/// Files of each class that are looked at: the newest of them.
const LOOKED_AT: u32 = 32;
/// Days of the budget that are kept.
const DAYS_KEPT: u32 = 8;

/// A file that waits, or is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Which.
    pub file: FileId,
    /// Its camera.
    pub camera: String,
    /// Bytes.
    pub size: u64,
    /// Of the whole file.
    pub sha256: Sha256,
    /// Where it stands in the order.
    pub place: Candidate,
    /// The cloud's id, of an upload that was begun.
    pub upload_id: Option<Uuid>,
    /// Times that what arrived was not the file.
    pub attempts: u32,
}

const CLIPS: &str = "select 0, r.id, r.camera_id, r.size_bytes, r.sha256, r.mode, r.boot, r.started_ns, u.asked, u.upload_id, u.attempts
    from recordings r left join uploads u on u.kind = 0 and u.id = r.id
    where r.state = 'kept' and r.upload in ('due', 'uploading')";
const PICTURES: &str = "select 1, s.id, s.camera_id, s.size_bytes, s.sha256, 'picture', s.boot, s.taken_ns, u.asked, u.upload_id, u.attempts
    from snapshots s left join uploads u on u.kind = 1 and u.id = s.id
    where s.state = 'kept' and s.upload in ('due', 'uploading')";

fn kind(file: FileId) -> (i64, &'static str) {
    match file {
        FileId::Clip(_) => (0, "recordings"),
        FileId::Picture(_) => (1, "snapshots"),
    }
}

/// What waits: of each class the newest, what was asked for, what is under way, and the oldest of all.
pub fn waiting(conn: &Connection) -> Result<Vec<Waiting>, DbError> {
    let newest = format!("order by r.boot desc, r.started_ns desc limit {LOOKED_AT}");
    let queries = [
        format!("{CLIPS} and u.asked = 1 {newest}"),
        format!("{CLIPS} and u.upload_id is not null {newest}"),
        format!("{CLIPS} and r.mode = 'motion' {newest}"),
        format!("{CLIPS} and r.mode = 'manual' {newest}"),
        format!("{CLIPS} and r.mode = 'continuous' {newest}"),
        format!("{CLIPS} and r.mode = 'motion' order by r.boot, r.started_ns limit 4"),
        format!("{CLIPS} and r.mode = 'continuous' order by r.boot, r.started_ns limit 4"),
        format!("{PICTURES} order by s.boot desc, s.taken_ns desc limit {LOOKED_AT}"),
        format!("{PICTURES} order by s.boot, s.taken_ns limit 4"),
    ];
    let mut found: BTreeMap<FileId, Waiting> = BTreeMap::new();
    for query in &queries {
        let mut stmt = conn.prepare_cached(query)?;
        let mut rows = stmt.query([])?;
        while let Some(row) = rows.next()? {
            let one = one(row)?;
            found.insert(one.file, one);
        }
    }
    Ok(found.into_values().collect())
}

fn one(r: &rusqlite::Row<'_>) -> rusqlite::Result<Waiting> {
    let id: Uuid = r.get(1)?;
    let (file, mode) = match r.get::<_, i64>(0)? {
        0 => (FileId::Clip(id), r.get::<_, String>(5)?),
        _ => (FileId::Picture(id), "picture".to_owned()),
    };
    let class = match mode.as_str() {
        _ if r.get::<_, Option<bool>>(8)? == Some(true) => Class::Asked,
        "picture" => Class::Picture,
        "continuous" => Class::Footage,
        _ => Class::Event,
    };
    let upload_id: Option<Uuid> = r.get(9)?;
    Ok(Waiting {
        file,
        camera: r.get(2)?,
        size: r.get::<_, i64>(3)? as u64,
        sha256: Sha256(r.get(4)?),
        place: Candidate {
            class,
            under_way: upload_id.is_some(),
            begun: (r.get(6)?, r.get::<_, i64>(7)? as u64),
        },
        upload_id,
        attempts: r.get::<_, Option<u32>>(10)?.unwrap_or(0),
    })
}

/// Which files of a camera go by themselves; `None`: of all cameras that are not named.
pub type Wants = BTreeMap<Option<String>, Vec<What>>;

/// What policy keeps here says so from now on; with `anew`, what policy wants after all waits again. What a person asked
/// for goes wherever anything may leave at all; what failed for good is not touched.
pub fn apply_policy(conn: &Connection, wants: &Wants, anew: bool) -> Result<usize, DbError> {
    let words = |list: &[What]| list.iter().map(|w| w.as_str()).collect::<Vec<_>>();
    let cameras: BTreeMap<&str, _> = wants
        .iter()
        .filter_map(|(c, list)| Some((c.as_deref()?, words(list))))
        .collect();
    let usual = words(wants.get(&None).map_or(&[], Vec::as_slice));
    let text = serde_json::json!({ "cameras": cameras, "usual": usual }).to_string();
    let mut changed = 0;
    for (table, kind, mode) in [("recordings", 0, "mode"), ("snapshots", 1, "'picture'")] {
        // Camera ids are a-z, 0-9 and -: they cannot leave the quotes of the path.
        let list = "coalesce(json_extract(?1, '$.cameras.\"' || camera_id || '\"'), json_extract(?1, '$.usual'))";
        let own = format!("select 1 from uploads u where u.kind = {kind} and u.id = {table}.id");
        let wanted = format!(
            "(exists (select 1 from json_each({list}) where value = {mode})
              or json_array_length({list}) > 0 and exists ({own} and u.asked = 1))"
        );
        changed += conn.execute(
            &format!(
                "update {table} set upload = 'local' where state = 'kept' and upload = 'due' and not {wanted}"
            ),
            params![text],
        )?;
        if anew {
            changed += conn.execute(
                &format!(
                    "update {table} set upload = 'due' where state = 'kept' and upload = 'local' and {wanted}
                     and not exists ({own} and u.failed is not null)"
                ),
                params![text],
            )?;
        }
    }
    Ok(changed)
}

/// What was being read when the program ended waits again.
pub fn after_start(conn: &Connection) -> Result<(), DbError> {
    for table in ["recordings", "snapshots"] {
        conn.execute(
            &format!("update {table} set upload = 'due' where upload = 'uploading'"),
            [],
        )?;
    }
    Ok(())
}

/// The file is about to be read: it must not go meanwhile. `false`: it is not there to be uploaded any more.
pub fn hold(conn: &Connection, file: FileId) -> Result<bool, DbError> {
    let (kind, table) = kind(file);
    let held = conn.execute(
        &format!("update {table} set upload = 'uploading' where id = ?1 and state = 'kept' and upload in ('due', 'uploading')"),
        params![file.uuid()],
    )?;
    if held == 0 {
        return Ok(false);
    }
    conn.execute(
        "insert into uploads (kind, id) values (?1, ?2) on conflict do nothing",
        params![kind, file.uuid()],
    )?;
    Ok(true)
}

/// It is not read any more, and waits for another turn; `mismatch`: what arrived was not the file.
pub fn release(conn: &Connection, file: FileId, mismatch: bool) -> Result<(), DbError> {
    let (kind, table) = kind(file);
    conn.execute(
        &format!("update {table} set upload = 'due' where id = ?1 and upload = 'uploading'"),
        params![file.uuid()],
    )?;
    if mismatch {
        conn.execute(
            "update uploads set attempts = attempts + 1, upload_id = null, parts = '{}' where kind = ?1 and id = ?2",
            params![kind, file.uuid()],
        )?;
    }
    Ok(())
}

/// The cloud calls the upload so; entity tags of another one are forgotten. Returns those that are known, by part.
pub fn begun(
    conn: &Connection,
    file: FileId,
    upload: Uuid,
) -> Result<BTreeMap<u32, String>, DbError> {
    let (kind, _) = kind(file);
    conn.execute(
        "update uploads set upload_id = ?3, parts = '{}' where kind = ?1 and id = ?2 and upload_id is not ?3",
        params![kind, file.uuid(), upload],
    )?;
    let parts: Option<String> = conn
        .query_row(
            "select parts from uploads where kind = ?1 and id = ?2",
            params![kind, file.uuid()],
            |r| r.get(0),
        )
        .optional()?;
    let parts: Value = parts
        .and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default();
    let entry = |(n, tag): (&String, &Value)| Some((n.parse().ok()?, tag.as_str()?.to_owned()));
    Ok(parts
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(entry)
        .collect())
}

/// So many bytes left on this day; with `part`, that one is there and has this tag.
pub fn sent(
    conn: &Connection,
    file: FileId,
    bytes: u64,
    day: &str,
    part: Option<(u32, &str)>,
) -> Result<(), DbError> {
    let (kind, _) = kind(file);
    let (path, tag) = match part {
        Some((n, tag)) => (format!("$.\"{n}\""), Some(tag)),
        None => (String::new(), None),
    };
    conn.execute(
        "update uploads set sent = sent + ?3, parts = case when ?5 is null then parts else json_set(parts, ?4, ?5) end
         where kind = ?1 and id = ?2",
        params![kind, file.uuid(), bytes as i64, path, tag],
    )?;
    conn.execute(
        "insert into upload_days (day, bytes) values (?1, ?2) on conflict (day) do update set bytes = bytes + ?2",
        params![day, bytes as i64],
    )?;
    conn.execute(
        "delete from upload_days where day not in (select day from upload_days order by day desc limit ?1)",
        params![DAYS_KEPT],
    )?;
    Ok(())
}

/// Bytes that left on a day.
pub fn sent_on(conn: &Connection, day: &str) -> Result<u64, DbError> {
    let bytes: Option<i64> = conn
        .query_row(
            "select bytes from upload_days where day = ?1",
            params![day],
            |r| r.get(0),
        )
        .optional()?;
    Ok(bytes.unwrap_or(0) as u64)
}

/// The cloud has verified it. `record` makes what is told of a clip, from its new revision.
pub fn done(
    conn: &Connection,
    run: &Run,
    file: FileId,
    record: impl FnOnce(u32) -> Record,
) -> Result<(), DbError> {
    let (kind, table) = kind(file);
    conn.execute(
        "delete from uploads where kind = ?1 and id = ?2",
        params![kind, file.uuid()],
    )?;
    let rev: Option<u32> = conn
        .query_row(
            &format!("update {table} set upload = 'uploaded', rev = rev + 1 where id = ?1 and upload <> 'uploaded' returning rev"),
            params![file.uuid()],
            |r| r.get(0),
        )
        .optional()?;
    match (rev, file) {
        (Some(rev), FileId::Clip(_)) => outbox::put(conn, run, &record(rev)),
        _ => Ok(()),
    }
}

/// It will never be uploaded as it is; it stays here. `true`: that is new.
pub fn failed(conn: &Connection, file: FileId, code: &str) -> Result<bool, DbError> {
    let (kind, table) = kind(file);
    conn.execute(
        &format!("update {table} set upload = 'local' where id = ?1 and upload <> 'uploaded'"),
        params![file.uuid()],
    )?;
    let new = conn.execute(
        "insert into uploads (kind, id, failed) values (?1, ?2, ?3)
         on conflict do update set failed = ?3, asked = 0 where failed is null",
        params![kind, file.uuid(), code],
    )?;
    Ok(new > 0)
}

/// How a person's request for a clip stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// It goes as soon as it can.
    Queued,
    /// The cloud has it.
    Available,
    /// Its file is not here: the state of its row.
    Gone(String),
    /// There is no such clip.
    Unknown,
}

/// A person wants this clip, whatever policy says. One that failed for good is tried anew.
pub fn ask(conn: &Connection, id: RecordingId) -> Result<Asked, DbError> {
    let row: Option<(String, String)> = conn
        .query_row(
            "select state, upload from recordings where id = ?1",
            params![id.0],
            |r| Ok((r.get(0)?, r.get(1)?)),
        )
        .optional()?;
    let Some((state, upload)) = row else {
        return Ok(Asked::Unknown);
    };
    match (state.as_str(), upload.as_str()) {
        (_, "uploaded") => return Ok(Asked::Available),
        ("kept" | "recording", _) => {}
        _ => return Ok(Asked::Gone(state)),
    }
    conn.execute(
        "insert into uploads (kind, id, asked) values (0, ?1, 1)
         on conflict do update set asked = 1, failed = null, attempts = 0",
        params![id.0],
    )?;
    conn.execute(
        "update recordings set upload = 'due' where id = ?1 and upload = 'local'",
        params![id.0],
    )?;
    Ok(Asked::Queued)
}

/// The camera of a clip.
pub fn camera_of(conn: &Connection, id: RecordingId) -> Result<Option<String>, DbError> {
    let camera = conn.query_row(
        "select camera_id from recordings where id = ?1",
        params![id.0],
        |r| r.get(0),
    );
    Ok(camera.optional()?)
}

/// What is left to do, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Queue {
    /// Files that wait.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that stay here by policy.
    pub local_files: u64,
    /// Their bytes.
    pub local_bytes: u64,
    /// Files that will never be uploaded as they are.
    pub failed: u64,
}

/// Counts.
pub fn queue(conn: &Connection) -> Result<Queue, DbError> {
    let mut queue = Queue::default();
    let sql = "select upload in ('due', 'uploading'), count(*), coalesce(sum(size_bytes), 0) from recordings
                   where state = 'kept' and upload <> 'uploaded' group by 1
               union all select upload in ('due', 'uploading'), count(*), coalesce(sum(size_bytes), 0) from snapshots
                   where state = 'kept' and upload <> 'uploaded' group by 1";
    let mut stmt = conn.prepare_cached(sql)?;
    let mut rows = stmt.query([])?;
    while let Some(r) = rows.next()? {
        let (files, bytes) = (r.get::<_, i64>(1)? as u64, r.get::<_, i64>(2)? as u64);
        if r.get::<_, bool>(0)? {
            queue.files += files;
            queue.bytes += bytes;
        } else {
            queue.local_files += files;
            queue.local_bytes += bytes;
        }
    }
    queue.failed = conn.query_row(
        "select count(*) from uploads where failed is not null",
        [],
        |r| r.get::<_, i64>(0),
    )? as u64;
    Ok(queue)
}

#[cfg(test)]
#[path = "uploads_tests.rs"]
mod tests;
