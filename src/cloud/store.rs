//! The credentials directory: what is in it says whose this device is.
//!
//! | file | means |
//! |---|---|
//! | `current.json` | claimed: the key that signs |
//! | `next.json` | a rotation is not over |
//! | `pending.json` | a claim is not confirmed; it holds `current.json` as it will be, and the claim's name |
//! | `owner.json` | whose records are in the store; outlives an unclaim |
//!
//! Each step is one rename or one unlink, made durable before the next: a power cut leaves the one side or the other.
//! Files are 0600, the directory is 0700; what is found looser is mended, and that is said. All of it blocks.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::credentials::{Credentials, CredentialsError, read};
use super::keys::Keys;
use super::private_file;
use crate::time::Wall;

const PENDING: &str = "pending.json";
const NEXT: &str = "next.json";
const OWNER: &str = "owner.json";
/// Of this directory only: a file in a shared place must not lock others out of it.
const DIRECTORY: &str = "credentials";

/// Told at every step that a test may want to cut.
pub type Step = fn(&'static str);

/// The directory.
#[derive(Debug, Clone)]
pub struct Store {
    current: PathBuf,
    step: Step,
}

/// A claim that waits for the cloud's word.
#[derive(Debug, Clone)]
pub struct Pending {
    /// Its name.
    pub claim: Uuid,
    /// The cloud's deadline, where it named one.
    pub confirm_by: Option<Wall>,
    /// What becomes current.
    pub credentials: Credentials,
}

#[derive(Deserialize)]
struct PendingWire {
    claim: ClaimWire,
}

#[derive(Serialize, Deserialize)]
struct ClaimWire {
    id: Uuid,
    confirm_by: Option<Wall>,
}

#[derive(Serialize, Deserialize)]
struct OwnerWire {
    tenant_id: String,
}

impl Store {
    /// The directory of `current`, the file that is renamed to at last.
    pub fn new(current: &Path, step: Step) -> Store {
        Store {
            current: current.to_owned(),
            step,
        }
    }

    fn dir(&self) -> &Path {
        let dir = self.current.parent();
        dir.filter(|p| !p.as_os_str().is_empty())
            .unwrap_or(Path::new("."))
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    /// Makes the directory where it is missing, closes it to others, and removes what a cut left half written.
    ///
    /// # Errors
    /// What the file system says.
    pub fn prepare(&self) -> io::Result<()> {
        let dir = self.dir();
        if !dir.exists() {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(dir)?;
            if let Some(parent) = dir.parent() {
                File::open(parent)?.sync_all()?;
            }
        }
        let mode = fs::metadata(dir)?.permissions().mode();
        if mode & 0o077 != 0 && dir.ends_with(DIRECTORY) {
            tracing::warn!(path = %dir.display(), mode = format!("{:o}", mode & 0o777), "credentials directory is open to others, making it 0700");
            fs::set_permissions(dir, Permissions::from_mode(0o700))?;
        }
        for name in [PENDING, NEXT, OWNER] {
            private_file::remove_half(&self.beside(name))?;
        }
        Ok(())
    }

    /// The device's keys; `None` where there are none.
    ///
    /// # Errors
    /// They are there but cannot be used.
    pub fn keys(&self) -> Result<Option<Keys>, CredentialsError> {
        let there = self.current.symlink_metadata().is_ok() || self.beside(NEXT).exists();
        if there {
            Keys::load(&self.current).map(Some)
        } else {
            Ok(None)
        }
    }

    /// The claim that waits, where one does. One that cannot be used never was: its key is not known to be active.
    ///
    /// # Errors
    /// It is there but cannot be used.
    pub fn pending(&self) -> Result<Option<Pending>, CredentialsError> {
        let path = self.beside(PENDING);
        if path.symlink_metadata().is_err() {
            return Ok(None);
        }
        parse_pending(&read(&path)?)
            .map(Some)
            .map_err(|problem| CredentialsError::Content {
                path: path.display().to_string(),
                problem,
            })
    }

    /// Writes what the cloud sealed as the pending claim; it is on disk when this returns.
    ///
    /// # Errors
    /// What is wrong with it, or what the file system says.
    pub fn write_pending(
        &self,
        plain: &[u8],
        claim: Uuid,
        confirm_by: Option<Wall>,
    ) -> Result<Pending, CredentialsError> {
        let path = self.beside(PENDING);
        let content = |problem| CredentialsError::Content {
            path: "the credentials from the cloud".into(),
            problem,
        };
        let text = pending_text(plain, claim, confirm_by).map_err(content)?;
        let pending = parse_pending(&text).map_err(content)?;
        self.write(PENDING, text.as_bytes())
            .map_err(|source| CredentialsError::Read {
                path: path.display().to_string(),
                source,
            })?;
        Ok(pending)
    }

    /// Makes the pending credentials the current ones. A next key that is left belonged to the old ones.
    ///
    /// # Errors
    /// What the file system says; nothing has changed then, or all of it.
    pub fn activate(&self) -> io::Result<Keys> {
        let pending = self.beside(PENDING);
        match fs::rename(&pending, &self.current) {
            // Repeated after an error further down.
            Err(e) if e.kind() == io::ErrorKind::NotFound && self.current.exists() => {}
            other => other?,
        }
        (self.step)("claim.renamed");
        self.sync()?;
        (self.step)("claim.activated");
        private_file::remove(&self.beside(NEXT))?;
        self.sync()?;
        Keys::load(&self.current).map_err(io::Error::other)
    }

    /// Removes the pending claim.
    ///
    /// # Errors
    /// What the file system says.
    pub fn discard(&self) -> io::Result<()> {
        private_file::remove(&self.beside(PENDING))?;
        self.sync()
    }

    /// Removes every key. The current one goes last: until then the device is claimed.
    ///
    /// # Errors
    /// What the file system says.
    pub fn wipe(&self) -> io::Result<()> {
        for path in [self.beside(PENDING), self.beside(NEXT)] {
            private_file::remove(&path)?;
        }
        (self.step)("unclaim.keys");
        private_file::remove(&self.current)?;
        (self.step)("unclaim.current");
        if self.dir().exists() {
            self.sync()?;
        }
        Ok(())
    }

    /// Whose records are in the store, where that is known.
    pub fn owner(&self) -> Option<String> {
        let text = read(&self.beside(OWNER)).ok()?;
        let owner: OwnerWire = serde_json::from_str(&text).ok()?;
        Some(owner.tenant_id)
    }

    /// From here on the records are this owner's.
    ///
    /// # Errors
    /// What the file system says.
    pub fn set_owner(&self, tenant_id: &str) -> io::Result<()> {
        let owner = OwnerWire {
            tenant_id: tenant_id.to_owned(),
        };
        self.write(OWNER, &serde_json::to_vec(&owner)?)
    }

    /// Nobody's records are in the store any more.
    ///
    /// # Errors
    /// What the file system says.
    pub fn forget_owner(&self) -> io::Result<()> {
        private_file::remove(&self.beside(OWNER))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        private_file::replace_in_steps(&self.beside(name), bytes, |done| {
            (self.step)(match done {
                private_file::Step::Written => "claim.written",
                private_file::Step::Renamed => "claim.pending",
            });
        })
    }

    fn sync(&self) -> io::Result<()> {
        private_file::sync_dir(&self.current)
    }
}

/// The cloud's text with the claim's name put in front. Should it hold a `claim` of its own, reading it back fails.
fn pending_text(
    plain: &[u8],
    claim: Uuid,
    confirm_by: Option<Wall>,
) -> Result<Zeroizing<String>, &'static str> {
    let plain = std::str::from_utf8(plain).map_err(|_| "is not text")?;
    Credentials::parse(plain)?;
    let members = plain
        .trim_start()
        .strip_prefix('{')
        .ok_or("is not an object")?;
    let wire = ClaimWire {
        id: claim,
        confirm_by,
    };
    let head = serde_json::to_string(&wire).map_err(|_| "cannot be written")?;
    Ok(Zeroizing::new(format!("{{\"claim\":{head},{members}")))
}

fn parse_pending(text: &str) -> Result<Pending, &'static str> {
    let wire: PendingWire = serde_json::from_str(text).map_err(|_| "is not a pending claim")?;
    Ok(Pending {
        claim: wire.claim.id,
        confirm_by: wire.claim.confirm_by,
        credentials: Credentials::parse(text)?,
    })
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
