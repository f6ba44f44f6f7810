//! Whether nothing was lost, doubled or broken: what the device was seen to have committed, its database, its files, and
//! the cloud's database, compared row by row; every clip is played.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use sentrycam::db::Connection;
use sentrycam_cloud::testing::Cloud;
use serde_json::Value;
use uuid::Uuid;

use crate::fixture::ffprobe;
use crate::process::Home;

/// What a comparison found.
#[derive(Debug, Default, PartialEq)]
pub struct Verdict {
    pub lost: usize,
    pub doubled: usize,
    pub unplayable: usize,
    /// What and which, for people.
    pub notes: Vec<String>,
    pub figures: String,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verdict {
            lost,
            doubled,
            unplayable,
            ..
        } = self;
        write!(f, "lost {lost} doubled {doubled} unplayable {unplayable}")
    }
}

impl Verdict {
    fn lost(&mut self, note: String) {
        self.lost += 1;
        self.notes.push(format!("lost: {note}"));
    }

    fn unplayable(&mut self, note: String) {
        self.unplayable += 1;
        self.notes.push(format!("unplayable: {note}"));
    }
}

/// Everything that the device was seen to have committed.
#[derive(Debug, Default)]
pub struct Seen {
    pub events: BTreeSet<Uuid>,
    pub clips: BTreeSet<Uuid>,
    pub records: BTreeSet<Uuid>,
}

pub struct Clip {
    pub state: String,
    pub truncated: bool,
    pub sha256: Option<String>,
    pub path: String,
}

impl Seen {
    /// Notes what a database has.
    pub fn look(&mut self, conn: &Connection) {
        self.events.extend(ids(conn, "select id from events"));
        self.clips.extend(ids(conn, "select id from recordings"));
        self.records
            .extend(ids(conn, "select id from outbox where class < 3"));
    }
}

pub fn ids(conn: &Connection, sql: &str) -> Vec<Uuid> {
    // A process that was killed before it made its tables has committed nothing.
    let Ok(mut stmt) = conn.prepare(sql) else {
        return Vec::new();
    };
    let rows = stmt.query_map([], |r| r.get(0)).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

/// Compares SQLite, PostgreSQL and the files.
pub async fn compare(cloud: &Cloud, home: &Home, seen: &Seen) -> Verdict {
    let mut verdict = Verdict::default();
    let (_aside, conn) = home.copy();
    let events: BTreeSet<Uuid> = ids(&conn, "select id from events").into_iter().collect();
    let clips = clips(&conn);
    let in_cloud = |rows: Vec<Value>| -> BTreeMap<Uuid, Value> {
        let id = |row: &Value| row["id"].as_str().unwrap().parse().unwrap();
        rows.into_iter().map(|row| (id(&row), row)).collect()
    };
    let query = async |sql: &str| cloud.query(sql).await.unwrap();
    let cloud_events = in_cloud(query("select event_uid as id, status from events").await);
    let unlinked = "select e.event_uid as id from events e where e.recording_id is null and exists
        (select 1 from recordings r where r.event_uid = e.event_uid and r.status = 'awaiting_upload')";
    for row in query(unlinked).await {
        verdict.lost(format!("the clip of event {}", row["id"]));
    }
    let cloud_clips =
        in_cloud(query("select recording_uid as id, status, sha256 from recordings").await);
    let cloud_records = in_cloud(query("select id, type from edge_records").await);

    for id in seen.events.union(&events) {
        if !events.contains(id) {
            verdict.lost(format!("event {id} on the device"));
        }
        match cloud_events.get(id) {
            Some(row) if row["status"] == "ended" => {}
            row => verdict.lost(format!("event {id} in the cloud: {row:?}")),
        }
    }
    for id in cloud_events.keys().filter(|id| !events.contains(id)) {
        verdict.lost(format!("event {id}, which the cloud has, on the device"));
    }
    for id in &seen.clips {
        if !clips.contains_key(id) {
            verdict.lost(format!("clip {id} on the device"));
        }
    }
    for (id, clip) in &clips {
        // Where the cloud has a storage, a kept clip becomes available.
        let wanted: &[&str] = match clip.state.as_str() {
            "kept" => &["awaiting_upload", "available"],
            "deleted" => &["deleted"],
            _ => &["failed"],
        };
        match cloud_clips.get(id) {
            Some(row)
                if wanted.iter().any(|status| row["status"] == *status)
                    && row["sha256"].as_str() == clip.sha256.as_deref() => {}
            row => verdict.lost(format!("clip {id} ({}) in the cloud: {row:?}", clip.state)),
        }
    }
    let dead = ids(&conn, "select id from dead_letter");
    let waits = ids(&conn, "select id from outbox where class < 3");
    for id in seen.records.iter().chain(&dead).chain(&waits) {
        if !cloud_records.contains_key(id) {
            verdict.lost(format!("record {id}"));
        }
    }

    let doubled = "select type || ' ' || coalesce(record->'data'->>'event_id', '') || ' '
            || coalesce(record->'data'->>'recording_id', '') as what, count(*) as n from edge_records
        where type similar to '%(motion.started|motion.ended|recording.opened|recording.closed)%'
        group by 1 having count(*) > 1
        union all select 'sequence ' || epoch || ' ' || sequence, count(*) from edge_records
        group by epoch, sequence having count(*) > 1
        union all select 'event ' || event_uid, count(*) from events group by event_uid having count(*) > 1";
    for row in query(doubled).await {
        verdict.doubled += 1;
        verdict.notes.push(format!("doubled: {row}"));
    }

    for (id, clip) in clips.iter().filter(|(_, clip)| clip.state == "kept") {
        if let Err(why) = play(&file(home, clip), clip) {
            verdict.unplayable(format!("clip {id} truncated={}: {why}", clip.truncated));
        }
    }
    let count = |f: &dyn Fn(&&Clip) -> bool| clips.values().filter(f).count();
    verdict.figures = format!(
        "events {} clips kept {} of which truncated {}, without a picture {}, records {}",
        events.len(),
        count(&|c| c.state == "kept"),
        count(&|c| c.state == "kept" && c.truncated),
        count(&|c| c.state != "kept"),
        cloud_records.len()
    );
    verdict
}

/// Where a clip lies.
pub fn file(home: &Home, clip: &Clip) -> PathBuf {
    home.path("clips").join(&clip.path)
}

pub fn clips(conn: &Connection) -> BTreeMap<Uuid, Clip> {
    let sql = "select id, state, truncated, lower(hex(sha256)), path from recordings";
    let mut stmt = conn.prepare(sql).unwrap();
    let rows = stmt.query_map([], |r| {
        let sha256: Option<String> = r.get(3)?;
        let clip = Clip {
            state: r.get(1)?,
            truncated: r.get(2)?,
            sha256: sha256.filter(|s| !s.is_empty()),
            path: r.get(4)?,
        };
        Ok((r.get(0)?, clip))
    });
    rows.unwrap().collect::<Result<_, _>>().unwrap()
}

/// Decodes every frame.
pub fn play(path: &Path, clip: &Clip) -> Result<(), String> {
    let file = std::fs::File::open(path).map_err(|e| e.to_string())?;
    let (sha256, _) = sentrycam::model::Sha256::of_reader(file).map_err(|e| e.to_string())?;
    if Some(sha256.to_string()) != clip.sha256 {
        return Err("its digest is not the row's".into());
    }
    let probe = ffprobe(path);
    if !probe.complaints.is_empty() || probe.frames == 0 || !probe.first_is_key {
        return Err(format!("{probe:?}"));
    }
    Ok(())
}
