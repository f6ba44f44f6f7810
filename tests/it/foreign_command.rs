//! Documents signed by a library that we did not write (PyPI `pyjwt`): the right one is accepted, each wrong one refused.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sentrycam::wire::jws::{Typ, verify};
use sentrycam::wire::signature::SigningKey;
use serde_json::{Value, json};

use crate::foreign::python;

const SECRET: [u8; 32] = *b"thirty-two bytes of device key !";

#[test]
fn a_foreign_library_signs_what_the_agent_accepts_and_nothing_else() {
    let key = [SigningKey::new("ek_foreign", &SECRET)];
    let python = python();
    for (typ, word) in [
        (Typ::Command, "sentrycam-cmd+jwt"),
        (Typ::Twin, "sentrycam-twin+jwt"),
    ] {
        let claims = json!({ "iss": "sentrycam-cloud", "aud": "e-foreign", "n": 1, "iat": 1, "exp": 2,
                             "cmd": { "type": "reboot", "args": { "delay_s": 1 } } });
        let case = json!({ "claims": claims, "keyid": "ek_foreign", "secret": STANDARD.encode(SECRET), "typ": word });
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/foreign/sign_command.py");
        let mut child = Command::new(&python)
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(case.to_string().as_bytes()).unwrap();
        drop(stdin);
        let out = child.wait_with_output().unwrap();
        assert!(out.status.success());
        let said = String::from_utf8(out.stdout).unwrap();
        let mut tokens = said.lines();
        let right = tokens.next().unwrap().as_bytes();
        let payload = verify(right, typ, &key).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&payload).unwrap(), claims);
        let other = if typ == Typ::Command {
            Typ::Twin
        } else {
            Typ::Command
        };
        assert!(verify(right, other, &key).is_err());
        let refused: Vec<&str> = tokens
            .map(|token| verify(token.as_bytes(), typ, &key).unwrap_err().code())
            .collect();
        assert_eq!(refused.len(), 9, "{said}");
        println!("refused: {}", refused.join(", "));
    }
}
