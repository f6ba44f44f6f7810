//! A corpus of twins as somebody with the signing key but bad intentions, or a broken cloud, would send them: each is
//! refused with a code, and nothing changes.

use sentrycam::agent::twin::{OfferError, Verdict};
use serde_json::{Value, json};

use crate::twin_bench::Bench;

/// Documents that must be refused as such.
fn documents() -> Vec<Value> {
    let mut all = Vec::new();
    let mut camera = |extra: Value| {
        let mut camera = json!({ "id": "a", "test": true });
        let map = camera.as_object_mut().unwrap();
        for (key, value) in extra.as_object().unwrap() {
            map.insert(key.clone(), value.clone());
        }
        all.push(json!({ "cameras": [camera] }));
    };
    for id in [
        json!("../a"),
        json!(""),
        json!("A"),
        json!("a/b"),
        json!("-a"),
        json!("a\u{0}"),
        json!("x".repeat(33)),
        json!("$(reboot)"),
        json!("a;b"),
        json!("é"),
        json!(7),
        json!(null),
        json!(["a"]),
        json!({ "$secret": "x" }),
    ] {
        camera(json!({ "id": id }));
    }
    for url in [
        "file:///etc/passwd",
        "http://10.0.0.1/",
        "rtsp://",
        "rtsp:///x",
        "javascript:1",
        "rtsp://u:p@10.0.0.1/",
        "rtsp://u@10.0.0.1/",
        "location=/etc/passwd ! filesink",
        "",
        "rtsp://[::1",
        "//10.0.0.1/x",
    ] {
        all.push(json!({ "cameras": [{ "id": "a", "url": url }] }));
    }
    for device in [
        "/etc/shadow",
        "/dev/sda",
        "/dev/mem",
        "/dev/video0/../sda",
        "video0",
        "../dev/video0",
        "/dev/v4l/../sda",
        "",
        "/dev/watchdog",
    ] {
        all.push(json!({ "cameras": [{ "id": "a", "device": device }] }));
    }
    let mut camera = |extra: Value| {
        let mut camera = json!({ "id": "a", "test": true });
        let map = camera.as_object_mut().unwrap();
        for (key, value) in extra.as_object().unwrap() {
            map.insert(key.clone(), value.clone());
        }
        all.push(json!({ "cameras": [camera] }));
    };
    for (key, values) in [
        (
            "fps",
            json!([0, -1, 121, 1e300, 9e15, 1.5, "15", null, [], {}, true]),
        ),
        ("width", json!([0, 63, 7681, 4294967296u64, -64, "1280"])),
        ("bitrate_kbps", json!([0, 50001, -1, 9007199254740991u64])),
        (
            "stall_timeout",
            json!([0, 1, 301, -5, "10", "1e400 s", "5 days", "", 1e308]),
        ),
        ("enabled", json!(["yes", 1, null])),
        ("name", json!(["", "x".repeat(65), 5, null])),
        (
            "recording",
            json!([
                [], "on", null, { "mode": "always" }, { "pre_roll": 61 }, { "post_roll": 0 }, { "max_event": 9 },
                { "segment": 1 }, { "audio": "no" }, { "mode": "motion", "exec": "rm" }, { "pre_roll": -1 },
            ]),
        ),
        (
            "motion",
            json!([
                { "sensitivity": 0 }, { "sensitivity": 11 }, { "sensitivity": 5.5 }, { "fps": 0 }, { "fps": 31 },
                { "enabled": false }, { "include": {} }, { "include": [[]] }, { "include": [{ "name": "x" }] },
                { "include": [{ "points": [[0, 0], [1, 1]] }] }, { "exclude": [{ "points": [[0, 0], [1, 0], [2, 2]] }] },
                { "exclude": [{ "points": [[0, 0], [1, 0], [0, null]] }] },
                { "include": vec![json!({ "points": [[0, 0], [1, 0], [1, 1]] }); 17] },
            ]),
        ),
        (
            "password",
            json!(["plain", { "$secret": "" }, { "$secret": 5 }, { "$secret": "x", "y": 1 }, null, []]),
        ),
        ("user", json!([{ "$secret": "x" }, 5])),
        ("file", json!(["/etc/passwd"])),
        ("ca_file", json!(["/etc/passwd"])),
        ("password_file", json!(["/etc/shadow"])),
        ("device", json!(["/dev/video0"])),
        ("pipeline", json!(["videotestsrc ! filesink location=/x"])),
        ("__proto__", json!([{}])),
        ("a/b~c.d[0]", json!([1])),
        (&*"k".repeat(10_000), json!([1])),
    ] {
        for value in values.as_array().unwrap() {
            camera(json!({ key: value }));
        }
    }
    let a = json!({ "id": "a", "test": true });
    all.extend([
        json!({ "cameras": null }),
        json!({ "cameras": {} }),
        json!({ "cameras": "a" }),
        json!({ "cameras": [null] }),
        json!({ "cameras": [[]] }),
        json!({ "cameras": [{}] }),
        json!({ "cameras": [{ "id": "nowhere" }] }),
        json!({ "cameras": [a, a] }),
        json!({ "cameras": (0..65).map(|i| json!({ "id": format!("c{i}"), "test": true })).collect::<Vec<_>>() }),
        json!({ "state_dir": "/" }),
        json!({ "spool": { "dir": "/etc" } }),
        json!({ "exec": ["sh", "-c", "reboot"] }),
        json!({ "": 1 }),
        json!({ "network": { "wifi": { "ssid": "x" } } }),
        json!({ "local_api": { "lan": true } }),
        json!({ "local_api": [] }),
        json!({ "cloud": { "credentials_file": "/etc/passwd" } }),
        json!({ "cloud": { "ca_file": "/tmp/ca.pem" } }),
        json!({ "cloud": { "api_base": "http://cloud.example" } }),
        json!({ "cloud": { "api_base": "https://u:p@cloud.example" } }),
        json!({ "cloud": { "heartbeat": 0 } }),
        json!({ "upload": { "hosts": ["*"] } }),
        json!({ "upload": { "hosts": ["169.254.169.254"] } }),
        json!({ "upload": { "hosts": ["2852039166"] } }),
        json!({ "upload": { "hosts": ["[::ffff:10.0.0.1]"] } }),
        json!({ "upload": { "hosts": "a.example" } }),
        json!({ "upload": { "hosts": vec!["a.example"; 65] } }),
        json!({ "upload": { "hosts": [], "redirect": true } }),
        json!({ "stream": { "hosts": ["a.example"], "ports": [0] } }),
        json!({ "stream": { "ports": [65536] } }),
        json!({ "stream": { "ports": ["443"] } }),
        json!({ "stream": { "hosts": ["user@a.example"] } }),
        json!({ "policies": [{}] }),
        json!({ "policies": [{ "id": "p", "modules": ["../x"] }] }),
        json!({ "policies": [{ "id": "p", "thresholds": { "motion": 2 } }] }),
        json!({ "policies": [{ "id": "p", "cameras": ["../a"] }] }),
        json!({ "policies": [{ "id": "p", "shell": "x" }] }),
        json!({ "policies": [{ "id": { "$secret": "x" } }] }),
        json!({ "recording": { "post_roll": -1 } }),
        json!({ "motion": { "sensitivity": 99 } }),
    ]);
    all
}

/// Claims that are no twin for this device at all.
fn claims() -> Vec<Vec<u8>> {
    let good = r#"{"iss":"sentrycam-cloud","aud":"e-test","iat":1795226400,"version":99,"doc":{}}"#;
    let mut all: Vec<Vec<u8>> = [
        ("e-test", "e-other"),
        ("\"e-test\"", "null"),
        ("sentrycam-cloud", "evil"),
        ("\"version\":99", "\"version\":0"),
        ("\"version\":99", "\"version\":-1"),
        ("\"version\":99", "\"version\":99.5"),
        ("\"version\":99", "\"version\":99999999999999999999999"),
        ("\"version\":99", "\"version\":\"99\""),
        ("\"version\":99", "\"version\":1,\"version\":99"),
        ("\"version\":99,", ""),
        ("{}", "null"),
        ("{}", "[]"),
        ("{}", "\"{}\""),
        ("{}", "{\"cameras\":[],\"cameras\":[]}"),
        ("{}", "{\"a\":NaN}"),
        ("{}", "{\"a\":1e999}"),
        ("1795226400", "\"\""),
        ("}", "}}"),
        ("{", ""),
    ]
    .map(|(from, to)| good.replace(from, to).into_bytes())
    .into();
    all.push(
        good.replace(
            "{}",
            &format!(
                "{{\"cameras\":{}{}}}",
                "[".repeat(10_000),
                "]".repeat(10_000)
            ),
        )
        .into(),
    );
    all.push(
        good.replace("{}", &format!("{{\"x\":\"{}\"}}", "y".repeat(300_000)))
            .into(),
    );
    all.push(
        good.replace("{}", &format!("{{\"x\":[{}1]}}", "1,".repeat(100_000)))
            .into(),
    );
    all.push(vec![0xff; 64]);
    all.push(Vec::new());
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_twins_are_refused_with_a_code_and_change_nothing() {
    let (documents, claims) = (documents(), claims());
    assert!(documents.len() + claims.len() >= 150, "{}", documents.len());
    let mut bench = Bench::new();
    bench.start().await;
    bench.wait_for(&["a", "b", "c"]).await;
    let (sessions, before) = (bench.sessions(), bench.status().cameras);
    for claims in claims {
        let refused = bench.offer_raw(claims.clone()).await;
        let shown = String::from_utf8_lossy(&claims[..claims.len().min(120)]).into_owned();
        assert!(
            matches!(refused, Err(OfferError::Refused(_))),
            "{refused:?}: {shown}"
        );
        assert_eq!(bench.report()["desired"], 0);
    }
    let (count, mut unread) = (documents.len() as u64, 0);
    for (i, doc) in documents.into_iter().enumerate() {
        let shown = doc.to_string().chars().take(200).collect::<String>();
        let reasons = match bench.offer(i as u64 + 1, doc).await {
            Ok(Verdict::Rejected(reasons)) => reasons,
            // A number that loses digits: not even read.
            Err(OfferError::Refused(_)) => {
                unread += 1;
                continue;
            }
            other => panic!("{other:?}: {shown}"),
        };
        assert!((1..=32).contains(&reasons.len()), "{shown}: {reasons:?}");
        for reason in &reasons {
            assert!(
                !reason.code.is_empty() && reason.path.starts_with('/'),
                "{shown}: {reasons:?}"
            );
            assert!(reason.path.chars().count() <= 160, "{}", reason.path.len());
        }
    }
    let report = bench.report();
    assert_eq!(
        (&report["applied"], &report["desired"]),
        (&json!(0), &json!(count))
    );
    assert_eq!(bench.sessions(), sessions, "no session was touched");
    assert!(bench.status().cameras.keys().eq(before.keys()));
    assert_eq!(bench.told("twin.reported").len() as u64, count - unread);
    // The device is not stuck: a good one is taken.
    let good = bench
        .offer(count + 1, json!({ "cameras": [{ "id": "a" }] }))
        .await;
    assert_eq!(good.unwrap(), Verdict::Accepted);
    bench.wait_for(&["a"]).await;
    bench.stop().await;
}
