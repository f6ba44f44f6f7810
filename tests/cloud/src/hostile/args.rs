//! Well signed commands of known types with arguments that no schema allows.

use super::{Forge, Hostile, TRICKS, claims};
use crate::jws::COMMAND;

const UUID: &str = "\"019af5d8-7a00-7000-8000-0000000000d1\"";

/// A member of a type's arguments: its name, a good value, and values that are not.
type Member = (&'static str, &'static str, &'static [&'static str]);

const CAMERA: Member = (
    "camera_id",
    "\"cam-1\"",
    &[
        "-",
        "null",
        "1",
        "[]",
        "\"Cam 1\"",
        "\"no-such-camera-here\"",
    ],
);
const RECORDING: Member = ("recording_id", UUID, &["-", "null", "1", "\"x\"", "[]"]);
const SESSION: Member = ("session_id", UUID, &["-", "null", "1", "\"x\""]);
const NUMBERS: &[&str] = &[
    "-1",
    "1.5",
    "\"60\"",
    "true",
    "[]",
    "1e999",
    "99999999999999999999",
    "NaN",
];

/// Types with their arguments (section 7.3), and numbers just outside of their range.
const TYPES: [(&str, &[Member], &[&str]); 9] = [
    (
        "recording.start",
        &[
            CAMERA,
            RECORDING,
            ("max_duration_s", "60", NUMBERS),
            ("event_id", UUID, &["1", "\"x\"", "[]"]),
        ],
        &["\"max_duration_s\":0", "\"max_duration_s\":3601"],
    ),
    ("recording.stop", &[RECORDING], &[]),
    (
        "snapshot",
        &[
            CAMERA,
            ("snapshot_id", UUID, &["-", "null", "1", "\"x\""]),
            ("max_width", "640", NUMBERS),
        ],
        &["\"max_width\":63", "\"max_width\":3841", "\"max_width\":0"],
    ),
    (
        "stream.start",
        &[
            SESSION,
            CAMERA,
            (
                "protocol",
                "\"whip\"",
                &["-", "null", "\"file\"", "\"rtmp\"", "\"udp\"", "1"],
            ),
            (
                "publish_endpoint",
                "\"https://media.example.com/whip\"",
                &[
                    "-",
                    "\"http://media.example.com/\"",
                    "\"file:///etc/shadow\"",
                    "\"https://127.0.0.1/\"",
                    "\"https://[::1]/\"",
                    "\"https://169.254.169.254/latest\"",
                    "\"https://2130706433/\"",
                    "\"https://0x7f.1/\"",
                    "\"https://10.0.0.1/\"",
                    "\"https://u:p@media.example.com/\"",
                    "\"https://media.example.com@evil.example/\"",
                    "\"https://[::ffff:10.0.0.1]/\"",
                    "\"https://localhost/\"",
                    "\"gopher://x/\"",
                    "\"srt://10.0.0.1:1\"",
                ],
            ),
        ],
        &[
            "\"expires_at\":\"2099-01-01T00:00:00Z\"",
            "\"expires_at\":1",
        ],
    ),
    ("stream.stop", &[SESSION], &[]),
    (
        "reboot",
        &[("delay_s", "0", NUMBERS)],
        &["\"delay_s\":301", "\"delay_s\":86400"],
    ),
    (
        "unclaim",
        &[(
            "wipe",
            "\"credentials\"",
            &["null", "\"everything\"", "\"/\"", "1", "[\"all\"]", "true"],
        )],
        &[],
    ),
    (
        "diag.collect",
        &[(
            "parts",
            "[\"log\"]",
            &[
                "null",
                "\"log\"",
                "[\"shadow\"]",
                "[\"../../etc\"]",
                "[\"*\"]",
                "[1]",
                "[[\"log\"]]",
                "{}",
                "[\"\"]",
            ],
        )],
        &[],
    ),
    (
        "firmware.update",
        &[("version", "\"9.9.9\"", &["-", "1", "\"../9\"", "\"$(id)\""])],
        &["\"manifest_url\":\"http://evil.example/m\""],
    ),
];

/// Types without arguments.
const BARE: [&str; 3] = ["twin.refresh", "sync.now", "key.rotate"];

pub(super) fn all(forge: &Forge) -> Vec<Hostile> {
    let mut all = Vec::new();
    let mut add = |command_type: &str, name: &str, args: &str| {
        let claims = claims::good(forge, command_type, args);
        all.push(forge.wrong(COMMAND, format!("args/{command_type}/{name}"), &claims));
    };
    for (command_type, members, ranges) in TYPES {
        for (member, _, wrong) in members {
            for (at, value) in wrong.iter().enumerate() {
                add(
                    command_type,
                    &format!("{member}/wrong-{at}"),
                    &args(members, member, value),
                );
            }
            let is_text = members
                .iter()
                .any(|(name, good, _)| name == member && good.starts_with('"'));
            for (at, trick) in TRICKS.iter().enumerate().filter(|_| is_text) {
                let value = format!("\"{trick}\"");
                add(
                    command_type,
                    &format!("{member}/trick-{at}"),
                    &args(members, member, &value),
                );
            }
            let long = format!("\"{}\"", "x".repeat(10_000));
            add(
                command_type,
                &format!("{member}/long"),
                &args(members, member, &long),
            );
        }
        for (at, range) in ranges.iter().enumerate() {
            let name = range.split('"').nth(1).unwrap_or_default();
            let rest = args(members, name, "-");
            let comma = if rest == "{}" { "" } else { "," };
            let args = rest.replacen('{', &format!("{{{range}{comma}"), 1);
            add(command_type, &format!("range-{at}"), &args);
        }
    }
    let bare = BARE.map(|name| (name, &[] as &[Member]));
    for (command_type, members) in TYPES
        .map(|(name, members, _)| (name, members))
        .into_iter()
        .chain(bare)
    {
        for (name, extra) in [
            ("unknown", "\"surprise\":1"),
            ("command", "\"command\":\"rm -rf /\""),
            ("proto", "\"__proto__\":{}"),
        ] {
            let rest = args(members, "", "");
            let comma = if rest == "{}" { "" } else { "," };
            let args = rest.replacen('{', &format!("{{{extra}{comma}"), 1);
            add(command_type, name, &args);
        }
    }
    all
}

/// Good arguments with one member replaced; `-` leaves it out.
fn args(members: &[Member], changed: &str, value: &str) -> String {
    let members: Vec<String> = members
        .iter()
        .filter_map(|(name, good, _)| match (*name == changed, value) {
            (true, "-") => None,
            (true, value) => Some(format!("\"{name}\":{value}")),
            (false, _) => Some(format!("\"{name}\":{good}")),
        })
        .collect();
    format!("{{{}}}", members.join(","))
}
