//! `max_cameras` at ingest: records of a camera that has no place are refused with `license` and a sentence.
//!
//! Places are those of the view `camera_places`: the first `max_cameras` by when the cloud first heard of them, so a
//! smaller licence keeps the oldest. What the cloud has begun to show it lets end: the rest of an event or a recording
//! that it knows is taken, whatever the licence says now. So is every record about a camera that was removed, and
//! everything that names no camera.

use std::collections::{BTreeSet, HashMap, HashSet};

use deadpool_postgres::Transaction;
use uuid::Uuid;

use crate::db::DbError;
use crate::edge::verify::Caller;
use crate::ingest::record::{Record, Rejection};

/// The code of a refused record.
pub const CODE: &str = "license";

/// For each name: whether it has a place within the licence, takes none, or wants one.
const STANDING: &str = "
    with licence as (
      select coalesce(l.max_cameras, p.max_cameras, o.max_cameras) as room, p.name as plan
      from organizations o
      left join licenses l on l.organization_id = o.id and l.status <> 'replaced' and l.deleted_at is null
      left join subscription_plans p on p.id = l.plan_id
      where o.id = $2 order by l.created_at desc limit 1)
    select n.camera_id,
           coalesce(s.place <= room, c.id is not null and (c.desired is not null or coalesce(t.manages_cameras, false))),
           s.place is null, room, plan
    from unnest($3::text[]) n (camera_id) cross join licence
    left join cameras c on c.device_id = $1 and c.camera_id = n.camera_id
    left join twins t on t.device_id = $1
    left join camera_places s on s.device_id = $1 and s.camera_id = n.camera_id
    order by n.camera_id";

/// The refusals of records about cameras without a place, by the record's id.
///
/// # Errors
/// When a statement fails.
pub async fn refused(
    tx: &Transaction<'_>,
    caller: &Caller,
    records: &[&Record],
) -> Result<HashMap<Uuid, Rejection>, DbError> {
    let names: BTreeSet<&str> = records.iter().filter_map(|r| r.camera_id()).collect();
    let sentences = sentences(tx, caller, &names.into_iter().collect::<Vec<_>>()).await?;
    if sentences.is_empty() {
        return Ok(HashMap::new());
    }
    let about: Vec<&&Record> = records
        .iter()
        .filter(|r| r.camera_id().is_some_and(|id| sentences.contains_key(id)))
        .collect();
    let known = known(tx, caller, &about).await?;
    Ok(about
        .iter()
        .filter(|record| !known.contains(&record.id) && !known_thing(record, &known))
        .filter_map(|record| {
            let detail = sentences.get(record.camera_id()?)?.clone();
            Some((record.id, Rejection { code: CODE, detail }))
        })
        .collect())
}

fn known_thing(record: &Record, known: &HashSet<Uuid>) -> bool {
    record
        .payload
        .continues()
        .is_some_and(|uid| known.contains(&uid))
}

/// What to tell about the names that have no place; empty when all have one.
async fn sentences(
    tx: &Transaction<'_>,
    caller: &Caller,
    names: &[&str],
) -> Result<HashMap<String, String>, DbError> {
    let mut told = HashMap::new();
    if names.is_empty() {
        return Ok(told);
    }
    let statement = tx.prepare_cached(STANDING).await?;
    let (device, organization) = (&caller.device_id, &caller.organization_id);
    let mut rows = tx
        .query(&statement, &[device, organization, &names])
        .await?;
    let wants = |row: &tokio_postgres::Row| !row.get::<_, bool>(1) && row.get::<_, bool>(2);
    let mut free = 0;
    if rows.iter().any(wants) {
        // Two devices do not share the last place.
        super::lock(tx, caller.organization_id).await?;
        rows = tx
            .query(&statement, &[device, organization, &names])
            .await?;
        let count = tx
            .prepare_cached("select count(*) from camera_places where organization_id = $1")
            .await?;
        let taken: i64 = tx.query_one(&count, &[organization]).await?.get(0);
        let room: i32 = rows.first().map_or(0, |row| row.get(3));
        free = i64::from(room) - taken;
    }
    for row in rows {
        if row.get::<_, bool>(1) {
            continue;
        }
        if row.get::<_, bool>(2) {
            free -= 1;
            if free >= 0 {
                continue;
            }
        }
        let name: &str = row.get(0);
        let room: i32 = row.get(3);
        let sentence = format!(
            "camera {name} has no place: {} has room for {room} {}; remove one or choose a larger plan",
            super::name(row.get(4)),
            super::plural(room.into(), "camera", "cameras"),
        );
        told.insert(name.to_owned(), sentence);
    }
    Ok(told)
}

/// Ids of records that were stored before, and of the events and recordings that the cloud has.
async fn known(
    tx: &Transaction<'_>,
    caller: &Caller,
    records: &[&&Record],
) -> Result<HashSet<Uuid>, DbError> {
    let ids: Vec<Uuid> = records.iter().map(|record| record.id).collect();
    let things: Vec<Uuid> = records
        .iter()
        .filter_map(|record| record.payload.continues())
        .collect();
    let statement = tx
        .prepare_cached(
            "select id from edge_records where device_id = $1 and id = any($2)
             union all select event_uid from events where device_id = $1 and event_uid = any($3)
             union all select recording_uid from recordings where device_id = $1 and recording_uid = any($3)",
        )
        .await?;
    let rows = tx
        .query(&statement, &[&caller.device_id, &ids, &things])
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
