//! What a box that asks for an owner, or a device that changes its key, could be answered by somebody who is not its
//! cloud, by a proxy between them, or by a cloud that is broken: answers to each message of sections 8.3 and 3.6, and
//! sealed messages.
//!
//! The list is the same each time: names, order, and what is wrong. Only the bytes of sealed messages differ from one
//! call to the next, because each has its own ephemeral key.
//!
//! ```no_run
//! # use sentrycam_cloud::hostile::claiming::{ClaimForge, Must};
//! # fn device_takes(answer: &[u8]) -> bool { answer.is_empty() }
//! # let (claim, kem_pk) = (uuid::Uuid::nil(), [9; 32]);
//! for one in ClaimForge::new(claim, kem_pk, 1_795_226_400).answers() {
//!     let taken = device_takes(&one.body);
//!     assert!(!taken || one.must == Must::Bound, "{}", one.name);
//! }
//! ```

mod answers;
mod plain;
mod sealed;
mod texts;
mod waiting;

use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine};
use uuid::Uuid;

use crate::claiming::seal::{KEM_PK_LEN, claim_info, rotate_info};

/// A device opens no larger text.
const MAX_PLAIN: usize = 15 * 1024;

/// Which request an answer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Asked {
    /// `POST /edge/v1/claims`
    Open,
    /// `POST …/poll`
    Poll,
    /// `POST …/challenge`
    Challenge,
    /// `POST …/confirm`, and `POST /edge/v1/credentials/confirm`
    Confirm,
    /// `POST /edge/v1/credentials/rotate`
    Rotate,
}

/// What the device has to make of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Must {
    /// Nothing is taken from it: no claim, no count of presses, no credentials or key, and nothing that is there goes.
    /// The window may end, and what people are shown is printable.
    Refuse,
    /// Refused, or taken within the device's own bounds: of times, of lengths, of what is shown.
    Bound,
}

/// An answer with what is wrong with it, such as `open/user_code/trick-3` or `poll/status/201`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostileAnswer {
    /// Request, member or form, what is wrong.
    pub name: String,
    /// For which request.
    pub asked: Asked,
    /// What has to become of it.
    pub must: Must,
    /// HTTP status.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// Other headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body, mostly JSON.
    pub body: Vec<u8>,
}

/// A sealed message, as bytes: `enc ‖ ciphertext`.
#[derive(Clone, PartialEq, Eq)]
pub struct HostileBlob {
    /// Group, then what is wrong, such as `seal/info-other-claim` or `plain/edge_id/trick-2`.
    pub name: String,
    /// What has to become of it.
    pub must: Must,
    /// Whether it opens with the device's key: then it is the text inside that is wrong. False where it is too large.
    pub opens: bool,
    /// The message.
    pub sealed: Vec<u8>,
}

impl std::fmt::Debug for HostileBlob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HostileBlob({}, {} bytes)", self.name, self.sealed.len())
    }
}

/// Makes what is for one claim of one key.
#[derive(Debug, Clone)]
pub struct ClaimForge {
    claim: Uuid,
    kem_pk: [u8; KEM_PK_LEN],
    now: i64,
}

impl ClaimForge {
    /// For the claim of this id by the box that has this public key, at this Unix time.
    pub fn new(claim: Uuid, kem_pk: [u8; KEM_PK_LEN], now: i64) -> Self {
        Self { claim, kem_pk, now }
    }

    /// Every hostile answer, in the order of the exchange: more than 400.
    pub fn answers(&self) -> Vec<HostileAnswer> {
        answers::all(self)
    }

    /// Every hostile sealed message of a claim: more than 400.
    pub fn blobs(&self) -> Vec<HostileBlob> {
        let mut all = sealed::all(
            &self.kem_pk,
            &self.info(),
            &self.other_infos(),
            &plain::good(),
        );
        all.extend(self.contents(&self.info(), plain::claims()));
        all
    }

    /// The same for the answer to a rotation: more than 200.
    pub fn rotated_blobs(&self) -> Vec<HostileBlob> {
        let mut others = self.other_infos();
        others.retain(|(name, _)| *name != "rotate");
        others.push(("claim", self.info()));
        let info = rotate_info(&self.kem_pk);
        let good = plain::good_key(self.now);
        let mut all = sealed::all(&self.kem_pk, &info, &others, &good);
        all.extend(self.contents(&info, plain::keys(self.now)));
        all
    }

    /// A right answer, to see that it is what is wrong that is refused.
    pub fn good_answer(&self, asked: Asked) -> HostileAnswer {
        answers::good(self, asked)
    }

    /// A right sealed message of a claim.
    pub fn good_blob(&self) -> Vec<u8> {
        sealed::right(&self.kem_pk, &self.info(), plain::good().as_bytes())
    }

    /// A right sealed message of a rotation.
    pub fn good_rotated_blob(&self) -> Vec<u8> {
        let good = plain::good_key(self.now);
        sealed::right(&self.kem_pk, &rotate_info(&self.kem_pk), good.as_bytes())
    }

    fn info(&self) -> Vec<u8> {
        claim_info(self.claim, &self.kem_pk)
    }

    /// What else a message could have been sealed for.
    fn other_infos(&self) -> Vec<(&'static str, Vec<u8>)> {
        let replaced = |from: &str, to: &str| {
            let info = self.info();
            let rest = info.strip_prefix(from.as_bytes()).unwrap_or(&info);
            [to.as_bytes(), rest].concat()
        };
        let info = self.info();
        let without = |from: usize, to: usize| [&info[..from], &info[to..]].concat();
        vec![
            ("empty", Vec::new()),
            (
                "other-claim",
                claim_info(Uuid::from_u128(self.claim.as_u128() ^ 1), &self.kem_pk),
            ),
            ("nil-claim", claim_info(Uuid::nil(), &self.kem_pk)),
            ("other-key", claim_info(self.claim, &[0x5a; KEM_PK_LEN])),
            ("rotate", rotate_info(&self.kem_pk)),
            (
                "version-2",
                replaced("sentrycam/claim/v1", "sentrycam/claim/v2"),
            ),
            (
                "version-none",
                replaced("sentrycam/claim/v1", "sentrycam/claim"),
            ),
            ("qr", replaced("sentrycam/claim/v1", "sentrycam/qr/v1")),
            ("no-zero", without(18, 19)),
            ("no-claim", without(19, 35)),
            ("no-key", without(35, info.len())),
            ("key-itself", [&info[..35], self.kem_pk.as_slice()].concat()),
            ("short", without(info.len() - 1, info.len())),
            ("long", [info.as_slice(), b"\0"].concat()),
        ]
    }

    fn contents(&self, info: &[u8], texts: Vec<plain::Text>) -> Vec<HostileBlob> {
        texts
            .into_iter()
            .map(|text| {
                let opens = text.bytes.len() <= MAX_PLAIN;
                HostileBlob {
                    name: format!("plain/{}", text.name),
                    must: if opens { text.must } else { Must::Refuse },
                    opens,
                    sealed: sealed::right(&self.kem_pk, info, &text.bytes),
                }
            })
            .collect()
    }
}

fn base64url(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn base64(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn forge() -> ClaimForge {
        let claim = Uuid::from_u128(0x019a_f5d8_7a00_7000_8000_0000_0000_00c1);
        // The public key of RFC 9180, A.1.1.
        let kem_pk = [
            0x39, 0x48, 0xcf, 0xe0, 0xad, 0x1d, 0xdb, 0x69, 0x5d, 0x78, 0x0e, 0x59, 0x07, 0x71,
            0x95, 0xda, 0x6c, 0x56, 0x50, 0x6b, 0x02, 0x73, 0x29, 0x79, 0x4a, 0xb0, 0x2b, 0xca,
            0x80, 0x81, 0x5c, 0x4d,
        ];
        ClaimForge::new(claim, kem_pk, 1_795_226_400)
    }

    #[test]
    fn there_are_enough_each_with_its_name_and_always_the_same() {
        let forge = forge();
        let (answers, blobs, rotated) = (forge.answers(), forge.blobs(), forge.rotated_blobs());
        println!(
            "{} answers, {} claim blobs, {} rotation blobs",
            answers.len(),
            blobs.len(),
            rotated.len()
        );
        assert!(answers.len() >= 400 && blobs.len() >= 400 && rotated.len() >= 200);
        for names in [
            answers.iter().map(|one| &one.name).collect::<Vec<_>>(),
            blobs.iter().map(|one| &one.name).collect(),
            rotated.iter().map(|one| &one.name).collect(),
        ] {
            let once: BTreeSet<_> = names.iter().collect();
            assert_eq!(once.len(), names.len());
        }
        let outline = |blobs: &[HostileBlob]| -> Vec<(String, usize)> {
            let parts = blobs.iter().map(|one| (one.name.clone(), one.sealed.len()));
            parts.collect()
        };
        assert_eq!(outline(&forge.blobs()), outline(&blobs));
        let sealed = |one: &HostileAnswer| one.name.clone();
        assert_eq!(
            forge.answers().iter().map(sealed).collect::<Vec<_>>(),
            answers.iter().map(sealed).collect::<Vec<_>>()
        );
        let refused = |must: Must| u32::from(must == Must::Refuse);
        let most: u32 = answers.iter().map(|one| refused(one.must)).sum::<u32>()
            + blobs.iter().map(|one| refused(one.must)).sum::<u32>();
        assert!(most >= 700, "{most} must be refused");
    }

    #[test]
    fn each_message_of_the_exchange_has_its_own() {
        let mut of: BTreeMap<Asked, usize> = BTreeMap::new();
        for one in forge().answers() {
            assert!((100..600).contains(&one.status), "{}", one.name);
            *of.entry(one.asked).or_default() += 1;
        }
        println!("{of:?}");
        assert_eq!(of.len(), 5);
        assert!(of.values().all(|count| *count >= 20), "{of:?}");
    }

    /// Nothing that is to be refused is by accident the right thing: neither word for word nor at the right status.
    #[test]
    fn none_of_them_is_right() {
        let forge = forge();
        let right = forge.good_answer(Asked::Open);
        for one in forge.answers() {
            let same =
                one.asked == Asked::Open && (one.status, &one.body) == (right.status, &right.body);
            assert!(!same, "{}", one.name);
        }
        for texts in [plain::claims(), plain::keys(forge.now)] {
            for text in texts {
                let same = text.bytes == plain::good().into_bytes()
                    || text.bytes == plain::good_key(forge.now).into_bytes();
                assert!(!same, "{}", text.name);
            }
        }
    }
}
