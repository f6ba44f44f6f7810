//! An RTSP server that takes RECORD (gst-rtsp-server): any number of publishers one after another, pictures decoded.

use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;

use anyhow::{Context, Result, anyhow};
use gstreamer as gst;
use gstreamer::glib;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use gstreamer_rtsp_server as rtsp;
use gstreamer_rtsp_server::prelude::*;

use crate::clients::Clients;
use crate::pattern::read_counter;
use crate::server::{Options, guard, permit};

/// Counters of the pictures that came.
pub(crate) type Seen = Arc<Mutex<Vec<Option<u32>>>>;

/// A running server; dropping it closes its port and its connections.
#[derive(Debug)]
pub(crate) struct RecordServer {
    pub(crate) port: u16,
    main_loop: glib::MainLoop,
    thread: Option<thread::JoinHandle<()>>,
}

impl RecordServer {
    /// Listens on 127.0.0.1 for `/live/door`, as `options` say of login and TLS.
    pub(crate) fn start(options: Options, seen: Seen) -> Result<RecordServer> {
        gst::init()?;
        let context = glib::MainContext::new();
        let main_loop = glib::MainLoop::new(Some(&context), false);
        let looped = main_loop.clone();
        let (tell, told) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("ingest".into())
            .spawn(move || {
                let run = context.with_thread_default(|| {
                    let server = match serve(&options, &context, &seen) {
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
        let port = told.recv().context("the server's thread ended")??;
        Ok(RecordServer {
            port,
            main_loop,
            thread: Some(thread),
        })
    }
}

impl Drop for RecordServer {
    fn drop(&mut self) {
        let ending = self.main_loop.clone();
        self.main_loop.context().invoke(move || ending.quit());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(
    options: &Options,
    context: &glib::MainContext,
    seen: &Seen,
) -> Result<(rtsp::RTSPServer, u16)> {
    let server = rtsp::RTSPServer::new();
    server.set_address("127.0.0.1");
    server.set_service(&options.port.to_string());
    if options.auth.is_some() || options.tls.is_some() {
        server.set_auth(Some(&guard(options)?));
    }
    let mounts = server.mount_points().context("no mount points")?;
    let factory = rtsp::RTSPMediaFactory::new();
    factory.set_transport_mode(rtsp::RTSPTransportMode::RECORD);
    factory.set_launch(
        "( rtph264depay name=depay0 ! h264parse ! avdec_h264 max-threads=1 ! videoconvert ! video/x-raw,format=GRAY8 ! appsink name=sink sync=false async=false )",
    );
    let seen = Arc::clone(seen);
    factory.connect_media_configure(move |_, media| {
        let Ok(bin) = media.element().downcast::<gst::Bin>() else {
            return;
        };
        let sink = bin
            .by_name("sink")
            .and_then(|e| e.downcast::<gst_app::AppSink>().ok());
        let (Some(sink), seen) = (sink, Arc::clone(&seen)) else {
            return;
        };
        let callbacks = gst_app::AppSinkCallbacks::builder().new_sample(move |sink| {
            let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
            let counter = counter(&sample);
            seen.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(counter);
            Ok(gst::FlowSuccess::Ok)
        });
        sink.set_callbacks(callbacks.build());
    });
    permit(&factory);
    mounts.add_factory("/live/door", factory);
    server.attach(Some(context))?;
    let port = u16::try_from(server.bound_port()).map_err(|_| anyhow!("no port"))?;
    Ok((server, port))
}

fn counter(sample: &gst::Sample) -> Option<u32> {
    let width = sample.caps()?.structure(0)?.get::<i32>("width").ok()?;
    let width = usize::try_from(width).ok()?;
    let map = sample.buffer()?.map_readable().ok()?;
    read_counter(&map, width, width.next_multiple_of(4))
}
