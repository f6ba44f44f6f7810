//! The credentials file of a device: what claiming would have sealed for it (section 8.4), without MQTT.
//!
//! The file is written whole or not at all, mode 0600; it is the only place where the secret leaves the
//! cloud in clear.

use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use serde::Serialize;
use uuid::Uuid;

use crate::secret::{Secret, SecretError, random_base64url};

/// What a device needs to speak to this cloud.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// Public name.
    pub edge_id: String,
    /// `keyid`.
    pub edge_key: String,
    /// The HMAC key.
    pub edge_secret: Secret,
    /// `https://host:port`.
    pub api_base: String,
    /// The tenant's id.
    pub tenant_id: Uuid,
    /// The tenant's name.
    pub tenant_name: String,
    /// The device's name.
    pub device_name: String,
}

#[derive(Serialize)]
struct File<'a> {
    v: u32,
    edge_id: &'a str,
    edge_key: &'a str,
    edge_secret: String,
    api_base: &'a str,
    tenant: Tenant<'a>,
    device_name: &'a str,
}

#[derive(Serialize)]
struct Tenant<'a> {
    id: Uuid,
    name: &'a str,
}

impl Credentials {
    /// The file's text. It contains the secret.
    ///
    /// # Errors
    /// Never in practice: the members are strings.
    pub fn expose_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(&File {
            v: 1,
            edge_id: &self.edge_id,
            edge_key: &self.edge_key,
            edge_secret: self.edge_secret.expose_base64(),
            api_base: &self.api_base,
            tenant: Tenant {
                id: self.tenant_id,
                name: &self.tenant_name,
            },
            device_name: &self.device_name,
        })
    }

    /// Writes the file: temporary file, fsync, rename, fsync of the directory.
    ///
    /// # Errors
    /// Those of the file system; an existing file stays as it was.
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        let text = self.expose_json()?;
        let temporary = path.with_extension("tmp");
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        file.write_all(text.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        std::fs::File::open(directory)?.sync_all()
    }
}

/// A new `edge_id`: `e-` and the base32 (RFC 4648, lower case, unpadded) of a UUIDv7.
pub fn new_edge_id() -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let number = Uuid::now_v7().as_u128();
    // 26 digits of 5 bits are 130 bits: the last has the 3 that are left, at its top.
    let digit = |at: u32| {
        let five = if at == 25 {
            number << 2
        } else {
            number >> (123 - 5 * at)
        };
        char::from(ALPHABET[(five & 31) as usize])
    };
    std::iter::once("e-".to_owned())
        .chain((0..26).map(|at| digit(at).to_string()))
        .collect()
}

/// A new `edge_key`: `ek_` and 128 random bits.
///
/// # Errors
/// When the system gives no random bytes.
pub fn new_edge_key() -> Result<String, SecretError> {
    Ok(format!("ek_{}", random_base64url::<16>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_form_of_the_protocol() {
        let id = new_edge_id();
        assert_eq!(id.len(), 28);
        assert!(
            id[2..]
                .bytes()
                .all(|b| b.is_ascii_lowercase() || (b'2'..=b'7').contains(&b)),
            "{id}"
        );
        assert_ne!(id, new_edge_id());
        assert_eq!(new_edge_key().unwrap().len(), 25);
    }
}
