//! Texts that are well sealed and must not become credentials.

use super::texts::{Object, WRONG, quoted};
use super::{Must, base64};
use crate::hostile::TRICKS;
use crate::hostile::claims::nested;

/// A text with what is wrong with it.
pub struct Text {
    pub name: String,
    pub must: Must,
    pub bytes: Vec<u8>,
}

fn secret() -> [u8; 32] {
    std::array::from_fn(|at| at as u8)
}

fn account() -> Object {
    Object(vec![
        ("host", quoted("broker.example")),
        ("port", "8883".into()),
        ("client_id", quoted("e-0001")),
        ("username", quoted("e-0001")),
        ("password", quoted(&"p".repeat(43))),
    ])
}

fn credentials() -> Object {
    Object(vec![
        ("v", "1".into()),
        ("edge_id", quoted("e-0001")),
        ("edge_key", quoted("ek_0001")),
        ("edge_secret", quoted(&base64(&secret()))),
        ("mqtt", account().text()),
        ("api_base", quoted("https://cloud.example:8443")),
        (
            "tenant",
            "{\"id\":\"019af5d8-7a00-7000-8000-000000000001\",\"name\":\"Acme\"}".into(),
        ),
        ("device_name", quoted("porch")),
        ("stream_hosts", "[]".into()),
    ])
}

/// What the cloud would seal for a claim.
pub fn good() -> String {
    credentials().text()
}

fn key(now: i64) -> Object {
    let at = jiff::Timestamp::from_second(now).unwrap_or_default();
    Object(vec![
        ("v", "1".into()),
        ("edge_key", quoted("ek_0002")),
        ("edge_secret", quoted(&base64(&secret()))),
        ("not_before", quoted(&format!("{at:.3}"))),
    ])
}

/// What the cloud would seal for a rotation.
pub fn good_key(now: i64) -> String {
    key(now).text()
}

/// Key ids that are none.
fn bad_keys() -> Vec<String> {
    let mut all: Vec<String> = TRICKS.iter().map(|trick| (*trick).to_owned()).collect();
    let long = format!("ek_{}", "x".repeat(62));
    let more = [
        "ek",
        "EK_0001",
        "ek_a b",
        "ek_a;keyid=x",
        "ek_a\\\"",
        "ek_\\u00e9",
        "ek_../x",
        "ek_a\\nb",
        "0001",
        long.as_str(),
    ];
    all.extend(more.map(str::to_owned));
    all
}

fn bad_secrets() -> Vec<String> {
    let right = base64(&secret());
    vec![
        base64(&secret()[..31]),
        base64(&[7; 33]),
        base64(&[7; 16]),
        base64(&[7; 64]),
        super::base64url(&[0xfb; 32]),
        right.trim_end_matches('=').to_owned(),
        format!(" {right}"),
        format!("{right}\\n"),
        format!("{right}{right}"),
        "!".repeat(44),
        "0".repeat(64),
    ]
}

fn add_secrets(all: &mut Vec<Text>, object: &Object) {
    for (at, value) in bad_keys().iter().enumerate() {
        refuse(
            all,
            format!("edge_key/{at}"),
            object.with("edge_key", &quoted(value)),
        );
    }
    for (at, value) in bad_secrets().iter().enumerate() {
        refuse(
            all,
            format!("edge_secret/{at}"),
            object.with("edge_secret", &quoted(value)),
        );
    }
}

fn push(all: &mut Vec<Text>, must: Must, name: String, text: impl Into<Vec<u8>>) {
    let bytes = text.into();
    all.push(Text { name, must, bytes });
}

fn refuse(all: &mut Vec<Text>, name: String, text: impl Into<Vec<u8>>) {
    push(all, Must::Refuse, name, text);
}

fn forms(all: &mut Vec<Text>, object: &Object, optional: &[&str]) {
    for (name, bytes) in object.forms() {
        // A member that a device need not read may stand twice.
        let unread = optional
            .iter()
            .any(|member| name.starts_with(&format!("twice/{member}-")));
        let must = if unread || name == "form/deep" {
            Must::Bound
        } else {
            Must::Refuse
        };
        push(all, must, name, bytes);
    }
}

/// Texts for a claim.
pub fn claims() -> Vec<Text> {
    let (object, mut all) = (credentials(), Vec::new());
    for member in ["v", "edge_id", "edge_key", "edge_secret", "api_base"] {
        for (at, value) in WRONG.iter().enumerate() {
            refuse(
                &mut all,
                format!("{member}/wrong-{at}"),
                object.with(member, value),
            );
        }
    }
    for (at, value) in ["0", "2", "4294967296", "\"1\"", "1.0", "-1", "01"]
        .iter()
        .enumerate()
    {
        refuse(&mut all, format!("v/{at}"), object.with("v", value));
    }
    let long_id = format!("e-{}", "x".repeat(63));
    let ids = [
        "E-0001",
        "e-A",
        "e-a/b",
        "e-../../x",
        "e-a b",
        "e-+",
        "e-#",
        "e-\\u00e9",
        "e-a\\nb",
        "0001",
        long_id.as_str(),
    ];
    for (at, value) in TRICKS.iter().chain(&ids).enumerate() {
        refuse(
            &mut all,
            format!("edge_id/{at}"),
            object.with("edge_id", &quoted(value)),
        );
    }
    add_secrets(&mut all, &object);
    let bases = [
        "http://cloud.example",
        "ftp://cloud.example",
        "file:///etc/shadow",
        "javascript:alert(1)",
        "cloud.example",
        "//cloud.example",
        "https://",
        "https://cloud.example:99999",
        "https://cloud example",
        "https://[::1",
        "mailto:a@cloud.example",
        "wss://cloud.example",
    ];
    for (at, value) in TRICKS.iter().chain(&bases).enumerate() {
        refuse(
            &mut all,
            format!("api_base/{at}"),
            object.with("api_base", &quoted(value)),
        );
    }
    for (at, value) in [
        "https://u:p@cloud.example",
        "https://127.0.0.1",
        "https://169.254.169.254/",
        "https://cloud.example/a/../b?c#d",
    ]
    .iter()
    .enumerate()
    {
        let text = object.with("api_base", &quoted(value));
        push(&mut all, Must::Bound, format!("api_base/odd-{at}"), text);
    }
    add_accounts(&mut all, &object);
    for (at, value) in [
        "1",
        "\"x\"",
        "[]",
        "{\"id\":1,\"name\":[]}",
        "{\"id\":\"\",\"name\":\"\\u001b[2J\"}",
    ]
    .iter()
    .enumerate()
    {
        let text = object.with("tenant", value);
        push(&mut all, Must::Bound, format!("tenant/{at}"), text);
    }
    for member in ["device_name", "stream_hosts"] {
        for (at, value) in WRONG.iter().enumerate() {
            if member == "stream_hosts" && *value == "[]" {
                continue;
            }
            let must = if *value == "NaN" {
                Must::Refuse
            } else {
                Must::Bound
            };
            let text = object.with(member, value);
            push(&mut all, must, format!("{member}/wrong-{at}"), text);
        }
    }
    for (name, extra) in [("unknown", "7".to_owned()), ("deep-unknown", nested(40))] {
        let text = object
            .text()
            .replacen('{', &format!("{{\"later\":{extra},"), 1);
        push(&mut all, Must::Bound, name.to_owned(), text);
    }
    forms(&mut all, &object, &["device_name", "stream_hosts"]);
    all
}

/// The broker's part: it may be absent, but not wrong.
fn add_accounts(all: &mut Vec<Text>, object: &Object) {
    let account = account();
    for (at, value) in ["true", "[]", "7", "{}", "\"mqtt://x\""].iter().enumerate() {
        refuse(all, format!("mqtt/wrong-{at}"), object.with("mqtt", value));
    }
    for member in ["host", "port", "client_id", "username", "password"] {
        for (at, value) in WRONG.iter().enumerate() {
            let text = object.with("mqtt", &account.with(member, value));
            refuse(all, format!("mqtt/{member}/wrong-{at}"), text);
        }
    }
    for (at, trick) in TRICKS.iter().enumerate() {
        let text = object.with("mqtt", &account.with("host", &quoted(trick)));
        refuse(all, format!("mqtt/host/trick-{at}"), text);
    }
    for (at, value) in [
        "0",
        "65536",
        "-1",
        "\"8883\"",
        "8883.5",
        "99999999999999999999",
    ]
    .iter()
    .enumerate()
    {
        let text = object.with("mqtt", &account.with("port", value));
        refuse(all, format!("mqtt/port/{at}"), text);
    }
    let long = "x".repeat(300);
    for member in ["client_id", "username", "password"] {
        for (at, value) in ["a b", "a\\nb", "\\u00e9", "\\u202e", long.as_str()]
            .iter()
            .enumerate()
        {
            let text = object.with("mqtt", &account.with(member, &quoted(value)));
            refuse(all, format!("mqtt/{member}/{at}"), text);
        }
    }
    for (at, value) in ["+", "#", "e-0001/up/#", "other"].iter().enumerate() {
        let text = object.with("mqtt", &account.with("client_id", &quoted(value)));
        push(all, Must::Bound, format!("mqtt/client_id/odd-{at}"), text);
    }
}

/// Texts for a rotation.
pub fn keys(now: i64) -> Vec<Text> {
    let (object, mut all) = (key(now), Vec::new());
    for member in ["edge_key", "edge_secret"] {
        for (at, value) in WRONG.iter().enumerate() {
            refuse(
                &mut all,
                format!("{member}/wrong-{at}"),
                object.with(member, value),
            );
        }
    }
    add_secrets(&mut all, &object);
    // What a device makes of a key of the future is its own; it must not wait for it without end.
    let times = [
        "9999-12-31T23:59:59Z",
        "+292277026596-12-04T15:30:08Z",
        "2126-01-01T00:00:00Z",
        "1970-01-01T00:00:00Z",
        "tomorrow",
        "",
    ];
    for (at, value) in times.iter().enumerate() {
        let text = object.with("not_before", &quoted(value));
        push(&mut all, Must::Bound, format!("not_before/{at}"), text);
    }
    for (at, value) in ["0", "2", "\"1\"", "null"].iter().enumerate() {
        push(
            &mut all,
            Must::Bound,
            format!("v/{at}"),
            object.with("v", value),
        );
    }
    forms(&mut all, &object, &["v", "not_before"]);
    all
}
