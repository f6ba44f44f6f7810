//! Command documents that must not have an effect, made by combining what is tried against such readers.

use serde_json::{Value, json};

use super::{Bench, key, signed};
use crate::wire::jws::{Typ, sign, sign_with_header};
use crate::wire::signature::SigningKey;

/// Values that somebody tries in place of every other.
fn hostile_values() -> Vec<Value> {
    let long = "x".repeat(5000);
    vec![
        json!(""),
        json!("../../etc/passwd"),
        json!("/etc/passwd"),
        json!("$(reboot)"),
        json!("`id`"),
        json!("a; rm -rf /"),
        json!("%s%n"),
        json!("A\u{0}b"),
        json!("\u{202e}cam"),
        json!(long),
        json!(-1),
        json!(1.5),
        json!(1e300),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(9_007_199_254_740_993u64),
        json!(true),
        json!([]),
        json!({}),
        json!([[[[[[[[1]]]]]]]]),
        json!({ "$secret": "x" }),
        json!({ "a": { "b": { "c": { "d": { "e": 1 } } } } }),
    ]
}

fn good_args() -> Vec<(&'static str, Value)> {
    let id = "019af5d8-7a00-7000-8000-0000000000d1";
    vec![
        (
            "recording.start",
            json!({ "camera_id": "c", "recording_id": id, "max_duration_s": 5 }),
        ),
        ("recording.stop", json!({ "recording_id": id })),
        (
            "snapshot",
            json!({ "camera_id": "c", "snapshot_id": id, "max_width": 64 }),
        ),
        ("reboot", json!({ "delay_s": 1 })),
        ("unclaim", json!({ "wipe": "all" })),
        ("diag.collect", json!({ "parts": ["log"] })),
    ]
}

/// Everything that must not have an effect; each is signed, unless that is what is wrong with it.
pub fn of(bench: &Bench) -> Vec<String> {
    let good = bench.claims("reboot", json!({}));
    let mut all = Vec::new();
    // Headers.
    for header in [
        r#"{"alg":"none","kid":"ek_1","typ":"sentrycam-cmd+jwt"}"#,
        r#"{"alg":"None","kid":"ek_1","typ":"sentrycam-cmd+jwt"}"#,
        r#"{"alg":"HS384","kid":"ek_1","typ":"sentrycam-cmd+jwt"}"#,
        r#"{"alg":"RS256","kid":"ek_1","typ":"sentrycam-cmd+jwt"}"#,
        r#"{"alg":"HS256","kid":"ek_2","typ":"sentrycam-cmd+jwt"}"#,
        r#"{"alg":"HS256","kid":"../ek_1","typ":"sentrycam-cmd+jwt"}"#,
        r#"{"alg":"HS256","kid":"ek_1","typ":"sentrycam-twin+jwt"}"#,
        r#"{"alg":"HS256","kid":"ek_1","typ":"JWT"}"#,
        r#"{"alg":"HS256","kid":"ek_1"}"#,
        r#"{"alg":"HS256","typ":"sentrycam-cmd+jwt"}"#,
        r#"{"alg":"HS256","kid":"ek_1","typ":"sentrycam-cmd+jwt","crit":["exp"]}"#,
        r#"{"alg":"HS256","kid":"ek_1","typ":"sentrycam-cmd+jwt","b64":false}"#,
        r#"{"alg":"HS256","jwk":{"kty":"oct","k":"AA"},"typ":"sentrycam-cmd+jwt"}"#,
        r#"{"alg":"HS256","jku":"https://evil/","kid":"ek_1","typ":"sentrycam-cmd+jwt"}"#,
        r#"{"alg":"HS256","x5u":"https://evil/","kid":"ek_1","typ":"sentrycam-cmd+jwt"}"#,
        r#" {"alg":"HS256","kid":"ek_1","typ":"sentrycam-cmd+jwt"}"#,
        "{}",
        "",
    ] {
        let text = good.to_string();
        all.push(sign_with_header(text.as_bytes(), header, &key()));
        let bare = sign_with_header(text.as_bytes(), header, &key());
        all.push(format!("{}.", bare.rsplit_once('.').unwrap().0));
    }
    // Signatures: of other keys, cut, and with each bit of some bytes flipped.
    let whole = signed(&good);
    for secret in [[0u8; 32], [8; 32], [255; 32]] {
        let foreign = SigningKey::new("ek_1", &secret);
        all.push(sign(good.to_string().as_bytes(), Typ::Command, &foreign));
    }
    for at in (0..whole.len()).step_by(4) {
        let mut bytes = whole.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        all.push(String::from_utf8(bytes).unwrap());
        all.push(whole[..at].to_owned());
    }
    // Claims.
    for name in ["iss", "aud", "jti", "n", "iat", "exp", "cmd"] {
        for value in hostile_values() {
            let mut claims = bench.claims("reboot", json!({}));
            claims[name] = value;
            all.push(signed(&claims));
        }
        let mut claims = bench.claims("reboot", json!({}));
        claims.as_object_mut().unwrap().remove(name);
        all.push(signed(&claims));
    }
    for aud in [
        "e-2", "E-1", "e-1 ", " e-1", "e-1/", "e-10", "*", "e-%", "#", "+",
    ] {
        let mut claims = bench.claims("reboot", json!({}));
        claims["aud"] = json!(aud);
        all.push(signed(&claims));
    }
    // Times.
    let now = bench.now();
    for (iat, exp) in [
        (now - 600, now - 1),
        (now - 600, now),
        (0, 1),
        (0, 0),
        (now + 3600, now + 7200),
        (now + 400, now + 700),
        (now, now - 1),
        (now, now),
        (now, now + 31 * 86_400),
        (now, (1 << 53) - 1),
        ((1 << 53) - 1, (1 << 53) - 1),
    ] {
        let mut claims = bench.claims("reboot", json!({}));
        (claims["iat"], claims["exp"]) = (json!(iat), json!(exp));
        all.push(signed(&claims));
    }
    // Types, and members that nobody knows.
    for word in [
        "",
        "exec",
        "shell",
        "system",
        "sh -c",
        "Reboot",
        "reboot ",
        " reboot",
        "reboot;id",
        "reboot\n",
        "file.read",
        "file.write",
        "firmware.update",
        "stream.start",
        "stream.stop",
        "unclaim.all",
        "eval",
        "../reboot",
        "réboot",
    ] {
        all.push(signed(&bench.claims(word, json!({}))));
    }
    for path in ["/x", "/cmd/x", "/cmd/args/x"] {
        for value in hostile_values() {
            let mut claims = bench.claims("reboot", json!({}));
            let (parent, name) = path.rsplit_once('/').unwrap();
            claims.pointer_mut(parent).unwrap()[name] = value;
            all.push(signed(&claims));
        }
    }
    // Arguments.
    for (word, args) in good_args() {
        for name in args.as_object().unwrap().keys() {
            for value in hostile_values() {
                let mut bad = args.clone();
                bad[name] = value;
                all.push(signed(&bench.claims(word, bad)));
            }
        }
        all.push(signed(&bench.claims(word, json!([args]))));
    }
    // Texts that two readers read differently, or that cost a reader dear.
    let text = good.to_string();
    let inner = text.strip_prefix('{').unwrap();
    for odd in [
        format!("{{\"aud\":\"e-1\",{inner}"),
        format!("{{\"cmd\":{{\"type\":\"sync.now\",\"args\":{{}}}},{inner}"),
        text.replace("\"args\":{}", "\"args\":{\"delay_s\":1,\"delay_s\":2}"),
        text.replace("\"args\":{}", "\"args\":{\"delay_s\":1e999}"),
        text.replace("\"args\":{}", "\"args\":{\"delay_s\":NaN}"),
        text.replace("\"args\":{}", "\"args\":{\"delay_s\":0x10}"),
        text.replace(
            "\"args\":{}",
            &format!("\"args\":{{\"delay_s\":{}}}", "9".repeat(400)),
        ),
        text.replace(
            "\"args\":{}",
            &format!("\"args\":{}1{}", "[".repeat(9000), "]".repeat(9000)),
        ),
        text.replace(
            "\"args\":{}",
            &format!("\"args\":{{\"a\":[{}1]}}", "1,".repeat(5000)),
        ),
        format!("{text}{text}"),
        format!("{text} x"),
        format!("\u{feff}{text}"),
        text.replace('"', "'"),
        format!("[{text}]"),
        format!("{text}{}", " ".repeat(40_000)),
        "null".into(),
        String::new(),
    ] {
        all.push(sign(odd.as_bytes(), Typ::Command, &key()));
    }
    all.push(sign(&[0xff, 0xfe, 0x7b], Typ::Command, &key()));
    for junk in [
        "",
        ".",
        "..",
        "...",
        "a.b.c",
        "{}",
        "[\"x\"]",
        "\0\0\0",
        &"A".repeat(100_000),
    ] {
        all.push(junk.to_owned());
    }
    all
}
