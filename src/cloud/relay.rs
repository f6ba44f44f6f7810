//! The way of a live session to its server: one connection of this machine's pipeline, carried to an address that was
//! vetted, in TLS where the protocol wants it.
//!
//! GStreamer's sinks resolve names and trust certificates by themselves. Here they are given a port of this machine that
//! takes one connection; so the address rule, rustls and the time limits hold for all of them, and the bytes that
//! the server took are counted where they leave. A server that takes nothing for [`LONGEST_WRITE`] is gone.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

const STEP: Duration = Duration::from_secs(5);
/// A server that takes no bytes for this long is gone.
pub const LONGEST_WRITE: Duration = Duration::from_secs(10);
/// The pipeline connects at once; one that does not is broken.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// What is under way inside; the kernel's buffers come on top. When full, the pipeline waits and drops pictures.
const CHUNK: usize = 32 << 10;

/// What comes within this goes on in one piece: a sink writes a picture in several, and each would wake this task and
/// the server.
const GATHER: Duration = Duration::from_millis(10);

/// Why nothing is carried any more.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// No connection, or no TLS.
    #[error("cannot connect: {0}")]
    Unreachable(String),
    /// The server ended it.
    #[error("the server closed the connection")]
    Closed,
    /// The server reads nothing.
    #[error("the server takes nothing")]
    Stalled,
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(io::Error),
    /// The pipeline did not come, or went.
    #[error("the pipeline closed the connection")]
    Pipeline,
}

/// A second at 2 Mbit/s.
const SEND_BUFFER: usize = 256 << 10;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connected relay; nothing flows before [`Relay::carry`] runs.
pub struct Relay {
    listener: TcpListener,
    server: Box<dyn Stream>,
    sent: Arc<AtomicU64>,
}

impl Relay {
    /// Connects to one of `addresses`; in TLS for `host` where `tls` says how to trust.
    ///
    /// # Errors
    /// [`RelayError::Unreachable`], within 15 s.
    pub async fn open(
        host: &str,
        addresses: &[SocketAddr],
        tls: Option<ClientConfig>,
    ) -> Result<Relay, RelayError> {
        let lost = |e: &dyn std::fmt::Display| RelayError::Unreachable(e.to_string());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.map_err(|e| lost(&e))?;
        let tcp = timeout(STEP, TcpStream::connect(addresses))
            .await
            .map_err(|_| lost(&"no answer"))?
            .map_err(|e| lost(&e))?;
        // Without either it works, only slower to act or to notice.
        let _ = tcp.set_nodelay(true);
        // What waits in the kernel is old when it is seen.
        let _ = rustix::net::sockopt::set_socket_send_buffer_size(&tcp, SEND_BUFFER);
        let give_up = u32::try_from(LONGEST_WRITE.as_millis()).unwrap_or(10_000);
        let _ = rustix::net::sockopt::set_tcp_user_timeout(&tcp, give_up);
        let server: Box<dyn Stream> = match tls {
            None => Box::new(tcp),
            Some(config) => {
                let name = ServerName::try_from(host.to_owned()).map_err(|e| lost(&e))?;
                let tls = TlsConnector::from(Arc::new(config));
                let stream = timeout(STEP, tls.connect(name, tcp)).await;
                Box::new(
                    stream
                        .map_err(|_| lost(&"no TLS"))?
                        .map_err(|e| lost(&super::client::chain(&e)))?,
                )
            }
        };
        Ok(Relay {
            listener,
            server,
            sent: Arc::default(),
        })
    }

    /// Where the pipeline connects to.
    ///
    /// # Errors
    /// What the system says.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Bytes that the server took.
    pub fn sent(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.sent)
    }

    /// Carries one connection until an end; dropped, it closes both sides.
    pub async fn carry(self) -> RelayError {
        let local = match timeout(LONGEST_WAIT, self.listener.accept()).await {
            Ok(Ok((local, _))) => local,
            Ok(Err(_)) | Err(_) => return RelayError::Pipeline,
        };
        drop(self.listener);
        let _ = local.set_nodelay(true);
        let (mut from, mut back) = local.into_split();
        let (mut answers, mut server) = split(self.server);
        let up = async {
            let mut chunk = vec![0; CHUNK];
            let mut more = false;
            loop {
                if !more {
                    // An error is met again by reading.
                    let _ = from.readable().await;
                    sleep(GATHER).await;
                }
                let n = match from.read(&mut chunk).await {
                    Ok(0) | Err(_) => return RelayError::Pipeline,
                    Ok(n) => n,
                };
                let written = async {
                    server.write_all(&chunk[..n]).await?;
                    server.flush().await
                };
                more = n == CHUNK;
                match timeout(LONGEST_WRITE, written).await {
                    Ok(Ok(())) => self.sent.fetch_add(n as u64, Relaxed),
                    Ok(Err(e)) => return RelayError::Broken(e),
                    Err(_) => return RelayError::Stalled,
                };
            }
        };
        let down = async {
            let mut chunk = vec![0; CHUNK];
            loop {
                let n = match answers.read(&mut chunk).await {
                    Ok(0) => return RelayError::Closed,
                    Ok(n) => n,
                    Err(e) => return RelayError::Broken(e),
                };
                if back.write_all(&chunk[..n]).await.is_err() {
                    return RelayError::Pipeline;
                }
            }
        };
        tokio::select! {
            end = up => end,
            end = down => end,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn pair() -> (Relay, TcpStream) {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = [server.local_addr().unwrap()];
        let relay = Relay::open("localhost", &at, None).await.unwrap();
        (relay, server.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn it_carries_both_ways_counts_and_closes_both_sides() {
        let (relay, mut server) = pair().await;
        let (at, sent) = (relay.address().unwrap(), relay.sent());
        let talk = async {
            let mut local = TcpStream::connect(at).await.unwrap();
            local.write_all(b"hello").await.unwrap();
            let mut five = [0; 5];
            server.read_exact(&mut five).await.unwrap();
            server.write_all(b"world").await.unwrap();
            local.read_exact(&mut five).await.unwrap();
            assert_eq!(&five, b"world");
            assert!(TcpStream::connect(at).await.is_err(), "one connection only");
            drop(server);
            assert_eq!(local.read(&mut five).await.unwrap_or(0), 0);
        };
        let (end, ()) = tokio::join!(relay.carry(), talk);
        assert!(matches!(end, RelayError::Closed), "{end}");
        assert_eq!(sent.load(Relaxed), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_reads_nothing_is_gone_after_ten_seconds() {
        let (relay, _server) = pair().await;
        let at = relay.address().unwrap();
        let push = async {
            let mut local = TcpStream::connect(at).await.unwrap();
            while local.write_all(&[0; 65_536]).await.is_ok() {}
        };
        let (end, ()) = tokio::join!(relay.carry(), push);
        assert!(matches!(end, RelayError::Stalled), "{end}");
    }

    #[tokio::test]
    async fn nobody_there_is_unreachable() {
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = [gone.local_addr().unwrap()];
        drop(gone);
        let end = Relay::open("localhost", &at, None).await.err().unwrap();
        assert!(matches!(end, RelayError::Unreachable(_)), "{end}");
    }
}
