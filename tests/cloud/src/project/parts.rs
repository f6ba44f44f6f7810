//! The newest record of each kind about one thing: the state that every order of arrival leads to.
//!
//! `Parts` is a join-semilattice: `add` keeps, for each kind, the part with the highest revision (then
//! sequence, then epoch), so it is commutative, associative and idempotent. Rows derive their columns
//! from it and keep it in their `parts` column.

use std::collections::{BTreeMap, HashMap};

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::db::DbError;
use crate::ingest::record::{Record, Severity};

/// One record's contribution.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Part<D> {
    /// `data.rev`: counts up with each record about the thing.
    pub rev: i64,
    /// Place of the record.
    pub sequence: i64,
    /// Its epoch.
    pub epoch: Uuid,
    /// The envelope's time.
    pub time: Timestamp,
    /// The envelope's severity.
    pub severity: Severity,
    /// What it said.
    pub data: D,
}

impl<D> Part<D> {
    /// The contribution of a record.
    pub fn of(record: &Record, rev: i64, data: D) -> Self {
        let &Record {
            sequence,
            epoch,
            time,
            severity,
            ..
        } = record;
        Self {
            rev,
            sequence,
            epoch,
            time,
            severity,
            data,
        }
    }

    fn order(&self) -> (i64, i64, Uuid) {
        (self.rev, self.sequence, self.epoch)
    }
}

/// The newest part of each kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Parts<K: Ord, D>(BTreeMap<K, Part<D>>);

impl<K: Ord, D> Default for Parts<K, D> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord, D> Parts<K, D> {
    /// Adds a part; an older one changes nothing.
    pub fn add(&mut self, kind: K, part: Part<D>) {
        match self.0.entry(kind) {
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(part);
            }
            std::collections::btree_map::Entry::Occupied(mut entry) => {
                if part.order() > entry.get().order() {
                    entry.insert(part);
                }
            }
        }
    }

    /// The newest part of this kind.
    pub fn get(&self, kind: &K) -> Option<&Part<D>> {
        self.0.get(kind)
    }

    /// The newest part of all kinds.
    pub fn newest(&self) -> Option<&Part<D>> {
        self.0.values().max_by_key(|part| part.order())
    }

    /// Parts, newest first.
    pub fn newest_first(&self) -> impl Iterator<Item = &Part<D>> {
        let mut parts: Vec<_> = self.0.values().collect();
        parts.sort_by_key(|part| std::cmp::Reverse(part.order()));
        parts.into_iter()
    }

    /// What the newest part that says it says.
    pub fn said<T>(&self, what: impl Fn(&D) -> Option<T>) -> Option<T> {
        self.newest_first().find_map(|part| what(&part.data))
    }
}

/// What is kept of things: `select` takes the device and their ids, and answers with id and parts.
///
/// # Errors
/// When the statement fails.
pub async fn load<K, D>(
    tx: &Transaction<'_>,
    select: &str,
    device_id: Uuid,
    uids: &[Uuid],
) -> Result<HashMap<Uuid, Parts<K, D>>, DbError>
where
    K: Ord + DeserializeOwned,
    D: DeserializeOwned,
{
    let statement = tx.prepare_cached(select).await?;
    let rows = tx.query(&statement, &[&device_id, &uids]).await?;
    let parts = |value: Value| serde_json::from_value(value).unwrap_or_default();
    // Written by this program only; unreadable parts are built again from what comes now.
    Ok(rows
        .iter()
        .map(|row| (row.get(0), parts(row.get(1))))
        .collect())
}

/// What is kept of the things that `said` is about, with that added; empty where it says nothing.
///
/// # Errors
/// When the statement fails.
pub async fn merge<K, D>(
    tx: &Transaction<'_>,
    select: &str,
    device_id: Uuid,
    said: Vec<(Uuid, K, Part<D>)>,
) -> Result<HashMap<Uuid, Parts<K, D>>, DbError>
where
    K: Ord + DeserializeOwned,
    D: DeserializeOwned,
{
    if said.is_empty() {
        return Ok(HashMap::new());
    }
    let uids: Vec<Uuid> = said.iter().map(|(uid, ..)| *uid).collect();
    let mut things = load(tx, select, device_id, &uids).await?;
    for (uid, kind, part) in said {
        things.entry(uid).or_default().add(kind, part);
    }
    Ok(things)
}
