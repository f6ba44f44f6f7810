//! The files of a private broker: its configuration, the first state of the dynamic security plugin, and the
//! cloud's own logins. Secrets are in files of mode 0600 from their first byte; no password is ever an argument of
//! a process.

use std::io::{self, Write};
use std::num::NonZeroU32;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use base64::prelude::{BASE64_STANDARD, Engine};
use ring::pbkdf2;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::BrokerError;
use crate::secret::{random, random_base64url};

/// Rounds that the plugin itself uses; the passwords have 256 random bits.
const ITERATIONS: u32 = 101;

/// A user of the broker.
#[derive(Clone, Serialize, Deserialize)]
pub struct Login {
    /// User name.
    pub username: String,
    /// The password, in clear.
    pub password: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Login({}, ***)", self.username)
    }
}

/// The cloud's own users.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Logins {
    /// Makes and deletes clients; no device's topics but to clear what is retained.
    pub admin: Login,
    /// Speaks to devices.
    pub cloud: Login,
}

/// Reads the logins of an earlier start, or makes them with the plugin's first state.
pub(super) fn prepare(directory: &Path) -> Result<Logins, BrokerError> {
    let (logins, clients) = (directory.join("logins.json"), directory.join("ds.json"));
    if logins.exists() && clients.exists() {
        let known = serde_json::from_slice(&std::fs::read(&logins)?).map_err(io::Error::other)?;
        // The plugin writes its file anew, by the umask.
        std::fs::set_permissions(&clients, std::fs::Permissions::from_mode(0o600))?;
        return Ok(known);
    }
    let login = |username: &str| -> Result<Login, BrokerError> {
        Ok(Login {
            username: username.to_owned(),
            password: random_base64url::<32>()?,
        })
    };
    let made = Logins {
        admin: login("cloud-admin")?,
        cloud: login("cloud")?,
    };
    write_private(&clients, first_state(&made)?.to_string().as_bytes())?;
    write_private(&logins, json!(made).to_string().as_bytes())?;
    Ok(made)
}

pub(super) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    file.write_all(bytes)
}

fn first_state(logins: &Logins) -> Result<Value, BrokerError> {
    let acl = |kind: &str, topic: &str| json!({ "acltype": kind, "topic": topic, "allow": true });
    let control = "$CONTROL/dynamic-security/#";
    Ok(json!({
        "clients": [client(&logins.admin, "admin")?, client(&logins.cloud, "cloud")?],
        "roles": [
            { "rolename": "admin", "acls": [
                acl("publishClientSend", control),
                acl("publishClientReceive", control),
                acl("subscribePattern", control),
                // To clear what is retained of a device that was given back.
                acl("publishClientSend", "edge/v1/+/down/twin"),
                acl("publishClientSend", "edge/v1/+/up/twin"),
                acl("publishClientSend", "edge/v1/+/up/state"),
            ] },
            { "rolename": "cloud", "acls": [
                acl("publishClientSend", "edge/v1/+/down/#"),
                acl("publishClientReceive", "edge/v1/+/up/#"),
                acl("subscribePattern", "edge/v1/+/up/#"),
            ] },
        ],
        "defaultACLAccess": {
            "publishClientSend": false, "publishClientReceive": false, "subscribe": false, "unsubscribe": true,
        },
    }))
}

fn client(login: &Login, role: &str) -> Result<Value, BrokerError> {
    let salt: [u8; 12] = random()?;
    let mut hash = [0; 64];
    let rounds = NonZeroU32::new(ITERATIONS).unwrap_or(NonZeroU32::MIN);
    let password = login.password.as_bytes();
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA512,
        rounds,
        &salt,
        password,
        &mut hash,
    );
    Ok(json!({
        "username": login.username,
        "password": BASE64_STANDARD.encode(hash),
        "salt": BASE64_STANDARD.encode(salt),
        "iterations": ITERATIONS,
        "roles": [{ "rolename": role }],
    }))
}

/// Section 5.4. The socket comes last: when it answers, every listener is there.
pub(super) fn configuration(directory: &Path, plugin: &Path, port: u16) -> String {
    let (directory, plugin) = (directory.display(), plugin.display());
    format!(
        "# Written at each start.\n\
         user root\n\
         per_listener_settings false\n\
         allow_anonymous false\n\
         plugin {plugin}\n\
         plugin_opt_config_file {directory}/ds.json\n\
         persistence true\n\
         persistence_location {directory}/\n\
         autosave_interval 30\n\
         max_packet_size 262144\n\
         max_queued_messages 1000\n\
         max_inflight_messages 8\n\
         set_tcp_nodelay true\n\
         log_dest file {directory}/log\n\
         log_timestamp_format %Y-%m-%dT%H:%M:%S\n\
         listener {port} 127.0.0.1\n\
         certfile {directory}/cert.pem\n\
         keyfile {directory}/key.pem\n\
         tls_version tlsv1.2\n\
         listener 0 {directory}/mqtt.sock\n"
    )
}
