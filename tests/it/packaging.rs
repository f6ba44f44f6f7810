//! What the package ships: units that are hardened and complete, a configuration that passes, dependencies that name what
//! the program asks GStreamer for, and the script that takes over an installer's files. The package itself is tried in a
//! clean Debian by `make package-test`.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use toml::Table;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

fn said(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!(
        "{}{}",
        String::from_utf8_lossy(out),
        String::from_utf8_lossy(err)
    )
}

/// `[package.metadata.deb]`.
fn package() -> Table {
    let manifest: Table = text("Cargo.toml").parse().unwrap();
    manifest["package"]["metadata"]["deb"]
        .as_table()
        .unwrap()
        .clone()
}

#[test]
fn the_exposure_of_each_unit_is_at_most_1_5() {
    for unit in ["sentrycam.service", "sentrycam-boot.service"] {
        let output = Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--threshold=15", "--no-pager"])
            .arg(root().join("systemd").join(unit))
            .output()
            .unwrap();
        let said = said(&output);
        let verdict = said.lines().last().unwrap_or_default();
        println!("{unit}: {verdict}");
        assert!(output.status.success(), "{said}");
    }
}

/// With programs that are there, since the package is not installed.
#[test]
fn systemd_finds_no_fault_in_the_units() {
    let dir = tempfile::tempdir().unwrap();
    let mut units = Vec::new();
    for unit in ["sentrycam.service", "sentrycam-boot.service"] {
        let known = text(&format!("systemd/{unit}"))
            .replace("/usr/bin/sentrycam", env!("CARGO_BIN_EXE_sentrycam"))
            .replace(
                "/usr/lib/sentrycam/boot-files",
                root().join("systemd/boot-files").to_str().unwrap(),
            );
        let path = dir.path().join(unit);
        std::fs::write(&path, known).unwrap();
        units.push(path);
    }
    let output = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .args(&units)
        .output()
        .unwrap();
    let said = said(&output);
    let ours: Vec<_> = said.lines().filter(|l| l.contains("sentrycam")).collect();
    assert!(output.status.success() && ours.is_empty(), "{said}");
}

#[test]
fn the_unit_says_what_the_package_promises() {
    let unit = text("systemd/sentrycam.service");
    for line in [
        "Type=notify",
        "Restart=always",
        "RestartPreventExitStatus=78",
        "WatchdogSec=60",
        "TimeoutStopSec=20",
        "StateDirectory=sentrycam",
        "RuntimeDirectory=sentrycam",
        "LoadCredential=secrets:/etc/sentrycam/secrets",
        "MemoryMax=70%",
    ] {
        assert!(unit.lines().any(|l| l == line), "{line}");
    }
    // Every group that the unit names is made by the package, or by Debian's base-passwd.
    let made = text("systemd/sysusers.d/sentrycam.conf");
    let groups = unit
        .lines()
        .find_map(|l| l.strip_prefix("SupplementaryGroups="));
    for group in groups.unwrap().split(' ').filter(|g| *g != "video") {
        assert!(made.contains(&format!("g {group} ")), "{group}");
    }
}

#[test]
fn the_shipped_configuration_passes() {
    let output = Command::new(env!("CARGO_BIN_EXE_sentrycam"))
        .arg("--config")
        .arg(root().join("config/sentrycam.toml"))
        .arg("check-config")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
}

/// Elements by name, as the sources ask for them.
fn elements() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for file in std::fs::read_dir(root().join("src/media")).unwrap() {
        let source = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let source = source.split("#[cfg(test)]").next().unwrap();
        for part in source.split("make(\"").skip(1) {
            found.insert(part.split('"').next().unwrap().to_owned());
        }
    }
    found.extend(["avdec_h264", "avdec_h265", "x264enc", "rtspclientsink"].map(str::to_owned));
    found
}

#[test]
fn the_dependencies_bring_every_element_that_the_program_asks_for() {
    let package = package();
    let depends = package["depends"].as_str().unwrap();
    let named: BTreeSet<&str> = depends
        .split([',', '|'])
        .filter_map(|d| d.split_whitespace().next())
        .collect();
    let elements = elements();
    assert!(elements.len() > 15, "{elements:?}");
    let needed: BTreeSet<&str> = elements
        .iter()
        .map(|e| sentrycam::media::gst::package_of(e))
        .collect();
    for package in &needed {
        assert!(named.contains(package), "{package} is not in {named:?}");
    }
    // And no plug-ins beyond those.
    let plugins = named.iter().filter(|d| d.starts_with("gstreamer1.0-"));
    for package in plugins {
        assert!(needed.contains(package), "{package} is not needed");
    }
}

#[test]
fn everything_that_is_packed_exists_and_the_changelog_is_of_this_version() {
    let package = package();
    let mut shipped = BTreeSet::new();
    for asset in package["assets"].as_array().unwrap() {
        let source = asset[0].as_str().unwrap();
        shipped.insert(source.to_owned());
        // What a build makes is looked at by tests/packages/contents.sh.
        let made = source.starts_with("target/");
        assert!(made || root().join(source).exists(), "{source}");
    }
    let mut todo = vec![PathBuf::from("systemd")];
    while let Some(path) = todo.pop() {
        if root().join(&path).is_dir() {
            let entries = std::fs::read_dir(root().join(&path)).unwrap();
            todo.extend(entries.map(|e| path.join(e.unwrap().file_name())));
        } else {
            assert!(
                shipped.contains(path.to_str().unwrap()),
                "{}",
                path.display()
            );
        }
    }
    let first = format!("sentrycam ({}-1) ", env!("CARGO_PKG_VERSION"));
    assert!(text("cross/debian/changelog").starts_with(&first));
}

/// A boot partition and a root file system, and a `chown` that needs no root.
struct Site {
    dir: tempfile::TempDir,
}

impl Site {
    fn new() -> Site {
        let dir = tempfile::tempdir().unwrap();
        for sub in [
            "boot",
            "root/etc/sentrycam",
            "root/var/lib/sentrycam",
            "bin",
        ] {
            std::fs::create_dir_all(dir.path().join(sub)).unwrap();
        }
        let chown = dir.path().join("bin/chown");
        std::fs::write(&chown, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(&chown, std::fs::Permissions::from_mode(0o755)).unwrap();
        Site { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn put(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn read(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.path(name)).ok()
    }

    fn boots(&self) -> Output {
        let path = format!(
            "{}:{}",
            self.path("bin").display(),
            std::env::var("PATH").unwrap()
        );
        let output = Command::new(root().join("systemd/boot-files"))
            .arg(self.path("boot"))
            .env("PATH", path)
            .env("SENTRYCAM_ROOT", self.path("root"))
            .env("SENTRYCAM", env!("CARGO_BIN_EXE_sentrycam"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", said(&output));
        output
    }
}

const CONFIG: &str = "root/etc/sentrycam/sentrycam.toml";

#[test]
fn an_installers_files_are_taken_over_and_their_secrets_leave_the_boot_partition() {
    let it = Site::new();
    it.put(CONFIG, "# old\n");
    // As an editor on a PC writes it.
    let camera = "[[camera]]\r\nid = \"door\"\r\nurl = \"rtsp://cam.example/\"\r\nuser = \"a\"\r\npassword = \"hunter2\"\r\n";
    it.put("boot/sentrycam.toml", &format!("\u{feff}{camera}"));
    it.put("boot/sentrycam-claim.txt", "WDJB-MJHT\r\n");
    let output = it.boots();
    assert_eq!(it.read(CONFIG).unwrap(), camera.replace('\r', ""));
    assert_eq!(it.read(&format!("{CONFIG}.before")).unwrap(), "# old\n");
    let code = "root/var/lib/sentrycam/claim-code.txt";
    assert_eq!(it.read(code).unwrap(), "WDJB-MJHT\n");
    let mode = |name: &str| {
        let meta = std::fs::metadata(it.path(name)).unwrap();
        meta.permissions().mode() & 0o777
    };
    assert_eq!((mode(CONFIG), mode(code)), (0o640, 0o600));
    assert_eq!(it.read("boot/sentrycam.toml"), None);
    assert_eq!(it.read("boot/sentrycam-claim.txt"), None);
    let result = it.read("boot/sentrycam-result.txt").unwrap();
    assert_eq!(result.matches("taken over").count(), 2, "{result}");
    assert!(!result.contains("hunter2") && !said(&output).contains("hunter2"));
    // The next start finds nothing, and says nothing.
    assert_eq!(said(&it.boots()), "");
}

#[test]
fn a_faulty_configuration_changes_nothing_and_its_faults_are_told_on_the_boot_partition() {
    let it = Site::new();
    it.put(CONFIG, "# old\n");
    it.put("boot/sentrycam.toml", "[[camera]]\nid = \"Door\"\n");
    it.boots();
    assert_eq!(it.read(CONFIG).unwrap(), "# old\n");
    assert!(it.read("boot/sentrycam.toml").is_some());
    let result = it.read("boot/sentrycam-result.txt").unwrap();
    assert!(result.contains("NOT taken over"), "{result}");
    assert!(result.contains("camera[0].id"), "{result}");
    assert_eq!(it.read("root/etc/sentrycam/.trial.toml"), None);
    // Larger than any configuration.
    it.put("boot/sentrycam.toml", &"#".repeat(1 << 21));
    it.boots();
    let result = it.read("boot/sentrycam-result.txt").unwrap();
    assert!(result.contains("larger than 1 MiB"), "{result}");
}

#[test]
fn a_link_where_the_code_will_be_is_not_followed() {
    let it = Site::new();
    it.put("target", "untouched");
    let link = it.path("root/var/lib/sentrycam/claim-code.txt.new");
    std::os::unix::fs::symlink(it.path("target"), link).unwrap();
    it.put("boot/sentrycam-claim.txt", "WDJB-MJHT\n");
    it.boots();
    assert_eq!(it.read("target").unwrap(), "untouched");
    let code = "root/var/lib/sentrycam/claim-code.txt";
    assert_eq!(it.read(code).unwrap(), "WDJB-MJHT\n");
}
