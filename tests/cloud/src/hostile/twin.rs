//! Well signed twins with wrong claims or documents.

use super::claims::{nested, object};
use super::{Forge, Hostile, TRICKS};
use crate::jws::TWIN;

/// A good twin's claims.
pub(super) fn good(forge: &Forge, doc: &str) -> String {
    claims(forge, &[("doc", doc)])
}

fn claims(forge: &Forge, changes: &[(&str, &str)]) -> String {
    let members = [
        ("iss", "\"sentrycam-cloud\"".to_owned()),
        ("aud", format!("\"{}\"", forge.edge_id)),
        ("iat", forge.now.to_string()),
        ("version", forge.number.to_string()),
        ("doc", "{}".to_owned()),
    ];
    object(&members, changes)
}

pub(super) fn all(forge: &Forge) -> Vec<Hostile> {
    let mut all = Vec::new();
    let mut add = |name: String, claims: &str| all.push(forge.wrong(TWIN, name, claims));
    for member in ["iss", "aud", "iat", "version", "doc"] {
        for (at, value) in [
            "-", "null", "true", "[]", "\"\"", "1.5", "-1", "NaN", "1e999",
        ]
        .iter()
        .enumerate()
        {
            add(
                format!("twin/{member}/wrong-{at}"),
                &claims(forge, &[(member, value)]),
            );
        }
    }
    let far = (forge.now + 86_400).to_string();
    for (at, (member, value)) in [
        ("aud", "\"e-other\""),
        ("aud", "[\"e-other\"]"),
        ("iss", "\"evil\""),
        ("iat", far.as_str()),
        ("version", "0"),
        ("version", "99999999999999999999"),
        ("version", "\"7\""),
    ]
    .iter()
    .enumerate()
    {
        add(
            format!("twin/{member}/particular-{at}"),
            &claims(forge, &[(member, value)]),
        );
    }
    let good = claims(forge, &[]);
    for twice in [
        "\"version\":2000000",
        "\"doc\":{\"motion\":{}}",
        "\"aud\":\"e-other\"",
        "\"exp\":1",
    ] {
        let name = twice.split('"').nth(1).unwrap_or_default();
        let last = format!("{},{twice}}}", &good[..good.len() - 1]);
        add(format!("twin/twice/{name}"), &last);
    }
    let deep = nested(10_000);
    let crowd: Vec<String> = (0..2000)
        .map(|at| format!("{{\"id\":\"c{at}\",\"test\":true}}"))
        .collect();
    let crowd = format!("{{\"cameras\":[{}]}}", crowd.join(","));
    let documents = [
        "{\"shell\":\"reboot\"}",
        "{\"cameras\":{}}",
        "{\"cameras\":[1]}",
        "{\"cameras\":[{}]}",
        "{\"cameras\":[{\"id\":\"a\",\"test\":true},{\"id\":\"a\",\"test\":true}]}",
        "{\"cameras\":[{\"id\":\"a\",\"test\":true,\"id\":\"b\"}]}",
        "{\"cameras\":[{\"id\":\"a\",\"test\":true,\"exec\":\"id\"}]}",
        "{\"cameras\":[{\"id\":\"a\",\"test\":true,\"fps\":1000}]}",
        "{\"cameras\":[{\"id\":\"a\",\"test\":true,\"fps\":-1}]}",
        "{\"cameras\":[{\"id\":\"a\",\"test\":true,\"url\":\"rtsp://192.0.2.1/\"}]}",
        "{\"cameras\":[{\"id\":\"a\",\"url\":\"file:///etc/shadow\"}]}",
        "{\"cameras\":[{\"id\":\"a\",\"url\":\"http://192.0.2.1/\"}]}",
        "{\"cameras\":[{\"id\":\"a\",\"url\":\"rtsp://u:p@192.0.2.1/\"}]}",
        "{\"cameras\":[{\"id\":\"a\",\"url\":\"rtsp://\"}]}",
        "{\"cameras\":[{\"id\":\"a\",\"file\":\"/etc/shadow\"}]}",
        "{\"cameras\":[{\"id\":\"a\",\"device\":\"/dev/sda\"}]}",
        "{\"cameras\":[{\"id\":\"a\",\"device\":\"/dev/video0/../sda\"}]}",
        "{\"cameras\":[{\"id\":\"a\",\"url\":\"rtsp://192.0.2.1/\",\"user\":\"u\",\"password_file\":\"/etc/shadow\"}]}",
        "{\"cameras\":[{\"id\":\"a\",\"url\":\"rtsps://192.0.2.1/\",\"ca_file\":\"/etc/shadow\"}]}",
        "{\"cameras\":[{\"id\":\"a\",\"url\":\"rtsp://192.0.2.1/\",\"user\":\"u\",\"password\":\"clear\"}]}",
        "{\"cameras\":[{\"id\":\"a\",\"url\":\"rtsp://192.0.2.1/\",\"user\":\"u\",\"password\":{\"$secret\":\"x\",\"y\":1}}]}",
        "{\"cameras\":[{\"id\":\"a\",\"test\":true,\"name\":{\"$secret\":\"x\"}}]}",
        "{\"cameras\":[{\"id\":\"a\",\"test\":true,\"name\":null}]}",
        "{\"cameras\":[{\"id\":\"a\",\"test\":true,\"motion\":{\"sensitivity\":11}}]}",
        "{\"cameras\":[{\"id\":\"a\",\"test\":true,\"motion\":{\"include\":[{\"points\":[[0,0]]}]}}]}",
        "{\"recording\":{\"post_roll\":\"9 years\"}}",
        "{\"recording\":{\"dir\":\"/etc\"}}",
        "{\"recording\":{\"pre_roll\":-1}}",
        "{\"recording\":1}",
        "{\"motion\":{\"fps\":1e999}}",
        "{\"motion\":{\"fps\":NaN}}",
        "{\"upload\":{\"hosts\":[\"https://media.example.com\"]}}",
        "{\"upload\":{\"hosts\":[\"*\"]}}",
        "{\"upload\":{\"hosts\":[1]}}",
        "{\"upload\":{\"hosts\":{}}}",
        "{\"stream\":{\"hosts\":[],\"ports\":[0]}}",
        "{\"stream\":{\"ports\":[65536]}}",
        "{\"stream\":{\"ports\":[-1]}}",
        "{\"stream\":{\"ports\":[\"443\"]}}",
        "{\"cloud\":{\"api_base\":\"http://api.example.com\"}}",
        "{\"cloud\":{\"api_base\":\"https://u:p@api.example.com\"}}",
        "{\"cloud\":{\"api_base\":\"file:///etc\"}}",
        "{\"cloud\":{\"heartbeat\":0}}",
        "{\"cloud\":{\"credentials_file\":\"/etc/shadow\"}}",
        "{\"policies\":[{\"modules\":[\"motion\"]}]}",
        "{\"policies\":[{\"id\":\"p\",\"thresholds\":{\"motion\":2}}]}",
        "{\"policies\":[{\"id\":\"p\",\"modules\":[\"../x\"]}]}",
        "{\"policies\":[{\"id\":\"p\",\"script\":\"id\"}]}",
        "{\"physical_reset\":false}",
        "{\"physical_reset\":\"never\"}",
        "{\"physical_reset\":{\"disabled\":true}}",
        "{\"state_dir\":\"/etc\"}",
        "{\"spool\":{\"dir\":\"/etc\"}}",
        "{\"$secret\":\"x\"}",
        "{\"__proto__\":{}}",
    ];
    for (at, doc) in documents
        .into_iter()
        .chain([deep.as_str(), crowd.as_str()])
        .enumerate()
    {
        add(format!("twin/doc/{at}"), &claims(forge, &[("doc", doc)]));
    }
    for (at, trick) in TRICKS.iter().enumerate() {
        let camera = format!("{{\"cameras\":[{{\"id\":\"{trick}\",\"test\":true}}]}}");
        add(
            format!("twin/camera/trick-{at}"),
            &claims(forge, &[("doc", &camera)]),
        );
        let host = format!("{{\"upload\":{{\"hosts\":[\"{trick}\"]}}}}");
        add(
            format!("twin/host/trick-{at}"),
            &claims(forge, &[("doc", &host)]),
        );
    }
    all
}
