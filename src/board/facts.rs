//! What this board tells of itself, so that a person recognises it in a list. Nothing here is a key to anything.

use std::net::{IpAddr, UdpSocket};
use std::path::Path;

use ring::digest;

use crate::wire::claim::Facts;

/// Reads the facts; what cannot be read is empty. `root` is `/` but in tests.
pub fn read(root: &Path) -> Facts {
    let text = |path: &str| clean(&std::fs::read(root.join(path)).unwrap_or_default());
    let first = |paths: &[&str]| {
        let found = paths.iter().map(|p| text(p));
        found
            .into_iter()
            .find(|t| !t.is_empty())
            .unwrap_or_default()
    };
    Facts {
        mac: mac(&root.join("sys/class/net")),
        serial: first(&[
            "proc/device-tree/serial-number",
            "sys/class/dmi/id/product_serial",
        ]),
        model: first(&["proc/device-tree/model", "sys/class/dmi/id/product_name"]),
    }
}

/// The address from which this machine reaches other networks; none without a route. Sends nothing: the kernel chooses
/// the address when the socket is connected (to one of TEST-NET-1, RFC 5737).
pub fn address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_unspecified())
}

/// Eight characters that stay the same on this installation and name it on the local network.
pub fn short_id(root: &Path, facts: &Facts) -> String {
    let machine = std::fs::read_to_string(root.join("etc/machine-id")).unwrap_or_default();
    let text = format!(
        "sentrycam/id\0{}\0{}\0{}",
        facts.serial,
        facts.mac,
        machine.trim()
    );
    let hash = digest::digest(&digest::SHA256, text.as_bytes());
    hash.as_ref()[..4]
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}

/// The first interface with hardware behind it.
fn mac(net: &Path) -> String {
    let mut names: Vec<_> = std::fs::read_dir(net)
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.file_name().is_some_and(|n| n != "lo"))
        .collect();
    names.sort_by_key(|p| (!p.join("device").exists(), p.clone()));
    let address = |p: &std::path::PathBuf| {
        let text = clean(&std::fs::read(p.join("address")).unwrap_or_default());
        (text.len() == 17 && text != "00:00:00:00:00:00").then_some(text)
    };
    names.iter().find_map(address).unwrap_or_default()
}

fn clean(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let shown: String = text.chars().filter(|c| !c.is_control()).take(64).collect();
    shown.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raspberry_pi_is_recognised() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        put("proc/device-tree/serial-number", "10000000c0ffee42\0");
        put("proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.5\0");
        put("sys/class/net/docker0/address", "02:42:00:00:00:01\n");
        put("sys/class/net/eth0/address", "b8:27:eb:00:00:01\n");
        put("sys/class/net/eth0/device/vendor", "");
        put("sys/class/net/lo/address", "00:00:00:00:00:00\n");
        let facts = read(root.path());
        assert_eq!(facts.serial, "10000000c0ffee42");
        assert_eq!(facts.model, "Raspberry Pi 4 Model B Rev 1.5");
        assert_eq!(facts.mac, "b8:27:eb:00:00:01");
        assert_eq!(short_id(root.path(), &facts).len(), 8);
        assert_eq!(read(Path::new("/nowhere")), Facts::default());
    }
}
