use super::*;
use crate::config::{RtspTransport, SourceConfig};
use proptest::prelude::*;

fn parse(text: &str) -> Result<Config, Vec<Fault>> {
    Config::parse(text, &no_secrets)
}

fn faults(text: &str) -> Vec<String> {
    parse(text)
        .unwrap_err()
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn an_empty_file_is_a_standalone_agent_without_cameras() {
    let config = parse("").unwrap();
    assert_eq!(config.state_dir, Path::new("/var/lib/sentrycam"));
    assert_eq!(config.spool.dir, Path::new("/var/lib/sentrycam/clips"));
    assert!(config.cloud.is_none() && config.cameras.is_empty());
}

#[test]
fn one_line_makes_a_camera_with_sensible_defaults() {
    let config = parse("[[camera]]\nid = \"door\"\nurl = \"rtsp://10.0.0.5/live\"").unwrap();
    let c = &config.cameras[0];
    assert_eq!(c.name, "door");
    assert_eq!(c.motion.severity, Severity::Warning);
    assert_eq!(c.recording.mode, RecordMode::Motion);
    assert_eq!(
        (c.recording.pre_roll, c.recording.post_roll),
        (Duration::from_secs(5), Duration::from_secs(5))
    );
    assert_eq!((c.motion.enabled, c.motion.sensitivity), (true, 5));
    assert!(matches!(
        c.main,
        SourceConfig::Rtsp {
            transport: RtspTransport::Tcp,
            verify_tls: true,
            ..
        }
    ));
}

#[test]
fn the_shipped_file_with_every_key_uncommented_equals_the_defaults() {
    let shipped = include_str!("../../config/sentrycam.toml");
    assert_eq!(parse(shipped).unwrap(), parse("").unwrap(), "as shipped");
    let uncommented: String = shipped
        .lines()
        .map(|l| {
            l.strip_prefix('#')
                .filter(|l| !l.starts_with(' ') && !l.is_empty())
                .unwrap_or(l)
        })
        .collect::<Vec<_>>()
        .join("\n");
    let full = parse(&uncommented).unwrap_or_else(|f| panic!("{f:#?}"));
    let minimal =
        parse("[cloud]\n[[camera]]\nid = \"door\"\nurl = \"rtsp://192.168.1.20:554/stream1\"")
            .unwrap();
    assert_eq!(full, minimal, "with every key uncommented");
}

#[test]
fn all_faults_are_named_at_once() {
    let text = r#"
state_dir = "relative"
unknown = 1
[spool]
min_free = "12 apples"
dri = "/x"
[[camera]]
id = "Front Door"
url = "http://10.0.0.5"
transport = "carrier pigeon"
[camera.motion]
sensitivity = 11
fps = 0
decode = "never"
[[camera.motion.include]]
points = [[0, 0], [2, 0], [1, 1]]
[camera.recording]
pre_roll = "2 days"
mode = 7
[[camera]]
id = "b"
"#;
    assert_eq!(
        faults(text),
        [
            "state_dir = \"relative\" must be an absolute path",
            "unknown is not a known key",
            "spool.min_free = \"12 apples\" expected a size such as \"64 MiB\", found \"12 apples\"",
            "spool.dri is not a known key, did you mean `dir`?",
            "camera[0].id = \"Front Door\" expected 1 to 32 of a-z, 0-9 and '-', not starting with '-', found \"Front Door\"",
            "camera[0].transport = \"carrier pigeon\" must be one of \"tcp\", \"udp\", \"auto\"",
            "camera[0].url = \"http://10.0.0.5\" must be an address such as rtsp://192.168.1.20:554/stream1",
            "camera[0].recording.mode = 7 must be one of \"motion\", \"continuous\", \"off\"",
            "camera[0].recording.pre_roll = \"2 days\" must be a time such as \"5 s\", \"500 ms\" or \"2 min\"",
            "camera[0].motion.sensitivity = 11 must be a whole number from 1 to 10",
            "camera[0].motion.fps = 0 must be a number from 1 to 30",
            "camera[0].motion.decode = \"never\" must be one of \"on_demand\", \"all\"",
            "camera[0].motion.include[0].points = a list of 3 must have corners from 0.0 to 1.0 (share of width and height)",
            "camera[1].url give exactly one of url (RTSP), device (V4L2), file, test = true",
        ]
    );
}

#[test]
fn a_broken_file_names_line_and_column() {
    assert!(
        faults("a = 1\nb = = 2")[0].starts_with("line 2, column 5 is not TOML"),
        "{:?}",
        faults("a = 1\nb = = 2")
    );
}

#[test]
fn two_cameras_of_one_name_are_a_fault() {
    let two = "[[camera]]\nid = \"a\"\ntest = true\n[[camera]]\nid = \"a\"\ntest = true";
    assert_eq!(
        faults(two),
        ["camera[1].id = a is used by another camera already"]
    );
}

#[test]
fn a_password_in_the_address_is_taken_out_and_never_shown() {
    let config =
        parse("[[camera]]\nid = \"a\"\nurl = \"rtsp://admin:s3cr%40t@10.0.0.5/live\"").unwrap();
    let SourceConfig::Rtsp {
        url,
        user,
        password,
        ..
    } = &config.cameras[0].main
    else {
        panic!()
    };
    assert_eq!(url.as_str(), "rtsp://10.0.0.5/live");
    assert_eq!(user.as_deref(), Some("admin"));
    assert_eq!(password.as_ref().unwrap().expose(), "s3cr@t");
    assert!(!format!("{config:?}").contains("s3cr"));
}

#[test]
fn a_password_may_stand_beside_the_address() {
    let text =
        "[[camera]]\nid = \"a\"\nurl = \"rtsp://10.0.0.5/live\"\nuser = \"u\"\npassword = \"p\"";
    let config = parse(text).unwrap();
    let SourceConfig::Rtsp { password, .. } = &config.cameras[0].main else {
        panic!()
    };
    assert_eq!(password.as_ref().map(Secret::expose), Some("p"));
}

#[test]
fn clips_by_motion_need_motion() {
    let text = "[[camera]]\nid = \"a\"\ntest = true\n[camera.motion]\nenabled = false";
    assert!(faults(text)[0].starts_with("camera[0].motion.enabled = false needs recording.mode"));
}

#[test]
fn faults_show_no_password() {
    for text in [
        "[[camera]]\nid = \"a\"\nurl = \"http://admin:canary@10.0.0.5/live\"",
        "[[camera]]\nid = \"a\"\nurl = \"rtsp://admin:can/ary@10.0.0.5:x/live\"",
        "[[camera]]\nid = \"a\"\ntest = true\npasword = \"canary\"",
        "[[camera]]\nid = \"a\"\ntest = true\npassword = [\"canary\"]",
        "[[camera]]\nid = \"a\"\npassword = \"canary\" \"x\"",
    ] {
        let shown = faults(text).join("\n");
        assert!(
            !shown.contains("canary") && !shown.contains("can/ary"),
            "{shown}"
        );
    }
}

#[test]
fn a_password_file_that_is_not_there_is_a_fault() {
    let text = "[[camera]]\nid = \"a\"\nurl = \"rtsp://h/\"\npassword_file = \"/nowhere\"";
    assert_eq!(
        faults(text),
        ["camera[0].password_file = /nowhere cannot be read: no such file"]
    );
}

proptest! {
    #[test]
    fn no_text_panics(text in ".{0,400}") {
        let _ = parse(&text);
    }

    #[test]
    fn no_value_of_any_key_panics(
        section in prop::sample::select(vec!["", "[spool]", "[cloud]", "[[camera]]", "[camera.motion]", "[[camera.motion.include]]"]),
        key in prop::sample::select(vec!["id", "url", "state_dir", "min_free", "points", "fps", "pre_roll", "camera", "motion"]),
        value in prop::sample::select(vec!["1", "-1", "1e300", "nan", "\"\"", "\"x\"", "[]", "[[]]", "{}", "true", "1979-05-27"]),
    ) {
        let _ = parse(&format!("{section}\n{key} = {value}\n"));
    }
}
