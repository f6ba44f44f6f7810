//! A well-behaved RTSP camera in this process.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;

use anyhow::{Context, Result, anyhow};
use gstreamer as gst;
use gstreamer::glib;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use gstreamer_rtsp_server as rtsp;
use gstreamer_rtsp_server::gst_rtsp;
use gstreamer_rtsp_server::prelude::*;

use crate::clients::Clients;
use crate::pattern::{Scene, draw_counter, paint};
use crate::player::{Contents, Player, contents};

/// Codec of the video.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// x264.
    H264,
    /// x265.
    H265,
}

/// Audio beside the video.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audio {
    /// AAC as RFC 3640 (`mpeg4-generic`).
    Aac,
    /// AAC as RFC 6416 (`MP4A-LATM`).
    AacLatm,
    /// G.711 A-law.
    Pcma,
}

/// The pattern.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Picture {
    /// Pixels, even.
    pub width: u32,
    /// Pixels, even.
    pub height: u32,
    /// Frames a second.
    pub fps: u32,
    /// Frames from one key frame to the next.
    pub gop: u32,
    /// B-frames between references (H.264 only).
    pub b_frames: u32,
    /// Burns the frame number in.
    pub counter: bool,
    /// When something moves.
    pub scene: Scene,
    /// From this frame number on, the size is the second one.
    pub switch_size: Option<(u32, u32, u32)>,
}

impl Default for Picture {
    fn default() -> Self {
        Picture {
            width: 640,
            height: 360,
            fps: 15,
            gop: 15,
            b_frames: 0,
            counter: true,
            scene: Scene::default(),
            switch_size: None,
        }
    }
}

impl Picture {
    pub(crate) fn caps(&self) -> String {
        format!(
            "video/x-raw,format=I420,width={},height={},framerate={}/1",
            self.width, self.height, self.fps
        )
    }
}

/// What the camera shows.
#[derive(Debug, Clone)]
pub enum Source {
    /// The pattern; `codec` encodes it.
    Pattern(Picture, Codec),
    /// A file, once or for ever; each client that comes to an idle camera sees it from its start.
    File { path: PathBuf, repeat: bool },
}

/// Whom the camera lets in.
#[derive(Debug, Clone)]
pub enum Auth {
    /// Basic, user and password.
    Basic(String, String),
    /// Digest, user and password.
    Digest(String, String),
}

/// A camera to start.
#[derive(Debug, Clone)]
pub struct Options {
    /// Zero takes a free one.
    pub port: u16,
    /// Path of the main stream.
    pub path: String,
    /// What it shows.
    pub source: Source,
    /// Audio beside the pattern; a file brings its own AAC.
    pub audio: Option<Audio>,
    /// Whom it lets in.
    pub auth: Option<Auth>,
    /// Certificate and key (PEM) make it `rtsps`.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// The same pattern at another size under `/sub`.
    pub sub: Option<(u32, u32)>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            port: 0,
            path: "/main".into(),
            source: Source::Pattern(Picture::default(), Codec::H264),
            audio: None,
            auth: None,
            tls: None,
            sub: None,
        }
    }
}

/// A running camera; dropping it closes its port and its connections.
#[derive(Debug)]
pub struct TestCamera {
    address: SocketAddr,
    scheme: &'static str,
    path: String,
    frames: Arc<AtomicU32>,
    main_loop: glib::MainLoop,
    thread: Option<thread::JoinHandle<()>>,
}

impl TestCamera {
    /// Starts a camera on 127.0.0.1; it answers when this returns.
    ///
    /// # Errors
    /// Where GStreamer, the file, the certificate or the port cannot be had.
    pub fn start(options: Options) -> Result<TestCamera> {
        gst::init()?;
        let context = glib::MainContext::new();
        let main_loop = glib::MainLoop::new(Some(&context), false);
        let frames = Arc::new(AtomicU32::new(0));
        let scheme = if options.tls.is_some() {
            "rtsps"
        } else {
            "rtsp"
        };
        let path = options.path.clone();
        let (tell, told) = mpsc::channel();
        let (counted, looped) = (Arc::clone(&frames), main_loop.clone());
        let thread = thread::Builder::new()
            .name("testcam".into())
            .spawn(move || {
                let run = context.with_thread_default(|| {
                    let started = serve(&options, &context, &counted);
                    let server = match started {
                        Ok((server, port)) => {
                            let _ = tell.send(Ok(port));
                            server
                        }
                        Err(e) => {
                            let _ = tell.send(Err(e));
                            return;
                        }
                    };
                    let clients = Clients::of(&server);
                    looped.run();
                    clients.close();
                });
                drop(run);
            })?;
        let port = told.recv().context("the camera's thread ended")??;
        Ok(TestCamera {
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            scheme,
            path,
            frames,
            main_loop,
            thread: Some(thread),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Address of the main stream, without user and password.
    pub fn url(&self) -> String {
        self.url_at(self.address)
    }

    /// The main stream's address as seen through a proxy.
    pub fn url_at(&self, address: SocketAddr) -> String {
        format!("{}://{address}{}", self.scheme, self.path)
    }

    /// Address of the sub-stream.
    pub fn sub_url(&self) -> String {
        format!("{}://{}/sub", self.scheme, self.address)
    }

    /// Number of the frame that the pattern showed last on the main stream.
    pub fn frame(&self) -> u32 {
        self.frames.load(Relaxed)
    }
}

impl Drop for TestCamera {
    fn drop(&mut self) {
        // In its own thread: a loop that does not run yet cannot be ended from outside.
        let ending = self.main_loop.clone();
        self.main_loop.context().invoke(move || ending.quit());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(
    o: &Options,
    context: &glib::MainContext,
    frames: &Arc<AtomicU32>,
) -> Result<(rtsp::RTSPServer, u16)> {
    let server = rtsp::RTSPServer::new();
    server.set_address("127.0.0.1");
    server.set_service(&o.port.to_string());
    let mounts = server.mount_points().context("no mount points")?;
    let epoch = gst::SystemClock::obtain().time();
    let main = match &o.source {
        Source::Pattern(picture, codec) => {
            pattern_factory(*picture, *codec, o.audio, epoch, Some(Arc::clone(frames)))
        }
        Source::File { path, repeat } => file_factory(path.clone(), *repeat, contents(path)?),
    };
    permit(&main);
    mounts.add_factory(&o.path, main);
    if let (Some((width, height)), Source::Pattern(picture, codec)) = (o.sub, &o.source) {
        let small = Picture {
            width,
            height,
            switch_size: None,
            ..*picture
        };
        let sub = pattern_factory(small, *codec, None, epoch, None);
        permit(&sub);
        mounts.add_factory("/sub", sub);
    }
    if o.auth.is_some() || o.tls.is_some() {
        server.set_auth(Some(&guard(o)?));
    }
    server.attach(Some(context))?;
    let port = u16::try_from(server.bound_port()).map_err(|_| anyhow!("no port"))?;
    Ok((server, port))
}

pub(crate) fn permit(factory: &rtsp::RTSPMediaFactory) {
    factory.add_role_from_structure(
        &gst::Structure::builder("viewer")
            .field(rtsp::RTSP_PERM_MEDIA_FACTORY_ACCESS.as_str(), true)
            .field(rtsp::RTSP_PERM_MEDIA_FACTORY_CONSTRUCT.as_str(), true)
            .build(),
    );
}

pub(crate) fn guard(o: &Options) -> Result<rtsp::RTSPAuth> {
    let auth = rtsp::RTSPAuth::new();
    let mut token = rtsp::RTSPToken::builder()
        .field(rtsp::RTSP_TOKEN_MEDIA_FACTORY_ROLE, "viewer")
        .build();
    match &o.auth {
        Some(Auth::Basic(user, pass)) => {
            auth.set_supported_methods(gst_rtsp::RTSPAuthMethod::Basic);
            auth.add_basic(&rtsp::RTSPAuth::make_basic(user, pass), &token);
        }
        Some(Auth::Digest(user, pass)) => {
            auth.set_supported_methods(gst_rtsp::RTSPAuthMethod::Digest);
            auth.add_digest(user, pass, &token);
        }
        None => auth.set_default_token(Some(&mut token)),
    }
    if let Some((cert, key)) = &o.tls {
        let certificate = rtsp::gio::TlsCertificate::from_files(cert, key)?;
        auth.set_tls_certificate(Some(&certificate));
    }
    Ok(auth)
}

/// The encoder of a pattern in GStreamer's launch syntax, parser included.
pub(crate) fn encoder(codec: Codec, p: &Picture, config_interval: i32) -> String {
    let kbps = (p.width * p.height * p.fps / 4000).clamp(200, 4000);
    match codec {
        Codec::H264 => {
            // The server would settle for baseline, which has no B-frames.
            let (tune, profile) = if p.b_frames == 0 {
                ("tune=zerolatency", "constrained-baseline")
            } else {
                ("b-adapt=false", "main")
            };
            format!(
                "x264enc {tune} speed-preset=ultrafast key-int-max={} bframes={} bitrate={kbps} option-string=scenecut=0 ! video/x-h264,profile={profile} ! h264parse config-interval={config_interval}",
                p.gop, p.b_frames
            )
        }
        Codec::H265 => format!(
            "x265enc tune=zerolatency speed-preset=ultrafast key-int-max={} bitrate={kbps} log-level=none option-string=scenecut=0 ! h265parse config-interval={config_interval}",
            p.gop
        ),
    }
}

fn payloader(codec: Codec) -> &'static str {
    match codec {
        Codec::H264 => "rtph264pay name=pay0 pt=96",
        Codec::H265 => "rtph265pay name=pay0 pt=96",
    }
}

fn pattern_factory(
    p: Picture,
    codec: Codec,
    audio: Option<Audio>,
    epoch: gst::ClockTime,
    frames: Option<Arc<AtomicU32>>,
) -> rtsp::RTSPMediaFactory {
    let tone = "audiotestsrc is-live=true volume=0.2 ! audio/x-raw,rate";
    let audio = match audio {
        Some(Audio::Aac) => {
            format!("{tone}=48000,channels=1 ! avenc_aac ! aacparse ! rtpmp4gpay name=pay1 pt=97")
        }
        Some(Audio::AacLatm) => {
            format!("{tone}=48000,channels=1 ! avenc_aac ! aacparse ! rtpmp4apay name=pay1 pt=97")
        }
        Some(Audio::Pcma) => {
            format!("{tone}=8000,channels=1 ! alawenc ! rtppcmapay name=pay1 pt=8")
        }
        None => String::new(),
    };
    let factory = rtsp::RTSPMediaFactory::new();
    factory.set_launch(&format!(
        "( videotestsrc is-live=true pattern=black ! {} ! identity name=paint ! videoscale ! capsfilter name=size ! {} ! {} {audio} )",
        p.caps(),
        encoder(codec, &p, -1),
        payloader(codec),
    ));
    factory.set_shared(true);
    factory.connect_media_configure(move |_, media| {
        let Ok(bin) = media.element().downcast::<gst::Bin>() else {
            return;
        };
        unseekable(&bin);
        let (bin_weak, frames) = (bin.downgrade(), frames.clone());
        let number = move |pts_frame: u32| {
            let Some(bin) = bin_weak.upgrade() else {
                return pts_frame;
            };
            let base = bin.base_time().unwrap_or(epoch);
            let since = base.saturating_sub(epoch).nseconds() as f64 / 1e9;
            let n = (since * f64::from(p.fps)).round() as u32 + pts_frame;
            if let Some(frames) = &frames {
                frames.store(n, Relaxed);
            }
            if let Some((w, h, at)) = p.switch_size
                && n >= at
                && let Some(size) = bin.by_name("size")
            {
                let caps = gst::Caps::builder("video/x-raw")
                    .field("width", w as i32)
                    .field("height", h as i32)
                    .build();
                if size.property::<gst::Caps>("caps") != caps {
                    size.set_property("caps", caps);
                }
            }
            n
        };
        // A media without its pads shows a black picture, which every test would see.
        let _ = paint_into(&bin, p, number);
    });
    factory
}

/// Lets nobody seek the media. The test sources can be sought, so that every PLAY with `Range: npt=0-` would flush what
/// all clients see: time and counter jump back, and the server (of 1.22) aborts the process when the flush has taken
/// a stream's segment while it answers.
fn unseekable(bin: &gst::Bin) {
    let pads = ["pay0", "pay1"].map(|name| bin.by_name(name).and_then(|e| e.static_pad("src")));
    for pad in pads.into_iter().flatten() {
        pad.add_probe(gst::PadProbeType::QUERY_UPSTREAM, |_, info| {
            let Some(gst::QueryViewMut::Seeking(query)) = info.query_mut().map(|q| q.view_mut())
            else {
                return gst::PadProbeReturn::Ok;
            };
            query.set(false, gst::ClockTime::ZERO, gst::ClockTime::NONE);
            gst::PadProbeReturn::Handled
        });
    }
}

/// Paints the pattern into the frames that pass the element `paint`; `number` turns the frame's place in the stream
/// into its number.
pub(crate) fn paint_into(
    bin: &impl IsA<gst::Bin>,
    p: Picture,
    number: impl Fn(u32) -> u32 + Send + Sync + 'static,
) -> Result<()> {
    let pad = bin
        .upcast_ref::<gst::Bin>()
        .by_name("paint")
        .and_then(|e| e.static_pad("src"))
        .context("nothing to paint on")?;
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        if let Some(buffer) = info.buffer_mut() {
            let pts = buffer.pts().map_or(0, |t| t.nseconds());
            let place = (pts as f64 * f64::from(p.fps) / 1e9).round() as u32;
            if let Ok(mut map) = buffer.make_mut().map_writable() {
                let (w, h) = (p.width as usize, p.height as usize);
                let (stride, n) = (w.next_multiple_of(4), number(place));
                let luma = &mut map[..stride * h];
                paint(luma, w, h, stride, p.scene, n, p.fps);
                if p.counter {
                    draw_counter(luma, w, stride, n);
                }
            }
        }
        gst::PadProbeReturn::Ok
    });
    Ok(())
}

fn file_factory(path: PathBuf, repeat: bool, contents: Contents) -> rtsp::RTSPMediaFactory {
    let parse = match contents.codec {
        Codec::H264 => "h264parse config-interval=-1",
        Codec::H265 => "h265parse config-interval=-1",
    };
    let audio = if contents.aac {
        "appsrc name=audio is-live=true format=time ! aacparse ! rtpmp4gpay name=pay1 pt=97"
    } else {
        ""
    };
    let factory = rtsp::RTSPMediaFactory::new();
    factory.set_launch(&format!(
        "( appsrc name=video is-live=true format=time ! {parse} ! {} {audio} )",
        payloader(contents.codec)
    ));
    factory.set_shared(true);
    factory.connect_media_configure(move |_, media| {
        let Ok(bin) = media.element().downcast::<gst::Bin>() else {
            return;
        };
        let src = |name| {
            bin.by_name(name)
                .and_then(|e| e.downcast::<gst_app::AppSrc>().ok())
        };
        let Some(video) = src("video") else { return };
        let player = Player::start(&path, repeat, contents, &video, src("audio").as_ref());
        let player = Mutex::new(player.ok());
        media.connect_unprepared(move |_| {
            player.lock().unwrap_or_else(PoisonError::into_inner).take();
        });
    });
    factory
}
