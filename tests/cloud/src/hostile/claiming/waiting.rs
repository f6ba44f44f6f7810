//! Answers to a box that opens a window and waits for its owner.

use super::answers::{JSON, List, PROBLEM, challenge, opened, problem, sealed, told};
use super::texts::{WRONG, quoted};
use super::{Asked, ClaimForge, Must, base64url};
use crate::hostile::TRICKS;

/// To `POST /edge/v1/claims`.
pub(super) fn open(list: &mut List) {
    let good = opened();
    let members: Vec<&str> = good.0.iter().map(|(name, _)| *name).collect();
    list.wrong(201, JSON, &good, &members);
    for member in ["claim_id", "claim_token", "user_code", "verification_uri"] {
        for (at, trick) in TRICKS.iter().enumerate() {
            let text = good.with(member, &quoted(trick));
            list.refuse(format!("{member}/trick-{at}"), 201, JSON, text);
        }
    }
    let long = "x".repeat(5000);
    let (letters, address) = (
        "BCDF".repeat(1000),
        format!("https://app.example.com/{long}"),
    );
    for (member, values) in [
        (
            "claim_id",
            vec![
                "019af5d8-7a00-7000-8000",
                "../019af5d8-7a00-7000-8000-0000000000c1",
                "%2e%2e",
                &long,
            ],
        ),
        (
            "claim_token",
            vec![
                "AA\\r\\nX-Evil: 1",
                "AA BB",
                "AA,Bearer BB",
                "\\u00e9",
                "Bearer AA",
                &long,
            ],
        ),
        (
            "user_code",
            vec![
                "AEIOUAEI",
                "WDJBMJH",
                "WDJBMJHTB",
                "WDJBMJH1",
                "\\u001b[2JWDJBMJHT",
                "ЖDJBMJHT",
                "ＷDJBMJHT",
                &letters,
            ],
        ),
        (
            "verification_uri",
            vec![
                "javascript:alert(1)",
                "data:text/html,x",
                "file:///etc/shadow",
                "ftp://app.example.com/",
                "ssh://root@evil",
                "app.example.com/claim",
                "//app.example.com/claim",
                "https://",
                "https://[::1",
                "intent://x",
                &address,
            ],
        ),
    ] {
        for (at, value) in values.iter().enumerate() {
            let text = good.with(member, &quoted(value));
            list.refuse(format!("{member}/particular-{at}"), 201, JSON, text);
        }
    }
    for (at, value) in [
        "http://app.example.com/claim",
        "https://app.example.com@evil.example/",
        "https://127.0.0.1/",
        "https://аpp.example.com/",
    ]
    .iter()
    .enumerate()
    {
        let text = good.with("verification_uri", &quoted(value));
        list.push(
            Must::Bound,
            format!("verification_uri/odd-{at}"),
            201,
            JSON,
            text,
        );
    }
    for member in ["expires_in", "interval"] {
        for (at, value) in ["0", "1", "86400", "4294967296", "18446744073709551615"]
            .iter()
            .enumerate()
        {
            let text = good.with(member, value);
            list.push(Must::Bound, format!("{member}/odd-{at}"), 201, JSON, text);
        }
        for (at, value) in [
            "-1",
            "18446744073709551616",
            "\"600\"",
            "0x10",
            "600.5",
            "1e3",
        ]
        .iter()
        .enumerate()
        {
            let text = good.with(member, value);
            list.refuse(format!("{member}/particular-{at}"), 201, JSON, text);
        }
    }
    list.around(&[201, 200], &good, &[]);
    told(list);
}

/// To `POST …/poll`.
pub(super) fn poll(list: &mut List, forge: &ClaimForge) {
    list.asked = Asked::Poll;
    let blob = forge.good_blob();
    let good = sealed(&blob);
    list.wrong(200, JSON, &good, &["sealed"]);
    let text = base64url(&blob);
    let big = base64url(&vec![7; 40 * 1024]);
    let (padded, spaced, standard) = (format!("{text}=="), format!("{text} "), format!("+/{text}"));
    let hex: String = blob.iter().map(|byte| format!("{byte:02x}")).collect();
    let values = [
        "AAEC",
        "!",
        "\\u00e9",
        &big,
        &padded,
        &spaced,
        &standard,
        &hex,
        &text[..text.len() / 2],
        "../../../etc/shadow",
        "{\\\"v\\\":1}",
    ];
    for (at, value) in values.iter().enumerate() {
        let text = good.with("sealed", &quoted(value));
        list.refuse(format!("sealed/particular-{at}"), 200, JSON, text);
    }
    // With a good message a wrong time is the device's own affair: it may believe none of it, but must not wait for it.
    let times = [
        "9999-12-31T23:59:59Z",
        "1970-01-01T00:00:00Z",
        "0000-00-00T00:00:00Z",
        "tomorrow",
        "",
        "2026-11-21",
        "-1",
    ];
    for (at, value) in times.iter().enumerate() {
        let text = good.with("confirm_by", &quoted(value));
        list.push(Must::Bound, format!("confirm_by/odd-{at}"), 200, JSON, text);
    }
    for (at, value) in WRONG.iter().enumerate() {
        let must = if *value == "NaN" {
            Must::Refuse
        } else {
            Must::Bound
        };
        list.push(
            must,
            format!("confirm_by/wrong-{at}"),
            200,
            JSON,
            good.with("confirm_by", value),
        );
    }
    list.around(&[200], &good, &["confirm_by"]);

    let good = challenge();
    for member in ["challenge_id", "window_s"] {
        for (at, value) in WRONG.iter().enumerate() {
            let text = good.with(member, value);
            list.refuse(format!("{member}/wrong-{at}"), 400, PROBLEM, text);
        }
    }
    for (at, trick) in TRICKS.iter().enumerate() {
        let text = good.with("challenge_id", &quoted(trick));
        list.refuse(format!("challenge_id/trick-{at}"), 400, PROBLEM, text);
    }
    let long = quoted(&"x".repeat(5000));
    list.refuse(
        "challenge_id/long".into(),
        400,
        PROBLEM,
        good.with("challenge_id", &long),
    );
    for (at, value) in ["0", "1", "86400", "18446744073709551615"]
        .iter()
        .enumerate()
    {
        let text = good.with("window_s", value);
        list.push(
            Must::Bound,
            format!("window_s/odd-{at}"),
            400,
            PROBLEM,
            text,
        );
    }
    for status in [200, 201, 202, 302, 401, 403, 404, 409, 410, 422, 500, 503] {
        list.refuse(
            format!("challenge/status-{status}"),
            status,
            PROBLEM,
            good.text(),
        );
    }
    let slow = problem("slow_down", &[("interval", "5".into())]);
    for (at, value) in WRONG
        .iter()
        .chain(&["-5", "0", "4294967296", "18446744073709551616"])
        .enumerate()
    {
        let text = slow.with("interval", value);
        list.push(Must::Bound, format!("interval/{at}"), 400, PROBLEM, text);
    }
    told(list);
}
