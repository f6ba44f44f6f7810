//! Seals credentials to the key that a device made after the button was pressed: HPKE (RFC 9180) base mode,
//! DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-128-GCM, one message, no associated data; `enc ‖ ciphertext`.
//!
//! Written from the RFC, without the agent's code. HKDF is built on HMAC because the key schedule needs its keys
//! as values.

use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::agreement::{EphemeralPrivateKey, UnparsedPublicKey, X25519, agree_ephemeral};
use ring::rand::SystemRandom;
use ring::{digest, hmac};
use uuid::Uuid;

const KEM_SUITE: &[u8] = b"KEM\x00\x20";
const HPKE_SUITE: &[u8] = b"HPKE\x00\x20\x00\x01\x00\x01";

/// Length of an X25519 public key.
pub const KEM_PK_LEN: usize = 32;

/// The public key is not one that anything can be sealed to, or there are no random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nothing can be sealed to this key")]
pub struct SealError;

/// `info` of a claim: binds the message to this claim and this key.
pub fn claim_info(claim: Uuid, kem_pk: &[u8; KEM_PK_LEN]) -> Vec<u8> {
    [
        b"sentrycam/claim/v1\0",
        claim.as_bytes().as_slice(),
        digest::digest(&digest::SHA256, kem_pk).as_ref(),
    ]
    .concat()
}

/// `info` of a rotated key: binds the message to this key; the signed answer binds it to the request.
pub fn rotate_info(kem_pk: &[u8; KEM_PK_LEN]) -> Vec<u8> {
    [
        b"sentrycam/rotate/v1\0",
        digest::digest(&digest::SHA256, kem_pk).as_ref(),
    ]
    .concat()
}

/// Seals a message.
///
/// # Errors
/// When the key is no point of the curve's large group.
pub fn seal(kem_pk: &[u8; KEM_PK_LEN], info: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealError> {
    let ephemeral =
        EphemeralPrivateKey::generate(&X25519, &SystemRandom::new()).map_err(|_| SealError)?;
    let enc = ephemeral.compute_public_key().map_err(|_| SealError)?;
    let peer = UnparsedPublicKey::new(&X25519, kem_pk);
    // ring refuses a shared secret of zeros.
    let shared = agree_ephemeral(ephemeral, &peer, |dh| {
        shared_secret(dh, enc.as_ref(), kem_pk)
    })
    .map_err(|_| SealError)?;
    let (key, nonce) = schedule(&shared, info);
    let mut ciphertext = plain.to_vec();
    encrypt(&key, nonce, b"", &mut ciphertext)?;
    Ok([enc.as_ref(), &ciphertext].concat())
}

fn encrypt(
    key: &[u8; 16],
    nonce: [u8; 12],
    aad: &[u8],
    text: &mut Vec<u8>,
) -> Result<(), SealError> {
    let key = UnboundKey::new(&AES_128_GCM, key).map_err(|_| SealError)?;
    LessSafeKey::new(key)
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), text)
        .map_err(|_| SealError)
}

/// DHKEM's ExtractAndExpand (section 4.1).
fn shared_secret(dh: &[u8], enc: &[u8], kem_pk: &[u8]) -> [u8; 32] {
    let prk = labeled_extract(KEM_SUITE, b"", b"eae_prk", dh);
    labeled_expand(KEM_SUITE, &prk, b"shared_secret", &[enc, kem_pk].concat())
}

/// The key schedule of mode base (section 5.1): key and nonce of message 0.
fn schedule(shared: &[u8; 32], info: &[u8]) -> ([u8; 16], [u8; 12]) {
    let psk_id_hash = labeled_extract(HPKE_SUITE, b"", b"psk_id_hash", b"");
    let info_hash = labeled_extract(HPKE_SUITE, b"", b"info_hash", info);
    let context = [&[0], psk_id_hash.as_slice(), &info_hash].concat();
    let secret = labeled_extract(HPKE_SUITE, shared, b"secret", b"");
    (
        labeled_expand(HPKE_SUITE, &secret, b"key", &context),
        labeled_expand(HPKE_SUITE, &secret, b"base_nonce", &context),
    )
}

pub(crate) fn labeled_extract(suite: &[u8], salt: &[u8], label: &[u8], ikm: &[u8]) -> [u8; 32] {
    mac(salt, &[b"HPKE-v1", suite, label, ikm])
}

/// One round of HKDF-Expand is enough: nothing here is longer than 32 bytes.
pub(crate) fn labeled_expand<const N: usize>(
    suite: &[u8],
    prk: &[u8; 32],
    label: &[u8],
    info: &[u8],
) -> [u8; N] {
    const { assert!(N <= 32) };
    let length = [0, N as u8];
    let block = mac(prk, &[&length, b"HPKE-v1", suite, label, info, &[1]]);
    std::array::from_fn(|at| block[at])
}

fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    for part in parts {
        context.update(part);
    }
    let tag = context.sign();
    std::array::from_fn(|at| tag.as_ref()[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes<const N: usize>(hex: &str) -> [u8; N] {
        let all: Vec<u8> = (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect();
        all.try_into().unwrap()
    }

    /// RFC 9180, A.1.1.
    #[test]
    fn the_key_schedule_is_that_of_the_rfc() {
        let info: [u8; 20] = bytes("4f6465206f6e2061204772656369616e2055726e");
        let shared = bytes("fe0e18c9f024ce43799ae393c7e8fe8fce9d218875e8227b0187c04e7d2ea1fc");
        let (key, nonce) = schedule(&shared, &info);
        assert_eq!(key, bytes("4531685d41d65f03dc48f6b8302c05b0"));
        assert_eq!(nonce, bytes("56d890e5accaaf011cff4b7d"));
        let mut text = b"Beauty is truth, truth beauty".to_vec();
        encrypt(&key, nonce, b"Count-0", &mut text).unwrap();
        let wanted: [u8; 45] = bytes(
            "f938558b5d72f1a23810b4be2ab4f84331acc02fc97babc53a52ae8218a355a96d8770ac83d07bea87e13c512a",
        );
        assert_eq!(text, wanted);
    }

    #[test]
    fn nothing_is_sealed_to_a_point_of_small_order() {
        for point in [0, 1] {
            let mut key = [0; 32];
            key[0] = point;
            assert_eq!(seal(&key, b"", b"x"), Err(SealError));
        }
    }

    #[test]
    fn each_message_has_its_own_key() {
        let pk = bytes("3948cfe0ad1ddb695d780e59077195da6c56506b027329794ab02bca80815c4d");
        let one = seal(&pk, b"i", b"text").unwrap();
        assert_eq!(one.len(), 32 + 4 + 16);
        assert_ne!(one, seal(&pk, b"i", b"text").unwrap());
        assert_ne!(claim_info(Uuid::nil(), &pk), claim_info(Uuid::max(), &pk));
        assert_ne!(rotate_info(&pk), rotate_info(&[0; 32]));
    }
}
