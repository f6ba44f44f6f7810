//! Each fault does what it says, and what it says about commits is true of the database.

use std::time::Duration;

use crate::device::{Device, client};
use sentrycam_cloud::faults::{Rule, What};
use sentrycam_cloud::testing::{Cloud, Cluster};
use serde_json::{Value, json};

const EVENTS: &str = "/edge/v1/events";

async fn setup() -> (Cloud, Device) {
    let cloud = Cloud::start().await.unwrap();
    let device = Device::new(&cloud, "porch").await;
    (cloud, device)
}

async fn stored(cloud: &Cloud) -> usize {
    cloud
        .query("select id from edge_records")
        .await
        .unwrap()
        .len()
}

fn records(device: &Device) -> Vec<Value> {
    (1..=3)
        .map(|n| device.record("agent.heartbeat", n, json!({})))
        .collect()
}

#[tokio::test]
async fn faults_before_processing_store_nothing() {
    let (cloud, device) = setup().await;
    let batch = records(&device);
    let once = |what: What| cloud.faults().set(vec![Rule::times(EVENTS, what, 1)]);

    once(What::Fail {
        status: 429,
        code: None,
        retry_after: Some("7".into()),
    });
    let answer = device.events(&batch).await;
    assert_eq!((answer.status, answer.header("retry-after")), (429, "7"));
    assert_eq!(answer.code(), "too-many-requests");
    once(What::fail(426));
    assert_eq!(device.events(&batch).await.code(), "agent-too-old");
    once(What::Fail {
        status: 401,
        code: Some("clock-skew".into()),
        retry_after: None,
    });
    assert_eq!(device.events(&batch).await.code(), "clock-skew");
    once(What::CutBefore);
    assert!(device.try_send(device.batch(&batch)).await.is_err());
    once(What::Hang { seconds: 0.05 });
    assert!(device.try_send(device.batch(&batch)).await.is_err());
    once(What::Garbage200);
    let answer = device.events(&batch).await;
    assert!(answer.status == 200 && serde_json::from_slice::<Value>(&answer.body).is_err());
    once(What::Html200);
    assert_eq!(
        device.events(&batch).await.header("content-type"),
        "text/html"
    );
    once(What::Html502);
    assert_eq!(device.events(&batch).await.status, 502);
    once(What::Unsigned410);
    let answer = device.events(&batch).await;
    assert_eq!(
        (
            answer.code().as_str(),
            answer.is_signed(&device.credentials)
        ),
        ("unclaimed", false)
    );
    once(What::EmptyResults);
    let answer = device.events(&batch).await;
    assert!(answer.statuses().is_empty() && answer.is_signed(&device.credentials));
    once(What::RetryAll);
    assert_eq!(device.events(&batch).await.statuses(), ["retry"; 3]);
    once(What::Skew { seconds: 600 });
    assert_eq!(device.events(&batch).await.code(), "clock-skew");

    assert_eq!(stored(&cloud).await, 0);
    assert_eq!(cloud.faults().hits(), [1]);
    assert_eq!(device.events(&batch).await.statuses(), ["accepted"; 3]);
}

#[tokio::test]
async fn faults_after_the_commit_lose_only_the_answer() {
    let (cloud, device) = setup().await;
    for (what, n) in [(What::CutAfterCommit, 3), (What::Truncated200, 6)] {
        cloud.faults().set(vec![Rule::times(EVENTS, what, 1)]);
        let batch = records(&device);
        assert!(device.try_send(device.batch(&batch)).await.is_err());
        assert_eq!(stored(&cloud).await, n);
        assert_eq!(device.events(&batch).await.statuses(), ["duplicate"; 3]);
    }
    let last = cloud.faults().seen().pop().unwrap();
    assert_eq!((last.status, last.fault), (Some(200), None));
}

#[tokio::test]
async fn duplicates_and_reordering_are_answers_too() {
    let (cloud, device) = setup().await;
    let rules = [
        What::Duplicate,
        What::Reorder,
        What::UnsignedAnswer,
        What::Delay { seconds: 0.01 },
    ];
    cloud
        .faults()
        .set(rules.map(|what| Rule::times(EVENTS, what, 1)).into());
    assert_eq!(
        device.events(&records(&device)).await.statuses(),
        ["duplicate"; 3]
    );
    let batch = records(&device);
    let answer = device.events(&batch).await.json();
    let ids: Vec<&Value> = answer["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| &r["id"])
        .collect();
    assert_eq!(ids, [&batch[2]["id"], &batch[1]["id"], &batch[0]["id"]]);
    assert!(!device.events(&[]).await.is_signed(&device.credentials));
    assert!(device.events(&[]).await.is_signed(&device.credentials));
    assert_eq!(stored(&cloud).await, 6);
    assert_eq!(cloud.faults().count(EVENTS), 4);
    let second = Duration::from_secs(1);
    cloud
        .wait_for("(select count(*) from edge_records) = 6", second)
        .await
        .unwrap();
    let never = cloud
        .wait_for("(select count(*) from edge_records) = 7", second / 10)
        .await;
    assert!(never.unwrap_err().to_string().contains("= 7"));
}

#[tokio::test]
async fn rules_are_set_over_http() {
    let (cloud, device) = setup().await;
    let http = client(&cloud);
    let url = format!("{}/faults", cloud.api_base());
    let rules = r#"[{"path": "/edge/v1/time", "what": "fail", "status": 503, "times": 1}]"#;
    assert_eq!(
        http.put(&url).body(rules).send().await.unwrap().status(),
        204
    );
    assert_eq!(
        http.put(&url).body("[{}]").send().await.unwrap().status(),
        400
    );
    assert_eq!(device.events(&[]).await.status, 200);
    assert_eq!(device.get("/edge/v1/time").await.status, 503);
    assert_eq!(device.get("/edge/v1/time").await.status, 200);
    let shown = http.get(&url).send().await.unwrap().bytes().await.unwrap();
    let shown: Value = serde_json::from_slice(&shown).unwrap();
    assert_eq!(
        (&shown["rules"][0]["hits"], &shown["requests"]),
        (&json!(1), &json!(3))
    );
    assert_eq!(http.delete(&url).send().await.unwrap().status(), 204);
    assert_eq!(cloud.faults().hits(), Vec::<u64>::new());
}

#[tokio::test]
async fn a_server_that_was_killed_comes_back_on_its_port() {
    let (mut cloud, device) = setup().await;
    let batch = records(&device);
    assert_eq!(device.events(&batch).await.status, 200);
    let before = cloud.address();
    cloud.kill().await.unwrap();
    assert!(device.try_send(device.batch(&batch)).await.is_err());
    cloud.start_again().await.unwrap();
    assert_eq!(cloud.address(), before);
    assert_eq!(device.events(&batch).await.statuses(), ["duplicate"; 3]);
    cloud.stop().await.unwrap();
    assert!(device.try_send(device.batch(&batch)).await.is_err());
}

/// What was answered `accepted` is there after a crash of the database.
#[tokio::test]
async fn accepted_records_survive_a_crash_of_postgresql() {
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::start().unwrap()));
    let cloud = Cloud::builder().cluster(cluster).start().await.unwrap();
    let device = Device::new(&cloud, "porch").await;
    assert_eq!(
        device.events(&records(&device)).await.statuses(),
        ["accepted"; 3]
    );
    tokio::task::spawn_blocking(|| cluster.crash())
        .await
        .unwrap()
        .unwrap();
    let answer = device.events(&records(&device)).await;
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (503, "unavailable")
    );
    tokio::task::spawn_blocking(|| cluster.recover())
        .await
        .unwrap()
        .unwrap();
    let mut tries = 0;
    while device.events(&[]).await.status != 200 {
        tries += 1;
        assert!(tries < 100, "the cloud did not come back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(stored(&cloud).await, 3);
}
