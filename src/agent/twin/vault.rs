//! Secrets of twins: one 0600 file, by version, so that the document in force and the one to fall back to both find
//! theirs.
//!
//! The file is replaced as a whole before the row of a version
//! is committed, and thinned out after: whatever version a row names, its secrets are there.

use std::collections::BTreeMap;
use std::io::{Error, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::cloud::private_file;
use crate::twin::Secrets;

/// Below the state directory, beside the credentials.
const DIR: &str = "credentials";
const FILE: &str = "twin-secrets.json";
const MAX_BYTES: u64 = 1 << 20;

/// The file.
#[derive(Debug, Clone)]
pub struct Vault(PathBuf);

type All = BTreeMap<u64, Secrets>;

impl Vault {
    /// In this state directory.
    pub fn in_dir(state_dir: &Path) -> Vault {
        Vault(state_dir.join(DIR).join(FILE))
    }

    /// The secrets of a version; none where there is no file.
    pub fn get(&self, version: u64) -> Secrets {
        let all = self.load().unwrap_or_else(|e| {
            tracing::error!(path = %self.0.display(), error = %e, "secrets of the twin cannot be read");
            All::new()
        });
        all.get(&version).cloned().unwrap_or_default()
    }

    /// Adds the secrets of a version. Blocking.
    ///
    /// # Errors
    /// They are not on disk.
    pub fn put(&self, version: u64, secrets: &Secrets) -> Result<(), Error> {
        let mut all = self.load().unwrap_or_default();
        if secrets.is_empty() && !all.contains_key(&version) {
            return Ok(());
        }
        all.insert(version, secrets.clone());
        self.store(&all)
    }

    /// Forgets all versions but these. Blocking.
    ///
    /// # Errors
    /// Some may still be on disk.
    pub fn keep(&self, versions: &[u64]) -> Result<(), Error> {
        let mut all = self.load()?;
        let before = all.len();
        all.retain(|version, _| versions.contains(version));
        if all.len() == before {
            return Ok(());
        }
        self.store(&all)
    }

    /// Forgets everything. Blocking.
    ///
    /// # Errors
    /// It may still be on disk.
    pub fn remove(&self) -> Result<(), Error> {
        private_file::remove(&self.0)
    }

    fn load(&self) -> Result<All, Error> {
        let file = std::fs::OpenOptions::new()
            .read(true)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
            .open(&self.0);
        let file = match file {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(All::new()),
            other => other?,
        };
        let mut text = Zeroizing::new(String::new());
        file.take(MAX_BYTES).read_to_string(&mut text)?;
        // The parser's own words could quote a secret.
        serde_json::from_str(&text).map_err(|_| Error::other("not the file that the agent wrote"))
    }

    fn store(&self, all: &All) -> Result<(), Error> {
        let dir = self.0.parent().unwrap_or(Path::new("/"));
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)?;
        let shown: BTreeMap<u64, _> = all.iter().map(|(v, s)| (*v, s.exposed())).collect();
        let text = Zeroizing::new(serde_json::to_vec(&shown).map_err(Error::other)?);
        private_file::replace(&self.0, &text)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn secrets(word: &str) -> Secrets {
        serde_json::from_value(serde_json::json!({ "door": word })).unwrap()
    }

    #[test]
    fn secrets_are_kept_by_version_in_a_file_of_ours_alone() {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::in_dir(dir.path());
        assert!(vault.get(1).is_empty());
        vault.keep(&[]).unwrap();
        vault.put(1, &Secrets::default()).unwrap();
        assert!(!vault.0.exists(), "nothing to keep");
        vault.put(1, &secrets("a")).unwrap();
        vault.put(2, &secrets("b")).unwrap();
        let mode = std::fs::metadata(&vault.0).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!((vault.get(1), vault.get(2)), (secrets("a"), secrets("b")));
        vault.keep(&[2, 5]).unwrap();
        assert!(vault.get(1).is_empty());
        assert_eq!(vault.get(2), secrets("b"));
        let left: Vec<_> = std::fs::read_dir(dir.path().join(DIR)).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }

    #[test]
    fn a_damaged_file_is_as_none_and_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::in_dir(dir.path());
        vault.put(1, &secrets("a")).unwrap();
        std::fs::write(&vault.0, "{\"1\": {\"door\": \"canary").unwrap();
        let told = vault.load().unwrap_err().to_string();
        assert!(!told.contains("canary"), "{told}");
        assert!(vault.get(1).is_empty());
        vault.put(2, &secrets("b")).unwrap();
        assert_eq!(vault.get(2), secrets("b"));
    }
}
