//! How far one gets towards a server: its name, its port, its certificate. For `doctor`; nothing is sent after the
//! handshake.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

/// Time for each of connecting, and reading or writing once.
const PATIENCE: Duration = Duration::from_secs(5);
/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 4;

/// Where it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stuck {
    /// The name has no address.
    Name(String),
    /// Nobody answers at any address.
    Port(String),
    /// The handshake failed.
    Tls(String),
}

/// Resolves, connects and, with `tls`, makes a handshake. Blocks, for the resolver's time and at most 40 s.
///
/// # Errors
/// [`Stuck`], with the reason for people.
pub fn reach(host: &str, port: u16, tls: ClientConfig) -> Result<SocketAddr, Stuck> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let found = (bare, port).to_socket_addrs();
    let addresses: Vec<SocketAddr> = found
        .map_err(|e| Stuck::Name(e.to_string()))?
        .take(MAX_ADDRESSES)
        .collect();
    let mut last = Stuck::Name("the name has no address".into());
    let mut open = None;
    for address in addresses {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => {
                open = Some((stream, address));
                break;
            }
            Err(e) => last = Stuck::Port(format!("{address}: {e}")),
        }
    }
    let Some((stream, address)) = open else {
        return Err(last);
    };
    handshake(stream, bare, tls).map_err(Stuck::Tls)?;
    Ok(address)
}

fn handshake(mut stream: TcpStream, host: &str, tls: ClientConfig) -> Result<(), String> {
    let text = |e: std::io::Error| e.to_string();
    stream.set_read_timeout(Some(PATIENCE)).map_err(text)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(text)?;
    let name = ServerName::try_from(host.to_owned()).map_err(|e| e.to_string())?;
    let connection = ClientConnection::new(Arc::new(tls), name);
    let mut connection = connection.map_err(|e| e.to_string())?;
    while connection.is_handshaking() {
        if let Err(e) = connection.complete_io(&mut Bounded(&mut stream, 64 << 10)) {
            return Err(e.to_string());
        }
    }
    Ok(())
}

/// A server that goes on sending without an end of its handshake is cut off.
struct Bounded<'s>(&'s mut TcpStream, usize);

impl Read for Bounded<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = self.0.read(buf)?;
        self.1 = self
            .1
            .checked_sub(n)
            .ok_or_else(|| std::io::Error::other("the handshake has no end"))?;
        Ok(n)
    }
}

impl Write for Bounded<'_> {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.0.write(buf)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}
