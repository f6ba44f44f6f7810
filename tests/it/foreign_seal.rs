//! What a library that we did not write seals (PyPI `cryptography`), the agent opens; changed in any way, it does not.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use sentrycam::wire::seal::{KemKey, SealError, claim_info};
use serde_json::json;
use uuid::Uuid;

use crate::foreign::python;

fn sealed(to: &KemKey, info: &[u8], plain: &[u8]) -> Vec<u8> {
    let case = json!({ "public": STANDARD.encode(to.public()), "info": STANDARD.encode(info),
                       "plain": STANDARD.encode(plain) });
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/foreign/seal.py");
    let mut child = Command::new(python())
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(case.to_string().as_bytes()).unwrap();
    drop(stdin);
    let out = child.wait_with_output().unwrap();
    let err = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{err}");
    STANDARD.decode(out.stdout.trim_ascii()).unwrap()
}

#[test]
fn what_a_foreign_library_seals_is_opened() {
    let key = || KemKey::generate(&SystemRandom::new()).unwrap();
    let plain = br#"{"v":1,"edge_id":"e-1"}"#;
    let (right, flipped, other) = (key(), key(), key());
    let info = |key: &KemKey| claim_info(Uuid::from_u128(7), key.public());
    let blob = sealed(&right, &info(&right), plain);
    let wanted = info(&right);
    assert_eq!(right.open(&wanted, &blob).unwrap()[..], plain[..]);

    let mut blob = sealed(&flipped, &info(&flipped), plain);
    *blob.last_mut().unwrap() ^= 1;
    let wanted = info(&flipped);
    assert_eq!(flipped.open(&wanted, &blob), Err(SealError));
    let blob = sealed(&other, b"sentrycam/rotate/v1", plain);
    let wanted = info(&other);
    assert_eq!(other.open(&wanted, &blob), Err(SealError));
}
