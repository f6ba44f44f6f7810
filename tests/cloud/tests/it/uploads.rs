//! Uploads: real bytes into a real S3 server, and a cloud that believes none of them unread.

use std::time::Duration;

use crate::device::{Answer, Device, client};
use ring::digest;
use sentrycam_cloud::testing::Cloud;
use serde_json::{Value, json};
use uuid::Uuid;

const SOON: Duration = Duration::from_secs(40);
pub const MIB: usize = 1024 * 1024;
pub const START: &str = "2026-11-21T02:00:00Z";

/// Bytes that repeat nowhere.
pub fn bytes(size: usize) -> Vec<u8> {
    let mut state = size as u64 | 1;
    let mut bytes = vec![0; size];
    for chunk in bytes.chunks_mut(8) {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        chunk.copy_from_slice(&state.to_le_bytes()[..chunk.len()]);
    }
    bytes
}

pub fn sha256(bytes: &[u8]) -> String {
    let digest = digest::digest(&digest::SHA256, bytes);
    digest.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

pub fn recording(id: Uuid, file: &[u8]) -> Value {
    json!({ "recording_id": id, "size": file.len(), "sha256": sha256(file), "content_type": "video/mp4" })
}

impl Device {
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        let mut request = self.request("POST", path, body.to_string().into_bytes());
        request.content_type = "application/json";
        self.send(request).await
    }

    /// What is still to be sent.
    pub async fn plan(&self, wanted: &Value) -> Value {
        let answer = self.post("/edge/v1/uploads", wanted).await;
        assert_eq!(
            answer.status,
            200,
            "{}",
            String::from_utf8_lossy(&answer.body)
        );
        assert!(answer.is_signed(&self.credentials));
        answer.json()
    }

    pub async fn complete(&self, plan: &Value, tags: &Value) -> Answer {
        let url = plan["complete_url"].as_str().unwrap();
        self.post(url, &json!({ "parts": tags })).await
    }
}

/// Puts one part of a plan; the status and the entity tag.
pub async fn put(
    http: &reqwest::Client,
    part: &Value,
    file: &[u8],
) -> reqwest::Result<(u16, String)> {
    let number = |name: &str| usize::try_from(part[name].as_u64().unwrap()).unwrap();
    let range = number("offset")..number("offset") + number("size");
    let mut request = http
        .put(part["url"].as_str().unwrap())
        .body(file[range].to_vec());
    for (name, value) in part["headers"].as_object().unwrap() {
        request = request.header(name, value.as_str().unwrap());
    }
    let response = request.send().await?;
    let tag = response.headers().get("etag");
    let tag = tag.map_or("", |tag| tag.to_str().unwrap()).to_owned();
    Ok((response.status().as_u16(), tag))
}

/// Sends whatever a plan asks for and completes.
pub async fn upload(cloud: &Cloud, device: &Device, wanted: &Value, file: &[u8]) -> Answer {
    let plan = device.plan(wanted).await;
    let mut tags = Vec::new();
    for part in plan["parts"].as_array().unwrap() {
        let (status, etag) = put(&client(cloud), part, file).await.unwrap();
        assert_eq!(status, 200);
        tags.push(json!({ "n": part["n"], "etag": etag }));
    }
    device.complete(&plan, &json!(tags)).await
}

pub async fn row(cloud: &Cloud, id: Uuid) -> Value {
    let sql = format!("select * from recordings where recording_uid = '{id}'");
    cloud.query(&sql).await.unwrap().remove(0)
}

pub fn stored(cloud: &Cloud, key: &Value) -> Option<Vec<u8>> {
    let objects = cloud.objects().unwrap();
    objects.read("sentrycam", key.as_str().unwrap()).unwrap()
}

pub async fn start() -> (Cloud, Device) {
    let cloud = Cloud::builder().storage().start().await.unwrap();
    let device = Device::new(&cloud, "porch").await;
    (cloud, device)
}

#[tokio::test]
async fn a_recording_goes_from_recording_to_available() {
    let (cloud, device) = start().await;
    let (id, file) = (Uuid::now_v7(), bytes(MIB));
    let opened = json!({ "recording_id": id, "camera_id": "cam-1", "started_at": START, "rev": 1 });
    device
        .events(&[device.record("recording.opened", 1, opened)])
        .await
        .statuses();
    assert_eq!(row(&cloud, id).await["status"], "recording");
    let closed = json!({
        "recording_id": id, "camera_id": "cam-1", "started_at": START, "rev": 2, "duration_ms": 5000,
        "size_bytes": file.len(), "sha256": sha256(&file),
    });
    device
        .events(&[device.record("recording.closed", 2, closed)])
        .await
        .statuses();
    assert_eq!(row(&cloud, id).await["status"], "awaiting_upload");

    // The device's word is not enough.
    let said = json!({ "recording_id": id, "rev": 3 });
    device
        .events(&[device.record("recording.uploaded", 3, said)])
        .await
        .statuses();
    assert_eq!(row(&cloud, id).await["status"], "awaiting_upload");

    let wanted = recording(id, &file);
    let plan = device.plan(&wanted).await;
    assert_eq!(
        (&plan["status"], &plan["multipart"]),
        (&json!("uploading"), &json!(false))
    );
    assert_eq!(plan["parts"].as_array().unwrap().len(), 1);
    assert_eq!(row(&cloud, id).await["status"], "uploading");
    assert_eq!(
        device.complete(&plan, &json!([])).await.code(),
        "incomplete"
    );

    let (status, _) = put(&client(&cloud), &plan["parts"][0], &file)
        .await
        .unwrap();
    assert_eq!(status, 200);
    assert_eq!(row(&cloud, id).await["status"], "uploading");
    let done = device.complete(&plan, &json!([])).await;
    assert_eq!(done.status, 200);
    assert!(done.is_signed(&device.credentials));
    let done = done.json();
    assert_eq!(
        (&done["status"], &done["sha256"]),
        (&json!("available"), &json!(sha256(&file)))
    );

    let found = row(&cloud, id).await;
    assert_eq!(
        (&found["status"], &found["bucket"]),
        (&json!("available"), &json!("sentrycam"))
    );
    assert!(
        found["available_at"].is_string() && found["error"].is_null(),
        "{found}"
    );
    assert_eq!(stored(&cloud, &found["object_key"]).unwrap(), file);

    // Asked again: nothing to do. Said again: the same answer.
    let again = device.plan(&wanted).await;
    assert_eq!(
        (&again["status"], &again["parts"]),
        (&json!("available"), &json!([]))
    );
    assert_eq!(device.complete(&plan, &json!([])).await.json(), done);
    // Evidence is not replaced.
    let other = recording(id, &bytes(MIB + 1));
    let refused = device.post("/edge/v1/uploads", &other).await;
    assert_eq!((refused.status, refused.code()), (409, "conflict".into()));
    // The device may delete its copy.
    let deleted = json!({ "recording_id": id, "rev": 4, "reason": "retention" });
    device
        .events(&[device.record("recording.deleted", 4, deleted)])
        .await
        .statuses();
    let found = row(&cloud, id).await;
    assert_eq!(found["status"], "available");
    assert!(found["device_deleted_at"].is_string() && found["error"].is_null());
}

#[tokio::test]
async fn an_upload_goes_on_where_it_was() {
    let (mut cloud, device) = start().await;
    let (id, file) = (Uuid::now_v7(), bytes(12 * MIB + 7));
    let wanted = recording(id, &file);
    let plan = device.plan(&wanted).await;
    let numbers = |plan: &Value| -> Vec<u64> {
        let parts = plan["parts"].as_array().unwrap();
        parts
            .iter()
            .map(|part| part["n"].as_u64().unwrap())
            .collect()
    };
    assert_eq!(plan["multipart"], true);
    assert_eq!(numbers(&plan), [1, 2, 3]);
    for at in [2, 0] {
        assert_eq!(
            put(&client(&cloud), &plan["parts"][at], &file)
                .await
                .unwrap()
                .0,
            200
        );
    }
    let early = device.complete(&plan, &json!([])).await;
    assert_eq!((early.status, early.code()), (409, "incomplete".into()));
    assert_eq!(early.json()["missing"], json!([2]));

    // The device and the cloud were off; the storage knows.
    cloud.stop().await.unwrap();
    cloud.start_again().await.unwrap();
    let rest = device.plan(&wanted).await;
    assert_eq!(rest["upload_id"], plan["upload_id"]);
    assert_eq!(numbers(&rest), [2]);
    let (status, _) = put(&client(&cloud), &rest["parts"][0], &file)
        .await
        .unwrap();
    assert_eq!(status, 200);
    assert_eq!(numbers(&device.plan(&wanted).await), [] as [u64; 0]);
    assert_eq!(device.complete(&rest, &json!([])).await.status, 200);

    // The records may come after the bytes.
    let closed = json!({ "recording_id": id, "camera_id": "cam-1", "started_at": START, "rev": 2 });
    device
        .events(&[device.record("recording.closed", 1, closed)])
        .await
        .statuses();
    let found = row(&cloud, id).await;
    assert_eq!(found["status"], "available");
    assert_eq!(stored(&cloud, &found["object_key"]).unwrap(), file);
    let sent = cloud.objects().unwrap().faults().put_bytes();
    assert_eq!(sent, file.len() as u64, "each byte once");
}

#[tokio::test]
async fn nobody_touches_anothers_upload() {
    let (cloud, device) = start().await;
    let other = Device::new(&cloud, "gate").await;
    let (id, file) = (Uuid::now_v7(), bytes(1000));
    let wanted = recording(id, &file);
    let plan = device.plan(&wanted).await;
    let path = format!("/edge/v1/uploads/{}", plan["upload_id"].as_str().unwrap());
    assert_eq!(
        other.complete(&plan, &json!([])).await.code(),
        "unknown-upload"
    );
    let gone = other.send(other.request("DELETE", &path, Vec::new())).await;
    assert_eq!((gone.status, gone.code()), (404, "unknown-upload".into()));
    // The same id is another object.
    assert_eq!(upload(&cloud, &other, &wanted, &file).await.status, 200);
    let keys = cloud
        .query("select count(distinct object_key) as keys, count(*) as all from uploads")
        .await
        .unwrap();
    assert_eq!(keys[0], json!({ "keys": 2, "all": 2 }));

    let malformed = device.post("/edge/v1/uploads", &json!({ "size": 1 })).await;
    assert_eq!(
        (malformed.status, malformed.code()),
        (400, "malformed".into())
    );
    let none = Cloud::start().await.unwrap();
    let device = Device::new(&none, "porch").await;
    let refused = device.post("/edge/v1/uploads", &wanted).await;
    assert_eq!((refused.status, refused.code()), (404, "no-storage".into()));
}

#[tokio::test]
async fn an_upload_that_is_given_up_leaves_nothing() {
    let (cloud, device) = start().await;
    let (id, file) = (Uuid::now_v7(), bytes(9 * MIB));
    let closed = json!({ "recording_id": id, "camera_id": "cam-1", "started_at": START, "rev": 2 });
    device
        .events(&[device.record("recording.closed", 1, closed)])
        .await
        .statuses();
    let wanted = recording(id, &file);
    let parts = |cloud: &Cloud| {
        let files = std::fs::read_dir(cloud.objects().unwrap().directory()).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.contains(".part-")).count()
    };
    let plan = device.plan(&wanted).await;
    put(&client(&cloud), &plan["parts"][0], &file)
        .await
        .unwrap();
    assert_eq!(parts(&cloud), 1);
    let path = format!("/edge/v1/uploads/{}", plan["upload_id"].as_str().unwrap());
    for _ in 0..2 {
        let aborted = device
            .send(device.request("DELETE", &path, Vec::new()))
            .await;
        assert_eq!(
            (aborted.status, &aborted.json()["status"]),
            (200, &json!("aborted"))
        );
    }
    assert_eq!(parts(&cloud), 0);
    assert_eq!(row(&cloud, id).await["status"], "awaiting_upload");
    assert_eq!(
        device.complete(&plan, &json!([])).await.code(),
        "unknown-upload"
    );

    // Nobody came back for a week.
    let plan = device.plan(&wanted).await;
    put(&client(&cloud), &plan["parts"][0], &file)
        .await
        .unwrap();
    cloud
        .execute("update uploads set touched_at = touched_at - interval '8 days' where status = 'uploading'")
        .await
        .unwrap();
    cloud
        .wait_for(
            "(select count(*) from uploads where status = 'expired') = 1",
            SOON,
        )
        .await
        .unwrap();
    assert_eq!(row(&cloud, id).await["status"], "awaiting_upload");
    // The row is first, then the storage is told.
    let gone = async {
        while parts(&cloud) > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, gone).await.unwrap();
    // A file that was repaired takes the place of what was under way.
    device.plan(&wanted).await;
    let repaired = bytes(9 * MIB - 5);
    assert_eq!(
        upload(&cloud, &device, &recording(id, &repaired), &repaired)
            .await
            .status,
        200
    );
    let found = row(&cloud, id).await;
    assert_eq!(stored(&cloud, &found["object_key"]).unwrap(), repaired);
}

#[tokio::test]
async fn pictures_go_the_same_way_and_belong_to_their_event() {
    let (cloud, device) = start().await;
    let (id, event, file) = (Uuid::now_v7(), Uuid::now_v7(), bytes(30_000));
    let taken = json!({
        "snapshot_id": id, "camera_id": "cam-1", "taken_at": START, "width": 640, "height": 360, "rev": 1,
        "size_bytes": file.len(), "sha256": sha256(&file), "content_type": "image/jpeg", "event_id": event,
    });
    device
        .events(&[device.record("snapshot.taken", 1, taken)])
        .await
        .statuses();
    let wanted = json!({
        "snapshot_id": id, "size": file.len(), "sha256": sha256(&file), "content_type": "image/jpeg",
    });
    assert_eq!(upload(&cloud, &device, &wanted, &file).await.status, 200);
    let found = cloud
        .query("select * from snapshots")
        .await
        .unwrap()
        .remove(0);
    assert_eq!(
        (&found["status"], &found["kind"]),
        (&json!("available"), &json!("thumbnail"))
    );
    assert_eq!(found["event_uid"], json!(event));
    assert_eq!(stored(&cloud, &found["object_key"]).unwrap(), file);
    assert!(
        found["object_key"]
            .as_str()
            .unwrap()
            .ends_with(&format!("/snapshots/{id}.jpg"))
    );
}

#[tokio::test]
async fn the_twin_names_the_storage() {
    let (cloud, device) = start().await;
    let answer = device.get("/edge/v1/twin").await;
    let jws = String::from_utf8(answer.body).unwrap();
    let claims = device.open(sentrycam_cloud::jws::TWIN, &jws);
    assert_eq!(
        claims["doc"],
        json!({ "upload": { "hosts": ["localhost"] } })
    );
    let edge_id = &device.credentials.edge_id;
    let upload = json!({ "upload": { "policy": "on_demand" } });
    let shown = cloud.set_twin(edge_id, upload).await.unwrap();
    assert_eq!(
        shown["doc"]["upload"],
        json!({ "hosts": ["localhost"], "policy": "on_demand" }),
        "{shown}"
    );
}
