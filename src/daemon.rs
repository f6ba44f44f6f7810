//! Builds the agent from its configuration, starts it, ends it in order. The only module that knows everyone; no loop.

mod online;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};

use self::online::Online;
use crate::agent::camera::registry::registry;
use crate::agent::camera::{CameraContext, ClipStore, Desk};
use crate::agent::disk::Disk;
use crate::agent::health::Health;
use crate::agent::herald::Herald;
use crate::agent::janitor::{self, Janitor};
use crate::agent::journal::{Fact, Journal, journal};
use crate::agent::pictures::pictures;
use crate::agent::reindex::Reindexer;
use crate::agent::status::StatusHub;
use crate::agent::time::TimeKeeper;
use crate::agent::twin::{self, Reach};
use crate::agent::{records, startup, status, wipe};
use crate::board::clock::Clock;
use crate::board::entropy::Entropy;
use crate::board::facts;
use crate::cloud::Store;
use crate::config::Config;
use crate::db::{self, IdSource};
use crate::media::publish;
use crate::model::RecordId;
use crate::outbox::quota::Quotas;
use crate::spool::Spool;
use crate::supervise::{Phase, Supervisor, failpoint, logging, watchdog};

/// Runs the agent until a signal. `None`: it has to start anew, because its owner changed.
pub fn run(config: Config) -> anyhow::Result<Option<ExitCode>> {
    logging::init();
    // Costs memory that an agent without cameras does not need; the first camera of a twin starts it, too.
    if !config.cameras.is_empty() {
        crate::media::init().context("GStreamer is not complete")?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // Tasks hand over and decide; what takes long runs on threads of its own. A second worker would be woken for
        // every packet, to find nothing to do.
        .worker_threads(1)
        .enable_all()
        .build()?;
    let (code, closer) = runtime.block_on(main(config, runtime.handle().clone()))?;
    runtime.shutdown_timeout(Duration::from_secs(1));
    closer.close().context("the database did not close")?;
    Ok(code)
}

async fn main(
    config: Config,
    handle: tokio::runtime::Handle,
) -> anyhow::Result<(Option<ExitCode>, db::open::Closer)> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    std::fs::create_dir_all(&config.state_dir).with_context(|| {
        format!(
            "cannot make the state directory {}",
            config.state_dir.display()
        )
    })?;

    let spool = Spool::new(&config.spool);
    let credentials = Store::new(&credentials_file(&config), failpoint::hit);
    wipe::carry_out(&config.state_dir, &spool, &credentials)
        .context("what a former owner left cannot be removed")?;

    let clock = Clock::default();
    let entropy = Entropy::default();
    let time = TimeKeeper::new(clock.clone(), clock.build_time());
    let ids: IdSource = {
        let (entropy, time) = (entropy.clone(), time.clone());
        Arc::new(move || entropy.uuid_v7(time.wall()))
    };
    let fresh = !config.state_dir.join(db::FILE_NAME).exists();
    let options = db::open::Options {
        dir: config.state_dir.clone(),
        boot: clock.boot_id(),
        clock: time.boot_clock(),
        now: time.wall(),
        quotas: Quotas::default(),
        ids: ids.clone(),
    };
    let (db, closer, report) = tokio::task::spawn_blocking(move || db::open::open(options, handle))
        .await?
        .context("cannot open the store")?;
    if let Some(floor) = report.last_trusted {
        time.raise_floor(floor);
    }

    let rows_lost = fresh || report.recovered.is_some();
    let started = time.mono();
    match startup::repair(&db, &spool, &ids, started).await {
        Ok(repaired) if repaired != startup::Repaired::default() => {
            tracing::info!(
                salvaged = repaired.salvaged,
                lost = repaired.lost,
                ended = repaired.ended,
                "put in order what the last run left"
            );
        }
        Ok(_) => {}
        Err(e) => tracing::error!(error = %e, "what the last run left could not be put in order"),
    }

    let mut supervisor = Supervisor::default();
    let wake = Arc::new(Notify::new());
    let (journal, journal_task) = journal(db.clone(), Arc::clone(&wake));
    // Rung when there may be something to upload.
    let files = Arc::new(Notify::new());
    let journal_task = journal_task.telling_of_files(Arc::clone(&files));
    supervisor.spawn(Phase::Journal, "journal", journal_task.run());
    if let Some((aside, salvage)) = &report.recovered {
        tracing::warn!(aside = %aside.display(), rows = salvage.salvaged, "database was damaged, salvaged what could be read");
        let record = records::db_recovered(
            RecordId((ids)()),
            started,
            salvage.salvaged,
            salvage.damaged_tables,
        );
        journal.write(Fact::Told, vec![record]).await;
    }
    let twins = twin::store::Store::new(
        db.clone(),
        &config.state_dir,
        ids.clone(),
        Arc::clone(&wake),
    );
    let loaded = twin::load(&twins, &config, clock.boot_id(), &time)
        .await
        .context("cannot read the twin")?;
    let (in_force, seen) = watch::channel(loaded.effective.clone());
    let hello = json!({ "version": env!("CARGO_PKG_VERSION"), "arch": std::env::consts::ARCH,
                        "platform": std::env::consts::OS, "hostname": clock.hostname(), "ip": facts::address(),
                        "unclean": report.unclean, "cameras": loaded.effective.cameras.len() });
    journal
        .write(
            Fact::Told,
            vec![records::agent(
                RecordId((ids)()),
                "agent.started",
                started,
                hello,
            )],
        )
        .await;

    let (status, desk) = (StatusHub::default(), Desk::default());
    let herald = Herald {
        status: status.clone(),
        time: time.clone(),
        in_force: seen.clone(),
        db: db.clone(),
        journal: journal.clone(),
    };
    let restart = Arc::new(Notify::new());
    let disk = Disk::default();
    let online = match &config.cloud {
        Some(cloud) => {
            let parts = online::Parts {
                config: &config,
                cloud,
                credentials,
                db: db.clone(),
                journal: journal.clone(),
                time: time.clone(),
                entropy: entropy.clone(),
                ids: ids.clone(),
                status: status.clone(),
                desk: desk.clone(),
                in_force: seen,
                spool: spool.clone(),
                disk: disk.clone(),
                wake: Arc::clone(&wake),
                files,
                restart: Arc::clone(&restart),
            };
            Some(Online::begin(parts, &mut supervisor)?)
        }
        None => {
            tracing::info!("no cloud in the configuration, running standalone");
            None
        }
    };
    let (heartbeat, heartbeats) = watch::channel(config.cloud.as_ref().map(|c| c.heartbeat));
    let health = Health {
        db: db.clone(),
        journal: journal.clone(),
        spool: spool.clone(),
        time: time.clone(),
        ids: ids.clone(),
        status: status.clone(),
        sync: online.as_ref().map(Online::sync),
        heartbeat: heartbeats,
        beat_now: online.as_ref().map(Online::claimed),
        live: publish::protocols,
        address: facts::address,
        started,
    };
    supervisor.spawn(
        Phase::Intake,
        "health",
        health.run(supervisor.stop_token(Phase::Intake)),
    );
    serve(&mut supervisor, &config, herald);
    let janitor = Janitor::new(janitor::Parts {
        db: db.clone(),
        spool: spool.clone(),
        config: config.retention,
        min_free: config.spool.min_free.0,
        uploads: config.cloud.is_some(),
        time: time.clone(),
        ids: ids.clone(),
        journal: journal.clone(),
        status: status.clone(),
        disk: disk.clone(),
        sync: Arc::clone(&wake),
    });
    let stop = supervisor.stop_token(Phase::Intake);
    supervisor.spawn(Phase::Intake, "janitor", janitor.run(stop));
    if rows_lost {
        let reindexer = Reindexer {
            db: db.clone(),
            spool: spool.clone(),
            ids: ids.clone(),
            now: started,
        };
        let stop = supervisor.stop_token(Phase::Intake);
        supervisor.spawn(Phase::Intake, "reindex", async move {
            stop.run_until_cancelled(reindexer.run()).await;
        });
    }
    let store = ClipStore {
        spool,
        min_free: config.spool.min_free,
        disk,
        time: time.clone(),
    };
    let (pictures, task) = pictures(store.clone(), journal.clone(), ids.clone());
    let stop = supervisor.stop_token(Phase::Intake);
    supervisor.spawn(Phase::Intake, "pictures", task.run(stop));
    let context = CameraContext {
        journal: journal.clone(),
        store,
        pictures,
        time: time.clone(),
        ids: ids.clone(),
        entropy: entropy.clone(),
        status: status.clone(),
        desk,
    };
    let intake = supervisor.stop_token(Phase::Intake);
    let (cameras, registry) = registry(context, intake.clone());
    let first = loaded.effective.cameras.clone();
    supervisor.spawn(Phase::Intake, "cameras", registry.run(first));
    let reach = Reach {
        cameras,
        // Without a cloud nobody can offer a twin; one that is stored from before stays in force.
        clients: online
            .as_ref()
            .map_or_else(|| watch::channel(None).1, Online::clients),
        heartbeat,
        status,
        refresh: online.as_ref().map(Online::refresh).unwrap_or_default(),
        physical_reset: online
            .as_ref()
            .map(Online::physical_reset)
            .unwrap_or_default(),
        in_force,
    };
    let (boot, twin_time) = (clock.boot_id(), time.clone());
    let (twin, task) = twin::twin(twins, config, boot, twin_time, reach, loaded);
    supervisor.spawn(Phase::Intake, "twin", task.run(intake));
    if let Some(online) = online {
        online.follow(twin, &mut supervisor);
    }
    tracing::info!(version = env!("CARGO_PKG_VERSION"), epoch = %db.epoch(), "agent is up");

    let mut writer = db.stats();
    let code = tokio::select! {
        _ = terminate.recv() => Some(ExitCode::SUCCESS),
        _ = interrupt.recv() => Some(ExitCode::SUCCESS),
        () = restart.notified() => None,
        name = supervisor.failure() => {
            tracing::error!(task = name, "a task failed, ending so that the agent is started again");
            Some(ExitCode::FAILURE)
        }
        _ = writer.wait_for(|s| s.failed) => {
            tracing::error!("the database failed, ending so that it is checked at the next start");
            Some(ExitCode::FAILURE)
        }
    };
    tracing::info!("shutting down");
    if code.is_some() {
        watchdog::stopping();
    }
    drop(db);
    tokio::select! {
        _ = supervisor.shut_down(goodbye(journal, &ids, &time)) => {}
        _ = terminate.recv() => std::process::exit(130),
        _ = interrupt.recv() => std::process::exit(130),
    }
    Ok((code, closer))
}

fn credentials_file(config: &Config) -> PathBuf {
    let named = config.cloud.as_ref().map(|c| c.credentials_file.clone());
    named.unwrap_or_else(|| config.state_dir.join("credentials/current.json"))
}

/// Status socket, and what systemd hears.
fn serve(supervisor: &mut Supervisor, config: &Config, herald: Herald) {
    let (dir, hub, time) = (
        config.state_dir.clone(),
        herald.status.clone(),
        herald.time.clone(),
    );
    let stop = supervisor.stop_token(Phase::Serving);
    supervisor.spawn(Phase::Serving, "status", async move {
        if let Err(e) = status::serve(&dir, hub, time, stop).await {
            tracing::warn!(error = %e, "status cannot be served");
        }
    });
    // Held until the intake ends, so that the journal's handles can all go.
    let stop = supervisor.stop_token(Phase::Intake);
    supervisor.spawn(Phase::Intake, "herald", herald.clone().run(stop.clone()));
    let probe = move || {
        let herald = herald.clone();
        async move { herald.progress().await }
    };
    supervisor.spawn(Phase::Intake, "watchdog", watchdog::feed(probe, stop));
}

/// Its last words, behind whatever the cameras said at their end.
async fn goodbye(journal: Journal, ids: &IdSource, time: &TimeKeeper) {
    let record = records::agent(RecordId((ids)()), "agent.stopping", time.mono(), json!({}));
    journal.write(Fact::Told, vec![record]).await;
}
