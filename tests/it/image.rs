//! What the image's first start does with an installer's network settings, in directories; the whole of it in a machine is
//! `vm::arm64`.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

struct Card(tempfile::TempDir);

impl Card {
    fn new() -> Card {
        let card = Card(tempfile::tempdir().unwrap());
        for sub in ["boot", "etc/systemd/network"] {
            std::fs::create_dir_all(card.path(sub)).unwrap();
        }
        card
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn read(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.path(name)).ok()
    }

    /// What it printed; the same, and no more, is what the card tells.
    fn starts(&self) -> String {
        let script = "cross/image/files/usr/lib/sentrycam-image/network";
        let output = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join(script))
            .arg(self.path("boot"))
            .env("SENTRYCAM_ROOT", self.0.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8(output.stdout).unwrap();
        let told = self.read("boot/sentrycam-network-result.txt").unwrap();
        assert_eq!(told.replace('\r', ""), said);
        said
    }
}

const SETTINGS: &str = "boot/sentrycam-network.txt";
const WIFI: &str = "etc/wpa_supplicant/wpa_supplicant-wlan0.conf";
const FIXED: &str = "etc/systemd/network/50-installer.network";

#[test]
fn wifi_and_a_fixed_address_are_taken_over_and_the_password_leaves_the_card() {
    let card = Card::new();
    // As an editor on a PC writes it; name and password have what could break out of quotes.
    card.put(
        SETTINGS,
        "\u{feff}# mine\r\nwifi_name = Caf\u{e9} \"1\"\r\nwifi_password=p\"a = b#c\r\nwifi_country=DE\r\n\
         address = 10.0.2.77/24\r\ngateway=10.0.2.2\r\ndns = 10.0.2.3 9.9.9.9\r\nhostname=door-7\r\n",
    );
    let said = card.starts();
    assert!(
        said.contains("taken over") && !said.contains("b#c"),
        "{said}"
    );
    assert_eq!(card.read(SETTINGS), None);
    let wifi = card.read(WIFI).unwrap();
    for line in [
        "country=DE\n",
        "ssid=436166c3a920223122\n",
        "psk=22e50351f7eece1c22d72a0d318673fd830a8da7cdf575b376a3c718d5d3985e\n",
    ] {
        assert!(wifi.contains(line), "{wifi}");
    }
    let meta = std::fs::metadata(card.path(WIFI)).unwrap();
    assert_eq!(meta.permissions().mode() & 0o777, 0o600);
    let fixed = card.read(FIXED).unwrap();
    for line in [
        "Type=wlan\n",
        "Address=10.0.2.77/24\n",
        "DNS=9.9.9.9\n",
        "Gateway=10.0.2.2\n",
    ] {
        assert!(fixed.contains(line), "{fixed}");
    }
    assert_eq!(card.read("etc/hostname").unwrap(), "door-7\n");
    // Another day the box gets a cable, and an address by DHCP.
    card.put(SETTINGS, "# nothing\n");
    card.starts();
    assert_eq!((card.read(WIFI), card.read(FIXED)), (None, None));
    // The example of IEEE 802.11i.
    card.put(
        SETTINGS,
        "wifi_name=IEEE\nwifi_password=password\nwifi_country=DE\n",
    );
    card.starts();
    let key = "f42c6fc52df0ebef9ebb4b90b38a5f902e83fe1b135a70e23aed762e9710a12e";
    assert!(card.read(WIFI).unwrap().contains(key));
    // The cable can have a fixed address, too.
    card.put(SETTINGS, "address = 192.168.1.5/24\n");
    card.starts();
    assert!(card.read(FIXED).unwrap().contains("Type=ether\n"));
}

#[test]
fn faulty_network_settings_change_nothing_and_each_fault_is_told_but_no_secret() {
    let card = Card::new();
    card.put(FIXED, "# before\n");
    let text = "wifi_name=x\nwifi_pass=hunter2hunter2\nhunter2\nwifi_country=de\naddress=300.1.1.1/24\n\
                gateway=1.2.3\ndns=a.b.c.d\nhostname=Door\n";
    card.put(SETTINGS, text);
    let said = card.starts();
    for fault in [
        "line 2:",
        "line 3:",
        "wifi_password:",
        "wifi_country:",
        "address:",
        "gateway:",
        "dns:",
        "hostname:",
    ] {
        assert!(said.contains(fault), "{fault} {said}");
    }
    assert!(
        said.contains("NOT taken over") && !said.contains("hunter2"),
        "{said}"
    );
    assert_eq!(card.read(SETTINGS).unwrap(), text);
    assert_eq!(card.read(FIXED).unwrap(), "# before\n");
}

#[test]
fn a_public_key_opens_ssh_and_nothing_else_does() {
    let card = Card::new();
    let (file, keys) = ("boot/sentrycam-ssh.txt", "root/.ssh/authorized_keys");
    card.put(file, "password\n");
    assert!(card.starts().contains("no public key"));
    assert_eq!(card.read(keys), None);
    let key = format!("ssh-ed25519 AAAA{} me@pc\r\n", "C3NzaC1lZDI1NTE5".repeat(4));
    card.put(file, &key);
    card.starts();
    assert_eq!(card.read(keys).unwrap(), key.replace('\r', ""));
    assert_eq!(card.read(file), None);
}
