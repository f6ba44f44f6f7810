//! The machine's restart, asked of logind over D-Bus: no shell, no setuid, and polkit decides whether we may.

use zbus::connection::Builder;

/// logind on the system bus, which `DBUS_SYSTEM_BUS_ADDRESS` may move.
#[derive(Debug, Clone, Default)]
pub struct Logind {
    address: Option<String>,
}

/// Why the machine is not restarted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotRestarted(String);

impl Logind {
    /// On another bus, as a test has one.
    pub fn at(address: impl Into<String>) -> Logind {
        Logind {
            address: Some(address.into()),
        }
    }

    /// Asks for a restart; answers once logind has agreed, which is before it happens.
    ///
    /// # Errors
    /// No bus, no logind, or polkit refuses.
    pub async fn reboot(&self) -> Result<(), NotRestarted> {
        let refused = |e: zbus::Error| NotRestarted(e.to_string());
        let builder = match &self.address {
            Some(address) => Builder::address(address.as_str()),
            None => Builder::system(),
        };
        let bus = builder.map_err(refused)?.build().await.map_err(refused)?;
        let (name, path) = ("org.freedesktop.login1", "/org/freedesktop/login1");
        let manager = Some("org.freedesktop.login1.Manager");
        // Not interactive: there is nobody who could type a password.
        bus.call_method(Some(name), path, manager, "Reboot", &(false,))
            .await
            .map_err(refused)?;
        Ok(())
    }
}
