//! Secrets at rest and in memory.
//!
//! An HMAC verifier needs the raw key, so `edge_secret` cannot be a hash: it is wrapped with
//! AES-256-GCM under a key that only the environment holds (`SENTRYCAM_CLOUD_KEY`), with the
//! `edge_id` as associated data, so that a wrapped secret moved to another row does not open.
//! No type here prints what it holds.

use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

/// The environment variable with the wrapping key, base64 of 32 bytes.
pub const KEY_VARIABLE: &str = "SENTRYCAM_CLOUD_KEY";

/// Bytes of a wrapped secret: nonce, 32 bytes, tag.
const WRAPPED_LEN: usize = NONCE_LEN + 32 + 16;

/// Why a secret could not be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The environment does not hold a usable key.
    #[error(
        "{KEY_VARIABLE} must be base64 of 32 bytes: make one with `openssl rand -base64 32`, and keep it for this database"
    )]
    Key,
    /// The wrapped secret was made with another key or for another device, or was changed.
    #[error("the wrapped secret does not open")]
    Unwrap,
    /// The system gave no random bytes.
    #[error("no random bytes")]
    Random,
}

/// 32 secret bytes.
#[derive(Clone)]
pub struct Secret([u8; 32]);

impl Secret {
    /// Makes a new secret from the system's random numbers.
    pub fn random() -> Result<Self, SecretError> {
        Ok(Self(random()?))
    }

    /// Takes existing bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, for HMAC and for sealing only.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// Unpadded base64url: how a password of MQTT is written.
    pub fn expose_base64url(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(self.0)
    }

    /// Base64, for the credentials file only.
    pub fn expose_base64(&self) -> String {
        BASE64_STANDARD.encode(self.0)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// The key that wraps every `edge_secret` in the database, and its sister that hashes codes.
pub struct WrappingKey {
    aead: LessSafeKey,
    codes: hmac::Key,
}

impl std::fmt::Debug for WrappingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WrappingKey(***)")
    }
}

impl WrappingKey {
    /// Reads the key from the environment.
    ///
    /// # Errors
    /// `Key` when it is missing or is not base64 of 32 bytes.
    pub fn from_env() -> Result<Self, SecretError> {
        Self::from_base64(&std::env::var(KEY_VARIABLE).map_err(|_| SecretError::Key)?)
    }

    /// Reads the key from base64.
    ///
    /// # Errors
    /// `Key` when it is not base64 of 32 bytes.
    pub fn from_base64(text: &str) -> Result<Self, SecretError> {
        let bytes = BASE64_STANDARD
            .decode(text.trim())
            .map_err(|_| SecretError::Key)?;
        Self::from_bytes(&bytes)
    }

    /// Takes the key's 32 bytes.
    ///
    /// # Errors
    /// `Key` when there are not 32.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SecretError> {
        let key = UnboundKey::new(&AES_256_GCM, bytes).map_err(|_| SecretError::Key)?;
        let derived = hmac::sign(
            &hmac::Key::new(hmac::HMAC_SHA256, bytes),
            b"sentrycam-cloud/codes/v1",
        );
        Ok(Self {
            aead: LessSafeKey::new(key),
            codes: hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()),
        })
    }

    /// Hash of a code of few bits: whoever reads the database cannot try all codes without this key.
    pub fn hash_code(&self, kind: &str, code: &str) -> String {
        hex(hmac::sign(&self.codes, format!("{kind}\0{code}").as_bytes()).as_ref())
    }

    /// Wraps a device's secret: nonce ‖ ciphertext ‖ tag.
    ///
    /// # Errors
    /// `Random` when the system gives no random bytes.
    pub fn wrap(&self, edge_id: &str, secret: &Secret) -> Result<Vec<u8>, SecretError> {
        self.wrap_bytes(edge_id, &secret.0)
    }

    /// Wraps a secret of any length, bound to `name`.
    ///
    /// # Errors
    /// `Random` when the system gives no random bytes.
    pub fn wrap_bytes(&self, name: &str, secret: &[u8]) -> Result<Vec<u8>, SecretError> {
        let nonce: [u8; NONCE_LEN] = random()?;
        let mut sealed = secret.to_vec();
        self.aead
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(name.as_bytes()),
                &mut sealed,
            )
            .map_err(|_| SecretError::Random)?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    /// Opens a wrapped secret.
    ///
    /// # Errors
    /// `Unwrap` when the key, the device or a byte differs.
    pub fn unwrap(&self, edge_id: &str, wrapped: &[u8]) -> Result<Secret, SecretError> {
        if wrapped.len() != WRAPPED_LEN {
            return Err(SecretError::Unwrap);
        }
        let opened = self.unwrap_bytes(edge_id, wrapped)?;
        Ok(Secret(
            <[u8; 32]>::try_from(opened).map_err(|_| SecretError::Unwrap)?,
        ))
    }

    /// Opens a wrapped secret of any length.
    ///
    /// # Errors
    /// `Unwrap` when the key, the name or a byte differs.
    pub fn unwrap_bytes(&self, name: &str, wrapped: &[u8]) -> Result<Vec<u8>, SecretError> {
        let (nonce, sealed) = wrapped
            .split_at_checked(NONCE_LEN)
            .ok_or(SecretError::Unwrap)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SecretError::Unwrap)?;
        let mut sealed = sealed.to_vec();
        let opened = self
            .aead
            .open_in_place(nonce, Aad::from(name.as_bytes()), &mut sealed)
            .map_err(|_| SecretError::Unwrap)?;
        Ok(opened.to_vec())
    }
}

/// Random bytes from the system.
///
/// # Errors
/// `Random` when there are none.
pub fn random<const N: usize>() -> Result<[u8; N], SecretError> {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| SecretError::Random)?;
    Ok(bytes)
}

/// Random bytes as unpadded base64url.
///
/// # Errors
/// `Random` when there are none.
pub fn random_base64url<const N: usize>() -> Result<String, SecretError> {
    Ok(BASE64_URL_SAFE_NO_PAD.encode(random::<N>()?))
}

/// SHA-256 as lower-case hexadecimal, for key hashes and hash chains.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref())
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrapped_secret_opens_for_its_device_only() {
        let key = WrappingKey::from_bytes(&[7; 32]).unwrap();
        let secret = Secret::random().unwrap();
        let wrapped = key.wrap("e-1", &secret).unwrap();
        assert_eq!(wrapped.len(), WRAPPED_LEN);
        assert_eq!(
            key.unwrap("e-1", &wrapped).unwrap().expose(),
            secret.expose()
        );
        assert!(key.unwrap("e-2", &wrapped).is_err());
        assert!(
            WrappingKey::from_bytes(&[8; 32])
                .unwrap()
                .unwrap("e-1", &wrapped)
                .is_err()
        );
        for at in 0..wrapped.len() {
            let mut changed = wrapped.clone();
            changed[at] ^= 1;
            assert!(key.unwrap("e-1", &changed).is_err(), "byte {at}");
        }
    }

    #[test]
    fn nothing_prints_a_secret() {
        let secret = Secret::new([0x41; 32]);
        assert_eq!(format!("{secret:?}"), "Secret(***)");
        assert_eq!(
            format!("{:?}", WrappingKey::from_bytes(&[7; 32]).unwrap()),
            "WrappingKey(***)"
        );
    }
}
