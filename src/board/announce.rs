//! Tells the local network that a claim window is open (mDNS, `_sentrycam._tcp`): state and id, no secret. The
//! service has no port to connect to; whoever sees it knows that this box waits for its owner, and which it is.

use mdns_sd::{ServiceDaemon, ServiceInfo};

const SERVICE: &str = "_sentrycam._tcp.local.";
/// The discard port: nothing listens.
const PORT: u16 = 9;

/// Announces until it is dropped.
pub struct Announcement {
    daemon: ServiceDaemon,
    name: String,
}

impl Announcement {
    /// Begins; interfaces come and go by themselves.
    ///
    /// # Errors
    /// No socket can be had; the text says why.
    pub fn start(id: &str, state: &str, model: &str) -> Result<Announcement, String> {
        Self::on(
            ServiceDaemon::new().map_err(|e| e.to_string())?,
            id,
            state,
            model,
        )
    }

    fn on(
        daemon: ServiceDaemon,
        id: &str,
        state: &str,
        model: &str,
    ) -> Result<Announcement, String> {
        let instance = format!("sentrycam-{id}");
        let host = format!("{instance}.local.");
        let model: String = model.chars().take(100).collect();
        let facts = [("v", "1"), ("state", state), ("id", id), ("model", &model)];
        let info = ServiceInfo::new(SERVICE, &instance, &host, "", PORT, &facts[..])
            .map_err(|e| e.to_string())?
            .enable_addr_auto();
        let name = info.get_fullname().to_owned();
        daemon.register(info).map_err(|e| e.to_string())?;
        Ok(Announcement { daemon, name })
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        // Says goodbye on the network; the library's thread ends by itself.
        let _ = self.daemon.unregister(&self.name);
        let _ = self.daemon.shutdown();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mdns_sd::ServiceEvent;

    use super::*;

    /// On a port of its own, so that it meets nobody else's announcements.
    #[test]
    fn who_looks_for_it_finds_state_and_id() {
        let port = 40_000 + (std::process::id() % 20_000) as u16;
        let ours = ServiceDaemon::new_with_port(port).unwrap();
        let _announced = Announcement::on(ours, "1a2b3c4d", "open", "Raspberry Pi 4").unwrap();
        let theirs = ServiceDaemon::new_with_port(port).unwrap();
        let events = theirs.browse(SERVICE).unwrap();
        let found = loop {
            match events.recv_timeout(Duration::from_secs(20)).unwrap() {
                ServiceEvent::ServiceResolved(info) => break info,
                _ => continue,
            }
        };
        let value = |key: &str| found.get_property_val_str(key).map(str::to_owned);
        assert_eq!(value("state").as_deref(), Some("open"));
        assert_eq!(value("id").as_deref(), Some("1a2b3c4d"));
        assert!(found.get_fullname().starts_with("sentrycam-1a2b3c4d."));
        let _ = theirs.shutdown();
    }
}
