//! A real MQTT v5 client over TLS, as a device has one: rumqttc on a Unix socket, our own bridge from there to TLS.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rumqttc::Transport;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnectReturnCode, Packet, PubAckReason, Publish, SubscribeReasonCode,
};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};

const PATIENCE: Duration = Duration::from_secs(40);

/// A connected client.
pub struct Mqtt {
    client: AsyncClient,
    events: EventLoop,
    _directory: tempfile::TempDir,
    bridge: tokio::task::JoinHandle<()>,
}

impl Mqtt {
    /// Connects; the code with which the broker refused otherwise.
    pub async fn connect(
        ca: &Path,
        port: u16,
        id: &str,
        user: Option<(&str, &str)>,
    ) -> Result<Self, ConnectReturnCode> {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("s");
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let connector = connector(ca);
        let bridge = tokio::spawn(async move {
            let (mut near, _) = listener.accept().await.unwrap();
            let tcp = tokio::net::TcpStream::connect(("127.0.0.1", port))
                .await
                .unwrap();
            let name = ServerName::try_from("localhost").unwrap();
            let mut far = connector.connect(name, tcp).await.unwrap();
            let _closed = tokio::io::copy_bidirectional(&mut near, &mut far).await;
        });
        let mut options = MqttOptions::new(id, socket.to_string_lossy(), 0);
        options
            .set_transport(Transport::Unix)
            .set_max_packet_size(Some(1 << 18));
        if let Some((name, password)) = user {
            options.set_credentials(name, password);
        }
        let (client, events) = AsyncClient::new(options, 16);
        let mut this = Self {
            client,
            events,
            _directory: directory,
            bridge,
        };
        match this.poll().await {
            Ok(Packet::ConnAck(_)) => Ok(this),
            Err(ConnectionError::ConnectionRefused(code)) => Err(code),
            other => panic!("{other:?}"),
        }
    }

    async fn poll(&mut self) -> Result<Packet, ConnectionError> {
        let incoming = async {
            loop {
                if let Event::Incoming(packet) = self.events.poll().await? {
                    return Ok(packet);
                }
            }
        };
        tokio::time::timeout(PATIENCE, incoming)
            .await
            .expect("the broker says nothing")
    }

    pub async fn subscribe(&mut self, filter: &str) -> SubscribeReasonCode {
        self.client
            .subscribe(filter, QoS::AtLeastOnce)
            .await
            .unwrap();
        loop {
            if let Packet::SubAck(ack) = self.poll().await.unwrap() {
                return ack.return_codes[0];
            }
        }
    }

    pub async fn publish(&mut self, topic: &str, retain: bool, payload: &[u8]) -> PubAckReason {
        self.client
            .publish(topic, QoS::AtLeastOnce, retain, payload.to_vec())
            .await
            .unwrap();
        loop {
            match self.poll().await {
                Ok(Packet::PubAck(ack)) => return ack.reason,
                Ok(_) => {}
                // rumqttc makes an error of every reason but success and 0x10.
                Err(ConnectionError::MqttState(error)) => {
                    let text = error.to_string();
                    assert!(text.contains("NotAuthorized"), "{text}");
                    return PubAckReason::NotAuthorized;
                }
                Err(other) => panic!("{other:?}"),
            }
        }
    }

    /// The next message.
    pub async fn message(&mut self) -> Publish {
        loop {
            if let Packet::Publish(publish) = self.poll().await.unwrap() {
                return publish;
            }
        }
    }

    /// Waits until the broker ends the connection.
    pub async fn ended(&mut self) {
        while self.poll().await.is_ok() {}
    }
}

impl Drop for Mqtt {
    fn drop(&mut self) {
        self.bridge.abort();
    }
}

fn connector(ca: &Path) -> tokio_rustls::TlsConnector {
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(ca).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tokio_rustls::TlsConnector::from(Arc::new(tls))
}
