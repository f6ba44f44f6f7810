//! What libraries that we did not write seal (PyPI `cryptography` and `pyhpke`), for a claim and for a rotation, the agent
//! opens; changed in any way, it does not.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use sentrycam::wire::seal::{KemKey, SealError, claim_info, rotate_info};
use serde_json::json;
use uuid::Uuid;

use crate::foreign::python;

type Info = dyn Fn(&KemKey) -> Vec<u8>;

const LIBRARIES: [&str; 2] = ["cryptography", "pyhpke"];

fn sealed(by: &str, to: &KemKey, info: &[u8], plain: &[u8]) -> Vec<u8> {
    let case = json!({ "by": by, "public": STANDARD.encode(to.public()), "info": STANDARD.encode(info),
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
fn what_foreign_libraries_seal_is_opened() {
    let key = || KemKey::generate(&SystemRandom::new()).unwrap();
    let plain = br#"{"v":1,"edge_id":"e-1"}"#;
    let claim = |key: &KemKey| claim_info(Uuid::from_u128(7), key.public());
    let rotate = |key: &KemKey| rotate_info(key.public());
    let uses: [(&str, &Info); 2] = [("claim", &claim), ("rotate", &rotate)];
    for library in LIBRARIES {
        for (of, info) in uses {
            let (right, flipped) = (key(), key());
            let wanted = info(&right);
            let blob = sealed(library, &right, &wanted, plain);
            assert_eq!(
                right.open(&wanted, &blob).unwrap()[..],
                plain[..],
                "{library} {of}"
            );
            let wanted = info(&flipped);
            let mut blob = sealed(library, &flipped, &wanted, plain);
            *blob.last_mut().unwrap() ^= 1;
            assert_eq!(
                flipped.open(&wanted, &blob),
                Err(SealError),
                "{library} {of}"
            );
        }
        // Sealed for the one, it is nothing for the other.
        let (claimed, rotated) = (key(), key());
        let blob = sealed(library, &claimed, &rotate(&claimed), plain);
        let wanted = claim(&claimed);
        assert_eq!(claimed.open(&wanted, &blob), Err(SealError), "{library}");
        let blob = sealed(library, &rotated, &claim(&rotated), plain);
        let wanted = rotate(&rotated);
        assert_eq!(rotated.open(&wanted, &blob), Err(SealError), "{library}");
    }
}
