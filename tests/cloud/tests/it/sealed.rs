//! The hostile corpus of claiming, judged by a foreign HPKE: what is said not to open does not, and what is said to
//! open does, so that a device that refuses all of it has looked at what is meant.

use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine};
use hpke::aead::AesGcm128;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem, OpModeR, Serializable};
use ring::digest;
use sentrycam_cloud::hostile::claiming::{Asked, ClaimForge, HostileBlob, Must};
use serde_json::Value;
use uuid::Uuid;

type Private = <X25519HkdfSha256 as Kem>::PrivateKey;

struct Opener {
    private: Private,
    public: [u8; 32],
    claim: Uuid,
}

impl Opener {
    fn new() -> Self {
        let (private, public) = X25519HkdfSha256::derive_keypair(&[3; 32]);
        Self {
            private,
            public: public.to_bytes().as_slice().try_into().unwrap(),
            claim: Uuid::from_u128(7),
        }
    }

    fn forge(&self) -> ClaimForge {
        ClaimForge::new(self.claim, self.public, 1_795_226_400)
    }

    fn open(&self, label: &[u8], claim: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let key = digest::digest(&digest::SHA256, &self.public);
        let info = [label, b"\0", claim, key.as_ref()].concat();
        let (enc, text) = sealed.split_at_checked(32)?;
        let enc = <X25519HkdfSha256 as Kem>::EncappedKey::from_bytes(enc).ok()?;
        hpke::single_shot_open::<AesGcm128, HkdfSha256, X25519HkdfSha256>(
            &OpModeR::Base,
            &self.private,
            &enc,
            &info,
            text,
            b"",
        )
        .ok()
    }

    fn claimed(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        self.open(b"sentrycam/claim/v1", self.claim.as_bytes(), sealed)
    }

    fn rotated(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        self.open(b"sentrycam/rotate/v1", b"", sealed)
    }
}

/// Whether somebody careless would take the text for credentials.
fn looks_right(text: &[u8]) -> bool {
    let Ok(value) = serde_json::from_slice::<Value>(text) else {
        return false;
    };
    let word = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let key = word("edge_key");
    let right_key = key.len() <= 64
        && key.starts_with("ek_")
        && key
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    right_key
        && BASE64_STANDARD
            .decode(word("edge_secret"))
            .is_ok_and(|secret| secret.len() == 32)
}

fn judge(blobs: &[HostileBlob], open: impl Fn(&[u8]) -> Option<Vec<u8>>) {
    for one in blobs {
        let opened = open(&one.sealed);
        let too_large = one.sealed.len() > 16 * 1024;
        assert_eq!(opened.is_some(), one.opens || too_large, "{}", one.name);
        assert!(one.opens || one.must == Must::Refuse, "{}", one.name);
    }
}

#[test]
fn a_foreign_library_agrees_which_open() {
    let opener = Opener::new();
    let forge = opener.forge();
    assert!(looks_right(&opener.claimed(&forge.good_blob()).unwrap()));
    assert!(looks_right(
        &opener.rotated(&forge.good_rotated_blob()).unwrap()
    ));
    judge(&forge.blobs(), |sealed| opener.claimed(sealed));
    judge(&forge.rotated_blobs(), |sealed| opener.rotated(sealed));
    // About keys and secrets there are no two opinions.
    for one in forge
        .blobs()
        .iter()
        .filter(|one| one.name.starts_with("plain/edge_"))
    {
        let text = opener.claimed(&one.sealed).unwrap();
        let by_key = !one.name.starts_with("plain/edge_id");
        assert!(!by_key || !looks_right(&text), "{}", one.name);
    }
}

#[test]
fn an_answer_holds_a_right_message_only_where_something_else_is_wrong() {
    let opener = Opener::new();
    let mut right = 0;
    for one in opener
        .forge()
        .answers()
        .iter()
        .filter(|one| one.asked == Asked::Poll)
    {
        let value: Value = serde_json::from_slice(&one.body).unwrap_or_default();
        let sealed = value["sealed"].as_str().unwrap_or_default();
        let sealed = BASE64_URL_SAFE_NO_PAD.decode(sealed).unwrap_or_default();
        let opens = one.status == 200 && opener.claimed(&sealed).is_some();
        right += usize::from(opens);
        let by_form = one.name.starts_with("poll/form/") || one.name.starts_with("poll/twice/");
        assert!(!opens || one.must == Must::Bound || by_form, "{}", one.name);
    }
    assert!(right > 5, "{right}");
}
