//! What a device forgets when it changes or loses its owner, whole even if the power goes in the middle.
//!
//! The store cannot be removed while it is open: an order is written to the state directory first, the keys go, the
//! agent starts anew, and the order is carried out before the store is opened. A start that finds an order finishes it;
//! only then the order itself goes.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::twin::vault::Vault;
use crate::cloud::{Store, private_file};
use crate::db;
use crate::spool::Spool;
use crate::supervise::failpoint;

const ORDER: &str = "wipe.order";

/// How much goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wipe {
    /// The keys; records and clips stay for the same owner.
    Credentials,
    /// Keys, database, recordings.
    All,
    /// Database and recordings, but not the keys: they are another owner's than the records.
    Records,
}

/// Orders a wipe for the next start; durable when this returns. [`Wipe::Credentials`] needs none.
///
/// # Errors
/// What the file system says.
pub fn order(dir: &Path, wipe: Wipe) -> io::Result<()> {
    private_file::replace(&dir.join(ORDER), &serde_json::to_vec(&wipe)?)
}

/// Takes an order back that is not begun.
///
/// # Errors
/// What the file system says; it may stand.
pub fn revoke(dir: &Path) -> io::Result<()> {
    let path = dir.join(ORDER);
    private_file::remove(&path)?;
    private_file::sync_dir(&path)
}

/// Carries out what was ordered, before anything is opened. `true`: there was something.
///
/// # Errors
/// What the file system says; the order stands, and the next start tries again.
pub fn carry_out(dir: &Path, spool: &Spool, store: &Store) -> io::Result<bool> {
    let path = dir.join(ORDER);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(e),
    };
    // An order that cannot be read is not one: it is written whole or not at all.
    let wipe: Wipe = serde_json::from_slice(&text)?;
    if wipe == Wipe::All {
        store.wipe()?;
    }
    if wipe != Wipe::Credentials {
        failpoint::hit("wipe.begun");
        db::remove::remove(dir)?;
        Vault::in_dir(dir).remove()?;
        failpoint::hit("wipe.store");
        let clips = spool.clear().map_err(io::Error::other)?;
        store.forget_owner()?;
        failpoint::hit("wipe.clips");
        tracing::warn!(
            clips,
            "records and recordings of the former owner were removed"
        );
    }
    private_file::remove(&path)?;
    private_file::sync_dir(&path)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SpoolConfig;
    use crate::units::ByteSize;

    #[test]
    fn an_order_is_carried_out_once_and_takes_what_it_says() {
        for wipe in [Wipe::All, Wipe::Records, Wipe::Credentials] {
            let dir = tempfile::tempdir().unwrap();
            let put = |name: &str| {
                let path = dir.path().join(name);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(&path, "x").unwrap();
                path
            };
            let key = put("credentials/current.json");
            let db = put("sentrycam.db");
            let secrets = put("credentials/twin-secrets.json");
            let clip = put("clips/door/019af5d8-7a00-7000-8000-000000000001.mp4");
            // What a power cut leaves half written, and what `diag.collect` made.
            let halves = [
                put("credentials/.next.json.new"),
                put("credentials/.pending.json.new"),
            ];
            let others = [
                put("credentials/.twin-secrets.json.new"),
                put("credentials/.owner.json.new"),
                put("clips/door/019af5d8-7a00-7000-8000-000000000002.jpg.part"),
                put("clips/_diag/019af5d8-7a00-7000-8000-000000000003.json.gz"),
                put("clips/_diag/019af5d8-7a00-7000-8000-000000000004.json.gz.part"),
            ];
            let foreign = put("clips/door/holiday.mp4");
            let spool = Spool::new(&SpoolConfig {
                dir: dir.path().join("clips"),
                require_mount: false,
                min_free: ByteSize(0),
            });
            let store = Store::new(&key, |_| {});
            std::fs::write(
                dir.path().join("credentials/owner.json"),
                "{\"tenant_id\":\"t-1\"}",
            )
            .unwrap();
            assert!(!carry_out(dir.path(), &spool, &store).unwrap());
            order(dir.path(), wipe).unwrap();
            assert!(carry_out(dir.path(), &spool, &store).unwrap());
            assert!(!carry_out(dir.path(), &spool, &store).unwrap());
            assert_eq!(key.exists(), wipe != Wipe::All);
            assert_eq!(db.exists(), wipe == Wipe::Credentials);
            assert_eq!(clip.exists(), wipe == Wipe::Credentials);
            assert_eq!(secrets.exists(), wipe == Wipe::Credentials);
            assert_eq!(store.owner().is_some(), wipe == Wipe::Credentials);
            for half in halves {
                assert_eq!(half.exists(), wipe != Wipe::All, "{half:?}");
            }
            for other in others {
                assert_eq!(other.exists(), wipe == Wipe::Credentials, "{other:?}");
            }
            assert!(foreign.exists());
        }
    }
}
