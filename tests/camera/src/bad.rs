//! A camera that misbehaves by script, without GStreamer: for everything that a real server would never do.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::thread;

/// How it misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misbehaviour {
    /// Nothing listens on the port.
    Refuse,
    /// Accepts and never says a word.
    Silent,
    /// Answers OPTIONS and DESCRIBE and cuts the connection after this many bytes of answers.
    ResetAfter(usize),
    /// Asks for a password and refuses every one.
    Unauthorized,
    /// Knows no path.
    NotFound,
    /// Answers with bytes that are no RTSP.
    Garbage,
    /// Answers DESCRIBE with an SDP of a mebibyte.
    AbsurdSdp,
    /// Offers only a codec that nobody records (JPEG) and G.711.
    OnlyJpeg,
    /// Describes H.264 with two PPS on its first connection and has no time for any later one.
    Busy,
}

/// A scripted camera; dropping it closes the port.
#[derive(Debug)]
pub struct BadCamera {
    address: SocketAddr,
    connections: Arc<AtomicU32>,
    closed: Arc<AtomicBool>,
}

impl BadCamera {
    /// Listens on a port of its own choice.
    ///
    /// # Errors
    /// The operating system's.
    pub fn start(how: Misbehaviour) -> std::io::Result<BadCamera> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let camera = BadCamera {
            address: listener.local_addr()?,
            connections: Arc::default(),
            closed: Arc::default(),
        };
        if how == Misbehaviour::Refuse {
            return Ok(camera);
        }
        let (connections, closed) = (Arc::clone(&camera.connections), Arc::clone(&camera.closed));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if closed.load(Relaxed) {
                    break;
                }
                let first = connections.fetch_add(1, Relaxed) == 0;
                thread::spawn(move || converse(stream, how, first));
            }
        });
        Ok(camera)
    }

    /// Where it listens, or where nobody does.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `rtsp://…/main`.
    pub fn url(&self) -> String {
        format!("rtsp://{}/main", self.address)
    }

    /// How often somebody connected.
    pub fn connections(&self) -> u32 {
        self.connections.load(Relaxed)
    }
}

impl Drop for BadCamera {
    fn drop(&mut self) {
        self.closed.store(true, Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

/// One connection: requests in, bad answers out. Ends quietly when the client goes.
fn converse(stream: TcpStream, how: Misbehaviour, first: bool) {
    let Ok(read) = stream.try_clone() else { return };
    let mut out = stream;
    let mut sent = 0;
    let mut lines = BufReader::new(read).lines();
    while let Some(request) = next_request(&mut lines) {
        let answer = answer(how, &request, first);
        let answer = match how {
            Misbehaviour::ResetAfter(n) => &answer[..answer.len().min(n.saturating_sub(sent))],
            _ => &answer,
        };
        sent += answer.len();
        if out.write_all(answer).is_err() {
            return;
        }
        if matches!(how, Misbehaviour::ResetAfter(n) if sent >= n) {
            let _ = out.shutdown(Shutdown::Both);
            return;
        }
    }
}

struct Request {
    method: String,
    url: String,
    cseq: String,
}

fn next_request(lines: &mut impl Iterator<Item = std::io::Result<String>>) -> Option<Request> {
    let first = lines.next()?.ok()?;
    let mut words = first.split_whitespace();
    let mut request = Request {
        method: words.next().unwrap_or_default().to_owned(),
        url: words.next().unwrap_or_default().to_owned(),
        cseq: "0".into(),
    };
    loop {
        let line = lines.next()?.ok()?;
        if line.is_empty() {
            return Some(request);
        }
        if let Some((_, value)) = line
            .split_once(':')
            .filter(|(k, _)| k.eq_ignore_ascii_case("cseq"))
        {
            request.cseq = value.trim().to_owned();
        }
    }
}

fn answer(how: Misbehaviour, r: &Request, first: bool) -> Vec<u8> {
    let reply = |status: &str, more: &str, body: &str| {
        format!(
            "RTSP/1.0 {status}\r\nCSeq: {}\r\n{more}Content-Length: {}\r\n\r\n{body}",
            r.cseq,
            body.len()
        )
        .into_bytes()
    };
    let options = r.method == "OPTIONS";
    let public = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n";
    match how {
        Misbehaviour::Refuse | Misbehaviour::Silent => Vec::new(),
        Misbehaviour::Garbage => b"\x16\x03\x01 no camera here \0\xff\n\n".repeat(64),
        _ if options => reply("200 OK", public, ""),
        Misbehaviour::Unauthorized => {
            let ask = "WWW-Authenticate: Digest realm=\"cam\", nonce=\"0123456789abcdef\"\r\n";
            reply("401 Unauthorized", ask, "")
        }
        Misbehaviour::NotFound => reply("404 Not Found", "", ""),
        Misbehaviour::AbsurdSdp => {
            let mut body = sdp("96 H264/90000");
            while body.len() < 1 << 20 {
                body.push_str("a=x-nonsense:0123456789012345678901234567890123456789\r\n");
            }
            reply("200 OK", "Content-Type: application/sdp\r\n", &body)
        }
        Misbehaviour::Busy if first && r.method == "DESCRIBE" => {
            let sets = "96 H264/90000\r\na=fmtp:96 sprop-parameter-sets=Z0I=,aM4=,aM5=";
            reply("200 OK", "Content-Type: application/sdp\r\n", &sdp(sets))
        }
        Misbehaviour::Busy => reply("503 Service Unavailable", "", ""),
        Misbehaviour::OnlyJpeg | Misbehaviour::ResetAfter(_) if r.method == "DESCRIBE" => {
            let base = format!(
                "Content-Type: application/sdp\r\nContent-Base: {}/\r\n",
                r.url
            );
            reply("200 OK", &base, &sdp("26 JPEG/90000"))
        }
        Misbehaviour::OnlyJpeg | Misbehaviour::ResetAfter(_) => {
            reply("454 Session Not Found", "", "")
        }
    }
}

fn sdp(rtpmap: &str) -> String {
    let pt = rtpmap.split(' ').next().unwrap_or("96");
    format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=bad\r\nt=0 0\r\nm=video 0 RTP/AVP {pt}\r\nc=IN IP4 0.0.0.0\r\na=rtpmap:{rtpmap}\r\na=control:track1\r\nm=audio 0 RTP/AVP 8\r\nc=IN IP4 0.0.0.0\r\na=rtpmap:8 PCMA/8000\r\na=control:track2\r\n"
    )
}
