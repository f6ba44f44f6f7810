//! Section 3.2, rule by rule, each request also breaking a later rule: the first failure answers.

use crate::device::{Device, Wrong};
use sentrycam_cloud::testing::Cloud;
use serde_json::json;

async fn setup() -> (Cloud, Device) {
    let cloud = Cloud::start().await.unwrap();
    let device = Device::new(&cloud, "porch").await;
    (cloud, device)
}

#[tokio::test]
async fn a_right_request_is_answered_with_a_signature() {
    let (_cloud, device) = setup().await;
    for target in [
        "/edge/v1/time",
        "/edge/v1/commands",
        "/edge/v1/commands?after=7&limit=16",
    ] {
        let answer = device.get(target).await;
        assert_eq!(answer.status, 200, "{target}");
        assert!(answer.is_signed(&device.credentials), "{target}");
    }
    assert_eq!(
        device.get("/edge/v1/commands").await.json(),
        json!({ "commands": [] })
    );
    let now: jiff::Timestamp = device.get("/edge/v1/time").await.json()["now"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!(jiff::Timestamp::now().duration_since(now).abs().as_secs() < 5);
    assert_eq!(device.get("/edge/v1/twin").await.code(), "not-found");
    let batch = device.events(&[]).await;
    assert!(batch.is_signed(&device.credentials));
    assert_eq!(batch.header("accept-encoding"), "gzip");
}

#[tokio::test]
async fn an_answer_is_bound_to_its_request() {
    let (_cloud, device) = setup().await;
    let first = device.get("/edge/v1/time").await;
    let mut second = device.get("/edge/v1/time").await;
    assert!(second.is_signed(&device.credentials));
    second.headers = first.headers.clone();
    second.body = first.body.clone();
    assert!(
        !second.is_signed(&device.credentials),
        "an old answer passed for a new one"
    );
}

#[tokio::test]
async fn each_rule_answers_before_the_next() {
    let (_cloud, device) = setup().await;
    let old = jiff::Timestamp::now().as_second() - 400;
    let right = || device.batch(&[]);
    let unsigned_key = || Some("k".to_owned());
    let wrong_digest = || Some("sha-256=:AAAA:".to_owned());
    let unknown = || "ek_nobody".to_owned();
    let cases: Vec<(&str, Wrong, u16, &str)> = vec![
        (
            "label",
            Wrong {
                label: "sig2",
                leave_out: Some("@path"),
                ..right()
            },
            401,
            "invalid-signature",
        ),
        (
            "tag",
            Wrong {
                tag: "sentrycam-resp",
                keyid: unknown(),
                ..right()
            },
            401,
            "invalid-signature",
        ),
        (
            "alg",
            Wrong {
                alg: "ed25519",
                leave_out: Some("@path"),
                ..right()
            },
            401,
            "invalid-signature",
        ),
        (
            "method",
            Wrong {
                leave_out: Some("@method"),
                keyid: unknown(),
                ..right()
            },
            401,
            "missing-component",
        ),
        (
            "authority",
            Wrong {
                leave_out: Some("@authority"),
                ..right()
            },
            401,
            "missing-component",
        ),
        (
            "path",
            Wrong {
                leave_out: Some("@path"),
                ..right()
            },
            401,
            "missing-component",
        ),
        (
            "query",
            Wrong {
                leave_out: Some("@query"),
                ..right()
            },
            401,
            "missing-component",
        ),
        (
            "type",
            Wrong {
                leave_out: Some("content-type"),
                ..right()
            },
            401,
            "missing-component",
        ),
        (
            "digest",
            Wrong {
                leave_out: Some("content-digest"),
                ..right()
            },
            401,
            "missing-component",
        ),
        (
            "encoding",
            Wrong {
                gzip: true,
                leave_out: Some("content-encoding"),
                ..right()
            },
            401,
            "missing-component",
        ),
        (
            "idempotency",
            Wrong {
                idempotency_key: unsigned_key(),
                leave_out: Some("idempotency-key"),
                ..right()
            },
            401,
            "missing-component",
        ),
        (
            "key",
            Wrong {
                keyid: unknown(),
                created: old,
                ..right()
            },
            401,
            "unknown-key",
        ),
        (
            "clock",
            Wrong {
                created: old,
                secret: vec![1; 32],
                ..right()
            },
            401,
            "clock-skew",
        ),
        (
            "future",
            Wrong {
                created: old + 800,
                secret: vec![1; 32],
                ..right()
            },
            401,
            "clock-skew",
        ),
        (
            "mac",
            Wrong {
                secret: vec![1; 32],
                digest: wrong_digest(),
                ..right()
            },
            401,
            "invalid-signature",
        ),
        (
            "host",
            Wrong {
                authority: "api.example.com".into(),
                ..right()
            },
            401,
            "invalid-signature",
        ),
        (
            "body",
            Wrong {
                digest: wrong_digest(),
                ..right()
            },
            400,
            "digest-mismatch",
        ),
    ];
    for (name, wrong, status, code) in cases {
        let answer = device.send(wrong).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (status, code),
            "{name}"
        );
        assert!(!answer.header("date").is_empty(), "{name}");
        assert!(!answer.is_signed(&device.credentials), "{name}");
    }
    let mut unsigned = right();
    unsigned.label = "other";
    assert_eq!(device.send(unsigned).await.code(), "invalid-signature");
}

#[tokio::test]
async fn a_nonce_works_once_and_only_after_the_mac_was_right() {
    let (cloud, device) = setup().await;
    let request = device.request("GET", "/edge/v1/time", Vec::new());
    let forged = Wrong {
        secret: vec![1; 32],
        ..request.clone()
    };
    assert_eq!(device.send(forged).await.code(), "invalid-signature");
    assert_eq!(
        cloud
            .query("select * from edge_nonces")
            .await
            .unwrap()
            .len(),
        0
    );
    assert_eq!(device.send(request.clone()).await.status, 200);
    let replayed = Wrong {
        digest: Some("sha-256=:AAAA:".into()),
        ..request.clone()
    };
    assert_eq!(device.send(replayed).await.code(), "replayed-nonce");
    // Another device may use the same nonce.
    let other = Device::new(&cloud, "door").await;
    let same = Wrong {
        nonce: request.nonce.clone(),
        ..other.request("GET", "/edge/v1/time", vec![])
    };
    assert_eq!(other.send(same).await.status, 200);

    cloud
        .execute("update edge_nonces set seen_at = now() - interval '661 seconds'")
        .await
        .unwrap();
    let owner = cloud.owner();
    let sweep = async move { sentrycam_cloud::edge::verify::sweep_nonces(&owner).await };
    assert_eq!(cloud.on_cloud(sweep).await.unwrap().unwrap(), 2);
}

#[tokio::test]
async fn a_revoked_key_is_like_an_unknown_one() {
    let (cloud, device) = setup().await;
    cloud.revoke(&device.credentials.edge_id).await.unwrap();
    let revoked = device.get("/edge/v1/time").await;
    let unknown = Wrong {
        keyid: "ek_nobody".into(),
        ..device.request("GET", "/edge/v1/time", vec![])
    };
    let unknown = device.send(unknown).await;
    assert_eq!(
        (revoked.status, revoked.code().as_str()),
        (401, "unknown-key")
    );
    assert_eq!(revoked.body, unknown.body);
    assert!(cloud.revoke("e-nobody").await.is_err());
}

#[tokio::test]
async fn a_retired_key_is_good_for_a_day() {
    let (cloud, device) = setup().await;
    let retire = |age: &str| {
        format!(
            "update edge_credentials set state = 'retired', retired_at = now() - interval '{age}'"
        )
    };
    cloud.execute(&retire("23 hours")).await.unwrap();
    assert_eq!(device.get("/edge/v1/time").await.status, 200);
    cloud.execute(&retire("25 hours")).await.unwrap();
    assert_eq!(device.get("/edge/v1/time").await.code(), "unknown-key");
}

#[tokio::test]
async fn a_suspended_tenant_gets_403_and_an_unclaimed_device_a_signed_410() {
    let (cloud, device) = setup().await;
    cloud.suspend(true).await.unwrap();
    let answer = device.events(&[]).await;
    assert_eq!((answer.status, answer.code().as_str()), (403, "suspended"));
    cloud.suspend(false).await.unwrap();
    assert_eq!(device.events(&[]).await.status, 200);
    cloud.unclaim(&device.credentials.edge_id).await.unwrap();
    let answer = device.events(&[]).await;
    assert_eq!((answer.status, answer.code().as_str()), (410, "unclaimed"));
    assert!(answer.is_signed(&device.credentials));
    // Someone without the secret learns nothing of it.
    let forged = Wrong {
        secret: vec![1; 32],
        ..device.batch(&[])
    };
    assert_eq!(device.send(forged).await.code(), "invalid-signature");
}

#[tokio::test]
async fn a_skewed_cloud_says_so_in_its_date() {
    let (cloud, device) = setup().await;
    cloud.clock().set_skew(600);
    let answer = device.get("/edge/v1/commands").await;
    assert_eq!(answer.code(), "clock-skew");
    let there = Wrong {
        created: jiff::Timestamp::now().as_second() + 600,
        ..device.request("GET", "/edge/v1/commands", vec![])
    };
    let answer = device.send(there).await;
    assert_eq!(answer.status, 200);
    assert!(answer.is_signed(&device.credentials));
}

/// Whoever has the key may ask for the time with any clock; nobody else may, and a nonce still works once.
#[tokio::test]
async fn the_time_is_told_to_a_device_whose_clock_is_wrong() {
    let (_cloud, device) = setup().await;
    for created in [0, jiff::Timestamp::now().as_second() - 400, 4_102_444_800] {
        let wrong_clock = Wrong {
            created,
            ..device.request("GET", "/edge/v1/time", vec![])
        };
        let answer = device.send(wrong_clock.clone()).await;
        assert_eq!(answer.status, 200, "{created}");
        assert!(answer.is_signed(&device.credentials), "{created}");
        let forged = Wrong {
            secret: vec![1; 32],
            ..wrong_clock.clone()
        };
        assert_eq!(device.send(forged).await.code(), "invalid-signature");
        assert_eq!(device.send(wrong_clock).await.code(), "replayed-nonce");
    }
}

#[tokio::test]
async fn what_nobody_serves_is_a_problem_too() {
    let (_cloud, device) = setup().await;
    let answer = device.get("/edge/v1/nothing").await;
    assert_eq!((answer.status, answer.code().as_str()), (404, "not-found"));
    let answer = device.request("DELETE", "/edge/v1/events", vec![]);
    assert_eq!(device.send(answer).await.status, 405);
}
