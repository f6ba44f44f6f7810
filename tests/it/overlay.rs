//! A stock card's boot partition that was prepared by `cross/flash-overlay`, and its first start, in directories.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const CMDLINE: &str = "console=tty1 root=PARTUUID=1-02 rootwait quiet";

struct Card(tempfile::TempDir);

impl Card {
    /// As Raspberry Pi OS writes it.
    fn new() -> Card {
        let card = Card(tempfile::tempdir().unwrap());
        std::fs::create_dir(card.path("boot")).unwrap();
        card.put("boot/cmdline.txt", &format!("{CMDLINE}\n"));
        card.put("sentrycam_1.2.3-1_arm64.deb", "a package");
        card
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn overlay(&self, more: &[PathBuf]) -> Output {
        Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("cross/flash-overlay"))
            .arg(self.path("boot"))
            .arg(self.path("sentrycam_1.2.3-1_arm64.deb"))
            .args(more)
            .output()
            .unwrap()
    }

    fn first_start(&self, script: &str) {
        let status = Command::new("sh")
            .arg(self.path(script))
            .env("SENTRYCAM_ROOT", self.path("root"))
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// What the first start leaves: a unit that installs the package, and a card that starts as ever.
    fn is_installed(&self) {
        let deb = self.read("root/var/lib/sentrycam-install/sentrycam_1.2.3-1_arm64.deb");
        assert_eq!(deb, "a package");
        let wanted = "root/etc/systemd/system/multi-user.target.wants/sentrycam-install.service";
        assert!(self.read(wanted).contains("apt-get"));
        assert!(!self.path("boot/sentrycam_1.2.3-1_arm64.deb").exists());
    }
}

#[test]
fn a_stock_card_installs_the_package_at_its_first_start_and_only_then() {
    let card = Card::new();
    card.put("my.toml", "# mine");
    card.put("code", "WDJB-MJHT");
    for _ in 0..2 {
        let output = card.overlay(&[card.path("my.toml"), card.path("code")]);
        assert!(output.status.success(), "{output:?}");
    }
    let cmdline = card.read("boot/cmdline.txt");
    assert_eq!(cmdline.lines().count(), 1);
    assert_eq!(cmdline.matches("systemd.run=").count(), 1, "{cmdline}");
    assert!(cmdline.starts_with(CMDLINE), "{cmdline}");
    assert_eq!(card.read("boot/sentrycam.toml"), "# mine");
    assert_eq!(card.read("boot/sentrycam-claim.txt"), "WDJB-MJHT");
    card.first_start("boot/sentrycam-firstrun.sh");
    card.is_installed();
    assert_eq!(card.read("boot/cmdline.txt").trim_end(), CMDLINE);
}

#[test]
fn what_raspberry_pi_imager_has_set_is_kept() {
    let card = Card::new();
    let imager = "systemd.run=/boot/firstrun.sh systemd.run_success_action=reboot systemd.unit=kernel-command-line.target";
    card.put("boot/cmdline.txt", &format!("{CMDLINE} {imager}\n"));
    let hostname = card.path("hostname");
    let script = format!("#!/bin/bash\necho box >{}\n", hostname.display());
    card.put("boot/firstrun.sh", &script);
    for _ in 0..2 {
        assert!(card.overlay(&[]).status.success());
    }
    assert!(card.read("boot/cmdline.txt").contains(imager));
    card.first_start("boot/firstrun.sh");
    card.is_installed();
    assert_eq!(card.read("hostname"), "box\n");
}

#[test]
fn what_is_not_a_boot_partition_is_refused() {
    let card = Card::new();
    std::fs::remove_file(card.path("boot/cmdline.txt")).unwrap();
    let output = card.overlay(&[]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("has no cmdline.txt"),
        "{said}"
    );
}
