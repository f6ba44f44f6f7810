//! Well signed commands with wrong claims.

use uuid::Uuid;

use super::{Forge, Hostile, TRICKS};
use crate::jws::COMMAND;

/// A good command's claims.
pub(super) fn good(forge: &Forge, command_type: &str, args: &str) -> String {
    let cmd = format!("{{\"type\":\"{command_type}\",\"args\":{args}}}");
    with(forge, &[("cmd", &cmd)])
}

/// Good claims of a `sync.now` with some members replaced.
fn with(forge: &Forge, changes: &[(&str, &str)]) -> String {
    let members = [
        ("iss", "\"sentrycam-cloud\"".to_owned()),
        ("aud", format!("\"{}\"", forge.edge_id)),
        ("jti", format!("\"{}\"", Uuid::now_v7())),
        ("n", forge.number.to_string()),
        ("iat", forge.now.to_string()),
        ("exp", (forge.now + 300).to_string()),
        ("cmd", "{\"type\":\"sync.now\",\"args\":{}}".to_owned()),
    ];
    object(&members, changes)
}

/// An object of `good` members with some replaced; the value `-` leaves a member out.
pub(super) fn object(good: &[(&str, String)], changes: &[(&str, &str)]) -> String {
    let members: Vec<String> = good
        .iter()
        .filter_map(|(name, good)| {
            let change = changes.iter().find(|(changed, _)| changed == name);
            match change.map_or(good.as_str(), |(_, value)| value) {
                "-" => None,
                value => Some(format!("\"{name}\":{value}")),
            }
        })
        .collect();
    format!("{{{}}}", members.join(","))
}

/// Values of a wrong type or form, for any member.
const WRONG: [&str; 10] = [
    "-",
    "null",
    "true",
    "[]",
    "{}",
    "\"\"",
    "1.5",
    "NaN",
    "1e999",
    "\"\\u0000\"",
];

pub(super) fn all(forge: &Forge) -> Vec<Hostile> {
    let mut all = Vec::new();
    let mut add = |name: String, claims: &str| all.push(forge.wrong(COMMAND, name, claims));
    for member in ["iss", "aud", "jti", "n", "iat", "exp", "cmd"] {
        for (at, value) in WRONG.iter().enumerate() {
            add(
                format!("claims/{member}/wrong-{at}"),
                &with(forge, &[(member, value)]),
            );
        }
    }
    let (now, id) = (forge.now, &forge.edge_id);
    let far = now + 10 * 365 * 86_400;
    let particular = [
        ("iss", "\"sentrycam\"".to_owned()),
        ("iss", "\"Sentrycam-Cloud\"".to_owned()),
        ("aud", "\"e-other\"".to_owned()),
        ("aud", format!("[\"{id}\"]")),
        ("aud", format!("[\"{id}\",\"e-other\"]")),
        ("aud", format!("\"{id} \"")),
        ("aud", format!("\"{}\"", id.to_uppercase())),
        ("aud", "\"*\"".to_owned()),
        ("jti", "\"../../x\"".to_owned()),
        ("jti", "\"00000000-0000-0000-0000-000000000000\"".to_owned()),
        ("jti", "7".to_owned()),
        ("n", "0".to_owned()),
        ("n", "-1".to_owned()),
        ("n", "\"8\"".to_owned()),
        ("n", "9223372036854775808".to_owned()),
        ("n", "99999999999999999999999999999999".to_owned()),
        ("iat", (now + 3600).to_string()),
        ("iat", far.to_string()),
        ("iat", "-1".to_owned()),
        ("iat", "99999999999999999999".to_owned()),
        ("iat", format!("\"{now}\"")),
        ("exp", (now - 1).to_string()),
        ("exp", (now - 86_400).to_string()),
        ("exp", "0".to_owned()),
        ("exp", "-1".to_owned()),
        ("exp", "99999999999999999999".to_owned()),
        ("exp", format!("\"{far}\"")),
        ("cmd", "\"reboot\"".to_owned()),
        ("cmd", "[\"reboot\"]".to_owned()),
        ("cmd", "{\"type\":\"sync.now\"}x".to_owned()),
        (
            "cmd",
            "{\"type\":\"sync.now\",\"args\":{},\"as\":\"root\"}".to_owned(),
        ),
        ("cmd", "{\"type\":\"sync.now\",\"args\":null}".to_owned()),
        ("cmd", "{\"type\":\"sync.now\",\"args\":[]}".to_owned()),
        ("cmd", "{\"type\":\"sync.now\",\"args\":\"{}\"}".to_owned()),
        ("cmd", "{\"args\":{}}".to_owned()),
        (
            "cmd",
            "{\"type\":\"sync.now\",\"type\":\"reboot\",\"args\":{}}".to_owned(),
        ),
        (
            "cmd",
            "{\"type\":\"reboot\",\"args\":{\"delay_s\":0,\"delay_s\":1}}".to_owned(),
        ),
        (
            "cmd",
            format!("{{\"type\":\"sync.now\",\"args\":{}}}", nested(10_000)),
        ),
        (
            "cmd",
            format!(
                "{{\"type\":\"sync.now\",\"args\":{{\"a\":{}}}}}",
                nested(40)
            ),
        ),
        (
            "cmd",
            format!("{{\"type\":\"sync.now\",\"args\":{{{}}}}}", many(2000)),
        ),
    ];
    for (at, (member, value)) in particular.iter().enumerate() {
        add(
            format!("claims/{member}/particular-{at}"),
            &with(forge, &[(member, value)]),
        );
    }
    for command_type in [
        "exec",
        "shell",
        "sh",
        "file.read",
        "file.write",
        "config.set",
        "eval",
        "REBOOT",
        "reboot ",
        " reboot",
        "reboot\\n",
        "reboot\\u0000",
        "snapshot.",
        ".",
        "snapshot/../reboot",
        "constructor",
        "__proto__",
    ] {
        add(
            format!("claims/type/{command_type}"),
            &good(forge, command_type, "{}"),
        );
    }
    for (at, trick) in TRICKS.iter().enumerate() {
        add(format!("claims/type/trick-{at}"), &good(forge, trick, "{}"));
        let jti = format!("\"{trick}\"");
        add(
            format!("claims/jti/trick-{at}"),
            &with(forge, &[("jti", &jti)]),
        );
    }
    let good = with(forge, &[]);
    for (name, twice) in [
        ("aud", "\"aud\":\"e-other\""),
        ("jti", "\"jti\":\"019af5d8-7a00-7000-8000-0000000000c1\""),
        ("exp", "\"exp\":4000000000"),
        ("n", "\"n\":1"),
        ("cmd", "\"cmd\":{\"type\":\"reboot\",\"args\":{}}"),
        (
            "cmd-escaped",
            "\"\\u0063md\":{\"type\":\"reboot\",\"args\":{}}",
        ),
        ("unknown", "\"nbf\":1"),
        ("unknown-sub", "\"sub\":\"root\""),
        ("proto", "\"__proto__\":{\"n\":1}"),
    ] {
        let first = good.replacen('{', &format!("{{{twice},"), 1);
        let last = format!("{},{twice}}}", &good[..good.len() - 1]);
        add(format!("claims/twice/{name}-first"), &first);
        add(format!("claims/twice/{name}-last"), &last);
    }
    for (name, text) in [
        ("comment", good.replacen('{', "{/*x*/", 1)),
        ("trailing-comma", good.replacen('}', ",}", 1)),
        ("single-quotes", good.replace('"', "'")),
        ("truncated", good[..good.len() - 1].to_owned()),
        ("more", format!("{good} {good}")),
    ] {
        add(format!("claims/text/{name}"), &text);
    }
    all
}

/// Arrays in arrays.
pub(super) fn nested(levels: usize) -> String {
    format!("{}{}", "[".repeat(levels), "]".repeat(levels))
}

/// That many members.
fn many(members: usize) -> String {
    let members: Vec<String> = (0..members).map(|at| format!("\"m{at}\":0")).collect();
    members.join(",")
}
