use serde_json::json;

use super::*;
use crate::model::RecordMode;
use crate::twin::Reason;

fn local() -> Config {
    let text = "[[camera]]\nid = \"yard\"\nfile = \"/srv/yard.mp4\"\n\
                [[camera]]\nid = \"door\"\nurl = \"rtsp://10.0.0.9/a\"\npassword = \"own\"";
    Config::parse(text, &|_| Err(String::new())).unwrap()
}

fn compiled(doc: Json) -> Result<Effective, Vec<Reason>> {
    let Json::Object(mut doc) = doc else {
        panic!("an object")
    };
    let mut faults = Vec::new();
    let secrets = Secrets::take(&mut doc, &mut faults);
    let found = compile(&doc, &secrets, &local());
    let more = found.as_ref().err().cloned().unwrap_or_default();
    faults.extend(more);
    if faults.is_empty() {
        return Ok(found.unwrap());
    }
    Err(Reason::of_faults(&faults))
}

fn faults(doc: Json) -> Vec<(String, String)> {
    let reasons = compiled(doc).expect_err("is refused");
    reasons.into_iter().map(|r| (r.path, r.code)).collect()
}

fn one(doc: Json) -> (String, String) {
    let all = faults(doc);
    assert_eq!(all.len(), 1, "{all:?}");
    all.into_iter().next().unwrap()
}

#[test]
fn an_empty_twin_is_the_configuration_file() {
    assert_eq!(compiled(json!({})).unwrap(), Effective::local(&local()));
}

#[test]
fn a_twin_says_which_cameras_there_are_and_how_they_are() {
    let got = compiled(json!({
        "recording": { "post_roll": 9, "mode": "motion" },
        "motion": { "sensitivity": 7 },
        "cameras": [
            { "id": "gate", "name": "Gate", "url": "rtsp://192.168.1.7/s", "user": "u", "password": { "$secret": "p" },
              "motion": { "sensitivity": 2, "include": [{ "name": "a", "points": [[0, 0], [1, 0], [0.5, 1]] }] } },
            { "id": "yard", "recording": { "mode": "continuous", "segment": "30 s" } },
            { "id": "cellar", "test": true, "enabled": false },
        ],
        "cloud": { "api_base": "https://api.example.com", "heartbeat": 30 },
        "upload": { "hosts": ["media.example.com"] },
        "stream": { "hosts": ["*.example.com"], "ports": [443] },
        "policies": [{ "id": "p1", "cameras": ["gate"], "modules": ["motion"], "thresholds": { "motion": 0.4 },
                       "actions": ["notify"], "feature_flags": { "faces": false } }],
        "local_api": {},
    }))
    .unwrap();
    let ids: Vec<&str> = got.cameras.iter().map(|c| c.id.as_str()).collect();
    assert_eq!(ids, ["gate", "yard"], "door is gone, cellar is off");
    let (gate, yard) = (&got.cameras[0], &got.cameras[1]);
    assert_eq!((gate.motion.sensitivity, yard.motion.sensitivity), (2, 7));
    assert_eq!(gate.recording.post_roll.as_secs(), 9);
    assert_eq!(yard.recording.mode, RecordMode::Continuous);
    assert_eq!(
        yard.main,
        local().cameras[0].main,
        "its source is the file's"
    );
    let SourceConfig::Rtsp { password, .. } = &gate.main else {
        panic!("{gate:?}")
    };
    assert_eq!(password.as_ref().unwrap().expose(), "p");
    assert_eq!(got.cloud.heartbeat.unwrap().as_secs(), 30);
    assert!(got.stream.hosts[0].allows("x.example.com") && got.stream.ports == [443]);
    assert!(got.may_cut_off(&Effective::local(&local())) && !got.may_cut_off(&got));
    assert_eq!(got.policies[0].thresholds["motion"], 0.4);
}

#[test]
fn all_faults_are_named_at_once_with_place_and_code() {
    let got = faults(json!({
        "cameras": [
            { "id": "a", "test": true, "fps": 1000, "extra": 1, "motion": { "sensitivity": "high" } },
            { "id": "b" },
            { "id": "a", "test": true, "recording": { "mode": "sometimes" }, "name": null },
        ],
        "recording": { "post_roll": 0 },
        "stream": { "ports": [0] },
        "shell": "x",
    }));
    let want = [
        ("/cameras/0/extra", "unknown"),
        ("/cameras/0/fps", "range"),
        ("/cameras/0/motion/sensitivity", "type"),
        ("/cameras/1/url", "missing"),
        ("/cameras/2/id", "duplicate"),
        ("/cameras/2/name", "type"),
        ("/cameras/2/recording/mode", "range"),
        ("/recording/post_roll", "range"),
        ("/shell", "unknown"),
        ("/stream/ports", "range"),
    ];
    assert_eq!(got, want.map(|(p, c)| (p.to_owned(), c.to_owned())));
}

#[test]
fn what_belongs_to_the_machine_is_not_the_twins() {
    let camera = |extra: Json| {
        let mut camera = json!({ "id": "a", "url": "rtsp://10.0.0.1/" });
        camera
            .as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        json!({ "cameras": [camera] })
    };
    for (extra, path, code) in [
        (
            json!({ "ca_file": "/etc/shadow" }),
            "/cameras/0/ca_file",
            "not_allowed",
        ),
        (
            json!({ "password_file": "/etc/shadow" }),
            "/cameras/0/password_file",
            "not_allowed",
        ),
        (
            json!({ "url": "rtsp://user:canary@10.0.0.1/" }),
            "/cameras/0/url",
            "secret",
        ),
        (
            json!({ "password": "canary" }),
            "/cameras/0/password",
            "secret",
        ),
    ] {
        let doc = camera(extra);
        assert!(
            faults(doc.clone()).contains(&(path.into(), code.into())),
            "{doc}"
        );
        let all = serde_json::to_string(&compiled(doc).unwrap_err()).unwrap();
        assert!(!all.contains("canary"), "{all}");
    }
    for device in [
        "/etc/passwd",
        "/dev/sda",
        "/dev/video0/../../etc/passwd",
        "/dev/mem",
    ] {
        let doc = json!({ "cameras": [{ "id": "a", "device": device }] });
        assert_eq!(one(doc), ("/cameras/0/device".into(), "not_allowed".into()));
    }
    for key in ["state_dir", "spool", "camera", "network"] {
        faults(json!({ key: { "dir": "/" } }));
    }
    let path = one(json!({ "local_api": { "enabled": true } }));
    assert_eq!(path, ("/local_api".into(), "unsupported".into()));
    let doc = json!({ "cameras": [{ "id": "door", "user": "x" }] });
    assert_eq!(one(doc), ("/cameras/0/user".into(), "unknown".into()));
}

#[test]
fn the_cloud_is_reached_by_https_only() {
    for bad in [
        "http://a.example",
        "https://u:p@a.example",
        "https://a.example/?x",
        "https://a.example/#x",
        "file:///etc",
        "https://",
        "//a",
        "javascript:x",
    ] {
        let doc = json!({ "cloud": { "api_base": bad } });
        assert_eq!(
            one(doc),
            ("/cloud/api_base".into(), "range".into()),
            "{bad}"
        );
    }
}

#[test]
fn the_owner_may_forbid_the_reset_by_the_button_and_says_so_in_one_of_two_words() {
    let allowed = |doc: Json| compiled(doc).unwrap().physical_reset;
    assert!(allowed(json!({})));
    assert!(allowed(json!({ "physical_reset": "enabled" })));
    assert!(!allowed(json!({ "physical_reset": "disabled" })));
    for (wrong, code) in [
        (json!("Disabled"), "range"),
        (json!(""), "range"),
        (json!(false), "type"),
        (json!(null), "type"),
        (json!({ "physical_reset": "disabled" }), "type"),
    ] {
        let fault = ("/physical_reset".to_owned(), code.to_owned());
        assert_eq!(
            one(json!({ "physical_reset": wrong.clone() })),
            fault,
            "{wrong}"
        );
    }
}

#[test]
fn the_twin_lays_its_upload_over_that_of_the_file() {
    use crate::config::{Hours, UploadPolicy};
    let got = compiled(json!({ "upload": {
        "hosts": ["media.example.com"], "policy": "all", "max_kbps": "off", "quiet_hours": ["22:00-06:00"],
        "time_zone": "Europe/Berlin", "daily_budget": "1 GiB" },
        "cameras": [{ "id": "yard", "recording": { "upload": "none" } }] }))
    .unwrap();
    assert_eq!(
        (got.upload.policy, got.upload.max_kbps, got.upload.metered),
        (UploadPolicy::All, None, false)
    );
    assert_eq!(
        got.upload.quiet_hours,
        [Hours {
            from: 1320,
            to: 360
        }]
    );
    assert_eq!(got.cameras[0].recording.upload, Some(UploadPolicy::None));
    assert_eq!(
        compiled(json!({ "upload": {} })).unwrap().upload,
        local().upload
    );
    for (upload, path, code) in [
        (json!({ "policy": "some" }), "/upload/policy", "range"),
        (json!({ "policy": 1 }), "/upload/policy", "type"),
        (json!({ "max_kbps": 1 }), "/upload/max_kbps", "range"),
        (
            json!({ "quiet_hours": ["x"] }),
            "/upload/quiet_hours",
            "range",
        ),
        (
            json!({ "daily_budget": 5 }),
            "/upload/daily_budget",
            "range",
        ),
        (json!({ "time_zone": "../x" }), "/upload/time_zone", "range"),
        (
            json!({ "allow_private": ["10.0.0.0/8"] }),
            "/upload/allow_private",
            "unknown",
        ),
    ] {
        assert_eq!(
            one(json!({ "upload": upload })),
            (path.to_owned(), code.to_owned())
        );
    }
    let cloud = one(json!({ "cloud": { "allow_private": ["10.0.0.0/8"] } }));
    assert_eq!(cloud.1, "unknown", "only the file excepts networks");
}
