//! The way to the broker: names resolved, TCP, TLS; each step bounded in time.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Broker, Wire, WireError, codec};
use crate::cloud::client::chain;
use crate::cloud::credentials::MqttAccount;
use crate::link::{Incoming, Outgoing};

const STEP: Duration = Duration::from_secs(5);
/// The kernel gives a connection up on which nothing was acknowledged for this long.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);
/// A peer that takes no bytes for this long is gone.
const LONGEST_WRITE: Duration = Duration::from_secs(10);
const READ_CHUNK: usize = 4096;

/// The broker of the credentials file, by MQTT over TLS.
#[derive(Clone)]
pub struct Mqtts {
    account: Arc<MqttAccount>,
    tls: TlsConnector,
    longest_write: Duration,
}

impl Mqtts {
    /// Trusts as `tls` says; a write takes no longer than a keep-alive.
    pub fn new(account: MqttAccount, tls: ClientConfig, keep_alive: Duration) -> Mqtts {
        Mqtts {
            account: Arc::new(account),
            tls: TlsConnector::from(Arc::new(tls)),
            longest_write: LONGEST_WRITE.min(keep_alive),
        }
    }
}

impl Broker for Mqtts {
    type Wire = MqttsWire;

    async fn connect(&self) -> Result<MqttsWire, WireError> {
        let (host, port) = (self.account.host.as_str(), self.account.port);
        let lost = |what: &str, e: &dyn std::fmt::Display| {
            WireError::Lost(format!("{what} {host}:{port}: {e}"))
        };
        let name = ServerName::try_from(host.to_owned()).map_err(|e| lost("cannot name", &e))?;
        let addresses = timeout(STEP, tokio::net::lookup_host((host, port)))
            .await
            .map_err(|_| lost("cannot resolve", &"no answer"))?
            .map_err(|e| lost("cannot resolve", &e))?;
        let addresses: Vec<_> = addresses.collect();
        let tcp = timeout(STEP, TcpStream::connect(&addresses[..]))
            .await
            .map_err(|_| lost("cannot connect to", &"no answer"))?
            .map_err(|e| lost("cannot connect to", &e))?;
        // Without either it works, only slower to act or to notice.
        let _ = tcp.set_nodelay(true);
        let give_up = u32::try_from(TCP_USER_TIMEOUT.as_millis()).unwrap_or(30_000);
        let _ = rustix::net::sockopt::set_tcp_user_timeout(&tcp, give_up);
        let stream = timeout(STEP, self.tls.connect(name, tcp))
            .await
            .map_err(|_| lost("no TLS with", &"no answer"))?
            .map_err(|e| lost("no TLS with", &chain(&e)))?;
        Ok(MqttsWire {
            stream,
            account: Arc::clone(&self.account),
            longest_write: self.longest_write,
            read: BytesMut::with_capacity(READ_CHUNK),
            written: BytesMut::with_capacity(READ_CHUNK),
        })
    }
}

/// A TLS connection with the broker.
pub struct MqttsWire {
    stream: TlsStream<TcpStream>,
    account: Arc<MqttAccount>,
    longest_write: Duration,
    read: BytesMut,
    written: BytesMut,
}

impl Wire for MqttsWire {
    async fn send(&mut self, packet: Outgoing) -> Result<(), WireError> {
        let last = packet == Outgoing::Disconnect;
        self.written.clear();
        codec::encode(packet, &self.account, &mut self.written)?;
        let write = async {
            self.stream.write_all(&self.written).await?;
            if last {
                self.stream.shutdown().await
            } else {
                self.stream.flush().await
            }
        };
        timeout(self.longest_write, write)
            .await
            .map_err(|_| WireError::Lost("the broker takes no bytes".into()))?
            .map_err(|e| WireError::Lost(format!("the connection broke: {}", chain(&e))))
    }

    async fn recv(&mut self) -> Result<Incoming, WireError> {
        loop {
            if let Some(packet) = codec::decode(&mut self.read)? {
                return Ok(packet);
            }
            self.read.reserve(READ_CHUNK);
            match self.stream.read_buf(&mut self.read).await {
                Ok(0) => return Err(WireError::Closed),
                Ok(_) => {}
                Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
                    return Err(WireError::Lost("the connection broke".into()));
                }
                Err(e) => {
                    return Err(WireError::Lost(format!(
                        "the connection broke: {}",
                        chain(&e)
                    )));
                }
            }
        }
    }
}
