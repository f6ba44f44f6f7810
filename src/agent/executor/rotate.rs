//! `key.rotate`: another key, without a moment in which the device has none that works.
//!
//! ```text
//! ask, signed with the current key ─▶ open ─▶ next.json on disk ─▶ confirm, signed with the next ─▶ rename over current
//! ```
//!
//! Cut short anywhere, both keys are tried at the next start; run again, it goes on from the key that is on disk.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use super::{Done, Fault, fault};
use crate::agent::time::TimeKeeper;
use crate::board::entropy::Entropy;
use crate::cloud::client::{Call, Reply, Transport};
use crate::cloud::{Client, SharedKeys};
use crate::supervise::failpoint;
use crate::wire::keys::KeySlot;
use crate::wire::rotate;
use crate::wire::seal::{KemKey, rotate_info};

const ROTATE_PATH: &str = "/edge/v1/credentials/rotate";
const CONFIRM_PATH: &str = "/edge/v1/credentials/confirm";
/// A key that counts only later than this is not waited for.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Asks the cloud for another key.
#[derive(Clone)]
pub struct Rotation {
    /// Signs with either key.
    pub client: Client,
    /// Trusted time.
    pub time: TimeKeeper,
    /// Nonces, key pairs.
    pub entropy: Entropy,
}

impl Rotation {
    /// Changes the key of `keys`.
    pub(super) async fn run(&self, keys: &SharedKeys) -> Result<Done, Fault> {
        if keys.has_next() {
            match self.confirm(keys).await {
                Ok(done) => return Ok(done),
                // The cloud does not know that one any more: another takes its place.
                Err(e) if e.code == "unknown-key" => {}
                Err(e) => return Err(e),
            }
        }
        let Ok(kem) = KemKey::generate(self.entropy.source()) else {
            return fault("no-random", "no key pair can be made");
        };
        let public = *kem.public();
        let body = json!({ "kem_pk": URL_SAFE_NO_PAD.encode(public) }).to_string();
        let reply = self.post(ROTATE_PATH, &body, KeySlot::Current).await?;
        let opened = rotate::sealed(&reply.body)
            .and_then(|sealed| kem.open(&rotate_info(&public), &sealed).ok());
        let Some(key) = opened.and_then(|text| rotate::key(&text)) else {
            return fault("sealed", "the cloud's answer does not open");
        };
        if let Err(e) = keys.store_next(&key.edge_key, &key.edge_secret).await {
            return fault("storage", e);
        }
        failpoint::hit("rotate.stored");
        if let Some(begins) = key.not_before {
            let wait = begins.since_us(self.time.wall());
            let wait = Duration::from_micros(u64::try_from(wait).unwrap_or(0));
            if wait > LONGEST_WAIT {
                return fault("not-before", "the new key counts only later");
            }
            tokio::time::sleep(wait).await;
        }
        self.confirm(keys).await
    }

    async fn confirm(&self, keys: &SharedKeys) -> Result<Done, Fault> {
        self.post(CONFIRM_PATH, "{}", KeySlot::Next).await?;
        failpoint::hit("rotate.confirmed");
        keys.promote().await;
        failpoint::hit("rotate.promoted");
        let key = keys.of(KeySlot::Current);
        Ok(Done {
            result: Some(json!({ "edge_key": key.key.key_id() })),
            ..Done::default()
        })
    }

    /// A signed 2xx, or why there is none.
    async fn post(&self, path: &str, body: &str, key: KeySlot) -> Result<Reply, Fault> {
        let call = Call {
            path,
            body: Some(body.as_bytes()),
            delete: false,
            content_type: "application/json",
            idempotency_key: None,
            gzip: false,
            key,
            any_date: false,
            if_none_match: None,
        };
        let (created, nonce) = (self.time.wall(), self.entropy.bytes());
        let reply = match self.client.send(&call, created, nonce).await {
            Ok(reply) => reply,
            Err(e) => return fault("no-answer", e),
        };
        match reply.status {
            200 if reply.authentic => Ok(reply),
            200 => fault("unsigned", "the cloud's answer is not signed"),
            401 | 404 | 410 if key == KeySlot::Next => fault("unknown-key", &reply.code),
            status => fault("refused", format!("{status} {}", reply.code)),
        }
    }
}
