//! A proxy that spoils the RTP packets of a real camera (RTSP over TCP), as bad firmware and full buffers do.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

/// What it does to RTP packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoil {
    /// Every n-th makes no sense: its payload begins with a forbidden bit.
    Garble(u32),
    /// Every n-th is left out; the sequence numbers show it.
    Lose(u32),
    /// All have another source number than SETUP promised.
    Rename,
}

/// Forwards connections to a camera and spoils what it sends.
#[derive(Debug)]
pub struct Mangler {
    address: SocketAddr,
}

impl Mangler {
    /// Listens on a port of its own choice until the process ends.
    ///
    /// # Errors
    /// The operating system's.
    pub fn start(upstream: SocketAddr, how: Spoil) -> std::io::Result<Mangler> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(upstream) else {
                    continue;
                };
                let (Ok(mut up), Ok(mut from)) = (server.try_clone(), client.try_clone()) else {
                    continue;
                };
                thread::spawn(move || std::io::copy(&mut from, &mut up));
                thread::spawn(move || spoil(server, client, how));
            }
        });
        Ok(Mangler { address })
    }

    /// Where to connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Ends quietly when one of the two goes.
fn spoil(server: TcpStream, mut client: TcpStream, how: Spoil) -> Option<()> {
    let mut server = BufReader::new(server);
    let mut count = 0;
    loop {
        let message = match server.fill_buf().ok()?.first()? {
            b'$' => {
                let mut head = [0; 4];
                server.read_exact(&mut head).ok()?;
                let mut body = vec![0; usize::from(u16::from_be_bytes([head[2], head[3]]))];
                server.read_exact(&mut body).ok()?;
                // Even channels are RTP by our clients' choice.
                if head[1] % 2 == 0 && body.len() > 13 {
                    count += 1;
                    match how {
                        Spoil::Garble(n) if count % n == 0 => body[12] |= 0x80,
                        Spoil::Lose(n) if count % n == 0 => continue,
                        Spoil::Rename => body[8..12].iter_mut().for_each(|b| *b ^= 0x5a),
                        _ => {}
                    }
                }
                [&head[..], &body].concat()
            }
            _ => answer(&mut server)?,
        };
        client.write_all(&message).ok()?;
    }
}

/// An RTSP answer with its body.
fn answer(server: &mut impl BufRead) -> Option<Vec<u8>> {
    let (mut text, mut body) = (String::new(), 0);
    loop {
        let from = text.len();
        server.read_line(&mut text).ok().filter(|n| *n > 0)?;
        let line = text[from..].trim_end();
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            body = value.trim().parse().ok()?;
        }
    }
    let mut bytes = text.into_bytes();
    let head = bytes.len();
    bytes.resize(head + body, 0);
    server.read_exact(&mut bytes[head..]).ok()?;
    Some(bytes)
}
