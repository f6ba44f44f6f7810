//! The acts, one a type of command.

use std::time::Duration;

use serde_json::json;
use tokio::sync::oneshot;

use super::{Done, Executor, Fault, Hands, diag, fault, snapshot};
use crate::agent::camera::desk::{Ask, No, Wish};
use crate::agent::media_upload::UploadHandle;
use crate::agent::records;
use crate::command::Command;
use crate::command::kinds::{OneRecording, RecordingStart, Wipe};
use crate::db::uploads::{self, Asked};
use crate::db::{Urgency, commands, events, outbox, recordings};
use crate::model::{CameraId, CommandId, RecordId, RecordingId};
use crate::time::Wall;
use crate::wire::keys::KeySlot;

/// Between two looks at a row that another task writes.
const LOOK: Duration = Duration::from_millis(20);
/// Between two questions to a camera that is not there yet.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// How long a camera may take to be found after the start.
const REGISTERS: Duration = Duration::from_secs(1);
/// How long it may take to deliver.
const COMES_UP: Duration = Duration::from_secs(7);
/// How long the end of a recording is waited for; its own record tells the rest.
const CLOSING: Duration = Duration::from_secs(5);
/// How long the cloud has to hear of an unclaim before the keys go.
const FLUSH: Duration = Duration::from_secs(60);

impl Hands {
    /// Does what `command` asks. The caller limits the time.
    pub(super) async fn carry_out(
        &self,
        executor: &Executor,
        id: CommandId,
        command: &Command,
    ) -> Result<Done, Fault> {
        match command {
            Command::RecordingStart(args) => executor.start_recording(args).await,
            Command::RecordingStop(args) => executor.stop_recording(args).await,
            Command::RecordingLock(args) => {
                executor
                    .lock_recording(args.recording_id, args.locked)
                    .await
            }
            Command::RecordingUnlock(args) => {
                executor.lock_recording(args.recording_id, false).await
            }
            Command::RecordingUpload(args) => match &self.uploads {
                Some(uploads) => executor.upload_recording(uploads, args.recording_id).await,
                None => fault("unsupported", "there is no upload"),
            },
            Command::Snapshot(args) => snapshot::take(self, args).await,
            Command::StreamStart(args) => executor.start_stream(args).await,
            Command::StreamRenew(args) => executor.renew_stream(args).await,
            Command::StreamStop(args) => executor.stop_stream(args).await,
            Command::TwinRefresh => match &self.twin {
                Some(twin) => {
                    twin();
                    Ok(Done::default())
                }
                None => fault("unsupported", "there is no twin"),
            },
            Command::SyncNow => {
                executor.bells.sync.notify_one();
                Ok(Done::default())
            }
            Command::Reboot(args) => {
                let delay = Duration::from_secs(args.delay_s.into());
                executor.plan_restart(id, delay);
                Ok(Done {
                    later: true,
                    ..Done::default()
                })
            }
            Command::KeyRotate => match &self.rotation {
                Some(rotation) => rotation.run(&self.keys).await,
                None => fault("unsupported", "keys cannot be changed"),
            },
            Command::Unclaim(args) => {
                let key = self.keys.of(KeySlot::Current);
                let wipe = match args.wipe {
                    Wipe::Credentials => "credentials",
                    Wipe::All => "all",
                };
                Ok(Done {
                    result: Some(json!({ "wipe": wipe, "key": key.key.key_id() })),
                    unclaim: Some(args.wipe),
                    ..Done::default()
                })
            }
            Command::DiagCollect(args) => diag::collect(self, executor, id, &args.parts).await,
        }
    }

    async fn ask<R>(
        &self,
        camera: &CameraId,
        ask: impl Fn(oneshot::Sender<Result<R, No>>) -> Ask,
    ) -> Result<R, Fault> {
        // An agent that has just started, or a camera that comes back, gets a little time.
        let mut answer = self.ask_once(camera, &ask).await;
        for (code, patience) in [("no-camera", REGISTERS), ("camera-down", COMES_UP)] {
            let mut waited = Duration::ZERO;
            while answer.as_ref().is_err_and(|e| e.code == code) && waited < patience {
                tokio::time::sleep(ASK_AGAIN).await;
                waited += ASK_AGAIN;
                answer = self.ask_once(camera, &ask).await;
            }
        }
        answer
    }

    async fn ask_once<R>(
        &self,
        camera: &CameraId,
        ask: &impl Fn(oneshot::Sender<Result<R, No>>) -> Ask,
    ) -> Result<R, Fault> {
        let Some(desk) = self.desk.camera(camera) else {
            return fault("no-camera", format!("there is no camera {camera}"));
        };
        let (reply, answer) = oneshot::channel();
        if desk.send(ask(reply)).await.is_err() {
            return fault("no-camera", format!("camera {camera} ends"));
        }
        match answer.await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(No::Down)) | Err(_) => {
                fault("camera-down", format!("camera {camera} delivers nothing"))
            }
            Ok(Err(No::Disk)) => fault("storage", "the clip disk takes no clips now, see status"),
            Ok(Err(No::Busy)) => fault(
                "busy",
                format!("camera {camera} records on command already"),
            ),
        }
    }

    /// What a camera shows now.
    pub(super) async fn still(
        &self,
        camera: &CameraId,
    ) -> Result<crate::agent::camera::desk::Still, Fault> {
        self.ask(camera, Ask::Picture).await
    }
}

impl Executor {
    async fn start_recording(&self, args: &RecordingStart) -> Result<Done, Fault> {
        let (id, event) = (args.recording_id, args.event_id);
        let known = self.db.call(Urgency::Now, move |c, _| {
            let event = event.map_or(Ok(true), |event| events::exists(c, event))?;
            Ok((recordings::state(c, id)?.is_some(), event))
        });
        match known.await {
            Ok((true, _)) => return fault("duplicate", "there is a recording with this id"),
            Ok((_, false)) => return fault("no-event", "there is no event with this id"),
            Ok((false, true)) => {}
            Err(e) => return fault("store", e),
        }
        let wish = Wish {
            id,
            event,
            at_most: Duration::from_secs(args.max_duration_s.into()),
        };
        let camera = &args.camera_id;
        let started = self
            .hands
            .ask(camera, |reply| Ask::Start(wish, reply))
            .await?;
        // Its row is on the way through the journal.
        while self.recording(id).await?.is_none() {
            tokio::time::sleep(LOOK).await;
        }
        let started_at: Wall = self.time.boot_clock().wall(started);
        let result = json!({ "recording_id": id, "started_at": started_at.rfc3339() });
        Ok(Done {
            result: Some(result),
            ..Done::default()
        })
    }

    async fn stop_recording(&self, args: &OneRecording) -> Result<Done, Fault> {
        let id = args.recording_id;
        let camera = self
            .db
            .call(Urgency::Now, move |c, _| uploads::camera_of(c, id));
        let camera = camera.await.or_else(|e| fault("store", e))?;
        let camera = camera.and_then(|camera| camera.parse().ok());
        // Its own camera alone: another one may take its time to answer.
        if let Some(desk) = camera.and_then(|camera| self.hands.desk.camera(&camera)) {
            let (reply, answer) = oneshot::channel();
            if desk.send(Ask::Stop(id, reply)).await.is_ok() {
                let _ = answer.await;
            }
        }
        match self.recording(id).await? {
            Some((_, true)) => {}
            _ => return fault("not-found", "no recording on command has this id"),
        }
        let closed = tokio::time::timeout(CLOSING, async {
            while self
                .recording(id)
                .await?
                .is_some_and(|(s, _)| s == "recording")
            {
                tokio::time::sleep(LOOK).await;
            }
            Ok::<_, Fault>(())
        });
        let closed = match closed.await {
            Ok(outcome) => outcome.map(|()| true)?,
            Err(_) => false,
        };
        Ok(Done {
            result: Some(json!({ "recording_id": id, "closed": closed })),
            ..Done::default()
        })
    }

    async fn lock_recording(&self, id: RecordingId, locked: bool) -> Result<Done, Fault> {
        let (ids, at) = (self.ids.clone(), self.time.mono());
        let change = self.db.call(Urgency::Now, move |c, run| {
            records::lock(c, run, id, locked, RecordId((ids)()), at)
        });
        match change.await.or_else(|e| fault("store", e))?.as_deref() {
            Some("kept" | "recording") => Ok(Done {
                result: Some(json!({ "recording_id": id, "locked": locked })),
                ..Done::default()
            }),
            Some(state) if locked => fault("gone", format!("the recording is {state}")),
            Some(_) => Ok(Done::default()),
            None => fault("not-found", "no recording has this id"),
        }
    }

    async fn upload_recording(
        &self,
        uploads: &UploadHandle,
        id: RecordingId,
    ) -> Result<Done, Fault> {
        let never = uploads.never();
        let change = self.db.call(Urgency::Now, move |c, _| {
            let camera = uploads::camera_of(c, id)?;
            if camera.is_some_and(|camera| never(&camera)) {
                return Ok(None);
            }
            uploads::ask(c, id).map(Some)
        });
        let status = match change.await.or_else(|e| fault("store", e))? {
            None => return fault("policy", "nothing of this camera may leave the device"),
            Some(Asked::Queued) => "queued",
            Some(Asked::Available) => "available",
            Some(Asked::Gone(state)) => return fault("gone", format!("the recording is {state}")),
            Some(Asked::Unknown) => return fault("not-found", "no recording has this id"),
        };
        uploads.wake.notify_one();
        Ok(Done {
            result: Some(json!({ "recording_id": id, "status": status })),
            ..Done::default()
        })
    }

    async fn recording(&self, id: RecordingId) -> Result<Option<(String, bool)>, Fault> {
        let state = self
            .db
            .call(Urgency::Now, move |c, _| recordings::state(c, id));
        state.await.or_else(|e| fault("store", e))
    }

    /// The cloud has been told, or could be for long enough: the device is nobody's.
    pub(super) async fn leave(&self, wipe: Wipe) {
        let Some(unclaim) = &self.hands.unclaim else {
            return;
        };
        let told = tokio::time::timeout(FLUSH, async {
            loop {
                let waits = self
                    .db
                    .call(Urgency::Now, |c, _| Ok(outbox::usage(c)?[0].rows));
                if waits.await.is_ok_and(|rows| rows == 0) {
                    return;
                }
                self.bells.sync.notify_one();
                tokio::time::sleep(LOOK * 10).await;
            }
        });
        if told.await.is_err() {
            tracing::warn!("the cloud could not be told that this device is unclaimed");
        }
        tracing::warn!("this device is unclaimed by its owner");
        unclaim(wipe).await;
    }

    /// An unclaim of the present key whose wiping was cut short.
    pub(super) async fn unfinished_leave(&self) -> Option<Wipe> {
        let key = self.hands.keys.of(KeySlot::Current);
        let key = key.key.key_id().to_owned();
        let found = self
            .db
            .call(Urgency::Now, move |c, _| commands::left_with(c, &key));
        match found.await.ok().flatten()?.as_str() {
            "all" => Some(Wipe::All),
            _ => Some(Wipe::Credentials),
        }
    }
}
