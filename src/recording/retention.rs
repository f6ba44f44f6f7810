//! What must go: which clips and pictures are deleted so that quotas, age and free space hold again.
//!
//! Order: what is uploaded, oldest first; then what policy keeps here; then what waits for its upload, the least
//! important first. Never what is locked, being written or being uploaded. Not one more than needed: each limit takes
//! the shortest beginning of that order that meets it. A quota holds also where locked files fill it: then everything else
//! goes, and it is named as unmet. Free space that deleting everything would not bring costs nothing: it is named instead.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How far a file is on its way off this device; the order of deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// The cloud has it.
    Uploaded,
    /// Policy keeps it here.
    Local,
    /// Only here, and wanted: higher is more important.
    Due(u8),
}

/// Why a file must not go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hold {
    /// By a person.
    Locked,
    /// It grows.
    Writing,
    /// Somebody reads it.
    Uploading,
}

/// A file that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item<K> {
    /// Whatever the caller knows it by.
    pub key: K,
    /// Its camera.
    pub camera: String,
    /// Bytes.
    pub bytes: u64,
    /// How much it matters.
    pub standing: Standing,
    /// Orders files in time: boot, and moment in it.
    pub begun: (i64, u64),
    /// Where it can be proven.
    pub age: Option<Duration>,
    /// It stays, whatever happens.
    pub hold: Option<Hold>,
}

/// What is allowed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all cameras.
    pub total: Option<u64>,
    /// Bytes of one.
    pub cameras: BTreeMap<String, u64>,
    /// Age.
    pub max_age: Option<Duration>,
}

/// What there is, counted over everything, not only over what may go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes by camera, what grows included.
    pub cameras: BTreeMap<String, u64>,
    /// Bytes that could be deleted.
    pub deletable: u64,
    /// Bytes free on the file system.
    pub free: u64,
    /// Below this nothing can be recorded.
    pub floor: u64,
    /// Wanted free: the floor, and what database and open files may still take.
    pub reserve: u64,
}

impl Usage {
    /// Bytes of all cameras.
    pub fn total(&self) -> u64 {
        self.cameras
            .values()
            .fold(0, |sum, n| sum.saturating_add(*n))
    }
}

/// Why a file goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// Too old.
    Age,
    /// Its camera keeps too much.
    CameraQuota,
    /// All together keep too much.
    Quota,
    /// The disk is too full.
    Space,
}

impl Why {
    /// The word in rows and records.
    pub fn as_str(self) -> &'static str {
        match self {
            Why::Age => "age",
            Why::CameraQuota => "camera_quota",
            Why::Quota => "quota",
            Why::Space => "space",
        }
    }
}

/// What was decided.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decision {
    /// Indices of items, in the order in which they go.
    pub victims: Vec<(usize, Why)>,
    /// Limits that deleting cannot meet.
    pub unmet: BTreeSet<Why>,
}

/// Whether any limit is exceeded, so that it is worth while to read the items. Age is not seen here.
pub fn exceeded(usage: &Usage, limits: &Limits) -> bool {
    let over = |camera: &String, limit: &u64| usage.cameras.get(camera).is_some_and(|n| n > limit);
    limits.total.is_some_and(|limit| usage.total() > limit)
        || limits.cameras.iter().any(|(c, limit)| over(c, limit))
        || usage.free < usage.reserve
}

/// Decides. `items` need not be all: those that come first in the order of deletion will do, the next pass sees more.
pub fn decide<K>(items: &[Item<K>], usage: &Usage, limits: &Limits) -> Decision {
    let mut order: Vec<usize> = (0..items.len())
        .filter(|i| items[*i].hold.is_none())
        .collect();
    order.sort_by_key(|i| (items[*i].standing, items[*i].begun));
    let mut state = State {
        items,
        left: usage.cameras.clone(),
        freed: 0,
        gone: BTreeSet::new(),
        decision: Decision::default(),
    };
    if let Some(max) = limits.max_age {
        for i in &order {
            if items[*i].age.is_some_and(|age| age > max) {
                state.take(*i, Why::Age);
            }
        }
    }
    for (camera, limit) in &limits.cameras {
        let own = |i: &usize| items[*i].camera == *camera;
        state.shrink(order.iter().copied().filter(own), Why::CameraQuota, |s| {
            s.left.get(camera).is_none_or(|n| n <= limit)
        });
    }
    if let Some(limit) = limits.total {
        state.shrink(order.iter().copied(), Why::Quota, |s| s.total() <= limit);
    }
    // Where even everything would not do, a file that is kept is worth more than one byte free too few.
    let reachable = usage.free.saturating_add(usage.deletable);
    let target = [usage.reserve, usage.floor]
        .into_iter()
        .find(|target| *target <= reachable);
    match target {
        Some(target) => state.shrink(order.iter().copied(), Why::Space, |s| {
            usage.free.saturating_add(s.freed) >= target
        }),
        None => {
            state.decision.unmet.insert(Why::Space);
        }
    }
    state.decision
}

struct State<'a, K> {
    items: &'a [Item<K>],
    left: BTreeMap<String, u64>,
    freed: u64,
    gone: BTreeSet<usize>,
    decision: Decision,
}

impl<K> State<'_, K> {
    fn total(&self) -> u64 {
        self.left.values().fold(0, |sum, n| sum.saturating_add(*n))
    }

    fn take(&mut self, i: usize, why: Why) {
        let item = &self.items[i];
        if let Some(left) = self.left.get_mut(&item.camera) {
            *left = left.saturating_sub(item.bytes);
        }
        self.freed = self.freed.saturating_add(item.bytes);
        self.gone.insert(i);
        self.decision.victims.push((i, why));
    }

    /// Takes one after another until `met`.
    fn shrink(
        &mut self,
        order: impl Iterator<Item = usize>,
        why: Why,
        met: impl Fn(&Self) -> bool,
    ) {
        for i in order {
            if met(self) {
                return;
            }
            // An empty file frees nothing.
            if self.items[i].bytes > 0 && !self.gone.contains(&i) {
                self.take(i, why);
            }
        }
        if !met(self) {
            self.decision.unmet.insert(why);
        }
    }
}

/// What must stay free: the floor, and what grows beside it: the database, and each open clip up to what clips of its
/// camera usually come to. At most an eighth of a small disk is asked for beyond the floor.
pub fn reserve(floor: u64, database: u64, open_clips: impl Iterator<Item = u64>, disk: u64) -> u64 {
    let growth = open_clips.fold(database, u64::saturating_add);
    floor.saturating_add(growth.min(disk / 8))
}

#[cfg(test)]
#[path = "retention_tests.rs"]
mod tests;
