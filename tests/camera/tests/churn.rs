//! Clients that come to one camera at once and go without a word, as agents do that are killed: the camera lives on, and
//! those who stay see no step back in time.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use gstreamer::glib;
use sentrycam_testcam::{Audio, ClipSpec, Codec, Options, Picture, Source, TestCamera, write_clip};

const TRACKS: usize = 2;

/// An RTSP client over TCP.
struct Client {
    tcp: TcpStream,
    url: String,
    seq: u32,
}

impl Client {
    fn new(camera: &TestCamera) -> Result<Client> {
        let tcp = TcpStream::connect(camera.address())?;
        tcp.set_read_timeout(Some(Duration::from_secs(20)))?;
        let url = camera.url();
        Ok(Client { tcp, url, seq: 0 })
    }

    /// From DESCRIBE to PLAY.
    fn play(camera: &TestCamera) -> Result<Client> {
        let mut client = Client::new(camera)?;
        client.ask("DESCRIBE", "", "Accept: application/sdp\r\n")?;
        let mut session = String::new();
        for n in 0..TRACKS {
            let (rtp, rtcp) = (2 * n, 2 * n + 1);
            let transport =
                format!("Transport: RTP/AVP/TCP;unicast;interleaved={rtp}-{rtcp}\r\n{session}");
            let head = client.ask("SETUP", &format!("/stream={n}"), &transport)?;
            let id = value(&head, "Session").context("no session")?;
            session = format!("Session: {id}\r\n");
        }
        client.ask("PLAY", "/", &format!("{session}Range: npt=0.000-\r\n"))?;
        Ok(client)
    }

    /// Gives the head of the answer, where it is 200.
    fn ask(&mut self, method: &str, track: &str, header: &str) -> Result<String> {
        self.seq += 1;
        let line = format!("{method} {}{track} RTSP/1.0", self.url);
        let request = format!("{line}\r\nCSeq: {}\r\n{header}\r\n", self.seq);
        self.tcp.write_all(request.as_bytes())?;
        loop {
            let mut head = self.read(4)?;
            if head[0] == b'$' {
                self.read(length(&head))?;
                continue;
            }
            while !head.ends_with(b"\r\n\r\n") {
                head.extend(self.read(1)?);
            }
            let head = String::from_utf8(head)?;
            if let Some(length) = value(&head, "Content-Length") {
                self.read(length.parse()?)?;
            }
            ensure!(head.starts_with("RTSP/1.0 200 "), "{line}: {head}");
            return Ok(head);
        }
    }

    /// The next packet's RTP time, where it is one of the video.
    fn video_time(&mut self) -> Result<Option<u32>> {
        let head = self.read(4)?;
        ensure!(head[0] == b'$', "not a packet");
        let packet = self.read(length(&head))?;
        let time = packet.get(4..8).filter(|_| head[1] == 0);
        Ok(time.map(|t| u32::from_be_bytes([t[0], t[1], t[2], t[3]])))
    }

    fn read(&mut self, n: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; n];
        self.tcp.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

fn length(head: &[u8]) -> usize {
    usize::from(u16::from_be_bytes([head[2], head[3]]))
}

fn value<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let line = head.lines().find_map(|l| l.strip_prefix(name))?;
    line.strip_prefix(": ")?.split(';').next()
}

/// Watches until `until`; gives how many pictures it saw.
fn watch(camera: &TestCamera, until: Instant) -> Result<u32> {
    let mut client = Client::play(camera)?;
    let (mut last, mut pictures) = (None, 0);
    while Instant::now() < until || pictures == 0 {
        let Some(time) = client.video_time()? else {
            continue;
        };
        let step = time.wrapping_sub(last.unwrap_or(time)).cast_signed();
        ensure!(step >= 0, "{} s back", f64::from(-step) / 90e3);
        pictures += u32::from(last != Some(time));
        last = Some(time);
    }
    Ok(pictures)
}

fn churn(source: Source) {
    let camera = TestCamera::start(Options {
        source,
        audio: Some(Audio::Aac),
        ..Options::default()
    })
    .unwrap();
    let (camera, until) = (&camera, Instant::now() + Duration::from_secs(2));
    thread::scope(|scope| {
        for n in 0..4 {
            scope.spawn(move || {
                for turn in n.. {
                    let stay = Duration::from_millis(turn * 37 % 150);
                    watch(camera, (Instant::now() + stay).min(until)).unwrap();
                    if Instant::now() >= until {
                        break;
                    }
                }
            });
        }
        let pictures = watch(camera, until).unwrap();
        assert!(pictures > 3, "{pictures} pictures");
    });
    // All are gone: the next one wakes an idle camera, which answers 503 while it takes the stream down.
    let mut woken = watch(camera, Instant::now());
    while woken
        .as_ref()
        .is_err_and(|e| format!("{e:#}").contains("503"))
        && Instant::now() < until + Duration::from_secs(20)
    {
        woken = watch(camera, Instant::now());
    }
    woken.unwrap();
}

fn small() -> Picture {
    Picture {
        width: 160,
        height: 90,
        counter: false,
        ..Picture::default()
    }
}

#[test]
fn a_pattern_outlives_clients_that_come_and_go() {
    churn(Source::Pattern(small(), Codec::H264));
}

#[test]
fn a_file_outlives_clients_that_come_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clip.mp4");
    let spec = ClipSpec {
        picture: small(),
        aac: true,
        ..ClipSpec::default()
    };
    write_clip(&path, &spec).unwrap();
    churn(Source::File { path, repeat: true });
}

#[test]
fn a_camera_that_goes_closes_its_connections() {
    let complained = Arc::new(AtomicBool::new(false));
    let heard = Arc::clone(&complained);
    let critical = glib::LogLevels::LEVEL_CRITICAL;
    glib::log_set_handler(Some("GLib-GIO"), critical, false, false, move |_, _, _| {
        heard.store(true, Relaxed);
    });
    for _ in 0..20 {
        let camera = TestCamera::start(Options::default()).unwrap();
        let (tell, told) = mpsc::channel();
        let clients = [(); 4].map(|()| {
            let (mut client, tell) = (Client::new(&camera).unwrap(), tell.clone());
            thread::spawn(move || {
                while client.ask("OPTIONS", "", "").is_ok() {
                    let _ = tell.send(());
                }
            })
        });
        told.recv().unwrap();
        drop(camera);
        for client in clients {
            client.join().unwrap();
        }
    }
    assert!(!complained.load(Relaxed));
}
