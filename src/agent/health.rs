//! The heartbeat and the figures behind `status`: backlog, disk, clock, this process.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::journal::{Fact, Journal};
use super::records;
use super::status::StatusHub;
use super::time::TimeKeeper;
use super::uploader::SyncStatus;
use crate::db::{Db, DbError, IdSource, Urgency, dead_letter, open, query};
use crate::model::{LiveProtocol, RecordId};
use crate::spool::Spool;
use crate::time::{Mono, Wall};

/// Figures are refreshed this often.
const PERIOD: Duration = Duration::from_secs(5);
/// The trusted time that a reboot starts from is written this often.
const FLOOR_PERIOD: Duration = Duration::from_secs(600);
/// What is too old is looked for this often.
const EXPIRY_PERIOD: Duration = Duration::from_secs(3600);

/// What the health task reads.
pub struct Health {
    /// Backlog, floor of time.
    pub db: Db,
    /// Where the heartbeat goes.
    pub journal: Journal,
    /// Disk of the clips.
    pub spool: Spool,
    /// Trusted time.
    pub time: TimeKeeper,
    /// Makes record ids.
    pub ids: IdSource,
    /// Where figures are published.
    pub status: StatusHub,
    /// The link to the cloud, where there is one.
    pub sync: Option<watch::Receiver<SyncStatus>>,
    /// Time between heartbeats; `None` without a cloud. May change.
    pub heartbeat: watch::Receiver<Option<Duration>>,
    /// Rings when a heartbeat is wanted at once.
    pub beat_now: Option<Arc<Notify>>,
    /// What this machine can publish live by.
    pub live: fn() -> Vec<LiveProtocol>,
    /// The address of this machine, for people.
    pub address: fn() -> Option<IpAddr>,
    /// When the agent started.
    pub started: Mono,
}

async fn rings(bell: Option<&Notify>) {
    match bell {
        Some(bell) => bell.notified().await,
        None => std::future::pending().await,
    }
}

impl Health {
    /// Runs until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut last_beat: Option<Mono> = None;
        let mut next_floor = self.time.mono() + FLOOR_PERIOD;
        let mut next_expiry = self.time.mono();
        let mut tick = tokio::time::interval(PERIOD);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                _ = tick.tick() => {}
                () = rings(self.beat_now.as_deref()) => last_beat = None,
            }
            let waits = self.journal.waits_for_room();
            self.status.update(|s| s.waits_for_room = waits);
            if let Err(e) = self.refresh().await {
                tracing::warn!(error = %e, "figures cannot be read");
            }
            let now = self.time.mono();
            let every = *self.heartbeat.borrow();
            if let Some(every) = every
                && now >= last_beat.map_or(now, |last| last + every)
            {
                last_beat = Some(now);
                let record =
                    records::agent(RecordId((self.ids)()), "agent.heartbeat", now, self.beat());
                self.journal.write(Fact::Told, vec![record]).await;
            }
            // Asked at every tick, because only then is it known that the sources agreed all the time.
            if let Some(proven) = self.time.proven_wall()
                && now >= next_expiry
            {
                next_expiry = now + EXPIRY_PERIOD;
                self.expire(proven, now).await;
            }
            if self.time.is_synced() && now >= next_floor {
                next_floor = now + FLOOR_PERIOD;
                let wall = self.time.wall();
                // Only a floor: losing it costs nothing but a later guess.
                let _ = self
                    .db
                    .call(Urgency::Soon, move |c, _| open::remember_trusted(c, wall))
                    .await;
            }
        }
    }

    /// Gives up what is too old.
    async fn expire(&self, proven: Wall, now: Mono) {
        let expired = self.db.call(Urgency::Soon, move |c, run| {
            dead_letter::expire(c, run, proven, now)
        });
        match expired.await {
            Ok(0) => {}
            Ok(count) => tracing::warn!(count, "dead letters were too old and are given up"),
            Err(e) => tracing::warn!(error = %e, "old dead letters cannot be given up"),
        }
    }

    async fn refresh(&self) -> Result<(), DbError> {
        let now = self.time.mono();
        let backlog = self
            .db
            .call(Urgency::Soon, move |c, run| {
                query::backlog(c, run.boot, now)
            })
            .await?;
        let spool = self.spool.clone();
        let ballast = self.db.ballast();
        let space = tokio::task::spawn_blocking(move || {
            if let Err(e) = ballast.hold() {
                tracing::debug!(error = %e, "no room can be held back for a full disk");
            }
            spool.space()
        })
        .await
        .ok()
        .and_then(Result::ok);
        let writer = *self.db.stats().borrow();
        let sync = self.sync.as_ref().map(|s| s.borrow().clone());
        let (wall, clock) = (self.time.wall(), self.time.boot_clock());
        self.status.update(|s| {
            s.version = env!("CARGO_PKG_VERSION").into();
            s.pid = std::process::id();
            s.uptime_s = now.since(self.started).as_secs();
            s.now = wall.rfc3339();
            s.timequality = json!(clock.quality).as_str().unwrap_or_default().into();
            s.backlog = json!(backlog);
            s.sync = sync.map_or(json!({ "state": "standalone" }), |s| json!(s));
            s.system = json!({
                "spool_free": space.map(|s| s.free.to_string()),
                "spool_total": space.map(|s| s.total.to_string()),
                "spool_free_bytes": space.map(|s| s.free.0),
                "db_commits": writer.commits,
                "db_jobs": writer.jobs,
            });
        });
        Ok(())
    }

    fn beat(&self) -> Value {
        let status = self.status.snapshot(self.time.mono());
        let cameras: Vec<Value> = status
            .cameras
            .iter()
            .map(|(id, c)| json!({ "camera_id": id, "state": c.state, "fps": c.fps, "bitrate_kbps": c.bitrate_kbps,
                                   "reconnects": c.reconnects, "dropped": c.dropped, "detection": c.detection }))
            .collect();
        json!({
            "version": env!("CARGO_PKG_VERSION"), "arch": std::env::consts::ARCH, "uptime_s": status.uptime_s,
            "timequality": status.timequality, "cameras": cameras, "backlog": status.backlog,
            "system": status.system, "storage": status.storage,
            "ip": (self.address)(),
            "capabilities": { "live": (self.live)() },
            "status": status_word(&status.storage),
        })
    }
}

/// `degraded` where the disk is known to be in trouble; at the first heartbeat nobody has looked yet.
fn status_word(storage: &Value) -> &'static str {
    match storage["state"].as_str() {
        None | Some("ok") => "ok",
        Some(_) => "degraded",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_nobody_looked_at_yet_degrades_nothing() {
        assert_eq!(status_word(&Value::Null), "ok");
        assert_eq!(status_word(&json!({ "state": "ok" })), "ok");
        assert_eq!(status_word(&json!({ "state": "full" })), "degraded");
    }
}
