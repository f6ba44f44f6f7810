//! What the cloud answers to a device that asks for another key: a sealed message, and the key inside. Pure; whatever is
//! not exactly that is nothing.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::seal::MAX_SEALED_BYTES;
use super::strict::{self, Bounds};
use crate::model::Secret;
use crate::time::Wall;

/// Of an answer; it has one member.
const BOUNDS: Bounds = Bounds {
    depth: 4,
    values: 16,
};

/// A key that takes the place of the current one.
#[derive(Debug)]
pub struct NewKey {
    /// Its name.
    pub edge_key: String,
    /// Base64, 32 bytes.
    pub edge_secret: Secret,
    /// It counts from here on; at once where the cloud did not say.
    pub not_before: Option<Wall>,
}

#[derive(Deserialize)]
struct WireKey {
    v: u8,
    edge_key: String,
    edge_secret: Secret,
    #[serde(default)]
    not_before: Option<String>,
}

/// The sealed message of an answer.
pub fn sealed(body: &[u8]) -> Option<Vec<u8>> {
    if body.len() > 2 * MAX_SEALED_BYTES {
        return None;
    }
    let answer = strict::parse(body, BOUNDS).ok()?;
    let sealed = URL_SAFE_NO_PAD.decode(answer["sealed"].as_str()?).ok()?;
    (sealed.len() <= MAX_SEALED_BYTES).then_some(sealed)
}

/// The key in the message.
pub fn key(plain: &[u8]) -> Option<NewKey> {
    let wire: WireKey = serde_json::from_slice(plain).ok()?;
    let not_before = match wire.not_before {
        Some(text) => Some(Wall::parse_rfc3339(&text)?),
        None => None,
    };
    (wire.v == 1).then_some(NewKey {
        edge_key: wire.edge_key,
        edge_secret: wire.edge_secret,
        not_before,
    })
}
