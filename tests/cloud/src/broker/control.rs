//! Makes and deletes the broker's clients over the plugin's control topic, as the cloud's admin.
//!
//! Each call is one short connection over the broker's Unix socket: nothing is kept that a restart of the broker
//! could break. A device's client may connect only as its `edge_id` and has one role with its own topics; `%u`
//! patterns inside roles need Mosquitto 2.1.

use std::path::PathBuf;
use std::time::Duration;

use rumqttc::Transport;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions};
use serde_json::{Value, json};
use uuid::Uuid;

use super::Login;

const COMMANDS: &str = "$CONTROL/dynamic-security/v1";
const ANSWERS: &str = "$CONTROL/dynamic-security/v1/response";
/// How long one call may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why the broker did not do it.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// It cannot be reached, or broke off.
    #[error("the broker cannot be reached")]
    Connection(#[from] Box<ConnectionError>),
    /// It did not answer in time.
    #[error("the broker did not answer in time")]
    Timeout,
    /// The plugin refused a command.
    #[error("the broker refused {command}: {error}")]
    Refused {
        /// Which.
        command: String,
        /// What it said.
        error: String,
    },
}

/// The admin's end of the control topic.
#[derive(Debug, Clone)]
pub struct Control {
    socket: PathBuf,
    login: Login,
}

impl Control {
    /// Names the broker's socket and the admin's login; nothing is connected yet.
    pub fn new(socket: PathBuf, login: Login) -> Self {
        Self { socket, login }
    }

    /// Makes a device's client and role; one that was there is replaced and disconnected.
    ///
    /// # Errors
    /// When the broker cannot be reached; doing it again is safe.
    pub async fn add_device(&self, edge_id: &str, password: &str) -> Result<(), ControlError> {
        let topic = |rest: &str| format!("edge/v1/{edge_id}/{rest}");
        let acl = |kind: &str, rest: &str| json!({ "acltype": kind, "topic": topic(rest), "allow": true });
        self.run(vec![
            json!({ "command": "deleteClient", "username": edge_id }),
            json!({ "command": "deleteRole", "rolename": edge_id }),
            json!({ "command": "createRole", "rolename": edge_id, "acls": [
                acl("publishClientSend", "up/state"),
                acl("publishClientSend", "up/cmd/+/status"),
                acl("publishClientSend", "up/twin"),
                acl("publishClientSend", "up/hint"),
                acl("subscribePattern", "down/#"),
                acl("publishClientReceive", "down/#"),
            ] }),
            json!({ "command": "createClient", "username": edge_id, "clientid": edge_id, "password": password,
                    "roles": [{ "rolename": edge_id }] }),
        ], &[])
        .await
    }

    /// Disconnects a device's client, deletes it with its role, and clears what is retained for it.
    ///
    /// # Errors
    /// When the broker cannot be reached; doing it again is safe.
    pub async fn remove_device(&self, edge_id: &str) -> Result<(), ControlError> {
        let retained =
            ["down/twin", "up/twin", "up/state"].map(|rest| format!("edge/v1/{edge_id}/{rest}"));
        self.run(
            vec![
                json!({ "command": "disableClient", "username": edge_id }),
                json!({ "command": "deleteClient", "username": edge_id }),
                json!({ "command": "deleteRole", "rolename": edge_id }),
            ],
            &retained,
        )
        .await
    }

    /// Refuses a device's client from now on and disconnects it; or lets it in again.
    ///
    /// # Errors
    /// When the broker cannot be reached or there is no such client.
    pub async fn enable_device(&self, edge_id: &str, enabled: bool) -> Result<(), ControlError> {
        let command = if enabled {
            "enableClient"
        } else {
            "disableClient"
        };
        self.run(
            vec![json!({ "command": command, "username": edge_id })],
            &[],
        )
        .await
    }

    /// The user names of all clients.
    ///
    /// # Errors
    /// When the broker cannot be reached.
    pub async fn clients(&self) -> Result<Vec<String>, ControlError> {
        let answers = self
            .call(vec![json!({ "command": "listClients" })], &[])
            .await?;
        let names = answers
            .first()
            .and_then(|answer| answer["data"]["clients"].as_array());
        Ok(names
            .into_iter()
            .flatten()
            .filter_map(|name| Some(name.as_str()?.to_owned()))
            .collect())
    }

    /// Runs commands; deleting or disabling what is not there is what was wanted.
    async fn run(&self, commands: Vec<Value>, clear: &[String]) -> Result<(), ControlError> {
        for answer in self.call(commands, clear).await? {
            let command = answer["command"].as_str().unwrap_or_default();
            let Some(error) = answer["error"].as_str() else {
                continue;
            };
            let absent = error.ends_with("not found") && command != "enableClient";
            if !absent {
                return Err(ControlError::Refused {
                    command: command.to_owned(),
                    error: error.to_owned(),
                });
            }
        }
        Ok(())
    }

    async fn call(
        &self,
        commands: Vec<Value>,
        clear: &[String],
    ) -> Result<Vec<Value>, ControlError> {
        let mut options = MqttOptions::new(
            format!("cloud-admin-{}", Uuid::now_v7().simple()),
            self.socket.to_string_lossy(),
            0,
        );
        options
            .set_transport(Transport::Unix)
            .set_credentials(&self.login.username, &self.login.password)
            .set_max_packet_size(Some(1 << 20))
            .set_clean_start(true);
        let (client, events) = AsyncClient::new(options, 16);
        let talk = converse(client, events, json!({ "commands": commands }), clear);
        tokio::time::timeout(PATIENCE, talk)
            .await
            .map_err(|_| ControlError::Timeout)?
    }
}

/// Subscribe, publish, wait for the answer, clear, disconnect.
async fn converse(
    client: AsyncClient,
    mut events: EventLoop,
    commands: Value,
    clear: &[String],
) -> Result<Vec<Value>, ControlError> {
    // The channel has room for everything that is sent here.
    let _room = client.try_subscribe(ANSWERS, QoS::AtLeastOnce);
    let mut answers = None;
    let mut cleared = 0;
    loop {
        let Event::Incoming(packet) = events.poll().await.map_err(Box::new)? else {
            continue;
        };
        match packet {
            Packet::SubAck(_) => {
                let _room =
                    client.try_publish(COMMANDS, QoS::AtMostOnce, false, commands.to_string());
            }
            Packet::Publish(publish)
                if answers.is_none() && publish.topic == ANSWERS.as_bytes() =>
            {
                let mut answer: Value =
                    serde_json::from_slice(&publish.payload).unwrap_or_default();
                let Value::Array(all) = answer["responses"].take() else {
                    return Err(ControlError::Timeout);
                };
                answers = Some(all);
                for topic in clear {
                    let _room = client.try_publish(topic, QoS::AtLeastOnce, true, Vec::new());
                }
            }
            Packet::PubAck(_) => cleared += 1,
            _ => {}
        }
        if cleared >= clear.len()
            && let Some(answers) = answers.take()
        {
            let _bye = client.try_disconnect();
            // Sends the goodbye; the broker then closes, which is an error to the loop.
            while events.poll().await.is_ok() {}
            return Ok(answers);
        }
    }
}
