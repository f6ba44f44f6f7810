//! The credential file: who this device is and the key it signs with.
//!
//! Read without following a symlink; a file that others can read is made 0600 and reported. The secret is wiped from
//! memory once the signing key is made.

use std::io::Read;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use url::Url;
use zeroize::Zeroizing;

use crate::model::Secret;
use crate::wire::signature::SigningKey;

/// A credential file is smaller than this.
const MAX_BYTES: u64 = 64 << 10;

/// What the cloud gave this device.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// `e-…`; names this device in every record.
    pub edge_id: String,
    /// Signs requests, verifies answers.
    pub key: SigningKey,
    /// Base address of the cloud's API, `https://…`.
    pub api_base: Url,
    /// Name of the owning organization, for people.
    pub tenant: String,
    /// Id of that organization; empty where the cloud did not say.
    pub tenant_id: String,
    /// The broker, where the cloud has one.
    pub mqtt: Option<MqttAccount>,
}

/// How this device logs in at the broker.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct MqttAccount {
    /// Name or address, as the broker's certificate has it.
    pub host: String,
    /// Of TLS.
    pub port: u16,
    /// The session's name.
    pub client_id: String,
    /// Login.
    pub username: String,
    /// Login.
    pub password: Secret,
}

/// Why a credential file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// Not there, or not readable.
    #[error("cannot read {path}: {source}")]
    Read {
        path: String,
        source: std::io::Error,
    },
    /// Not what the cloud writes. The text names no value.
    #[error("{path}: {problem}")]
    Content { path: String, problem: &'static str },
}

#[derive(Deserialize)]
struct Wire {
    v: u32,
    edge_id: String,
    edge_key: String,
    edge_secret: Secret,
    api_base: Url,
    #[serde(default)]
    tenant: Option<Tenant>,
    #[serde(default)]
    mqtt: Option<MqttAccount>,
}

#[derive(Deserialize)]
struct Tenant {
    #[serde(default)]
    id: String,
    name: String,
}

impl Credentials {
    /// Reads the file.
    ///
    /// # Errors
    /// [`CredentialsError`]; its text holds no part of the secret.
    pub fn load(path: &Path) -> Result<Credentials, CredentialsError> {
        let text = read(path)?;
        Self::parse(&text).map_err(|problem| CredentialsError::Content {
            path: path.display().to_string(),
            problem,
        })
    }

    /// Checks the text of a credential file.
    ///
    /// # Errors
    /// What is wrong; it names no value.
    pub(crate) fn parse(text: &str) -> Result<Credentials, &'static str> {
        let wire: Wire = serde_json::from_str(text)
            .map_err(|_| "is not a credential file (JSON as the cloud writes it)")?;
        if wire.v != 1 {
            return Err("is of a newer version; install a newer sentrycam");
        }
        let id_ok = wire.edge_id.len() <= 64
            && wire.edge_id.starts_with("e-")
            && wire
                .edge_id
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !id_ok {
            return Err("edge_id is not of the form e-…");
        }
        let key_ok = wire.edge_key.len() <= 64
            && wire.edge_key.starts_with("ek_")
            && wire
                .edge_key
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if !key_ok {
            return Err("edge_key is not of the form ek_…");
        }
        if wire.api_base.scheme() != "https" || wire.api_base.host_str().is_none() {
            return Err("api_base must be an https:// address");
        }
        wire.mqtt.as_ref().map_or(Ok(()), check_account)?;
        let secret = Zeroizing::new(
            STANDARD
                .decode(wire.edge_secret.expose())
                .map_err(|_| "edge_secret is not base64")?,
        );
        if secret.len() != 32 {
            return Err("edge_secret is not 32 bytes");
        }
        let (tenant_id, tenant) = wire.tenant.map(|t| (t.id, t.name)).unwrap_or_default();
        Ok(Credentials {
            edge_id: wire.edge_id,
            key: SigningKey::new(wire.edge_key, &secret),
            api_base: wire.api_base,
            tenant,
            tenant_id,
            mqtt: wire.mqtt,
        })
    }
}

fn check_account(a: &MqttAccount) -> Result<(), &'static str> {
    let plain = |text: &str, most: usize| {
        !text.is_empty() && text.len() <= most && text.bytes().all(|b| b.is_ascii_graphic())
    };
    if rustls::pki_types::ServerName::try_from(a.host.as_str()).is_err() || a.port == 0 {
        return Err("mqtt.host and mqtt.port must name the broker");
    }
    if !plain(&a.client_id, 64) || !plain(&a.username, 64) {
        return Err("mqtt.client_id and mqtt.username must be 1 to 64 printable characters");
    }
    if !plain(a.password.expose(), 256) {
        return Err("mqtt.password must be 1 to 256 printable characters");
    }
    Ok(())
}

/// Reads a credential file as text. Not through a symlink; if others can read it, it is made 0600 and that is said.
///
/// # Errors
/// [`CredentialsError::Read`].
pub(super) fn read(path: &Path) -> Result<Zeroizing<String>, CredentialsError> {
    let failed = |source| CredentialsError::Read {
        path: path.display().to_string(),
        source,
    };
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)
        .map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode();
    if mode & 0o077 != 0 {
        tracing::warn!(path = %path.display(), mode = format!("{:o}", mode & 0o777), "credential file is open to others, making it 0600");
        file.set_permissions(std::fs::Permissions::from_mode(0o600))
            .map_err(failed)?;
    }
    let mut text = Zeroizing::new(String::new());
    file.take(MAX_BYTES)
        .read_to_string(&mut text)
        .map_err(failed)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"v":1,"edge_id":"e-0001","edge_key":"ek_0001",
        "edge_secret":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
        "api_base":"https://cloud.example:8443","tenant":{"id":"x","name":"Acme"},"device_name":"box",
        "mqtt":{"host":"broker.example","port":8883,"client_id":"e-0001","username":"e-0001","password":"CANARYpw"}}"#;

    #[test]
    fn a_good_file_reads_and_shows_no_secret() {
        let c = Credentials::parse(GOOD).unwrap();
        assert_eq!((c.edge_id.as_str(), c.tenant.as_str()), ("e-0001", "Acme"));
        assert!(!format!("{c:?}").contains("AAEC"));
        let mqtt = c.mqtt.as_ref().unwrap();
        assert_eq!((mqtt.host.as_str(), mqtt.port), ("broker.example", 8883));
        assert!(!format!("{c:?}").contains("CANARYpw"));
    }

    #[test]
    fn every_fault_has_its_own_words() {
        for (from, to, problem) in [
            ("\"v\":1", "\"v\":2", "newer version"),
            ("e-0001", "../../etc", "edge_id"),
            ("ek_0001", "ek 0001", "edge_key"),
            ("https://", "http://", "https"),
            ("AAECAwQF", "AAEC", "32 bytes"),
            ("{\"v\"", "{\"w\"", "credential file"),
            ("broker.example", "broker example", "mqtt.host"),
            ("8883", "0", "mqtt.host"),
            (
                "\"username\":\"e-0001",
                "\"username\":\"e 0001",
                "mqtt.username",
            ),
            ("CANARYpw", "", "mqtt.password"),
        ] {
            let text = GOOD.replacen(from, to, 1);
            assert!(
                Credentials::parse(&text).unwrap_err().contains(problem),
                "{text}"
            );
        }
    }

    #[test]
    fn a_file_open_to_others_is_closed_and_a_symlink_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("edge.json");
        std::fs::write(&path, GOOD).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        Credentials::load(&path).unwrap();
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let link = dir.path().join("link.json");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(matches!(
            Credentials::load(&link),
            Err(CredentialsError::Read { .. })
        ));
    }
}
