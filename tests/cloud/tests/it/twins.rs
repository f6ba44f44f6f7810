//! Twins: compiled from what operators set, handed out signed, reported back.

use crate::device::{Device, client};
use sentrycam_cloud::jws;
use sentrycam_cloud::testing::Cloud;
use serde_json::{Value, json};

/// A password that must not be found anywhere but in the signed document.
const CANARY: &str = "canary-7f3a-password";

impl Device {
    /// What `GET /twin` gives, verified; none for 404.
    pub async fn twin(&self) -> Option<(Value, String)> {
        let answer = self.get("/edge/v1/twin").await;
        if answer.status == 404 {
            return None;
        }
        assert_eq!(answer.status, 200);
        assert!(answer.is_signed(&self.credentials));
        assert_eq!(answer.header("content-type"), "application/jose");
        let claims = self.open(jws::TWIN, std::str::from_utf8(&answer.body).unwrap());
        let names: Vec<&String> = claims.as_object().unwrap().keys().collect();
        assert_eq!(names, ["aud", "doc", "iat", "iss", "version"]);
        Some((claims, answer.header("etag").to_owned()))
    }

    async fn asks_again(&self, etag: &str) -> u16 {
        let mut request = self.request("GET", "/edge/v1/twin", Vec::new());
        request.extra = vec![("if-none-match", etag.to_owned())];
        self.send(request).await.status
    }
}

#[tokio::test]
async fn a_twin_grows_with_each_change_and_only_then() {
    let cloud = Cloud::start().await.unwrap();
    let device = Device::new(&cloud, "porch").await;
    let edge_id = device.credentials.edge_id.clone();
    assert!(device.twin().await.is_none());
    assert_eq!(cloud.twin(&edge_id).await.unwrap()["version"], 0);

    let patch = json!({ "recording": { "post_roll": "9 s", "mode": "motion" } });
    assert_eq!(
        cloud.set_twin(&edge_id, patch.clone()).await.unwrap()["version"],
        1
    );
    let (claims, etag) = device.twin().await.unwrap();
    assert_eq!((&claims["version"], &claims["doc"]), (&json!(1), &patch));
    assert_eq!(device.asks_again(&etag).await, 304);
    assert_eq!(device.events(&[]).await.json()["twin_version"], 1);

    // The same again is no change; a merge keeps what it does not name, null removes.
    assert_eq!(cloud.set_twin(&edge_id, patch).await.unwrap()["version"], 1);
    let patch =
        json!({ "recording": { "mode": null }, "upload": { "hosts": ["media.example.com"] } });
    assert_eq!(cloud.set_twin(&edge_id, patch).await.unwrap()["version"], 2);
    assert_eq!(device.asks_again(&etag).await, 200);
    let (claims, _) = device.twin().await.unwrap();
    assert_eq!(
        claims["doc"],
        json!({ "recording": { "post_roll": "9 s" }, "upload": { "hosts": ["media.example.com"] } })
    );
    // Everything taken away is a change too: an empty document, not none.
    let nothing = json!({ "recording": null, "upload": null });
    assert_eq!(
        cloud.set_twin(&edge_id, nothing).await.unwrap()["version"],
        3
    );
    assert_eq!(device.twin().await.unwrap().0["doc"], json!({}));
    let mut deep = json!(1);
    for _ in 0..20 {
        deep = json!({ "a": deep });
    }
    for wrong in [
        json!([]),
        json!({ "cameras": [] }),
        json!({ "recording": 1 }),
        json!({ "shell": {} }),
        json!({ "motion": { "x": "\u{0}" } }),
        json!({ "stream": { "key": { "$secret": "x" } } }),
        json!({ "motion": deep }),
        json!({ "motion": { "x": "y".repeat(200_000) } }),
    ] {
        assert!(
            cloud.set_twin(&edge_id, wrong.clone()).await.is_err(),
            "{wrong}"
        );
    }
    assert_eq!(device.twin().await.unwrap().0["version"], 3);
}

#[tokio::test]
async fn a_cameras_password_reaches_its_device_and_nobody_else() {
    let cloud = Cloud::start().await.unwrap();
    let device = Device::new(&cloud, "porch").await;
    let edge_id = device.credentials.edge_id.clone();
    let camera =
        json!({ "url": "rtsp://192.0.2.7/s", "user": "admin", "password": CANARY, "name": "Gate" });
    let shown = cloud.set_camera(&edge_id, "gate", camera).await.unwrap();
    assert_eq!(
        shown["doc"]["cameras"][0]["password"],
        json!({ "$secret": "***" })
    );
    let (claims, first) = device.twin().await.unwrap();
    assert_eq!(
        claims["doc"]["cameras"],
        json!([{ "id": "gate", "name": "Gate", "url": "rtsp://192.0.2.7/s", "user": "admin",
                 "password": { "$secret": CANARY } }])
    );
    // As it is shown it can be sent back: the password stays.
    let mut same = shown["doc"]["cameras"][0].clone();
    same["name"] = "Front gate".into();
    let shown = cloud.set_camera(&edge_id, "gate", same).await.unwrap();
    assert_eq!(shown["version"], 2);
    let (claims, second) = device.twin().await.unwrap();
    assert_ne!(first, second);
    assert_eq!(claims["doc"]["cameras"][0]["password"]["$secret"], CANARY);
    // Only the password changes: still a new version.
    let other = json!({ "url": "rtsp://192.0.2.7/s", "user": "admin", "name": "Front gate", "password": { "$secret": "other" } });
    assert_eq!(
        cloud.set_camera(&edge_id, "gate", other).await.unwrap()["version"],
        3
    );

    let row = &cloud
        .query("select rtsp_url, name, is_active, password_wrapped from cameras")
        .await
        .unwrap()[0];
    assert_eq!(
        (&row["rtsp_url"], &row["name"]),
        (&json!("rtsp://192.0.2.7/s"), &json!("Front gate"))
    );
    let dump = cloud
        .query(
            "select to_jsonb(t) from twins t union all select to_jsonb(c) from cameras c
             union all select to_jsonb(a) from audit_logs a",
        )
        .await
        .unwrap();
    let dump = json!(dump).to_string();
    assert!(!dump.contains(CANARY) && dump.contains("Front gate"));
    // And bound to its camera: moved to another row it does not open.
    cloud.set_camera(&edge_id, "yard", json!({})).await.unwrap();
    cloud
        .execute("update cameras set password_wrapped = (select password_wrapped from cameras where camera_id = 'gate') where camera_id = 'yard'")
        .await
        .unwrap();
    assert_eq!(device.get("/edge/v1/twin").await.status, 503);

    for (id, wrong) in [
        ("Gate", json!({})),
        ("../x", json!({})),
        ("a", json!([])),
        ("a", json!({ "id": "b" })),
        ("a", json!({ "url": "rtsp://user:pw@192.0.2.7/s" })),
        ("a", json!({ "url": "rtsp://user@192.0.2.7" })),
        ("a", json!({ "password": 1 })),
        ("a", json!({ "password": { "$secret": 1 } })),
        ("a", json!({ "password": "" })),
        ("a", json!({ "name": { "$secret": "x" } })),
    ] {
        assert!(
            cloud.set_camera(&edge_id, id, wrong.clone()).await.is_err(),
            "{id} {wrong}"
        );
    }
}

#[tokio::test]
async fn the_admin_api_sets_cameras_policies_and_settings() {
    let cloud = Cloud::start().await.unwrap();
    let device = Device::new(&cloud, "porch").await;
    let second = Device::new(&cloud, "yard").await;
    let edge_id = &device.credentials.edge_id;
    let http = client(&cloud);
    let (admin, user) = (
        cloud.create_api_key("admin").await.unwrap(),
        cloud.create_api_key("user").await.unwrap(),
    );
    let call = async |key: &str, method: &str, path: String, body: Value| {
        let url = format!("{}/admin/v1/{path}", cloud.api_base());
        let request = http.request(method.parse().unwrap(), url).bearer_auth(key);
        let response = request.body(body.to_string()).send().await.unwrap();
        let status = response.status().as_u16();
        let body: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
        (status, body)
    };
    let twin = format!("devices/{edge_id}/twin");
    let patch = json!({ "motion": { "sensitivity": 7 } });
    assert_eq!(
        call(&user, "PATCH", twin.clone(), patch.clone()).await.0,
        403
    );
    assert_eq!(
        call(&admin, "PATCH", twin.clone(), patch).await.1["version"],
        1
    );
    assert_eq!(
        call(&admin, "PATCH", twin.clone(), json!({ "x": {} }))
            .await
            .0,
        400
    );
    assert_eq!(
        call(&admin, "PATCH", "devices/e-none/twin".into(), json!({}))
            .await
            .0,
        404
    );
    assert_eq!(
        call(&user, "GET", twin.clone(), Value::Null).await.1["doc"]["motion"]["sensitivity"],
        7
    );

    // Four cameras are allowed; one that is off does not count.
    cloud
        .execute("update organizations set max_cameras = 4")
        .await
        .unwrap();
    let camera = |id: &str| format!("devices/{edge_id}/cameras/{id}");
    for id in ["a", "b", "c", "d"] {
        assert_eq!(
            call(&admin, "PUT", camera(id), json!({ "test": true }))
                .await
                .0,
            200
        );
    }
    let (status, refused) = call(&admin, "PUT", camera("e"), json!({ "test": true })).await;
    assert_eq!(status, 409);
    assert!(
        refused["detail"].as_str().unwrap().contains("4 cameras"),
        "{refused}"
    );
    let off = json!({ "test": true, "enabled": false });
    assert_eq!(call(&admin, "PUT", camera("e"), off).await.0, 200);
    assert_eq!(
        call(&admin, "DELETE", camera("d"), Value::Null).await.0,
        200
    );
    assert_eq!(
        call(&admin, "DELETE", camera("d"), Value::Null).await.0,
        404
    );
    let ids = |claims: &Value| -> Vec<String> {
        let cameras = claims["doc"]["cameras"].as_array().unwrap();
        cameras
            .iter()
            .map(|c| c["id"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(ids(&device.twin().await.unwrap().0), ["a", "b", "c", "e"]);

    // A policy of the organization reaches every device; without a licence only `motion` is left of it.
    let policy = json!({ "name": "night", "modules": ["motion", "market"], "cameras": ["a"],
        "thresholds": { "motion": 0.4, "market": 0.9 }, "actions": ["notify"], "feature_flags": { "faces": false } });
    assert_eq!(
        call(&user, "POST", "policies".into(), policy.clone())
            .await
            .0,
        403
    );
    let (status, made) = call(&admin, "POST", "policies".into(), policy.clone()).await;
    assert_eq!(status, 201);
    let got = second.twin().await.unwrap().0;
    assert_eq!(
        got["doc"]["policies"],
        json!([{ "id": made["id"], "name": "night", "modules": ["motion"], "thresholds": { "motion": 0.4 },
                 "actions": ["notify"], "feature_flags": { "faces": false }, "cameras": ["a"] }])
    );
    let one = format!("policies/{}", made["id"].as_str().unwrap());
    let mut own = policy.clone();
    own["edge_id"] = edge_id.as_str().into();
    assert_eq!(call(&admin, "PUT", one.clone(), own).await.0, 200);
    assert_eq!(second.twin().await.unwrap().0["doc"], json!({}));
    assert!(device.twin().await.unwrap().0["doc"]["policies"].is_array());
    assert_eq!(
        call(&user, "GET", "policies".into(), Value::Null).await.1["policies"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        call(&admin, "DELETE", one.clone(), Value::Null).await.0,
        200
    );
    assert_eq!(call(&admin, "DELETE", one, Value::Null).await.0, 404);
    assert!(device.twin().await.unwrap().0["doc"]["policies"].is_null());
    for wrong in [
        json!({ "name": "x", "thresholds": { "motion": 2 } }),
        json!({ "name": "x", "modules": ["Bad Word"] }),
        json!({ "name": "", "modules": ["motion"] }),
        json!({ "modules": ["motion"] }),
        json!({ "name": "x", "surprise": 1 }),
    ] {
        assert_eq!(
            call(&admin, "POST", "policies".into(), wrong.clone())
                .await
                .0,
            400,
            "{wrong}"
        );
    }
    let noted = cloud
        .query("select distinct entity_type || ' ' || action as did from audit_logs where entity_type in ('twin', 'camera', 'policy') order by 1")
        .await
        .unwrap();
    let noted: Vec<&str> = noted
        .iter()
        .map(|row| row["did"].as_str().unwrap())
        .collect();
    assert_eq!(
        noted,
        [
            "camera DELETE",
            "camera UPDATE",
            "policy CREATE",
            "policy DELETE",
            "policy UPDATE",
            "twin UPDATE"
        ]
    );
}

#[tokio::test]
async fn what_a_device_reports_is_shown_the_newest_wins() {
    let cloud = Cloud::start().await.unwrap();
    let device = Device::new(&cloud, "porch").await;
    let edge_id = device.credentials.edge_id.clone();
    let report = |sequence, desired: i64, applied: i64, status: &str| {
        let errors = json!([{ "path": "/cameras/0/fps", "code": "range" }]);
        let data =
            json!({ "desired": desired, "applied": applied, "status": status, "errors": errors });
        device.record("twin.reported", sequence, data)
    };
    cloud
        .set_twin(&edge_id, json!({ "motion": {} }))
        .await
        .unwrap();
    assert_eq!(cloud.twin(&edge_id).await.unwrap()["in_force"], false);
    let batch = [report(5, 1, 1, "applied"), report(3, 1, 0, "provisional")];
    assert_eq!(device.events(&batch).await.statuses(), ["accepted"; 2]);
    let shown = cloud.twin(&edge_id).await.unwrap();
    assert_eq!(
        (&shown["in_force"], &shown["reported_status"]),
        (&json!(true), &json!("applied"))
    );
    device
        .events(&[report(4, 1, 0, "rejected")])
        .await
        .statuses();
    assert_eq!(
        cloud.twin(&edge_id).await.unwrap()["reported_status"],
        "applied"
    );
    cloud
        .set_twin(&edge_id, json!({ "motion": { "fps": 999 } }))
        .await
        .unwrap();
    device
        .events(&[report(6, 2, 1, "rejected")])
        .await
        .statuses();
    let shown = cloud.twin(&edge_id).await.unwrap();
    assert_eq!(
        (&shown["in_force"], &shown["reported"]["errors"][0]["code"]),
        (&json!(false), &json!("range"))
    );
    let wrong = [report(7, 1, 1, "done"), report(8, -1, 1, "applied")];
    assert_eq!(device.events(&wrong).await.statuses(), ["rejected"; 2]);
}

/// The licence decides which modules are in a twin, and leaves it when it has run out.
#[tokio::test]
async fn a_licence_opens_its_modules_until_it_ends() {
    let cloud = Cloud::start().await.unwrap();
    let device = Device::new(&cloud, "porch").await;
    let organization = cloud.organization();
    let made = cloud
        .execute(&format!(
            "insert into licenses (id, organization_id, plan_id, license_key, modules, max_cameras, expires_at)
             values (gen_random_uuid(), '{organization}', '01900000-0000-7000-8000-000000000103', 'key-of-a-test',
                     '{{market}}', 1, now() + interval '1 hour')"
        ))
        .await;
    made.unwrap();
    let policy = json!({ "name": "shop", "modules": ["market"], "thresholds": { "market": 0.9 } });
    cloud.set_policy(policy).await.unwrap();
    let claims = device.twin().await.unwrap().0;
    assert_eq!(claims["doc"]["policies"][0]["modules"], json!(["market"]));
    let edge_id = &device.credentials.edge_id;
    cloud
        .set_camera(edge_id, "a", json!({ "test": true }))
        .await
        .unwrap();
    let refused = cloud
        .set_camera(edge_id, "b", json!({ "test": true }))
        .await;
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("room for 1 camera,")
    );
    let version = device.twin().await.unwrap().0["version"].as_i64().unwrap();
    cloud
        .execute("update licenses set expires_at = now()")
        .await
        .unwrap();
    let claims = device.twin().await.unwrap().0;
    assert!(claims["doc"]["policies"].is_null(), "{claims}");
    assert_eq!(claims["version"], version + 1);
}
