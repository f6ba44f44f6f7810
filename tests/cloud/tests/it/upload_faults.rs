//! Uploads through storages and networks that misbehave: every object is its file, or it is not available.

use std::time::Duration;

use crate::device::client;
use crate::uploads::{MIB, START, bytes, put, recording, row, start, stored, upload};
use sentrycam_cloud::faults::storage::What as Storage;
use sentrycam_cloud::faults::{Rule, What};
use serde_json::json;
use uuid::Uuid;

#[tokio::test]
async fn a_cut_connection_costs_one_part_at_most() {
    let (cloud, device) = start().await;
    let faults = cloud.objects().unwrap().faults();
    let file = bytes(11 * MIB);
    let wanted = recording(Uuid::now_v7(), &file);
    let plan = device.plan(&wanted).await;
    let mut sent = 0;
    for (part, cut_at) in [(0, 1), (0, 3 * MIB), (1, 5 * MIB - 1), (2, MIB)] {
        faults.set(vec![Rule::times(
            "PUT /",
            Storage::CutAt {
                bytes: cut_at as u64,
            },
            1,
        )]);
        let part = &plan["parts"][part];
        assert!(put(&client(&cloud), part, &file).await.is_err());
        sent += part["size"].as_u64().unwrap();
    }
    // Stored, but the answer is lost: asked again, the cloud knows.
    faults.set(vec![Rule::times("PUT /", Storage::CutAnswer, 1)]);
    assert!(
        put(&client(&cloud), &plan["parts"][0], &file)
            .await
            .is_err()
    );
    let rest = device.plan(&wanted).await;
    assert_eq!(rest["parts"].as_array().unwrap().len(), 2);
    assert_eq!(upload(&cloud, &device, &wanted, &file).await.status, 200);
    assert!(faults.put_bytes() <= sent + file.len() as u64);
    let uploads = cloud.query("select object_key from uploads").await.unwrap();
    assert_eq!(stored(&cloud, &uploads[0]["object_key"]).unwrap(), file);
}

#[tokio::test]
async fn a_slow_storage_is_slow_and_a_black_hole_says_nothing() {
    let (cloud, device) = start().await;
    let faults = cloud.objects().unwrap().faults();
    // The cloud's own, which made the bucket.
    faults.forget();
    let file = bytes(MIB);
    let wanted = recording(Uuid::now_v7(), &file);
    let plan = device.plan(&wanted).await;
    let what = Storage::BlackHole { seconds: 0.2 };
    faults.set(vec![Rule::times("PUT /", what, 1)]);
    let part = &plan["parts"][0];
    assert!(put(&client(&cloud), part, &file).await.is_err());
    assert_eq!(faults.put_bytes(), 0);
    let rate = 4 * MIB as u64;
    faults.set(vec![Rule::times("PUT /", Storage::Slow { rate }, 1)]);
    let began = std::time::Instant::now();
    assert_eq!(put(&client(&cloud), part, &file).await.unwrap().0, 200);
    assert!(began.elapsed() >= Duration::from_millis(200));
    faults.set(vec![Rule::times("PUT /", Storage::Expired, 1)]);
    assert_eq!(put(&client(&cloud), part, &file).await.unwrap().0, 403);
    assert_eq!(device.complete(&plan, &json!([])).await.status, 200);
    assert_eq!(faults.hits(), [1]);
    let puts = faults.seen();
    let puts: Vec<_> = puts.iter().filter(|seen| seen.method == "PUT").collect();
    let statuses: Vec<_> = puts.iter().map(|seen| seen.status).collect();
    assert_eq!(statuses, [None, Some(200), Some(403)]);
}

#[tokio::test]
async fn other_bytes_are_never_available() {
    let (cloud, device) = start().await;
    let faults = cloud.objects().unwrap().faults();
    let (id, file) = (Uuid::now_v7(), bytes(9 * MIB));
    let closed = json!({ "recording_id": id, "camera_id": "cam-1", "started_at": START, "rev": 2 });
    device
        .events(&[device.record("recording.closed", 1, closed)])
        .await
        .statuses();
    let wanted = recording(id, &file);
    for _ in 0..5 {
        faults.set(vec![Rule::times("PUT /", Storage::Corrupt, 1)]);
        let refused = upload(&cloud, &device, &wanted, &file).await;
        assert_eq!((refused.status, refused.code()), (409, "mismatch".into()));
        let found = row(&cloud, id).await;
        assert_eq!(found["status"], "failed");
        assert!(
            found["error"]
                .as_str()
                .unwrap()
                .starts_with("the object's SHA-256 is ")
        );
        assert_eq!(stored(&cloud, &found["object_key"]), None);
    }
    let refused = device.post("/edge/v1/uploads", &wanted).await;
    assert_eq!(
        (refused.status, refused.code()),
        (409, "upload-failed".into())
    );

    // A small file's hash is in the signature: the storage itself refuses.
    let small = bytes(1000);
    let wanted = recording(Uuid::now_v7(), &small);
    let plan = device.plan(&wanted).await;
    let (status, _) = put(
        &client(&cloud),
        &plan["parts"][0],
        &bytes(1000)[..].iter().map(|b| !b).collect::<Vec<_>>(),
    )
    .await
    .unwrap();
    assert_eq!(status, 400);
    assert_eq!(device.complete(&plan, &json!([])).await.status, 409);
    assert_eq!(upload(&cloud, &device, &wanted, &small).await.status, 200);
}

#[tokio::test]
async fn an_address_whose_time_is_over_is_renewed() {
    let (cloud, device) = start().await;
    let file = bytes(1000);
    let wanted = recording(Uuid::now_v7(), &file);
    // Signed two hours ago.
    let ago = What::Skew { seconds: -7200 };
    cloud
        .faults()
        .set(vec![Rule::times("/edge/v1/uploads", ago, 1)]);
    let mut request = device.request("POST", "/edge/v1/uploads", wanted.to_string().into_bytes());
    request.content_type = "application/json";
    request.created -= 7200;
    let plan = device.send(request).await.json();
    assert_eq!(
        put(&client(&cloud), &plan["parts"][0], &file)
            .await
            .unwrap()
            .0,
        403
    );
    assert_eq!(upload(&cloud, &device, &wanted, &file).await.status, 200);
    // Nor does anybody's own address work.
    let mut forged = device.plan(&recording(Uuid::now_v7(), &file)).await["parts"][0].clone();
    forged["url"] = json!(
        forged["url"]
            .as_str()
            .unwrap()
            .replace("recordings/", "recordings/x")
    );
    assert_eq!(put(&client(&cloud), &forged, &file).await.unwrap().0, 403);
}

#[tokio::test]
async fn a_storage_that_forgets_is_asked_first() {
    let (cloud, device) = start().await;
    let faults = cloud.objects().unwrap().faults();
    let file = bytes(9 * MIB);
    let wanted = recording(Uuid::now_v7(), &file);
    faults.set(vec![Rule {
        after: 1,
        ..Rule::times("PUT /", Storage::Forget, 1)
    }]);
    let incomplete = upload(&cloud, &device, &wanted, &file).await;
    assert_eq!(
        (incomplete.status, incomplete.code()),
        (409, "incomplete".into())
    );
    assert_eq!(incomplete.json()["missing"], json!([2]));
    assert_eq!(upload(&cloud, &device, &wanted, &file).await.status, 200);

    // A storage that is ill is nobody's fault.
    let wanted = recording(Uuid::now_v7(), &file);
    faults.set(vec![Rule::times(
        "POST /",
        Storage::Fail { status: 503 },
        1,
    )]);
    let ill = device.post("/edge/v1/uploads", &wanted).await;
    assert_eq!((ill.status, ill.code()), (503, "unavailable".into()));
    assert_eq!(ill.header("retry-after"), "5");
    let plan = device.plan(&wanted).await;
    for part in plan["parts"].as_array().unwrap() {
        put(&client(&cloud), part, &file).await.unwrap();
    }
    faults.set(vec![Rule::times(
        "POST /",
        Storage::Fail { status: 500 },
        1,
    )]);
    // What the storage has then is uncertain: the parts are asked for anew, all of them.
    let unsure = device.complete(&plan, &json!([])).await;
    assert_eq!((unsure.status, unsure.code()), (409, "incomplete".into()));
    assert_eq!(upload(&cloud, &device, &wanted, &file).await.status, 200);
    // Or it completes, and the answer is lost.
    let wanted = recording(Uuid::now_v7(), &file);
    let plan = device.plan(&wanted).await;
    for part in plan["parts"].as_array().unwrap() {
        put(&client(&cloud), part, &file).await.unwrap();
    }
    faults.set(vec![Rule::times("POST /", Storage::CutAnswer, 1)]);
    assert_eq!(device.complete(&plan, &json!([])).await.status, 503);
    assert_eq!(device.complete(&plan, &json!([])).await.status, 200);
}
