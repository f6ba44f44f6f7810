//! One decision, made and written in one transaction: what it reads, what goes, and the records that tell it.

use std::collections::{BTreeMap, BTreeSet};

use super::look::Seen;
use super::{BATCH, FIRST_CLIP};
use crate::agent::records;
use crate::db::retention::{self, FileId, OpenClip};
use crate::db::{Connection, DbError, IdSource, Run, outbox};
use crate::model::{RecordId, RecordingId};
use crate::recording::retention::{Limits, Usage, Why, decide, exceeded, reserve};
use crate::time::{Mono, Wall};

/// Files and bytes that went for a reason.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Gone {
    pub(super) files: u64,
    pub(super) bytes: u64,
}

/// What one transaction decided.
#[derive(Debug, Default)]
pub(super) struct Decided {
    pub(super) usage: Usage,
    pub(super) gone: BTreeMap<Why, Gone>,
    pub(super) unmet: Vec<&'static str>,
    pub(super) more: bool,
}

/// One decision, made and written in one transaction.
pub(super) struct Task {
    pub(super) seen: Seen,
    pub(super) limits: Limits,
    pub(super) min_free: u64,
    pub(super) space: bool,
    pub(super) uploads: bool,
    pub(super) proven: Option<Wall>,
    pub(super) now: Mono,
    pub(super) ids: IdSource,
}

impl Task {
    pub(super) fn run(&self, conn: &Connection, run: &Run) -> Result<Decided, DbError> {
        let mut usage = self.usage(retention::used(conn)?);
        if !self.space {
            usage.free = u64::MAX;
        }
        let mut items = Vec::new();
        if let (Some(proven), Some(max_age)) = (self.proven, self.limits.max_age) {
            items = retention::too_old(conn, proven, max_age, self.uploads, BATCH)?;
        }
        let mut whole = items.len() < BATCH as usize;
        if exceeded(&usage, &self.limits) {
            let over = |(camera, limit): (&String, &u64)| {
                (usage.cameras.get(camera)? > limit).then(|| camera.clone())
            };
            let mut over: Vec<Option<String>> = self
                .limits
                .cameras
                .iter()
                .filter_map(over)
                .map(Some)
                .collect();
            over.push(None);
            for camera in over {
                let found = retention::candidates(conn, camera.as_deref(), self.uploads, BATCH)?;
                whole &= found.len() < BATCH as usize;
                items.extend(found);
            }
            // Those that are too old come first: they know their age.
            let mut seen = BTreeSet::new();
            items.retain(|i| seen.insert(i.key));
        }
        let decision = decide(&items, &usage, &self.limits);
        let mut decided = Decided {
            more: !whole && decision.victims.len() as u32 >= BATCH,
            unmet: decision
                .unmet
                .iter()
                .filter(|_| whole)
                .map(|w| w.as_str())
                .collect(),
            ..Decided::default()
        };
        for (i, why) in decision.victims.into_iter().take(BATCH as usize) {
            let item = &items[i];
            let Some(rev) = retention::delete(conn, item.key, why)? else {
                continue;
            };
            let (id, at) = (RecordId((self.ids)()), self.now);
            let record = match item.key {
                FileId::Clip(clip) => records::recording_deleted(
                    id,
                    &item.camera,
                    RecordingId(clip),
                    why.as_str(),
                    rev,
                    at,
                ),
                FileId::Picture(picture) => {
                    records::snapshot_deleted(id, &item.camera, picture, why.as_str(), rev, at)
                }
            };
            outbox::put(conn, run, &record)?;
            let gone = decided.gone.entry(why).or_default();
            gone.files += 1;
            gone.bytes += item.bytes;
            if let Some(used) = usage.cameras.get_mut(&item.camera) {
                *used = used.saturating_sub(item.bytes);
            }
        }
        if !decided.gone.is_empty() {
            retention::forget(conn, retention::GONE_KEPT)?;
        }
        decided.usage = usage;
        Ok(decided)
    }

    /// Adds what grows and what is free to what is closed.
    fn usage(&self, mut usage: Usage) -> Usage {
        for (clip, bytes) in &self.seen.open {
            *usage.cameras.entry(clip.camera.to_string()).or_default() += bytes;
        }
        usage.free = self.seen.look.free;
        usage.floor = self.min_free;
        let growth = |(clip, bytes): &(OpenClip, u64)| match clip.usual {
            0 => FIRST_CLIP.saturating_sub(*bytes),
            usual => usual.saturating_sub(*bytes),
        };
        let open = self.seen.open.iter().map(growth);
        usage.reserve = reserve(
            self.min_free,
            self.seen.database_growth,
            open,
            self.seen.total,
        );
        usage
    }
}
