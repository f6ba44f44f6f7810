//! The connection: connect, subscribe, hand on, and on any error begin anew with a new client.

use std::time::Duration;

use rumqttc::Transport;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, Publish};
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

use super::Access;

/// Requests that wait for the socket; a full queue ends the publisher's pass, which looks again later.
const MAX_REQUESTS: usize = 1024;
/// The broker's own bound.
const MAX_PACKET: u32 = 262_144;
/// A dead broker is noticed within two of these.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// First and longest pause between attempts.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Keeps a connection for ever; `live` has the client while it stands.
pub async fn run(
    access: Access,
    live: watch::Sender<Option<AsyncClient>>,
    heard: mpsc::Sender<Publish>,
) {
    let mut pause = PAUSE.0;
    loop {
        let (client, mut events) = client(&access);
        let stood = serve(&client, &mut events, &live, &heard).await;
        let was_live = live.send_replace(None).is_some();
        if was_live {
            tracing::warn!(error = stood, "the connection to the broker broke");
            pause = PAUSE.0;
        } else {
            tracing::debug!(error = stood, "no connection to the broker");
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

fn client(access: &Access) -> (AsyncClient, EventLoop) {
    let id = format!("cloud-{}", Uuid::now_v7().simple());
    let mut options = MqttOptions::new(id, access.socket.to_string_lossy(), 0);
    options
        .set_transport(Transport::Unix)
        .set_credentials(&access.login.username, &access.login.password)
        .set_keep_alive(KEEP_ALIVE)
        .set_connection_timeout(5)
        .set_max_packet_size(Some(MAX_PACKET))
        .set_clean_start(true);
    AsyncClient::new(options, MAX_REQUESTS)
}

/// Returns why it ended.
async fn serve(
    client: &AsyncClient,
    events: &mut EventLoop,
    live: &watch::Sender<Option<AsyncClient>>,
    heard: &mpsc::Sender<Publish>,
) -> String {
    let mut dropped = 0_u64;
    loop {
        let event = match events.poll().await {
            Ok(event) => event,
            Err(error) => return error.to_string(),
        };
        match event {
            Event::Incoming(Packet::ConnAck(_)) => {
                // The queue is new and has room.
                let _room = client.try_subscribe("edge/v1/+/up/#", QoS::AtLeastOnce);
            }
            // From here on nothing that devices say is missed.
            Event::Incoming(Packet::SubAck(_)) => {
                live.send_replace(Some(client.clone()));
                tracing::info!("connected to the broker");
            }
            Event::Incoming(Packet::Publish(publish)) => {
                let sent = heard.try_send(publish);
                dropped += u64::from(sent.is_err());
                if sent.is_err() && dropped.is_power_of_two() {
                    tracing::warn!(dropped, "messages dropped: projection is behind");
                }
            }
            _ => {}
        }
    }
}
