//! `stream.start`, `stream.renew`, `stream.stop`: the lease is counted here from trusted time onto this boot's clock.

use serde_json::json;

use super::{Done, Executor, Fault, fault};
use crate::agent::live::{LiveHandle, NoSession, Start};
use crate::command::stream::{StreamRenew, StreamStart, StreamStop};
use crate::live::lease_end;
use crate::time::{Mono, Wall};

impl Executor {
    pub(super) async fn start_stream(&self, args: &StreamStart) -> Result<Done, Fault> {
        let start = Start {
            session: args.session_id,
            camera: args.camera_id.clone(),
            protocol: args.protocol,
            endpoint: args.publish_endpoint.clone(),
            key: args.stream_key.clone(),
            until: self.lease(args.expires_at)?,
        };
        if let Err(e) = self.live()?.start(start).await {
            let code = match e {
                NoSession::Unsupported(_) => "unsupported",
                NoSession::Place(_) => "refused",
                NoSession::NoCamera => "no-camera",
                NoSession::Full(_) | NoSession::Closed => "busy",
            };
            return fault(code, e);
        }
        done(args.session_id)
    }

    pub(super) async fn renew_stream(&self, args: &StreamRenew) -> Result<Done, Fault> {
        let until = self.lease(args.expires_at)?;
        if !self.live()?.renew(args.session_id, until).await {
            return fault("not-found", "no live session has this id");
        }
        done(args.session_id)
    }

    pub(super) async fn stop_stream(&self, args: &StreamStop) -> Result<Done, Fault> {
        if !self.live()?.stop(args.session_id).await {
            return fault("not-found", "no live session has this id");
        }
        done(args.session_id)
    }

    fn lease(&self, expires: Wall) -> Result<Mono, Fault> {
        lease_end(expires, self.time.wall(), self.time.mono()).or_else(|e| fault("args", e))
    }

    fn live(&self) -> Result<&LiveHandle, Fault> {
        let live = self.hands.live.as_ref();
        live.map_or_else(|| fault("unsupported", "there is no live view"), Ok)
    }
}

fn done(session: crate::model::SessionId) -> Result<Done, Fault> {
    Ok(Done {
        result: Some(json!({ "session_id": session })),
        ..Done::default()
    })
}
