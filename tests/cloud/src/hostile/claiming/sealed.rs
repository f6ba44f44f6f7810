//! Messages that must not open: sealed for somebody else, for something else, in another way, or damaged.

use ring::aead::{
    AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
};
use ring::agreement::{EphemeralPrivateKey, UnparsedPublicKey, X25519, agree_ephemeral};
use ring::rand::SystemRandom;

use super::{HostileBlob, Must};
use crate::claiming::seal::{self, KEM_PK_LEN, labeled_expand, labeled_extract};

/// How a message is sealed; the names of algorithms are those of RFC 9180 section 7.
#[derive(Debug, Clone)]
struct How {
    kem_id: u16,
    kdf_id: u16,
    aead_id: u16,
    mode: u8,
    psk: &'static [u8],
    psk_id: &'static [u8],
    aad: &'static [u8],
    sequence: u8,
}

/// As section 8.4 has it.
const RIGHT: How = How {
    kem_id: 0x20,
    kdf_id: 1,
    aead_id: 1,
    mode: 0,
    psk: b"",
    psk_id: b"",
    aad: b"",
    sequence: 0,
};

/// Seals as the cloud does; empty when nothing can be sealed to this key.
pub fn right(kem_pk: &[u8; KEM_PK_LEN], info: &[u8], plain: &[u8]) -> Vec<u8> {
    seal::seal(kem_pk, info, plain).unwrap_or_default()
}

fn ways() -> Vec<(&'static str, How)> {
    vec![
        (
            "suite-aes-256",
            How {
                aead_id: 2,
                ..RIGHT
            },
        ),
        (
            "suite-chacha20",
            How {
                aead_id: 3,
                ..RIGHT
            },
        ),
        (
            "suite-export-only",
            How {
                aead_id: 0xffff,
                ..RIGHT
            },
        ),
        ("suite-hkdf-sha384", How { kdf_id: 2, ..RIGHT }),
        ("suite-hkdf-sha512", How { kdf_id: 3, ..RIGHT }),
        (
            "suite-p256",
            How {
                kem_id: 0x10,
                ..RIGHT
            },
        ),
        (
            "suite-x448",
            How {
                kem_id: 0x21,
                ..RIGHT
            },
        ),
        (
            "suite-zero",
            How {
                kem_id: 0,
                kdf_id: 0,
                aead_id: 0,
                ..RIGHT
            },
        ),
        (
            "mode-psk",
            How {
                mode: 1,
                psk: &[0; 32],
                psk_id: b"sentrycam/qr/v1",
                ..RIGHT
            },
        ),
        ("mode-psk-empty", How { mode: 1, ..RIGHT }),
        ("mode-auth", How { mode: 2, ..RIGHT }),
        (
            "mode-auth-psk",
            How {
                mode: 3,
                psk: &[0; 32],
                psk_id: b"x",
                ..RIGHT
            },
        ),
        (
            "psk-in-base",
            How {
                psk: &[0; 32],
                ..RIGHT
            },
        ),
        (
            "psk-id-in-base",
            How {
                psk_id: b"sentrycam/qr/v1",
                ..RIGHT
            },
        ),
        (
            "aad",
            How {
                aad: b"sentrycam",
                ..RIGHT
            },
        ),
        (
            "aad-zero",
            How {
                aad: b"\0",
                ..RIGHT
            },
        ),
        (
            "second-message",
            How {
                sequence: 1,
                ..RIGHT
            },
        ),
        (
            "last-message",
            How {
                sequence: 255,
                ..RIGHT
            },
        ),
    ]
}

/// HPKE by its steps, so that each can be another one.
fn sealed(how: &How, kem_pk: &[u8; KEM_PK_LEN], info: &[u8], plain: &[u8]) -> Option<Vec<u8>> {
    let kem = [b"KEM".as_slice(), &how.kem_id.to_be_bytes()].concat();
    let suite = [how.kem_id, how.kdf_id, how.aead_id]
        .map(u16::to_be_bytes)
        .concat();
    let hpke = [b"HPKE".as_slice(), &suite].concat();
    let ephemeral = EphemeralPrivateKey::generate(&X25519, &SystemRandom::new()).ok()?;
    let enc = ephemeral.compute_public_key().ok()?;
    let peer = UnparsedPublicKey::new(&X25519, kem_pk);
    let shared: [u8; 32] = agree_ephemeral(ephemeral, &peer, |dh| {
        let prk = labeled_extract(&kem, b"", b"eae_prk", dh);
        let context = [enc.as_ref(), kem_pk].concat();
        labeled_expand(&kem, &prk, b"shared_secret", &context)
    })
    .ok()?;
    let id_hash = labeled_extract(&hpke, b"", b"psk_id_hash", how.psk_id);
    let info_hash = labeled_extract(&hpke, b"", b"info_hash", info);
    let context = [&[how.mode], id_hash.as_slice(), &info_hash].concat();
    let secret = labeled_extract(&hpke, &shared, b"secret", how.psk);
    let key: [u8; 32] = labeled_expand(&hpke, &secret, b"key", &context);
    let short: [u8; 16] = labeled_expand(&hpke, &secret, b"key", &context);
    let mut nonce: [u8; 12] = labeled_expand(&hpke, &secret, b"base_nonce", &context);
    nonce[11] ^= how.sequence;
    let (algorithm, key): (&Algorithm, &[u8]) = match how.aead_id {
        2 => (&AES_256_GCM, &key),
        3 => (&CHACHA20_POLY1305, &key),
        _ => (&AES_128_GCM, &short),
    };
    let key = LessSafeKey::new(UnboundKey::new(algorithm, key).ok()?);
    let mut text = plain.to_vec();
    let nonce = Nonce::assume_unique_for_key(nonce);
    key.seal_in_place_append_tag(nonce, Aad::from(how.aad), &mut text)
        .ok()?;
    Some([enc.as_ref(), &text].concat())
}

/// Points of X25519 with a small order, and numbers that are not in their one form (RFC 7748 section 5 takes them
/// modulo p): the shared value is zero, or the key in the context is another one than was used.
fn points() -> Vec<(String, [u8; 32])> {
    let number = |low: u8, rest: u8, high: u8| {
        let mut point = [rest; 32];
        (point[0], point[31]) = (low, high);
        point
    };
    let mut order_8 = [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4,
        0x6a, 0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49,
        0xb8, 0x00,
    ];
    let mut all = vec![
        ("zero".to_owned(), [0; 32]),
        ("one".to_owned(), number(1, 0, 0)),
        ("order-8".to_owned(), order_8),
        ("p-minus-1".to_owned(), number(0xec, 0xff, 0x7f)),
        ("p".to_owned(), number(0xed, 0xff, 0x7f)),
        ("p-plus-1".to_owned(), number(0xee, 0xff, 0x7f)),
        ("all-ones".to_owned(), [0xff; 32]),
    ];
    order_8[31] |= 0x80;
    all.push(("order-8-high-bit".to_owned(), order_8));
    all
}

/// Everything that must not open with the key and info.
pub fn all(
    kem_pk: &[u8; KEM_PK_LEN],
    info: &[u8],
    other_infos: &[(&'static str, Vec<u8>)],
    plain: &str,
) -> Vec<HostileBlob> {
    let mut all = Vec::new();
    let mut add = |name: String, sealed: Vec<u8>| {
        all.push(HostileBlob {
            name: format!("seal/{name}"),
            must: Must::Refuse,
            opens: false,
            sealed,
        });
    };
    let good = right(kem_pk, info, plain.as_bytes());
    for (name, how) in ways() {
        let blob = sealed(&how, kem_pk, info, plain.as_bytes());
        add(name.to_owned(), blob.unwrap_or_default());
    }
    for (name, other) in other_infos {
        add(
            format!("info-{name}"),
            right(kem_pk, other, plain.as_bytes()),
        );
    }
    // To the base point, of which anybody has the private half, and to the key of another process.
    for (name, key) in [("base-point", 9), ("other-key", 0x42)] {
        let mut pk = [0; KEM_PK_LEN];
        pk[0] = key;
        add(name.to_owned(), right(&pk, info, plain.as_bytes()));
    }
    for (name, point) in points() {
        add(
            format!("enc-{name}"),
            [point.as_slice(), &good[32..]].concat(),
        );
    }
    let (enc, text) = good.split_at(good.len().min(32));
    let mut mirrored = good.clone();
    mirrored.reverse();
    for (name, blob) in [
        ("not-sealed", plain.as_bytes().to_vec()),
        ("enc-and-clear", [enc, plain.as_bytes()].concat()),
        ("text-first", [text, enc].concat()),
        ("enc-twice", [enc, enc, text].concat()),
        ("own-key-as-enc", [kem_pk.as_slice(), text].concat()),
        ("reversed", mirrored),
        ("twice", [good.as_slice(), &good].concat()),
        ("base64", super::base64url(&good).into_bytes()),
        ("zeros", vec![0; good.len()]),
        ("one-more", [good.as_slice(), b"\0"].concat()),
        ("block-more", [good.as_slice(), &[0; 16]].concat()),
        ("one-before", [b"\0", good.as_slice()].concat()),
    ] {
        add(name.to_owned(), blob);
    }
    // Too large, however well it is sealed.
    for kib in [17, 64, 1024] {
        let padded = format!("{plain}{}", " ".repeat(kib * 1024));
        let blob = right(kem_pk, info, padded.as_bytes());
        add(format!("huge-{kib}-kib"), blob);
    }
    let length = good.len();
    for keep in [
        0,
        1,
        15,
        16,
        31,
        32,
        33,
        47,
        48,
        49,
        length / 2,
        length - 17,
        length - 16,
        length - 15,
        length - 1,
    ] {
        add(
            format!("truncated-{keep}"),
            good[..keep.min(length)].to_vec(),
        );
    }
    // Each byte of enc and of the tag, and every sixteenth of the text between: one bit.
    let tag = length.saturating_sub(16);
    let places = (0..32).chain((32..tag).step_by(16)).chain(tag..length);
    for at in places {
        let mut flipped = good.clone();
        flipped[at] ^= 1 << (at % 8);
        let part = match at {
            0..32 => "enc",
            _ if at >= tag => "tag",
            _ => "text",
        };
        add(format!("flip-{part}-{at}"), flipped);
    }
    all
}
