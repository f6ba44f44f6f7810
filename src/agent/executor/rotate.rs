//! `key.rotate`: another key, without a moment without one.

use super::{Done, Fault, fault};
use crate::cloud::SharedKeys;

/// Asks the cloud for another key.
#[derive(Clone)]
pub struct Rotation;

impl Rotation {
    /// Changes the key of `keys`.
    pub(super) async fn run(&self, _keys: &SharedKeys) -> Result<Done, Fault> {
        fault("unsupported", "keys cannot be changed")
    }
}
