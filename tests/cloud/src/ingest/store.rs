//! The rows of a batch: `edge_records` in one statement, then the projections of what was new.

use std::collections::{HashMap, HashSet};

use deadpool_postgres::Transaction;
use uuid::Uuid;

use super::Stored;
use super::record::Record;
use crate::db::DbError;
use crate::edge::verify::Caller;
use crate::project;

const INSERT: &str = "
    insert into edge_records (device_id, organization_id, id, type, subject, time, timequality,
                              epoch, sequence, boot_id, severity, record)
    select $1, $2, r.* from unnest($3::uuid[], $4::text[], $5::text[], $6::timestamptz[], $7::text[],
                                   $8::uuid[], $9::bigint[], $10::uuid[], $11::text[], $12::jsonb[]) r
    on conflict do nothing
    returning id";

/// Stores and projects; the outcomes are in the order of the records.
///
/// A record that stands twice in a batch is new once and known once.
pub(super) async fn store(
    tx: &Transaction<'_>,
    caller: &Caller,
    records: &[&Record],
) -> Result<Vec<Stored>, DbError> {
    let mut new = if records.is_empty() {
        HashSet::new()
    } else {
        insert(tx, caller, records).await?
    };
    let mut fresh = Vec::with_capacity(new.len());
    let mut stored = Vec::with_capacity(records.len());
    for record in records {
        if new.remove(&record.id) {
            fresh.push(*record);
            stored.push(Stored::New);
        } else {
            stored.push(Stored::Known);
        }
    }
    project::project(tx, caller, &fresh).await?;
    Ok(stored)
}

async fn insert(
    tx: &Transaction<'_>,
    caller: &Caller,
    records: &[&Record],
) -> Result<HashSet<Uuid>, DbError> {
    // The first of several with one id counts; PostgreSQL takes them in the order of the arrays.
    let first: HashMap<Uuid, usize> = records
        .iter()
        .enumerate()
        .rev()
        .map(|(at, record)| (record.id, at))
        .collect();
    let records: Vec<&Record> = records
        .iter()
        .enumerate()
        .filter(|(at, record)| first.get(&record.id) == Some(at))
        .map(|(_, record)| *record)
        .collect();
    let ids: Vec<Uuid> = records.iter().map(|r| r.id).collect();
    let kinds: Vec<&str> = records.iter().map(|r| r.kind.as_str()).collect();
    let subjects: Vec<Option<&str>> = records.iter().map(|r| r.subject.as_deref()).collect();
    let times: Vec<jiff::Timestamp> = records.iter().map(|r| r.time).collect();
    let qualities: Vec<Option<&str>> = records.iter().map(|r| r.timequality.as_deref()).collect();
    let epochs: Vec<Uuid> = records.iter().map(|r| r.epoch).collect();
    let sequences: Vec<i64> = records.iter().map(|r| r.sequence).collect();
    let boots: Vec<Option<Uuid>> = records.iter().map(|r| r.boot_id).collect();
    let severities: Vec<&str> = records.iter().map(|r| r.severity.word()).collect();
    let envelopes: Vec<&serde_json::Value> = records.iter().map(|r| &r.envelope).collect();
    let statement = tx.prepare_cached(INSERT).await?;
    let rows = tx
        .query(
            &statement,
            &[
                &caller.device_id,
                &caller.organization_id,
                &ids,
                &kinds,
                &subjects,
                &times,
                &qualities,
                &epochs,
                &sequences,
                &boots,
                &severities,
                &envelopes,
            ],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
