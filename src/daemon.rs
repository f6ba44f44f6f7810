//! Builds the agent from its configuration, starts it, ends it in order. The only file that knows everyone; no loop.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};

use crate::agent::camera::registry::registry;
use crate::agent::camera::{CameraContext, ClipStore, Desk};
use crate::agent::commands::{self, Commands};
use crate::agent::disk::Disk;
use crate::agent::executor::Hands;
use crate::agent::health::Health;
use crate::agent::janitor::{self, Janitor};
use crate::agent::journal::{Fact, Journal, journal};
use crate::agent::link::{self, Link, LinkConfig, Plugs};
use crate::agent::reindex::Reindexer;
use crate::agent::status::StatusHub;
use crate::agent::time::TimeKeeper;
use crate::agent::twin::{self, Fetcher, Reach, store::Store};
use crate::agent::uploader::Uploader;
use crate::agent::{records, startup, status};
use crate::board::clock::Clock;
use crate::board::entropy::Entropy;
use crate::board::logind::Logind;
use crate::cloud::client::TOTAL_TIMEOUT;
use crate::cloud::mqtt::Mqtts;
use crate::cloud::{Client, Keys, Transport as _, tls};
use crate::config::{CloudConfig, Config, summary::summary};
use crate::db::{self, Db, IdSource, Urgency};
use crate::model::RecordId;
use crate::outbox::quota::Quotas;
use crate::spool::Spool;
use crate::supervise::{Phase, Supervisor, logging, watchdog};
use crate::wire::keys::KeySlot;

/// The last pass of the uploader at shutdown.
const LAST_SYNC: Duration = Duration::from_millis(2500);

/// Runs the agent until a signal.
pub fn run(config: Config) -> anyhow::Result<ExitCode> {
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
) -> anyhow::Result<(ExitCode, db::open::Closer)> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    std::fs::create_dir_all(&config.state_dir).with_context(|| {
        format!(
            "cannot make the state directory {}",
            config.state_dir.display()
        )
    })?;

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

    let spool = Spool::new(&config.spool);
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

    let store = Store::new(
        db.clone(),
        &config.state_dir,
        ids.clone(),
        Arc::clone(&wake),
    );
    let loaded = twin::load(&store, &config, clock.boot_id(), &time)
        .await
        .context("cannot read the twin")?;
    let refresh = Arc::<Notify>::default();
    let (status, desk) = (StatusHub::default(), Desk::default());
    let (mut fetching, mut linking) = (None, None);
    let sync = match &config.cloud {
        Some(cloud) => {
            let (keys, tls) = access(cloud, &time)?;
            let client = Client::new(keys.clone(), tls.clone(), TOTAL_TIMEOUT)?;
            fetching = Some(client.clone());
            let hands = Hands {
                desk: desk.clone(),
                spool: spool.clone(),
                min_free: config.spool.min_free,
                twin: Some({
                    let refresh = Arc::clone(&refresh);
                    Arc::new(move || refresh.notify_one())
                }),
                machine: Logind::default(),
                keys: client.keys().clone(),
                rotation: None,
                unclaim: None,
                status: status.clone(),
                config: summary(&config),
            };
            let broker = broker(&config, &keys, &tls);
            let (away, broker_away) = watch::channel(Some(started));
            let commands = Commands::new(commands::Parts {
                db: db.clone(),
                time: time.clone(),
                ids: ids.clone(),
                entropy: entropy.clone(),
                client: client.clone(),
                hands,
                sync: Arc::clone(&wake),
                broker_away: broker.is_some().then_some(broker_away),
            });
            linking = broker.map(|broker| (broker, commands.inbox(), commands.poke(), away));
            let uploader = Uploader::new(db.clone(), client, time.clone(), entropy.clone())
                .poking(commands.poke())
                .telling_of_twins(Arc::clone(&refresh));
            let stop = supervisor.stop_token(Phase::Intake);
            supervisor.spawn(Phase::Intake, "commands", commands.run(stop));
            let sync = uploader.status();
            let stop = supervisor.stop_token(Phase::Sync);
            supervisor.spawn(
                Phase::Sync,
                "uploader",
                uploader.run(Arc::clone(&wake), stop, LAST_SYNC),
            );
            Some(sync)
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
        sync,
        heartbeat: heartbeats,
        started,
    };
    supervisor.spawn(
        Phase::Intake,
        "health",
        health.run(supervisor.stop_token(Phase::Intake)),
    );
    serve(&mut supervisor, &config, &status, &time, &db);
    let disk = Disk::default();
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
    let context = CameraContext {
        journal: journal.clone(),
        store: ClipStore {
            spool,
            min_free: config.spool.min_free,
            disk,
            time: time.clone(),
        },
        time: time.clone(),
        ids: ids.clone(),
        entropy: entropy.clone(),
        status: status.clone(),
        desk,
        progress: Arc::new(AtomicU64::new(0)),
    };
    let intake = supervisor.stop_token(Phase::Intake);
    let (cameras, registry) = registry(context, intake.clone());
    let first = loaded.effective.cameras.clone();
    supervisor.spawn(Phase::Intake, "cameras", registry.run(first));
    // Without a cloud nobody can offer a twin; one that is stored from before stays in force.
    let edge_id = fetching.as_ref().map(|c| c.edge_id().to_owned());
    let reach = Reach {
        cameras,
        client: fetching.clone(),
        heartbeat,
        status: status.clone(),
        refresh,
    };
    let (twin, task) = twin::twin(
        store,
        config,
        edge_id.unwrap_or_default(),
        clock.boot_id(),
        time.clone(),
        reach,
        loaded,
    );
    supervisor.spawn(Phase::Intake, "twin", task.run(intake.clone()));
    if let Some(client) = fetching {
        let fetcher = Fetcher::new(client, time.clone(), entropy.clone(), twin.clone());
        supervisor.spawn(Phase::Intake, "twin-fetch", fetcher.run(intake));
    }
    if let Some(((broker, config), commands, poke, away)) = linking {
        let deps = link::Deps {
            db: db.clone(),
            time: time.clone(),
            entropy,
            ids: ids.clone(),
            hub: status,
        };
        let plugs = Plugs {
            commands: Arc::new(commands),
            reported: twin.report(),
            twin: Arc::new(twin),
            poke,
            away,
        };
        let link = Link::new(broker, config, deps, plugs);
        let stop = supervisor.stop_token(Phase::Offline);
        supervisor.spawn(Phase::Offline, "link", link.run(stop));
    }
    tracing::info!(version = env!("CARGO_PKG_VERSION"), epoch = %db.epoch(), "agent is up");
    watchdog::ready("recording");

    let mut writer = db.stats();
    let code = tokio::select! {
        _ = terminate.recv() => ExitCode::SUCCESS,
        _ = interrupt.recv() => ExitCode::SUCCESS,
        name = supervisor.failure() => {
            tracing::error!(task = name, "a task failed, ending so that the agent is started again");
            ExitCode::FAILURE
        }
        _ = writer.wait_for(|s| s.failed) => {
            tracing::error!("the database failed, ending so that it is checked at the next start");
            ExitCode::FAILURE
        }
    };
    tracing::info!("shutting down");
    watchdog::stopping();
    drop(db);
    tokio::select! {
        _ = supervisor.shut_down(goodbye(journal, &ids, &time)) => {}
        _ = terminate.recv() => std::process::exit(130),
        _ = interrupt.recv() => std::process::exit(130),
    }
    Ok((code, closer))
}

/// How the cloud is reached: our keys, and whom to trust.
type Access = (Keys, tls::TlsConfigs);

fn access(cloud: &CloudConfig, time: &TimeKeeper) -> anyhow::Result<Access> {
    let keys = Keys::load(&cloud.credentials_file)
        .context("the cloud's credentials cannot be used (cloud.credentials_file)")?;
    let source = time.clone();
    let tls = tls::client_config(cloud.ca_file.as_deref(), Arc::new(move || source.wall()))?;
    let current = keys.of(KeySlot::Current);
    tracing::info!(edge_id = current.edge_id, cloud = %current.api_base, tenant = current.tenant, "syncing to the cloud");
    Ok((keys, tls))
}

/// The broker, where there is one, and who we are to it.
fn broker(config: &Config, keys: &Keys, tls: &tls::TlsConfigs) -> Option<(Mqtts, LinkConfig)> {
    let current = keys.of(KeySlot::Current);
    let Some(account) = current.mqtt.clone().filter(|_| config.mqtt.enabled) else {
        tracing::info!("no broker, the cloud is asked by HTTPS alone");
        return None;
    };
    let keep_alive = config.mqtt.keep_alive;
    let link_config = LinkConfig {
        edge_id: current.edge_id.clone(),
        keep_alive,
    };
    Some((
        Mqtts::new(account, tls.usual.clone(), keep_alive),
        link_config,
    ))
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
