//! Builds the agent from its configuration, starts it, ends it in order. The only file that knows everyone; no loop.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc, watch};

use crate::agent::camera::{self, CameraContext, ClipStore};
use crate::agent::claimer::{self, Claimer};
use crate::agent::health::Health;
use crate::agent::journal::{Fact, Journal, journal};
use crate::agent::status::StatusHub;
use crate::agent::syncer::{self, MakeUploader};
use crate::agent::time::TimeKeeper;
use crate::agent::uploader::{SyncStatus, Uploader};
use crate::agent::{records, startup, status, wipe};
use crate::board::clock::Clock;
use crate::board::entropy::Entropy;
use crate::cloud::client::TOTAL_TIMEOUT;
use crate::cloud::tls::{self, TlsConfigs};
use crate::cloud::{Client, Keys, Store};
use crate::config::Config;
use crate::db::{self, Db, IdSource, Urgency};
use crate::model::RecordId;
use crate::outbox::quota::Quotas;
use crate::spool::Spool;
use crate::supervise::{Phase, Supervisor, failpoint, logging, watchdog};
use crate::wire::keys::KeySlot;

/// The last pass of the uploader at shutdown.
const LAST_SYNC: Duration = Duration::from_millis(2500);

/// Runs the agent until a signal. `None`: it has to start anew, because its owner changed.
pub fn run(config: Config) -> anyhow::Result<Option<ExitCode>> {
    logging::init();
    crate::media::init().context("GStreamer is not complete")?;
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
    let store = Store::new(&credentials_file(&config), failpoint::hit);
    wipe::carry_out(&config.state_dir, &spool, &store)
        .context("what a former owner left cannot be removed")?;

    let clock = Clock::default();
    let entropy = Entropy::default();
    let time = TimeKeeper::new(clock.clone(), clock.build_time());
    let ids: IdSource = {
        let (entropy, time) = (entropy.clone(), time.clone());
        Arc::new(move || entropy.uuid_v7(time.wall()))
    };
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
    let hello = json!({ "version": env!("CARGO_PKG_VERSION"), "arch": std::env::consts::ARCH,
                        "platform": std::env::consts::OS, "hostname": clock.hostname(),
                        "unclean": report.unclean, "cameras": config.cameras.len() });
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

    let status = StatusHub::default();
    let restart = Arc::new(Notify::new());
    let sync = match &config.cloud {
        Some(cloud) => {
            let (state, sync) = watch::channel(SyncStatus {
                state: "starting",
                ..SyncStatus::default()
            });
            let source = time.clone();
            let tls =
                tls::client_config(cloud.ca_file.as_deref(), Arc::new(move || source.wall()))?;
            let (claimer, handle) = Claimer::new(claimer::Parts {
                cloud: cloud.clone(),
                board: config.board.clone(),
                state_dir: config.state_dir.clone(),
                store,
                tls: tls.clone(),
                db: db.clone(),
                journal: journal.clone(),
                time: time.clone(),
                entropy: entropy.clone(),
                ids: ids.clone(),
                status: status.clone(),
                sync: sync.clone(),
                restart: Arc::clone(&restart),
            });
            let make = uploaders(&db, &time, &entropy, tls, handle.unclaimed.clone());
            let stop = supervisor.stop_token(Phase::Sync);
            let syncer = syncer::run(
                handle.keys.clone(),
                make,
                state,
                Arc::clone(&wake),
                stop,
                LAST_SYNC,
            );
            supervisor.spawn(Phase::Sync, "uploader", syncer);
            // Held until the intake ends: it writes records.
            let stop = supervisor.stop_token(Phase::Intake);
            supervisor.spawn(Phase::Intake, "claimer", claimer.run(stop));
            serve_control(&mut supervisor, &config, handle.clone());
            Some((sync, handle))
        }
        None => {
            tracing::info!("no cloud in the configuration, running standalone");
            None
        }
    };
    let (sync, claims) = sync.unzip();
    let health = Health {
        db: db.clone(),
        journal: journal.clone(),
        spool: spool.clone(),
        time: time.clone(),
        ids: ids.clone(),
        status: status.clone(),
        sync,
        heartbeat: config.cloud.as_ref().map(|c| c.heartbeat),
        beat_now: claims.map(|c| c.claimed),
        started,
    };
    supervisor.spawn(
        Phase::Intake,
        "health",
        health.run(supervisor.stop_token(Phase::Intake)),
    );
    serve(&mut supervisor, &config, &status, &time, &db);
    let context = CameraContext {
        journal: journal.clone(),
        store: ClipStore {
            spool,
            min_free: config.spool.min_free,
            failing: Arc::default(),
            time: time.clone(),
        },
        time: time.clone(),
        ids: ids.clone(),
        entropy,
        status,
        progress: Arc::new(AtomicU64::new(0)),
    };
    for camera in config.cameras {
        let stop = supervisor.stop_token(Phase::Intake);
        supervisor.spawn(
            Phase::Intake,
            "camera",
            camera::run(camera, context.clone(), stop),
        );
    }
    drop(context);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), epoch = %db.epoch(), "agent is up");
    watchdog::ready("recording");

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

/// Makes an uploader of whatever keys come.
fn uploaders(
    db: &Db,
    time: &TimeKeeper,
    entropy: &Entropy,
    tls: TlsConfigs,
    unclaimed: mpsc::Sender<String>,
) -> MakeUploader {
    let (db, time, entropy) = (db.clone(), time.clone(), entropy.clone());
    Box::new(move |keys: Keys| {
        let current = keys.of(KeySlot::Current);
        tracing::info!(edge_id = current.edge_id, cloud = %current.api_base, tenant = current.tenant, "syncing to the cloud");
        let client = Client::new(keys, tls.clone(), TOTAL_TIMEOUT).map_err(|e| e.to_string())?;
        Ok(
            Uploader::new(db.clone(), client, time.clone(), entropy.clone())
                .telling_unclaimed(unclaimed.clone()),
        )
    })
}

/// The socket for claiming and unclaiming.
fn serve_control(supervisor: &mut Supervisor, config: &Config, handle: claimer::Handle) {
    let (dir, stop) = (
        config.state_dir.clone(),
        supervisor.stop_token(Phase::Intake),
    );
    supervisor.spawn(Phase::Intake, "control", async move {
        if let Err(e) = claimer::control::serve(&dir, handle, stop).await {
            tracing::warn!(error = %e, "nobody at this machine can claim it");
        }
    });
}

/// Status socket and watchdog.
fn serve(
    supervisor: &mut Supervisor,
    config: &Config,
    hub: &StatusHub,
    time: &TimeKeeper,
    db: &Db,
) {
    let time = time.clone();
    let (dir, hub, stop) = (
        config.state_dir.clone(),
        hub.clone(),
        supervisor.stop_token(Phase::Serving),
    );
    supervisor.spawn(Phase::Serving, "status", async move {
        if let Err(e) = status::serve(&dir, hub, time, stop).await {
            tracing::warn!(error = %e, "status cannot be served");
        }
    });
    // Held until the intake ends, so that the journal's handles can all go.
    let (db, stop) = (db.clone(), supervisor.stop_token(Phase::Intake));
    let probe = move || {
        let db = db.clone();
        async move { db.call(Urgency::Soon, |_, _| Ok(())).await.is_ok() }
    };
    supervisor.spawn(Phase::Intake, "watchdog", watchdog::feed(probe, stop));
}

/// Its last words, behind whatever the cameras said at their end.
async fn goodbye(journal: Journal, ids: &IdSource, time: &TimeKeeper) {
    let record = records::agent(RecordId((ids)()), "agent.stopping", time.mono(), json!({}));
    journal.write(Fact::Told, vec![record]).await;
}
