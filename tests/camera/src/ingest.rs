//! Media servers that a camera is published to: ffmpeg as a listener, its pictures decoded and their counters read.
//!
//! ffmpeg takes one publisher and ends with it, as a session of a real server does; whoever wants another one starts it
//! again on the same port.

use std::io::Read;
use std::net::{TcpListener, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};

use crate::pattern::read_counter;

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

/// A running server; dropping it kills it.
#[derive(Debug)]
pub struct MediaServer {
    child: Child,
    port: u16,
    kind: Ingest,
    seen: Arc<Mutex<Vec<Option<u32>>>>,
}

impl MediaServer {
    /// A port that is free now.
    ///
    /// # Errors
    /// Where there is none.
    pub fn free_port(kind: Ingest) -> Result<u16> {
        Ok(match kind {
            Ingest::Srt => UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port(),
            Ingest::Rtsp | Ingest::Rtmp => TcpListener::bind("127.0.0.1:0")?.local_addr()?.port(),
        })
    }

    /// Listens on 127.0.0.1 for one publisher of pictures of this size.
    ///
    /// # Errors
    /// Where ffmpeg does not start.
    pub fn start(kind: Ingest, port: u16, width: usize, height: usize) -> Result<MediaServer> {
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
        match kind {
            Ingest::Rtsp => command.args(["-rtsp_flags", "listen", "-i"]),
            Ingest::Rtmp => command.args(["-listen", "1", "-i"]),
            Ingest::Srt => command.arg("-i"),
        };
        command.arg(match kind {
            Ingest::Rtsp => format!("rtsp://127.0.0.1:{port}/live/door"),
            Ingest::Rtmp => format!("rtmp://127.0.0.1:{port}/live/door"),
            Ingest::Srt => format!("srt://127.0.0.1:{port}?mode=listener"),
        });
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
        let seen = Arc::<Mutex<Vec<_>>>::default();
        let tell = Arc::clone(&seen);
        thread::Builder::new()
            .name("ingest".into())
            .spawn(move || {
                let mut picture = vec![0; width * height];
                while pictures.read_exact(&mut picture).is_ok() {
                    let counter = read_counter(&picture, width, width);
                    let mut seen = tell.lock().unwrap_or_else(PoisonError::into_inner);
                    seen.push(counter);
                }
            })?;
        Ok(MediaServer {
            child,
            port,
            kind,
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

    /// The counters of the pictures so far; nothing where one was illegible.
    pub fn counters(&self) -> Vec<Option<u32>> {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// It has ended by itself.
    pub fn is_over(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for MediaServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
