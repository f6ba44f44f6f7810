use proptest::prelude::*;
use serde_json::json;

use super::*;

fn answer<'a>(status: u16, code: &'a str, body: &'a [u8]) -> Answer<'a> {
    Answer {
        status,
        code,
        authentic: true,
        retry_after: None,
        body,
    }
}

fn part(n: u32, offset: u64, size: u64) -> Value {
    json!({ "n": n, "offset": offset, "size": size, "method": "PUT", "url": "https://s3.example.com/b/k",
            "headers": {} })
}

fn reply(parts: &[Value]) -> Value {
    json!({ "upload_id": Uuid::nil(), "status": "uploading", "multipart": true, "more_parts": 0, "parts": parts,
            "complete_url": "https://evil.example/", "expires": "2026-11-21T03:00:00Z" })
}

fn read(value: &Value) -> Next {
    after_begin(&answer(200, "", value.to_string().as_bytes()), 100)
}

#[test]
fn parts_are_taken_as_they_are_and_the_path_of_completion_is_our_own() {
    let Next::Send(begun) = read(&reply(&[part(2, 40, 40), part(3, 80, 20)])) else {
        panic!("not understood");
    };
    assert_eq!(
        begun
            .parts
            .iter()
            .map(|p| (p.n, p.offset, p.size))
            .collect::<Vec<_>>(),
        [(2, 40, 40), (3, 80, 20)]
    );
    assert_eq!(
        complete_path(begun.upload_id),
        "/edge/v1/uploads/00000000-0000-0000-0000-000000000000/complete"
    );
    assert!(matches!(read(&reply(&[])), Next::Send(b) if b.parts.is_empty()));
    let done = json!({ "upload_id": Uuid::nil(), "status": "available" });
    assert_eq!(read(&done), Next::Available);
}

#[test]
fn what_does_not_fit_the_file_or_smuggles_is_no_answer() {
    let mut bad = vec![
        reply(&[part(1, 0, 101)]),
        reply(&[part(1, u64::MAX, 2)]),
        reply(&[part(0, 0, 10)]),
        reply(&[part(1, 0, 0)]),
        reply(&[part(1, 0, 50), part(1, 50, 50)]),
        reply(&[part(2, 50, 50), part(1, 0, 50)]),
        reply(&[part(1, 0, 50), part(2, 40, 50)]),
        reply(&[part(10_001, 0, 50)]),
        reply(&vec![part(1, 0, 1); 65]),
        json!([]),
        json!({ "upload_id": "x", "status": "uploading" }),
        json!({ "upload_id": Uuid::nil(), "status": "paused" }),
    ];
    for (key, value) in [
        ("method", json!("DELETE")),
        ("url", json!("x".repeat(5000))),
        ("headers", json!({ "host": "evil" })),
        ("headers", json!({ "authorization": "x" })),
        ("headers", json!({ "content-length": "5" })),
        ("headers", json!({ "transfer-encoding": "chunked" })),
        ("headers", json!({ "x-amz-a\r\nhost": "x" })),
        ("headers", json!({ "x-amz-a": "b\r\nhost: evil" })),
        ("headers", json!({ "x-amz-a": 5 })),
        ("headers", json!({ "x-amz-": "b" })),
    ] {
        let mut one = part(1, 0, 50);
        one[key] = value;
        bad.push(reply(&[one]));
    }
    let mut plain = reply(&[part(1, 0, 50)]);
    plain["multipart"] = json!(false);
    bad.push(plain);
    for value in bad {
        assert_eq!(read(&value), Next::Later(None), "{value}");
    }
    let unsigned = Answer {
        authentic: false,
        ..answer(200, "", b"{}")
    };
    assert_eq!(after_begin(&unsigned, 100), Next::Later(None));
    assert_eq!(after_complete(&unsigned, 100, ""), Next::Later(None));
}

#[test]
fn the_table_of_the_contract() {
    let begin = |status, code| after_begin(&answer(status, code, b""), 1);
    assert_eq!(begin(400, "malformed"), Next::Never("malformed"));
    assert_eq!(begin(413, "too-large"), Next::Never("too-large"));
    assert_eq!(begin(404, "no-storage"), Next::Pause(HOUR, "no-storage"));
    assert_eq!(begin(409, "conflict"), Next::Never("conflict"));
    assert_eq!(begin(409, "upload-failed"), Next::Never("upload-failed"));
    assert_eq!(begin(409, "in-progress"), Next::Soon(AGAIN));
    assert_eq!(begin(400, "of-a-proxy"), Next::Later(None));
    assert_eq!(begin(302, ""), Next::Later(None));
    let later = Answer {
        retry_after: Some(MINUTE),
        ..answer(503, "unavailable", b"")
    };
    assert_eq!(after_begin(&later, 1), Next::Later(Some(MINUTE)));
    let complete =
        |status, code, body: &str| after_complete(&answer(status, code, body.as_bytes()), 5, "ab");
    let good = r#"{"upload_id":"x","status":"available","size":5,"sha256":"ab"}"#;
    assert_eq!(complete(200, "", good), Next::Available);
    assert_eq!(
        complete(200, "", &good.replace(":5,", ":6,")),
        Next::Mismatch
    );
    assert_eq!(complete(202, "", ""), Next::Soon(AGAIN));
    assert_eq!(complete(409, "incomplete", ""), Next::Renew);
    assert_eq!(complete(409, "mismatch", ""), Next::Mismatch);
    assert_eq!(complete(404, "unknown-upload", ""), Next::Renew);
    assert_eq!(complete(500, "", ""), Next::Later(None));
    let puts = [
        (200, Put::Next),
        (204, Put::Next),
        (403, Put::Expired),
        (404, Put::Forgotten),
        (400, Put::Complete),
        (412, Put::Complete),
        (500, Put::Again),
        (503, Put::Again),
        (301, Put::Again),
        (307, Put::Again),
    ];
    for (status, then) in puts {
        assert_eq!(after_put(status), then, "{status}");
    }
    assert_eq!(etag("\"ab\"").as_deref(), Some("\"ab\""));
    assert!(etag("").is_none() && etag("a\nb").is_none() && etag(&"x".repeat(129)).is_none());
}

proptest! {
    #[test]
    fn no_bytes_panic_and_every_range_lies_in_the_file(body in prop::collection::vec(any::<u8>(), 0..200),
                                                      parts in prop::collection::vec((0u32..5, 0u64..200, 0u64..200), 0..6)) {
        let _ = after_begin(&answer(200, "", &body), 100);
        let _ = after_complete(&answer(200, "", &body), 100, "");
        let parts: Vec<Value> = parts.iter().map(|(n, o, s)| part(*n, *o, *s)).collect();
        if let Next::Send(begun) = read(&reply(&parts)) {
            let mut end = 0;
            for p in begun.parts {
                prop_assert!(p.offset >= end && p.offset + p.size <= 100);
                end = p.offset + p.size;
            }
        }
    }
}
