//! Closes a server's clients in the thread they live in.
//!
//! The server gives all its clients one thread. A connection that another thread closes while that one reads is read
//! for ever: a core is lost and the log fills. (Clients in the server's own thread, `max-threads` 0, crash it.)

use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::time::Duration;

use gstreamer::glib;
use gstreamer::glib::prelude::*;
use gstreamer_rtsp_server as rtsp;
use gstreamer_rtsp_server::prelude::*;
use rtsp::RTSPFilterResult::{Ref, Remove};

/// How long the clients' thread may be busy with a request.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a first answer may take; a client that has asked nothing reads nothing and can be closed from anywhere.
const FIRST: Duration = Duration::from_millis(200);

/// Of the thread that answered last: those who live now live there.
type Context = Mutex<Option<glib::MainContext>>;

/// The clients of one server.
#[derive(Debug)]
pub(crate) struct Clients {
    server: rtsp::RTSPServer,
    answered: Arc<(Context, Condvar)>,
}

impl Clients {
    pub(crate) fn of(server: &rtsp::RTSPServer) -> Clients {
        let answered = Arc::<(Context, Condvar)>::default();
        let told = Arc::clone(&answered);
        server.connect_client_connected(move |_, client| {
            let told = Arc::clone(&told);
            client.connect("send-message", false, move |_| {
                let here = glib::main_current_source().and_then(|source| source.context());
                *told.0.lock().unwrap_or_else(PoisonError::into_inner) = here;
                told.1.notify_all();
                None
            });
        });
        Clients {
            server: server.clone(),
            answered,
        }
    }

    pub(crate) fn close(&self) {
        if self.server.client_filter(Some(&mut |_, _| Ref)).is_empty() {
            return;
        }
        if let Some(context) = self.context() {
            let (server, (tell, told)) = (self.server.clone(), mpsc::channel());
            context.invoke_with_priority(glib::Priority::HIGH, move || {
                server.client_filter(Some(&mut |_, _| Remove));
                let _ = tell.send(());
            });
            let _ = told.recv_timeout(PATIENCE);
        }
        self.server.client_filter(Some(&mut |_, _| Remove));
    }

    fn context(&self) -> Option<glib::MainContext> {
        let (context, answered) = &*self.answered;
        let context = context.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = answered.wait_timeout_while(context, FIRST, |c| c.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.clone()
    }
}
