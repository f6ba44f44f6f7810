//! Media servers that a camera is published to: gst-rtsp-server for RTSP, ffmpeg as a listener for RTMP and SRT. The
//! pictures are decoded and their counters read.
//!
//! ffmpeg takes one publisher and ends with it, as a session of a real server does; whoever wants another one starts it
//! again on the same port. (It cannot stand for RTSP: it refuses a transport of `mode=RECORD` in capitals.)

use std::io::Read;
use std::net::{TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, PoisonError};
use std::thread;

use anyhow::{Context, Result};

use crate::pattern::read_counter;
use crate::record::{RecordServer, Seen};
use crate::server::{Auth, Options};

/// How it is published to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ingest {
    /// RTSP RECORD over TCP.
    Rtsp,
    /// RTMP.
    Rtmp,
    /// MPEG-TS over SRT.
    Srt,
}

/// A running server; dropping it ends it.
#[derive(Debug)]
pub struct MediaServer {
    /// Where it is another process.
    child: Option<Child>,
    /// Where it is in this one.
    _record: Option<RecordServer>,
    port: u16,
    kind: Ingest,
    seen: Seen,
}

impl MediaServer {
    /// Listens on a free port of 127.0.0.1 for pictures of this size.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn start(kind: Ingest, width: usize, height: usize) -> Result<MediaServer> {
        let port = match kind {
            Ingest::Rtsp => 0,
            Ingest::Srt => UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port(),
            Ingest::Rtmp => TcpListener::bind("127.0.0.1:0")?.local_addr()?.port(),
        };
        Self::start_at(kind, port, width, height)
    }

    /// The same on a port of one's choice.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn start_at(kind: Ingest, port: u16, width: usize, height: usize) -> Result<MediaServer> {
        let seen = Seen::default();
        if kind == Ingest::Rtsp {
            return Self::rtsp(port, None, None);
        }
        let mut command = Command::new("ffmpeg");
        command.args(["-hide_banner", "-loglevel", "error", "-nostdin"]);
        command.args([
            "-fflags",
            "nobuffer",
            "-probesize",
            "65536",
            "-analyzeduration",
            "500000",
        ]);
        if kind == Ingest::Rtmp {
            command.args(["-listen", "1", "-i"]);
            command.arg(format!("rtmp://127.0.0.1:{port}/live/door"));
        } else {
            command.arg("-i");
            command.arg(format!("srt://127.0.0.1:{port}?mode=listener"));
        }
        command.args([
            "-an",
            "-vsync",
            "passthrough",
            "-f",
            "rawvideo",
            "-pix_fmt",
            "gray",
            "pipe:1",
        ]);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("ffmpeg does not start")?;
        let mut pictures = child.stdout.take().context("no pictures")?;
        let tell = Arc::clone(&seen);
        thread::Builder::new()
            .name("ingest".into())
            .spawn(move || {
                let mut picture = vec![0; width * height];
                while pictures.read_exact(&mut picture).is_ok() {
                    let counter = read_counter(&picture, width, width);
                    tell.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(counter);
                }
            })?;
        Ok(MediaServer {
            child: Some(child),
            _record: None,
            port,
            kind,
            seen,
        })
    }

    /// An RTSP server, of those who know a login, and in TLS with a certificate and its key (PEM).
    ///
    /// # Errors
    /// Where it does not start.
    pub fn rtsp(
        port: u16,
        auth: Option<Auth>,
        tls: Option<(PathBuf, PathBuf)>,
    ) -> Result<MediaServer> {
        let seen = Seen::default();
        let options = Options {
            port,
            auth,
            tls,
            ..Options::default()
        };
        let record = RecordServer::start(options, Arc::clone(&seen))?;
        Ok(MediaServer {
            child: None,
            port: record.port,
            _record: Some(record),
            kind: Ingest::Rtsp,
            seen,
        })
    }

    /// What a publisher is told.
    pub fn endpoint(&self) -> String {
        match self.kind {
            Ingest::Rtsp => format!("rtsp://localhost:{}/live/door", self.port),
            Ingest::Rtmp => format!("rtmp://localhost:{}/live/door", self.port),
            Ingest::Srt => format!("srt://localhost:{}", self.port),
        }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Of its process, where it has one of its own.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// The counters of the pictures so far; nothing where one was illegible.
    pub fn counters(&self) -> Vec<Option<u32>> {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Drop for MediaServer {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
