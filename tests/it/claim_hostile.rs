//! What somebody who is not the cloud could answer to a box that asks for an owner, or to a device that changes its key:
//! none of it is taken, and nothing of it reaches the disk.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
#[expect(deprecated, reason = "a key pair that is the same each time")]
use ring::test::rand::FixedByteRandom;
use sentrycam::cloud::{Keys, SharedKeys, Store};
use sentrycam::time::Wall;
use sentrycam::wire::answer::{problem_code, retry_after};
use sentrycam::wire::claim::{self, Answer, Confirmed, Failure, Polled};
use sentrycam::wire::rotate;
use sentrycam::wire::seal::{KemKey, claim_info, rotate_info};
use sentrycam_cloud::hostile::claiming::{Asked, ClaimForge, HostileAnswer, Must};
use tempfile::TempDir;
use uuid::Uuid;

const NOW: i64 = 1_795_226_400;
const CLAIM: Uuid = Uuid::from_u128(0x019a_f5d8_7a00_7000_8000_0000_0000_00c1);
const CURRENT: &str = r#"{"v":1,"edge_id":"e-1","edge_key":"ek_old","api_base":"https://cloud.example",
    "edge_secret":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}"#;

/// The box's key pair: opens once, so there is one for each message.
#[expect(deprecated, reason = "a key pair that is the same each time")]
fn key() -> KemKey {
    KemKey::generate(&FixedByteRandom { byte: 7 }).unwrap()
}

fn forge() -> ClaimForge {
    ClaimForge::new(CLAIM, *key().public(), NOW)
}

/// What is on disk, by name and content.
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read(path).unwrap())
        })
        .collect();
    all.sort();
    all
}

/// Opens a message as a claim does and writes what is inside; `false`: nothing was taken.
fn takes_credentials(sealed: &[u8]) -> bool {
    let dir = TempDir::new().unwrap();
    let store = Store::new(&dir.path().join("current.json"), |_| {});
    let key = key();
    let info = claim_info(CLAIM, key.public());
    let taken = key
        .open(&info, sealed)
        .ok()
        .and_then(|plain| store.write_pending(&plain, CLAIM, None).ok())
        .is_some();
    assert_eq!(files(dir.path()).len(), usize::from(taken));
    taken
}

/// The same of a rotation.
async fn takes_key(sealed: &[u8]) -> bool {
    let dir = TempDir::new().unwrap();
    let current = dir.path().join("current.json");
    std::fs::write(&current, CURRENT).unwrap();
    let keys = SharedKeys::from(Keys::load(&current).unwrap());
    let before = files(dir.path());
    let kem = key();
    let info = rotate_info(kem.public());
    let new = kem.open(&info, sealed).ok();
    let taken = match new.and_then(|plain| rotate::key(&plain)) {
        Some(new) => keys
            .store_next(&new.edge_key, &new.edge_secret)
            .await
            .is_ok(),
        None => false,
    };
    assert_eq!(taken, keys.has_next());
    assert!(taken || files(dir.path()) == before);
    taken
}

#[tokio::test]
async fn a_sealed_message_that_is_not_right_in_every_way_leaves_nothing() {
    let forge = forge();
    assert!(takes_credentials(&forge.good_blob()));
    assert!(takes_key(&forge.good_rotated_blob()).await);
    let (claims, rotations) = (forge.blobs(), forge.rotated_blobs());
    assert!(claims.len() + rotations.len() >= 500);
    let mut taken = Vec::new();
    for one in &claims {
        if takes_credentials(&one.sealed) && one.must == Must::Refuse {
            taken.push(format!("claim {}", one.name));
        }
    }
    for one in &rotations {
        if takes_key(&one.sealed).await && one.must == Must::Refuse {
            taken.push(format!("rotation {}", one.name));
        }
    }
    assert!(taken.is_empty(), "{} taken: {taken:#?}", taken.len());
}

/// What a refusal shows to people.
fn printable(failure: &Failure) -> bool {
    match failure {
        Failure::Refused { code, detail } => {
            let clean = |text: &str| !text.chars().any(char::is_control);
            clean(code) && clean(detail) && detail.chars().count() <= 200
        }
        Failure::Later(_) | Failure::Garbled => true,
    }
}

/// Whether something is taken from an answer.
async fn takes(one: &HostileAnswer) -> bool {
    let code = problem_code(one.content_type, &one.body);
    let header = |name: &str| {
        let found = one.headers.iter().find(|(n, _)| *n == name);
        found.map_or("", |(_, value)| value.as_str())
    };
    let answer = Answer {
        status: one.status,
        code: &code,
        retry_after: retry_after(header("retry-after"), Wall::from_unix_seconds(NOW)),
        body: &one.body,
    };
    let failed = |failure: &Failure| {
        assert!(printable(failure), "{}", one.name);
        false
    };
    match one.asked {
        Asked::Open => match claim::parse_created(&answer) {
            Ok(created) => {
                let shown = format!("{}{}", created.user_code, created.verification_uri);
                assert!(!shown.chars().any(char::is_control), "{}", one.name);
                true
            }
            Err(failure) => failed(&failure),
        },
        Asked::Poll => match claim::parse_polled(&answer) {
            Polled::Sealed { blob, .. } => takes_credentials(&blob),
            Polled::Challenge { .. } => true,
            Polled::Pending | Polled::SlowDown => false,
            Polled::Failed(failure) => failed(&failure),
        },
        Asked::Challenge => match claim::parse_counted(&answer) {
            // The next poll says what became of the count; a 2xx alone makes nobody an owner.
            Ok(()) => !(200..500).contains(&one.status),
            Err(failure) => failed(&failure),
        },
        // Whether an answer is signed for this request is the signature's own test; here it is not.
        Asked::Confirm => claim::parse_confirmed(&answer, false) == Confirmed::Active,
        Asked::Rotate => match rotate::sealed(&one.body) {
            // As for a confirm.
            Some(_) if one.name == "rotate/unsigned" => false,
            Some(sealed) => one.status == 200 && takes_key(&sealed).await,
            None => false,
        },
    }
}

#[tokio::test]
async fn an_answer_that_is_not_right_in_every_way_is_not_taken() {
    let forge = forge();
    for asked in [Asked::Open, Asked::Poll, Asked::Rotate] {
        assert!(takes(&forge.good_answer(asked)).await, "{asked:?}");
    }
    let all = forge.answers();
    assert!(all.len() >= 400);
    let mut taken = Vec::new();
    for one in &all {
        if takes(one).await && one.must == Must::Refuse {
            taken.push(format!("{} ({})", one.name, one.status));
        }
    }
    assert!(taken.is_empty(), "{} taken: {taken:#?}", taken.len());
    let text = URL_SAFE_NO_PAD.encode(vec![0; 32 << 10]);
    let body = format!("{{\"sealed\":\"{text}\"}}");
    assert!(rotate::sealed(body.as_bytes()).is_none(), "too large");
}
