//! Opens what the cloud sealed to this device: HPKE (RFC 9180), base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256,
//! AES-128-GCM, one message, no associated data.
//!
//! The private half lives in memory only and opens one message: ring neither exports it nor uses it twice, so the type
//! itself says that credentials go to the process that saw the button. HKDF is built on HMAC, because ring keeps the
//! keys of its own HKDF to itself and HPKE needs them as values.

use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::agreement::{EphemeralPrivateKey, UnparsedPublicKey, X25519, agree_ephemeral};
use ring::rand as source;
use ring::{digest, hmac};
use uuid::Uuid;
use zeroize::Zeroizing;

/// Length of a public key and of `enc`.
pub const PUBLIC_BYTES: usize = 32;
/// A sealed message is not longer than this.
pub const MAX_SEALED_BYTES: usize = 16 << 10;
const TAG_BYTES: usize = 16;

const KEM: &[u8] = b"KEM\x00\x20";
const HPKE: &[u8] = b"HPKE\x00\x20\x00\x01\x00\x01";
const BASE_MODE: u8 = 0;

/// Why a message does not open. No detail: whoever sealed it wrong learns nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the sealed message does not open with this key")]
pub struct SealError;

/// A key pair of which the private half opens one message, once.
pub struct KemKey {
    private: EphemeralPrivateKey,
    public: [u8; PUBLIC_BYTES],
}

impl std::fmt::Debug for KemKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KemKey")
    }
}

impl KemKey {
    /// A new pair.
    ///
    /// # Errors
    /// The random source does not work.
    pub fn generate(random: &dyn source::SecureRandom) -> Result<KemKey, SealError> {
        let private = EphemeralPrivateKey::generate(&X25519, random).map_err(|_| SealError)?;
        let public = private.compute_public_key().map_err(|_| SealError)?;
        Ok(KemKey {
            private,
            public: public.as_ref().try_into().map_err(|_| SealError)?,
        })
    }

    /// What the other side seals to.
    pub fn public(&self) -> &[u8; PUBLIC_BYTES] {
        &self.public
    }

    /// Opens `enc || ciphertext` that was sealed with `info`.
    ///
    /// # Errors
    /// [`SealError`] for anything but a message sealed to this key with this `info`.
    pub fn open(self, info: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        if sealed.len() > MAX_SEALED_BYTES || sealed.len() < PUBLIC_BYTES + TAG_BYTES {
            return Err(SealError);
        }
        let (enc, ciphertext) = sealed.split_at(PUBLIC_BYTES);
        let sender = UnparsedPublicKey::new(&X25519, enc);
        // ring refuses points of small order, whose shared value is zero (RFC 9180 §7.1.4).
        agree_ephemeral(self.private, &sender, |dh| {
            open_with(dh, enc, &self.public, info, b"", ciphertext)
        })
        .map_err(|_| SealError)?
    }
}

/// `info` of a claim: binds the message to this claim and to this key.
pub fn claim_info(claim: Uuid, public: &[u8; PUBLIC_BYTES]) -> Vec<u8> {
    let mut info = b"sentrycam/claim/v1\0".to_vec();
    info.extend_from_slice(claim.as_bytes());
    info.extend_from_slice(digest::digest(&digest::SHA256, public).as_ref());
    info
}

/// `info` of a rotated key: binds the message to the key that the device asked with.
pub fn rotate_info(public: &[u8; PUBLIC_BYTES]) -> Vec<u8> {
    let mut info = b"sentrycam/rotate/v1\0".to_vec();
    info.extend_from_slice(digest::digest(&digest::SHA256, public).as_ref());
    info
}

fn open_with(
    dh: &[u8],
    enc: &[u8],
    public: &[u8],
    info: &[u8],
    aad: &[u8],
    ciphertext: &[u8],
) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let (key, nonce) = schedule(&shared_secret(dh, enc, public), info);
    let key = UnboundKey::new(&AES_128_GCM, &key[..16]).map_err(|_| SealError)?;
    let nonce = Nonce::try_assume_unique_for_key(&nonce[..12]).map_err(|_| SealError)?;
    let mut text = Zeroizing::new(ciphertext.to_vec());
    let length = LessSafeKey::new(key)
        .open_in_place(nonce, Aad::from(aad), &mut text)
        .map_err(|_| SealError)?
        .len();
    text.truncate(length);
    Ok(text)
}

type Block = Zeroizing<[u8; 32]>;

/// `ExtractAndExpand` (§4.1).
fn shared_secret(dh: &[u8], enc: &[u8], public: &[u8]) -> Block {
    let prk = extract(KEM, b"", b"eae_prk", dh);
    expand(KEM, &prk, b"shared_secret", &[enc, public], 32)
}

/// `KeySchedule` of base mode (§5.1): key and base nonce, each the head of its block.
fn schedule(shared_secret: &Block, info: &[u8]) -> (Block, Block) {
    let psk_id_hash = extract(HPKE, b"", b"psk_id_hash", b"");
    let info_hash = extract(HPKE, b"", b"info_hash", info);
    let context: [&[u8]; 3] = [&[BASE_MODE], &*psk_id_hash, &*info_hash];
    let secret = extract(HPKE, &**shared_secret, b"secret", b"");
    (
        expand(HPKE, &secret, b"key", &context, 16),
        expand(HPKE, &secret, b"base_nonce", &context, 12),
    )
}

/// `LabeledExtract` (§4): HMAC with the salt as key.
fn extract(suite: &[u8], salt: &[u8], label: &[u8], ikm: &[u8]) -> Block {
    mac(salt, &[b"HPKE-v1", suite, label, ikm])
}

/// `LabeledExpand` (§4) of at most one block: the first round of HKDF-Expand; `length` bytes of it count.
fn expand(suite: &[u8], prk: &Block, label: &[u8], info: &[&[u8]], length: u16) -> Block {
    let length = length.to_be_bytes();
    let mut parts: Vec<&[u8]> = vec![&length, b"HPKE-v1", suite, label];
    parts.extend_from_slice(info);
    parts.push(&[1]);
    mac(&**prk, &parts)
}

fn mac(key: &[u8], parts: &[&[u8]]) -> Block {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    for part in parts {
        context.update(part);
    }
    let mut block = Zeroizing::new([0; 32]);
    block.copy_from_slice(context.sign().as_ref());
    block
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;

    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digit = |c: u8| (c as char).to_digit(16).unwrap() as u8;
        let pairs = text.as_bytes().chunks(2);
        pairs.map(|p| digit(p[0]) << 4 | digit(p[1])).collect()
    }

    /// Seals as the cloud does, with this module's own key schedule; the vectors and foreign libraries check that.
    fn seal(to: &[u8; 32], info: &[u8], text: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        let sender = KemKey::generate(&random).unwrap();
        let enc = sender.public;
        let to_key = UnparsedPublicKey::new(&X25519, to);
        let (key, nonce) = agree_ephemeral(sender.private, &to_key, |dh| {
            schedule(&shared_secret(dh, &enc, to), info)
        })
        .unwrap();
        let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key[..16]).unwrap());
        let nonce = Nonce::try_assume_unique_for_key(&nonce[..12]).unwrap();
        let mut out = text.to_vec();
        key.seal_in_place_append_tag(nonce, Aad::empty(), &mut out)
            .unwrap();
        [&enc[..], &out].concat()
    }

    fn key() -> KemKey {
        KemKey::generate(&SystemRandom::new()).unwrap()
    }

    /// RFC 9180 A.1.1. ring takes no private key, so the vector enters at X25519(skRm, enc), computed elsewhere.
    #[test]
    fn the_vector_of_the_rfc_opens() {
        let dh = hex("b3b5c19eab3f088ac18f23f774ff6414ba4fde45404d10085efc3e4dc9c72e35");
        let enc = hex("37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431");
        let public = hex("3948cfe0ad1ddb695d780e59077195da6c56506b027329794ab02bca80815c4d");
        let info = hex("4f6465206f6e2061204772656369616e2055726e");
        let shared = shared_secret(&dh, &enc, &public);
        let wanted = hex("fe0e18c9f024ce43799ae393c7e8fe8fce9d218875e8227b0187c04e7d2ea1fc");
        assert_eq!(shared[..], wanted[..]);
        let (key, nonce) = schedule(&shared, &info);
        assert_eq!(key[..16], hex("4531685d41d65f03dc48f6b8302c05b0")[..]);
        assert_eq!(nonce[..12], hex("56d890e5accaaf011cff4b7d")[..]);
        let sealed = hex(
            "f938558b5d72f1a23810b4be2ab4f84331acc02fc97babc53a52ae8218a355a96d8770ac83d07bea87e13c512a",
        );
        let text = open_with(&dh, &enc, &public, &info, b"Count-0", &sealed).unwrap();
        assert_eq!(text[..], b"Beauty is truth, truth beauty"[..]);
    }

    #[test]
    fn it_opens_with_the_right_key_and_info_only() {
        let mine = key();
        let info = claim_info(Uuid::nil(), mine.public());
        let sealed = seal(mine.public(), &info, b"credentials");
        assert_eq!(key().open(&info, &sealed), Err(SealError));
        assert_eq!(mine.open(&info, &sealed).unwrap()[..], b"credentials"[..]);
        let mine = key();
        let sealed = seal(mine.public(), &info, b"credentials");
        let other = claim_info(Uuid::max(), mine.public());
        assert_eq!(mine.open(&other, &sealed), Err(SealError));
    }

    #[test]
    fn points_of_small_order_and_wrong_sizes_are_refused() {
        let one = [&[1][..], &[0; 31]].concat();
        for enc in [vec![0; 32], one, vec![0xff; 32]] {
            let sealed = [enc, vec![0; 64]].concat();
            assert_eq!(key().open(b"", &sealed), Err(SealError));
        }
        for size in [0, 1, 31, 32, 47, MAX_SEALED_BYTES + 1] {
            assert_eq!(key().open(b"", &vec![9; size]), Err(SealError), "{size}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_flipped_bit_or_a_cut_end_does_not_open(at in 0usize..1000, bit in 0u8..8, cut in 1usize..40) {
            let (a, b) = (key(), key());
            let mut sealed = seal(a.public(), b"i", b"some credentials of thirty bytes");
            let index = at % sealed.len();
            sealed[index] ^= 1 << bit;
            // X25519 ignores the topmost bit of the point, but the key schedule does not.
            proptest::prop_assert_eq!(a.open(b"i", &sealed), Err(SealError));
            let sealed = seal(b.public(), b"i", b"some credentials of thirty bytes");
            proptest::prop_assert_eq!(b.open(b"i", &sealed[..sealed.len() - cut]), Err(SealError));
        }

        #[test]
        fn noise_does_not_open(blob in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            proptest::prop_assert_eq!(key().open(b"", &blob), Err(SealError));
        }
    }
}
