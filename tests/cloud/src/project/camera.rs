//! `camera.*` records → `cameras`.
//!
//! ```text
//!  unknown ──up──▶ online ◀──up / degraded──▶ degraded        by place (epoch's rank, rev):
//!                    └──────── down ────────▶ offline         an older record changes nothing
//! ```

use std::collections::BTreeMap;

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use serde::Deserialize;
use uuid::Uuid;

use super::{Payload, Place, Ranks, check_camera_id, check_not_negative};
use crate::db::DbError;
use crate::edge::verify::Caller;
use crate::ingest::record::Record;

/// Which record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Gives frames.
    Up,
    /// Gives none.
    Down,
    /// Gives frames, but not as it should.
    Degraded,
}

impl Kind {
    fn status(self) -> &'static str {
        match self {
            Self::Up => "online",
            Self::Down => "offline",
            Self::Degraded => "degraded",
        }
    }
}

/// `data` of the three types.
#[derive(Debug, Clone, Deserialize)]
pub struct Data {
    /// The device's name of the camera.
    pub camera_id: String,
    /// Counts up with each record about the camera.
    pub rev: i64,
    /// For people.
    pub name: Option<String>,
    /// Why it is down or degraded.
    pub reason: Option<String>,
    /// More about the reason.
    pub detail: Option<String>,
    /// h264, h265, …
    pub codec: Option<String>,
    /// Pixels; 0 when it is not known.
    pub width: Option<i32>,
    /// Pixels; 0 when it is not known.
    pub height: Option<i32>,
    /// Frames a second; 0 when it is not known.
    pub fps: Option<f64>,
    /// rtsp, v4l2, file.
    pub source_kind: Option<String>,
    /// Where it is, without user and query.
    pub url: Option<String>,
}

impl Data {
    /// Where it is; nothing where the device says more than it should.
    fn address(&self) -> Option<&str> {
        let url = self.url.as_deref()?;
        (url.len() <= 2048 && !url.contains('@')).then_some(url)
    }

    /// Checks what types cannot say.
    ///
    /// # Errors
    /// Which member is out of range.
    pub fn check(&self) -> Result<(), String> {
        check_camera_id(&self.camera_id)?;
        check_not_negative("rev", Some(self.rev))?;
        if self
            .name
            .as_deref()
            .is_some_and(|name| name.chars().count() > 255)
        {
            return Err("name is longer than 255 characters".into());
        }
        if self.width.is_some_and(|width| width < 0) || self.height.is_some_and(|h| h < 0) {
            return Err("width and height must not be below 0".into());
        }
        if self.fps.is_some_and(|fps| fps < 0.0) {
            return Err("fps must not be below 0".into());
        }
        Ok(())
    }
}

const NAME: &str = "
    insert into cameras (device_id, organization_id, camera_id, id)
    select $1, $2, c.camera_id, c.id from unnest($3::text[], $4::uuid[]) c (camera_id, id)
    on conflict do nothing";

const SAVE: &str = "
    update cameras c set
      status = n.status, reason = n.reason,
      name = coalesce(n.name, c.name), codec = coalesce(n.codec, c.codec),
      width = coalesce(nullif(n.width, 0), c.width), height = coalesce(nullif(n.height, 0), c.height),
      rtsp_url = case when c.desired is null then coalesce(n.url, c.rtsp_url) else c.rtsp_url end,
      fps = coalesce(nullif(n.fps, 0), c.fps), source_kind = coalesce(n.source, c.source_kind),
      last_seen_at = case when n.status = 'offline' then c.last_seen_at else n.at end,
      epoch_rank = n.rank, rev = n.rev, updated_at = now()
    from unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::integer[],
                $8::integer[], $9::float8[], $10::text[], $11::timestamptz[], $12::integer[],
                $13::bigint[], $14::text[])
      n (camera_id, status, reason, name, codec, width, height, fps, source, at, rank, rev, url)
    where c.device_id = $1 and c.camera_id = n.camera_id
      and (n.rank, n.rev) > (c.epoch_rank, c.rev)";

/// One that was forgotten and comes up again is back, unless a twin says which cameras there are.
const SAVE_UP: &str = "
    update cameras c set up_epoch_rank = n.rank, up_rev = n.rev, up_at = n.at,
      is_active = c.is_active or c.deleted_at is not null and not m.by_twin,
      deleted_at = case when m.by_twin then c.deleted_at end
    from unnest($2::text[], $3::timestamptz[], $4::integer[], $5::bigint[]) n (camera_id, at, rank, rev),
      (select coalesce(bool_or(manages_cameras), false) as by_twin from twins where device_id = $1) m
    where c.device_id = $1 and c.camera_id = n.camera_id
      and (n.rank, n.rev) > (c.up_epoch_rank, c.up_rev)";

/// Makes rows for cameras that are only named so far, so that others can refer to them.
pub(super) async fn name_all(
    tx: &Transaction<'_>,
    caller: &Caller,
    camera_ids: &[&str],
) -> Result<(), DbError> {
    if camera_ids.is_empty() {
        return Ok(());
    }
    let new_ids: Vec<Uuid> = camera_ids.iter().map(|_| Uuid::now_v7()).collect();
    let statement = tx.prepare_cached(NAME).await?;
    let (device, organization) = (&caller.device_id, &caller.organization_id);
    tx.execute(&statement, &[device, organization, &camera_ids, &new_ids])
        .await?;
    Ok(())
}

/// Applies the newest record of each camera, and remembers its newest `camera.up`.
pub(super) async fn project(
    tx: &Transaction<'_>,
    caller: &Caller,
    records: &[&Record],
    ranks: &Ranks,
) -> Result<(), DbError> {
    let mut newest: BTreeMap<&str, (Place, Kind, &Data, Timestamp)> = BTreeMap::new();
    let mut ups: BTreeMap<&str, (Place, Timestamp)> = BTreeMap::new();
    for record in records {
        let Payload::Camera(kind, data) = &record.payload else {
            continue;
        };
        let place = (
            ranks.get(&record.epoch).copied().unwrap_or_default(),
            data.rev,
        );
        let camera_id = data.camera_id.as_str();
        if newest.get(camera_id).is_none_or(|(best, ..)| place > *best) {
            newest.insert(camera_id, (place, *kind, data, record.time));
        }
        if *kind == Kind::Up && ups.get(camera_id).is_none_or(|(best, _)| place > *best) {
            ups.insert(camera_id, (place, record.time));
        }
    }
    if newest.is_empty() {
        return Ok(());
    }
    let camera_ids: Vec<&str> = newest.keys().copied().collect();
    let said: Vec<_> = newest.values().collect();
    let save = tx.prepare_cached(SAVE).await?;
    tx.execute(
        &save,
        &[
            &caller.device_id,
            &camera_ids,
            &said
                .iter()
                .map(|(_, kind, ..)| kind.status())
                .collect::<Vec<_>>(),
            &said
                .iter()
                .map(|(_, _, data, _)| data.reason.as_deref())
                .collect::<Vec<_>>(),
            &said
                .iter()
                .map(|(_, _, data, _)| data.name.as_deref())
                .collect::<Vec<_>>(),
            &said
                .iter()
                .map(|(_, _, data, _)| data.codec.as_deref())
                .collect::<Vec<_>>(),
            &said
                .iter()
                .map(|(_, _, data, _)| data.width)
                .collect::<Vec<_>>(),
            &said
                .iter()
                .map(|(_, _, data, _)| data.height)
                .collect::<Vec<_>>(),
            &said
                .iter()
                .map(|(_, _, data, _)| data.fps)
                .collect::<Vec<_>>(),
            &said
                .iter()
                .map(|(_, _, data, _)| data.source_kind.as_deref())
                .collect::<Vec<_>>(),
            &said.iter().map(|(.., at)| *at).collect::<Vec<_>>(),
            &said.iter().map(|(place, ..)| place.0).collect::<Vec<_>>(),
            &said.iter().map(|(place, ..)| place.1).collect::<Vec<_>>(),
            &said
                .iter()
                .map(|(_, _, data, _)| data.address())
                .collect::<Vec<_>>(),
        ],
    )
    .await?;
    let save_up = tx.prepare_cached(SAVE_UP).await?;
    tx.execute(
        &save_up,
        &[
            &caller.device_id,
            &ups.keys().copied().collect::<Vec<_>>(),
            &ups.values().map(|(_, at)| *at).collect::<Vec<_>>(),
            &ups.values().map(|(place, _)| place.0).collect::<Vec<_>>(),
            &ups.values().map(|(place, _)| place.1).collect::<Vec<_>>(),
        ],
    )
    .await?;
    Ok(())
}
