//! A real broker, the cloud's end of it, and a link made of the agent's own parts.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rumqttc::Transport as Over;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, PublishProperties};
use rumqttc::v5::{Client as MqttClient, Event, MqttOptions};
use sentrycam::agent::link::{Deps, Inbox, Link, LinkConfig, LinkStatus, Offering, Plugs};
use sentrycam::agent::status::StatusHub;
use sentrycam::agent::twin::Report;
use sentrycam::board::clock::Clock;
use sentrycam::board::entropy::Entropy;
use sentrycam::cloud::client::{Call, ClientError, Reply, Transport};
use sentrycam::cloud::credentials::MqttAccount;
use sentrycam::cloud::mqtt::Mqtts;
use sentrycam::cloud::tls;
use sentrycam::link::Answer;
use sentrycam::model::{Class, RecordId, Secret};
use sentrycam::outbox::quota::Quotas;
use sentrycam::supervise::{Phase, Supervisor};
use sentrycam::time::{Mono, Wall};
use sentrycam_cloud::broker::{Broker, Login};
use sentrycam_cloud::cert::DevCert;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use crate::device::Device;
use crate::fixture::wait_until;

pub const EDGE: &str = "e-box";
pub const PASSWORD: &str = "a-password-of-the-box";
/// Seconds.
pub const KEEP_ALIVE: u64 = 6;

/// A message as the cloud's end saw it.
#[derive(Debug, Clone)]
pub struct Message {
    pub topic: String,
    pub payload: Vec<u8>,
}

impl Message {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.payload).unwrap()
    }
}

/// The cloud's end: reads everything that devices say, over restarts of the broker; a library's own event loop.
pub struct Peer {
    client: MqttClient,
    seen: Arc<Mutex<Vec<Message>>>,
    connected: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
}

impl Peer {
    /// Connects as `login` and listens to `filter`.
    pub fn start(broker: &Broker, login: &Login, filter: &'static str) -> Peer {
        let name = format!("peer-{}", Uuid::now_v7().simple());
        let mut options = MqttOptions::new(name, broker.socket().to_string_lossy(), 0);
        options
            .set_transport(Over::Unix)
            .set_credentials(&login.username, &login.password)
            .set_max_packet_size(Some(1 << 18))
            .set_clean_start(true);
        let (client, mut connection) = MqttClient::new(options, 1000);
        let peer = Peer {
            client: client.clone(),
            seen: Arc::default(),
            connected: Arc::default(),
            over: Arc::default(),
        };
        let (seen, connected, over) = (
            Arc::clone(&peer.seen),
            Arc::clone(&peer.connected),
            Arc::clone(&peer.over),
        );
        std::thread::spawn(move || {
            for event in connection.iter() {
                match event {
                    Ok(Event::Incoming(Packet::ConnAck(_))) => {
                        client.try_subscribe(filter, QoS::AtLeastOnce).unwrap();
                    }
                    Ok(Event::Incoming(Packet::SubAck(_))) => {
                        connected.fetch_add(1, Ordering::SeqCst);
                    }
                    Ok(Event::Incoming(Packet::Publish(p))) => seen.lock().unwrap().push(Message {
                        topic: String::from_utf8(p.topic.to_vec()).unwrap(),
                        payload: p.payload.to_vec(),
                    }),
                    Ok(_) => {}
                    Err(_) if over.load(Ordering::SeqCst) => break,
                    // The broker is away: the library connects anew at the next turn.
                    Err(_) => std::thread::park_timeout(Duration::from_millis(20)),
                }
            }
        });
        peer.listens(0);
        peer
    }

    /// The cloud itself.
    pub fn cloud(broker: &Broker) -> Peer {
        Peer::start(broker, broker.cloud(), "edge/v1/+/up/#")
    }

    /// How often it has begun to listen.
    pub fn listened(&self) -> u64 {
        self.connected.load(Ordering::SeqCst)
    }

    /// Waits until it has begun to listen more often than that.
    pub fn listens(&self, before: u64) {
        wait_until(20, "the cloud's end listens", || self.listened() > before);
    }

    pub fn publish(&self, topic: &str, retain: bool, payload: impl Into<Vec<u8>>) {
        let expiry = PublishProperties {
            message_expiry_interval: Some(600),
            ..PublishProperties::default()
        };
        self.client
            .publish_with_properties(topic, QoS::AtLeastOnce, retain, payload.into(), expiry)
            .unwrap();
    }

    /// Publishes a command.
    pub fn command(&self, payload: impl Into<Vec<u8>>) {
        self.publish(&down("cmd"), false, payload);
    }

    /// Everything on topics that end so, in order.
    pub fn on(&self, end: &str) -> Vec<Message> {
        let seen = self.seen.lock().unwrap();
        let mut there = seen.clone();
        there.retain(|m| m.topic.ends_with(end));
        there
    }

    /// What presence says, one after the other.
    pub fn presence(&self) -> Vec<Value> {
        self.on("/up/state").iter().map(Message::json).collect()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let _ = self.client.try_disconnect();
    }
}

pub fn down(what: &str) -> String {
    format!("edge/v1/{EDGE}/down/{what}")
}

/// Keeps what it is offered and says what it is told to say.
pub struct Collector {
    pub got: Mutex<Vec<Vec<u8>>>,
    pub answer: Mutex<Answer>,
}

impl Collector {
    fn new() -> Arc<Collector> {
        Arc::new(Collector {
            got: Mutex::default(),
            answer: Mutex::new(Answer::Taken),
        })
    }

    pub fn texts(&self) -> Vec<String> {
        let got = self.got.lock().unwrap();
        got.iter()
            .map(|p| String::from_utf8_lossy(p).into_owned())
            .collect()
    }
}

impl Inbox for Collector {
    fn offer(&self, payload: Vec<u8>) -> Offering<'_> {
        let answer = *self.answer.lock().unwrap();
        self.got.lock().unwrap().push(payload);
        Box::pin(std::future::ready(answer))
    }
}

/// A cloud that is never reached: nothing leaves the outbox.
#[derive(Clone)]
pub struct NoCloud;

impl Transport for NoCloud {
    fn edge_id(&self) -> &str {
        EDGE
    }

    async fn send(&self, _: &Call<'_>, _: Wall, _: [u8; 16]) -> Result<Reply, ClientError> {
        Err(ClientError::NoAnswer("there is no cloud".into()))
    }
}

/// A started device whose records only MQTT can bring anywhere.
pub fn device() -> Device<NoCloud> {
    let mut device = Device::over(tempfile::tempdir().unwrap(), NoCloud, Quotas::default());
    device.start();
    device
}

/// A link that runs; dropping it breaks its connection without a word.
pub struct Running {
    supervisor: Supervisor,
    pub status: watch::Receiver<LinkStatus>,
    pub commands: Arc<Collector>,
    pub twin: Arc<Collector>,
    pub poke: Arc<Notify>,
    pub reported: watch::Sender<Report>,
    pub away: watch::Receiver<Option<Mono>>,
}

impl Running {
    /// Links a device with the broker on `port`, as `account` says.
    pub fn start<T: Transport + Clone>(
        device: &Device<T>,
        account: MqttAccount,
        edge_id: &str,
        ca: &std::path::Path,
    ) -> Running {
        let tls = tls::client_config(Some(ca), Arc::new(|| Clock::default().system_wall()));
        let keep_alive = Duration::from_secs(KEEP_ALIVE);
        let broker = Mqtts::new(account, tls.unwrap().usual, keep_alive);
        let config = LinkConfig {
            edge_id: edge_id.into(),
            keep_alive,
        };
        let deps = Deps {
            db: device.db().clone(),
            time: device.time().clone(),
            entropy: Entropy::default(),
            ids: Arc::new(Uuid::now_v7),
            hub: StatusHub::default(),
        };
        let (reported, see) = watch::channel(Report {
            body: serde_json::Value::Null,
            provisional: None,
        });
        let (tell, away) = watch::channel(None);
        let (commands, twin, poke) = (Collector::new(), Collector::new(), Arc::<Notify>::default());
        let plugs = Plugs {
            commands: commands.clone(),
            twin: twin.clone(),
            poke: Arc::clone(&poke),
            reported: see,
            away: tell,
        };
        let link = Link::new(broker, config, deps, plugs);
        let status = link.status();
        let mut supervisor = Supervisor::default();
        let stop = supervisor.stop_token(Phase::Offline);
        supervisor.spawn(Phase::Offline, "link", link.run(stop));
        Running {
            supervisor,
            status,
            commands,
            twin,
            poke,
            reported,
            away,
        }
    }

    pub fn now(&self) -> LinkStatus {
        self.status.borrow().clone()
    }

    pub fn state(&self) -> &'static str {
        self.status.borrow().state
    }

    /// Waits for a state of the link; tells the last one where it does not come.
    pub fn wait(&self, seconds: u64, what: &str, done: impl Fn(&LinkStatus) -> bool) {
        let waited =
            std::panic::AssertUnwindSafe(|| wait_until(seconds, what, || done(&self.now())));
        if std::panic::catch_unwind(waited).is_err() {
            panic!("{what}; the link is {:?}", self.now());
        }
    }

    /// Waits until the link was up in `sessions` sessions, and is.
    pub fn up(&self, sessions: u64) {
        self.wait(30, "the link is up", |s| {
            s.state == "up" && s.sessions >= sessions
        });
    }

    /// Ends it in order; whether that was in time.
    pub async fn stop(self) -> bool {
        self.supervisor.shut_down(async {}).await.is_empty()
    }
}

/// A broker that knows the box.
pub struct Site {
    dir: TempDir,
    pub broker: Broker,
}

impl Site {
    pub async fn new() -> Site {
        let dir = tempfile::tempdir().unwrap();
        let broker = Broker::start(dir.path(), &DevCert::generate().unwrap()).unwrap();
        broker.control().add_device(EDGE, PASSWORD).await.unwrap();
        Site { dir, broker }
    }

    pub fn ca(&self) -> std::path::PathBuf {
        self.dir.path().join("ca.pem")
    }

    pub fn account(&self) -> MqttAccount {
        account(self.broker.port())
    }

    pub fn link<T: Transport + Clone>(&self, device: &Device<T>) -> Running {
        Running::start(device, self.account(), EDGE, &self.ca())
    }
}

pub fn account(port: u16) -> MqttAccount {
    MqttAccount {
        host: "localhost".into(),
        port,
        client_id: EDGE.into(),
        username: EDGE.into(),
        password: Secret::new(PASSWORD),
    }
}

/// Commits a command's state; returns the record and the topic on which it has to come.
pub async fn put_state<T: Transport + Clone>(
    device: &Device<T>,
    edge_id: &str,
) -> (RecordId, String) {
    let command = Uuid::now_v7();
    let data = json!({ "command_id": command, "rev": 1, "state": "succeeded", "detail": "" });
    let id = device.put(Class::Critical, "command.status", data).await;
    (id, format!("edge/v1/{edge_id}/up/cmd/{command}/status"))
}
