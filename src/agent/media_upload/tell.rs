//! What became of a file: its row and the record that tells it, in one transaction.

use super::MediaUpload;
use crate::agent::records;
use crate::cloud::client::Transport;
use crate::db::recordings;
use crate::db::retention::{self, FileId};
use crate::db::uploads::{self, Waiting};
use crate::db::{DbError, Urgency, outbox};
use crate::model::{ClipState, RecordId, RecordingId, SnapshotId};
use crate::time::Mono;

impl<T: Transport> MediaUpload<T> {
    /// The cloud has verified it.
    pub(super) async fn told(&self, waiting: &Waiting) -> Result<(), DbError> {
        let (file, camera) = (waiting.file, waiting.camera.clone());
        let (record, at) = (RecordId((self.parts.ids)()), self.parts.time.mono());
        let work = move |c: &crate::db::Connection, run: &crate::db::Run| {
            let told = |rev| {
                records::recording_uploaded(record, &camera, RecordingId(file.uuid()), rev, at)
            };
            uploads::done(c, run, file, told)
        };
        self.parts.db.call(Urgency::Now, work).await?;
        tracing::info!(file = %file.uuid(), camera = waiting.camera, bytes = waiting.size, "uploaded and verified");
        self.parts.sync.notify_one();
        Ok(())
    }

    /// The row has no file: it says so, and so does a record.
    pub(super) async fn lost(&self, waiting: &Waiting, at: Mono) -> Result<(), DbError> {
        tracing::error!(file = %waiting.file.uuid(), camera = waiting.camera, "a file that was to be uploaded is gone");
        let (file, camera, record) = (
            waiting.file,
            waiting.camera.clone(),
            RecordId((self.parts.ids)()),
        );
        let work = move |c: &crate::db::Connection, run: &crate::db::Run| match file {
            FileId::Clip(id) => {
                let id = RecordingId(id);
                recordings::mark(c, id, ClipState::Lost)?;
                let Some((rev, _)) = retention::revise(c, id)? else {
                    return Ok(());
                };
                outbox::put(
                    c,
                    run,
                    &records::recording_deleted(record, &camera, id, "lost", rev, at),
                )
            }
            FileId::Picture(id) => match crate::db::snapshots::lost(c, SnapshotId(id))? {
                Some(rev) => outbox::put(
                    c,
                    run,
                    &records::snapshot_deleted(record, &camera, id, "lost", rev, at),
                ),
                None => Ok(()),
            },
        };
        self.parts.db.call(Urgency::Now, work).await?;
        self.parts.sync.notify_one();
        Ok(())
    }

    /// It stays here, and somebody is told.
    pub(super) async fn never(
        &mut self,
        waiting: &Waiting,
        code: &'static str,
        at: Mono,
    ) -> Result<(), DbError> {
        tracing::error!(file = %waiting.file.uuid(), camera = waiting.camera, code, "a file will not be uploaded as it is");
        self.shown.error = Some(format!("{code}: {}", waiting.file.uuid()));
        let (file, camera, record) = (
            waiting.file,
            waiting.camera.clone(),
            RecordId((self.parts.ids)()),
        );
        let work = move |c: &crate::db::Connection, run: &crate::db::Run| {
            if !uploads::failed(c, file, code)? {
                return Ok(());
            }
            let told = match file {
                FileId::Clip(id) => {
                    let id = RecordingId(id);
                    let Some((rev, _)) = retention::revise(c, id)? else {
                        return Ok(());
                    };
                    records::recording_failed(record, &camera, id, code, rev, at)
                }
                FileId::Picture(id) => {
                    records::upload_failed(record, &camera, &id.to_string(), code, at)
                }
            };
            outbox::put(c, run, &told)
        };
        self.parts.db.call(Urgency::Now, work).await?;
        self.parts.sync.notify_one();
        Ok(())
    }
}
