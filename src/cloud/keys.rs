//! The credentials directory: the current key and, while a rotation is not over, the next one beside it.
//!
//! Renaming `next.json` over `current.json` is one step on disk: after a power cut there is the one or the other, and
//! both are tried.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use zeroize::{Zeroize as _, Zeroizing};

use super::credentials::{Credentials, CredentialsError};
use super::private_file;
use crate::model::Secret;
use crate::wire::keys::KeySlot;
use crate::wire::signature::SigningKey;

/// The rotation's key, in the directory of the current one.
pub const NEXT_FILE: &str = "next.json";

/// What a device may sign with.
#[derive(Debug, Clone)]
pub struct Keys {
    current: Credentials,
    next: Option<Credentials>,
    file: PathBuf,
}

impl Keys {
    /// Reads the current credentials from `file`, and the next ones beside it where there are any. Next ones that
    /// cannot be used, or are another device's, are left alone. Where only the next ones can be read, they serve.
    ///
    /// # Errors
    /// [`CredentialsError`] of `file`.
    pub fn load(file: &Path) -> Result<Keys, CredentialsError> {
        let beside = file.with_file_name(NEXT_FILE);
        let next = if beside == file || !beside.exists() {
            None
        } else {
            Credentials::load(&beside)
                .inspect_err(|e| tracing::warn!(error = %e, "the next key cannot be used"))
                .ok()
        };
        let (current, next) = match (Credentials::load(file), next) {
            (Ok(current), next) => (current, next),
            (Err(e), Some(next)) => {
                tracing::error!(error = %e, "the current key cannot be used, working with the next one");
                (next, None)
            }
            (Err(e), None) => return Err(e),
        };
        let next = next.filter(|n| {
            let ours = n.edge_id == current.edge_id;
            if !ours {
                tracing::warn!(path = %beside.display(), "the next key is another device's, leaving it alone");
            }
            ours
        });
        Ok(Keys {
            current,
            next,
            file: file.to_owned(),
        })
    }

    /// The credentials in this place; the current ones where there are no next ones.
    pub fn of(&self, slot: KeySlot) -> &Credentials {
        match (slot, &self.next) {
            (KeySlot::Next, Some(next)) => next,
            _ => &self.current,
        }
    }

    /// Whether there are next ones.
    pub fn has_next(&self) -> bool {
        self.next.is_some()
    }

    /// Makes the next credentials the current ones. Where the disk does not take that, they are for this run, and the
    /// next run finds out anew.
    pub async fn promote(&mut self) {
        let Some(next) = self.next.take() else {
            return;
        };
        self.current = next.clone();
        let file = self.file.clone();
        let key = next.key.key_id().to_owned();
        let renamed = tokio::task::spawn_blocking(move || rename(&file, &next)).await;
        match renamed {
            Ok(Ok(())) => tracing::info!(key, "the next key is the current one now"),
            Ok(Err(e)) => tracing::warn!(key, error = %e, "the key in use stays in next.json"),
            Err(_) => tracing::warn!(key, "the key in use stays in next.json"),
        }
    }
}

/// The keys of one device, for everybody who signs or verifies with them: a rotation reaches all of them at once.
#[derive(Debug, Clone)]
pub struct SharedKeys(Arc<RwLock<Keys>>);

impl SharedKeys {
    /// The credentials in this place; the current ones where there are no next ones.
    pub fn of(&self, slot: KeySlot) -> Credentials {
        self.read().of(slot).clone()
    }

    /// Whether there are next ones.
    pub fn has_next(&self) -> bool {
        self.read().has_next()
    }

    /// What the cloud may have signed a document with.
    pub fn signing(&self) -> Vec<SigningKey> {
        let keys = self.read();
        let next = keys.next.iter().map(|next| next.key.clone());
        std::iter::once(keys.current.key.clone())
            .chain(next)
            .collect()
    }

    /// The current key's file; empty where there is none.
    pub fn file(&self) -> PathBuf {
        self.read().file.clone()
    }

    /// Writes another key beside the current one, durably, and takes it in; [`SharedKeys::promote`] makes it the current
    /// one. Everything but key and secret stays as it is.
    ///
    /// # Errors
    /// The disk does not take it, or it is no key; its text holds no part of the secret.
    pub async fn store_next(&self, edge_key: &str, secret: &Secret) -> std::io::Result<()> {
        let (file, key, secret) = (self.file(), edge_key.to_owned(), secret.clone());
        let write = tokio::task::spawn_blocking(move || write_next(&file, &key, &secret));
        let next = write.await.map_err(std::io::Error::other)??;
        self.0.write().unwrap_or_else(PoisonError::into_inner).next = Some(next);
        Ok(())
    }

    /// As [`Keys::promote`].
    pub async fn promote(&self) {
        let mut keys = self.read().clone();
        keys.promote().await;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Keys> {
        // A poisoned lock holds a plain value that is whole at any time.
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Into<Keys>> From<K> for SharedKeys {
    fn from(keys: K) -> Self {
        SharedKeys(Arc::new(RwLock::new(keys.into())))
    }
}

impl From<Credentials> for Keys {
    /// One key, without a place on disk.
    fn from(current: Credentials) -> Self {
        Keys {
            current,
            next: None,
            file: PathBuf::new(),
        }
    }
}

/// `next.json` beside `file`, durably: its content with another key.
fn write_next(file: &Path, key: &str, secret: &Secret) -> std::io::Result<Credentials> {
    let current = Zeroizing::new(std::fs::read_to_string(file)?);
    let mut content: serde_json::Value =
        serde_json::from_str(&current).map_err(std::io::Error::other)?;
    content["edge_key"] = key.into();
    content["edge_secret"] = secret.expose().into();
    let text = Zeroizing::new(content.to_string());
    if let Some(serde_json::Value::String(copy)) = content.get_mut("edge_secret") {
        copy.zeroize();
    }
    // What cannot be used must not stand beside the current one.
    let next = Credentials::parse(&text).map_err(std::io::Error::other)?;
    private_file::replace(&file.with_file_name(NEXT_FILE), text.as_bytes())?;
    Ok(next)
}

/// Renames `next.json` over the current file, durably, if it still holds `proven`.
fn rename(file: &Path, proven: &Credentials) -> std::io::Result<()> {
    let beside = file.with_file_name(NEXT_FILE);
    let there = Credentials::load(&beside).map_err(std::io::Error::other)?;
    if there.key.key_id() != proven.key.key_id() {
        return Err(std::io::Error::other("next.json holds another key by now"));
    }
    std::fs::rename(&beside, file)?;
    private_file::sync_dir(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(edge_id: &str, key: &str) -> String {
        format!(
            r#"{{"v":1,"edge_id":"{edge_id}","edge_key":"{key}","api_base":"https://cloud.example",
                "edge_secret":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}}"#
        )
    }

    fn id(keys: &Keys, slot: KeySlot) -> &str {
        keys.of(slot).key.key_id()
    }

    #[tokio::test]
    async fn the_next_key_is_read_beside_the_current_one_and_takes_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let (current, next) = (dir.path().join("current.json"), dir.path().join(NEXT_FILE));
        std::fs::write(&current, text("e-1", "ek_old")).unwrap();
        assert!(!Keys::load(&current).unwrap().has_next());
        std::fs::write(&next, text("e-1", "ek_new")).unwrap();
        let mut keys = Keys::load(&current).unwrap();
        assert_eq!(id(&keys, KeySlot::Current), "ek_old");
        assert_eq!(id(&keys, KeySlot::Next), "ek_new");
        keys.promote().await;
        assert_eq!(id(&keys, KeySlot::Current), "ek_new");
        assert!(!keys.has_next() && !next.exists());
        let again = Keys::load(&current).unwrap();
        assert_eq!(id(&again, KeySlot::Current), "ek_new");
    }

    #[tokio::test]
    async fn a_rotated_key_is_on_disk_before_it_counts_and_reaches_everybody() {
        let dir = tempfile::tempdir().unwrap();
        let (current, next) = (dir.path().join("current.json"), dir.path().join(NEXT_FILE));
        std::fs::write(&current, text("e-1", "ek_old")).unwrap();
        let keys = SharedKeys::from(Keys::load(&current).unwrap());
        let other = keys.clone();
        let bad = keys.store_next("ek new", &Secret::new("AAEC")).await;
        assert!(bad.is_err() && !next.exists() && !keys.has_next());
        let secret = Secret::new("AQECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
        keys.store_next("ek_new", &secret).await.unwrap();
        assert_eq!(id(&Keys::load(&current).unwrap(), KeySlot::Next), "ek_new");
        let signing: Vec<_> = other
            .signing()
            .iter()
            .map(|k| k.key_id().to_owned())
            .collect();
        assert_eq!(signing, ["ek_old", "ek_new"]);
        keys.promote().await;
        assert_eq!(other.of(KeySlot::Current).key.key_id(), "ek_new");
        assert!(!next.exists() && !other.has_next());
        assert_eq!(
            id(&Keys::load(&current).unwrap(), KeySlot::Current),
            "ek_new"
        );
    }

    #[test]
    fn a_next_key_that_is_damaged_or_of_another_device_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (current, next) = (dir.path().join("current.json"), dir.path().join(NEXT_FILE));
        std::fs::write(&current, text("e-1", "ek_old")).unwrap();
        for content in [text("e-2", "ek_new"), "{".into(), String::new()] {
            std::fs::write(&next, &content).unwrap();
            assert!(!Keys::load(&current).unwrap().has_next());
            assert_eq!(std::fs::read_to_string(&next).unwrap(), content);
        }
    }

    #[tokio::test]
    async fn without_a_current_key_the_next_one_serves_and_both_missing_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let (current, next) = (dir.path().join("current.json"), dir.path().join(NEXT_FILE));
        assert!(Keys::load(&current).is_err());
        std::fs::write(&next, text("e-1", "ek_new")).unwrap();
        assert_eq!(
            id(&Keys::load(&current).unwrap(), KeySlot::Current),
            "ek_new"
        );
        std::fs::write(&current, "torn").unwrap();
        assert_eq!(
            id(&Keys::load(&current).unwrap(), KeySlot::Current),
            "ek_new"
        );
        assert_eq!(std::fs::read_to_string(&current).unwrap(), "torn");
    }

    #[tokio::test]
    async fn a_next_key_that_was_replaced_meanwhile_is_not_renamed() {
        let dir = tempfile::tempdir().unwrap();
        let (current, next) = (dir.path().join("current.json"), dir.path().join(NEXT_FILE));
        std::fs::write(&current, text("e-1", "ek_old")).unwrap();
        std::fs::write(&next, text("e-1", "ek_new")).unwrap();
        let mut keys = Keys::load(&current).unwrap();
        std::fs::write(&next, text("e-1", "ek_newer")).unwrap();
        keys.promote().await;
        assert_eq!(id(&keys, KeySlot::Current), "ek_new");
        let again = Keys::load(&current).unwrap();
        assert_eq!(
            (id(&again, KeySlot::Current), id(&again, KeySlot::Next)),
            ("ek_old", "ek_newer")
        );
    }
}
