//! `Idempotency-Key`: the same batch sent again gets the same answer, for 24 h.
//!
//! The answer is a row of the batch's own transaction. There is no "running" row to be left behind by
//! a crash: a batch in progress is an advisory lock that dies with its connection.

use axum::http::{StatusCode, header};
use deadpool_postgres::Transaction;
use ring::digest;
use serde_json::Value;
use uuid::Uuid;

use crate::db::DbError;
use crate::edge::verify::Caller;
use crate::problem::Problem;

/// A key with the digest of the decoded body it stands for.
#[derive(Debug)]
pub struct Key<'a> {
    key: &'a str,
    body_sha256: Vec<u8>,
}

impl<'a> Key<'a> {
    /// The key of this body.
    pub fn new(key: &'a str, body: &[u8]) -> Self {
        let body_sha256 = digest::digest(&digest::SHA256, body).as_ref().to_vec();
        Self { key, body_sha256 }
    }

    /// Takes the key for this transaction; returns the stored answer if the batch was committed before.
    pub(super) async fn begin(
        &self,
        tx: &Transaction<'_>,
        device: Uuid,
    ) -> Result<Option<Value>, Problem> {
        if !self.lock(tx, device).await? {
            let detail = "the same batch is being worked on";
            let problem = Problem::new(StatusCode::CONFLICT, "in-progress", detail);
            return Err(problem.with_header(header::RETRY_AFTER, "1"));
        }
        let Some((body_sha256, answer)) = self.stored(tx, device).await? else {
            return Ok(None);
        };
        if body_sha256 != self.body_sha256 {
            let detail = "the key belongs to another body";
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            return Err(Problem::new(status, "idempotency-mismatch", detail));
        }
        Ok(Some(answer))
    }

    async fn lock(&self, tx: &Transaction<'_>, device: Uuid) -> Result<bool, DbError> {
        let statement = tx
            .prepare_cached("select pg_try_advisory_xact_lock(hashtextextended($1, 2))")
            .await?;
        let row = tx
            .query_one(&statement, &[&format!("{device} {}", self.key)])
            .await?;
        Ok(row.get(0))
    }

    async fn stored(
        &self,
        tx: &Transaction<'_>,
        device: Uuid,
    ) -> Result<Option<(Vec<u8>, Value)>, DbError> {
        let statement = tx
            .prepare_cached(
                "select body_sha256, answer from idempotency_keys
                 where device_id = $1 and key = $2 and created_at > now() - interval '24 hours'",
            )
            .await?;
        let row = tx.query_opt(&statement, &[&device, &self.key]).await?;
        Ok(row.map(|row| (row.get(0), row.get(1))))
    }

    /// Keeps the answer, and forgets this device's old ones.
    pub(super) async fn finish(
        &self,
        tx: &Transaction<'_>,
        caller: &Caller,
        answer: &Value,
    ) -> Result<(), DbError> {
        let forget = tx
            .prepare_cached(
                "delete from idempotency_keys
                 where device_id = $1 and created_at <= now() - interval '24 hours'",
            )
            .await?;
        tx.execute(&forget, &[&caller.device_id]).await?;
        let keep = tx
            .prepare_cached(
                "insert into idempotency_keys (device_id, organization_id, key, body_sha256, answer)
                 values ($1, $2, $3, $4, $5)",
            )
            .await?;
        let (device, organization) = (&caller.device_id, &caller.organization_id);
        tx.execute(
            &keep,
            &[device, organization, &self.key, &self.body_sha256, answer],
        )
        .await?;
        Ok(())
    }
}
