//! The half of the agent that needs a cloud: the claimer, which finds the device an owner, and what works with the keys
//! that it brings: uploader, commands, twin, link. The other half knows of it only whether it is there.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::agent::camera::Desk;
use crate::agent::claimed::{Clients, while_claimed};
use crate::agent::claimer::{self, Claimer};
use crate::agent::commands::{self, Commands};
use crate::agent::disk::Disk;
use crate::agent::executor::{Describe, Hands, Rotation, Unclaim};
use crate::agent::inbox::Inbox;
use crate::agent::journal::Journal;
use crate::agent::link::{self, Link, LinkConfig, Plugs};
use crate::agent::live::{self, LiveHandle};
use crate::agent::media_upload::{self, MediaUpload, Settings, UploadHandle};
use crate::agent::status::StatusHub;
use crate::agent::time::TimeKeeper;
use crate::agent::twin::{Fetcher, TwinHandle};
use crate::agent::uploader::{SyncStatus, Uploader};
use crate::agent::wipe::Wipe;
use crate::board::entropy::Entropy;
use crate::board::logind::Logind;
use crate::cloud::client::Transport as _;
use crate::cloud::mqtt::Mqtts;
use crate::cloud::storage::Storage;
use crate::cloud::tls::{self, TlsConfigs};
use crate::cloud::{Client, Store};
use crate::command::kinds;
use crate::config::{CloudConfig, Config, MqttConfig, summary::summary};
use crate::db::{Db, IdSource};
use crate::media::publish;
use crate::spool::Spool;
use crate::supervise::{Phase, Supervisor};
use crate::time::Mono;
use crate::twin::Effective;
use crate::wire::keys::KeySlot;

/// The last pass of the uploader at shutdown.
const LAST_SYNC: Duration = Duration::from_millis(2500);
/// The link says that it goes.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Nothing of an upload moves for so long: the connection is dead.
const STALL: Duration = Duration::from_secs(30);

/// What it is made of.
pub struct Parts<'c> {
    pub config: &'c Config,
    pub cloud: &'c CloudConfig,
    pub credentials: Store,
    pub db: Db,
    pub journal: Journal,
    pub time: TimeKeeper,
    pub entropy: Entropy,
    pub ids: IdSource,
    pub status: StatusHub,
    pub desk: Desk,
    /// What the twin says, or the configuration alone.
    pub in_force: watch::Receiver<Effective>,
    pub spool: Spool,
    pub disk: Disk,
    /// Wakes the uploader.
    pub wake: Arc<Notify>,
    /// Wakes the media upload.
    pub files: Arc<Notify>,
    /// Starts the agent anew.
    pub restart: Arc<Notify>,
}

/// The running half; what has to wait for the twin begins with [`Online::follow`].
pub struct Online {
    tls: TlsConfigs,
    mqtt: MqttConfig,
    handle: claimer::Handle,
    sync: watch::Receiver<SyncStatus>,
    refresh: Arc<Notify>,
    poke: Arc<Notify>,
    inbox: watch::Receiver<Option<Inbox>>,
    away: watch::Sender<Option<Mono>>,
    db: Db,
    time: TimeKeeper,
    entropy: Entropy,
    ids: IdSource,
    status: StatusHub,
}

impl Online {
    /// Begins claimer, uploader and commands.
    pub fn begin(p: Parts<'_>, supervisor: &mut Supervisor) -> anyhow::Result<Online> {
        let source = p.time.clone();
        let tls = tls::client_config(p.cloud.ca_file.as_deref(), Arc::new(move || source.wall()))?;
        let media = media_parts(&p, &tls, supervisor)?;
        let (told, sync) = watch::channel(SyncStatus::default());
        let (claimer, handle) = Claimer::new(claimer::Parts {
            cloud: p.cloud.clone(),
            board: p.config.board.clone(),
            state_dir: p.config.state_dir.clone(),
            store: p.credentials.clone(),
            tls: tls.clone(),
            db: p.db.clone(),
            journal: p.journal.clone(),
            time: p.time.clone(),
            entropy: p.entropy.clone(),
            ids: p.ids.clone(),
            status: p.status.clone(),
            sync: sync.clone(),
            restart: Arc::clone(&p.restart),
        });
        let stop = supervisor.stop_token(Phase::Intake);
        supervisor.spawn(Phase::Intake, "claimer", claimer.run(stop));
        control(supervisor, p.config.state_dir.clone(), handle.clone());

        let (refresh, poke) = (Arc::<Notify>::default(), Arc::<Notify>::default());
        // Away since ever, until a link says otherwise.
        let (away, broker_away) = watch::channel(Some(Mono(0)));
        let uploader = {
            let (db, time, entropy) = (p.db.clone(), p.time.clone(), p.entropy.clone());
            let (poke, refresh, wake) = (Arc::clone(&poke), Arc::clone(&refresh), p.wake.clone());
            let (unclaimed, told) = (handle.unclaimed.clone(), told.clone());
            let broker_away = broker_away.clone();
            move |client: Client, stop| {
                let current = client.keys().of(KeySlot::Current);
                tracing::info!(edge_id = current.edge_id, cloud = %current.api_base, tenant = current.tenant, "syncing to the cloud");
                Uploader::new(db.clone(), client, time.clone(), entropy.clone())
                    .reporting_to(told.clone())
                    .telling_unclaimed(unclaimed.clone())
                    .poking(Arc::clone(&poke))
                    .telling_of_twins(Arc::clone(&refresh))
                    .watching_broker(broker_away.clone())
                    .run(Arc::clone(&wake), stop, LAST_SYNC)
            }
        };
        let idle = move || {
            told.send_modify(|s| {
                s.state = "unclaimed";
                s.last_error = None;
            });
        };
        let (clients, stop) = (handle.clients.clone(), supervisor.stop_token(Phase::Sync));
        // A pass must not go on with a key that is being removed.
        let uploader = while_claimed(clients, stop, Duration::ZERO, uploader, idle);
        supervisor.spawn(Phase::Sync, "uploader", uploader);

        let uploads = media.handle.clone();
        let upload = move |client: Client, stop| MediaUpload::new(media.clone(), client).run(stop);
        let (clients, stop) = (handle.clients.clone(), supervisor.stop_token(Phase::Intake));
        let upload = while_claimed(clients, stop, Duration::ZERO, upload, || {});
        supervisor.spawn(Phase::Intake, "media-upload", upload);
        let live = live_view(&p, &tls, &handle, supervisor);
        let (inbox_tx, inbox) = watch::channel(None);
        let hands = {
            let (desk, spool, status) = (p.desk, p.spool, p.status.clone());
            let min_free = p.config.spool.min_free;
            let config: Describe = {
                let (local, in_force) = (p.config.clone(), p.in_force);
                Arc::new(move || summary(&local, &in_force.borrow().cameras))
            };
            let (refresh, handle) = (Arc::clone(&refresh), handle.clone());
            let (time, entropy) = (p.time.clone(), p.entropy.clone());
            move |client: &Client| Hands {
                desk: desk.clone(),
                live: Some(live.clone()),
                spool: spool.clone(),
                min_free,
                twin: Some({
                    let refresh = Arc::clone(&refresh);
                    Arc::new(move || refresh.notify_one())
                }),
                machine: Logind::default(),
                keys: client.keys().clone(),
                rotation: Some(Rotation {
                    client: client.clone(),
                    time: time.clone(),
                    entropy: entropy.clone(),
                }),
                unclaim: Some(unclaim(handle.clone())),
                uploads: Some(uploads.clone()),
                status: status.clone(),
                config: Arc::clone(&config),
            }
        };
        let commands = {
            let (db, time, ids) = (p.db.clone(), p.time.clone(), p.ids.clone());
            let (entropy, poke) = (p.entropy.clone(), Arc::clone(&poke));
            move |client: Client, stop| {
                let commands = Commands::new(commands::Parts {
                    db: db.clone(),
                    time: time.clone(),
                    ids: ids.clone(),
                    entropy: entropy.clone(),
                    hands: hands(&client),
                    client,
                    sync: Arc::clone(&p.wake),
                    poke: Arc::clone(&poke),
                    broker_away: broker_away.clone(),
                });
                inbox_tx.send_replace(Some(commands.inbox()));
                commands.run(stop)
            }
        };
        let (clients, stop) = (handle.clients.clone(), supervisor.stop_token(Phase::Intake));
        let commands = while_claimed(clients, stop, Duration::ZERO, commands, || {});
        supervisor.spawn(Phase::Intake, "commands", commands);
        Ok(Online {
            tls,
            mqtt: p.config.mqtt,
            handle,
            sync,
            refresh,
            poke,
            inbox,
            away,
            db: p.db,
            time: p.time,
            entropy: p.entropy,
            ids: p.ids,
            status: p.status,
        })
    }

    /// How the uploader is.
    pub fn sync(&self) -> watch::Receiver<SyncStatus> {
        self.sync.clone()
    }

    /// Rings when the device was claimed.
    pub fn claimed(&self) -> Arc<Notify> {
        Arc::clone(&self.handle.claimed)
    }

    /// Whether the button may reset the device.
    pub fn physical_reset(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.handle.physical_reset)
    }

    /// The way to the cloud.
    pub fn clients(&self) -> Clients {
        self.handle.clients.clone()
    }

    /// Rung when there is another twin.
    pub fn refresh(&self) -> Arc<Notify> {
        Arc::clone(&self.refresh)
    }

    /// Begins what needs the twin: its fetcher, and the link.
    pub fn follow(self, twin: TwinHandle, supervisor: &mut Supervisor) {
        let fetch = {
            let (time, entropy, twin) = (self.time.clone(), self.entropy.clone(), twin.clone());
            move |client, stop| {
                Fetcher::new(client, time.clone(), entropy.clone(), twin.clone()).run(stop)
            }
        };
        let (clients, stop) = (self.clients(), supervisor.stop_token(Phase::Intake));
        let fetch = while_claimed(clients, stop, Duration::ZERO, fetch, || {});
        supervisor.spawn(Phase::Intake, "twin-fetch", fetch);

        let (clients, stop) = (self.clients(), supervisor.stop_token(Phase::Offline));
        let link = move |client: Client, stop| {
            let link = self.link(&client, &twin);
            async move {
                match link {
                    Some(link) => link.run(stop).await,
                    None => tracing::info!("no broker, the cloud is asked by HTTPS alone"),
                }
            }
        };
        let link = while_claimed(clients, stop, LAST_WORD, link, || {});
        supervisor.spawn(Phase::Offline, "link", link);
    }

    /// The link, where there is a broker.
    fn link(&self, client: &Client, twin: &TwinHandle) -> Option<Link<Mqtts>> {
        let account = client.keys().of(KeySlot::Current).mqtt;
        let Some(account) = account.filter(|_| self.mqtt.enabled) else {
            self.away.send_replace(Some(Mono(0)));
            return None;
        };
        let keep_alive = self.mqtt.keep_alive;
        let config = LinkConfig {
            edge_id: client.edge_id().to_owned(),
            keep_alive,
        };
        let deps = link::Deps {
            db: self.db.clone(),
            time: self.time.clone(),
            entropy: self.entropy.clone(),
            ids: self.ids.clone(),
            hub: self.status.clone(),
        };
        let plugs = Plugs {
            commands: Arc::new(self.inbox.clone()),
            reported: twin.report(),
            twin: Arc::new(twin.clone()),
            poke: Arc::clone(&self.poke),
            away: self.away.clone(),
        };
        let broker = Mqtts::new(account, self.tls.usual.clone(), keep_alive);
        Some(Link::new(broker, config, deps, plugs))
    }
}

/// What the media upload is made of; its settings follow the twin.
fn media_parts(
    p: &Parts<'_>,
    tls: &TlsConfigs,
    supervisor: &mut Supervisor,
) -> anyhow::Result<media_upload::Parts> {
    let (told, settings) = watch::channel(Settings::of(&p.in_force.borrow()));
    let (mut in_force, stop) = (p.in_force.clone(), supervisor.stop_token(Phase::Intake));
    supervisor.spawn(Phase::Intake, "upload-settings", async move {
        let follow = async {
            while in_force.changed().await.is_ok() {
                let settings = Settings::of(&in_force.borrow_and_update());
                told.send_replace(settings);
            }
        };
        stop.run_until_cancelled(follow).await;
        stop.cancelled().await;
    });
    Ok(media_upload::Parts {
        db: p.db.clone(),
        spool: p.spool.clone(),
        disk: p.disk.clone(),
        storage: Storage::new(tls.usual.clone(), &p.cloud.allow_private, STALL)?,
        time: p.time.clone(),
        entropy: p.entropy.clone(),
        ids: p.ids.clone(),
        status: p.status.clone(),
        handle: UploadHandle {
            wake: Arc::clone(&p.files),
            settings,
        },
        sync: Arc::clone(&p.wake),
    })
}

/// Live sessions; they end where the keys go.
fn live_view(
    p: &Parts<'_>,
    tls: &TlsConfigs,
    handle: &claimer::Handle,
    supervisor: &mut Supervisor,
) -> LiveHandle {
    let parts = live::Parts {
        desk: p.desk.clone(),
        journal: p.journal.clone(),
        time: p.time.clone(),
        ids: p.ids.clone(),
        entropy: p.entropy.clone(),
        status: p.status.clone(),
        clients: handle.clients.clone(),
        tls: tls.usual.clone(),
        allowed: p.cloud.allow_private.clone().into(),
        in_force: p.in_force.clone(),
        able: publish::protocols,
    };
    let (live, task) = live::live(parts);
    let stop = supervisor.stop_token(Phase::Intake);
    supervisor.spawn(Phase::Intake, "live", task.run(stop));
    live
}

/// The socket for claiming and unclaiming.
fn control(supervisor: &mut Supervisor, dir: PathBuf, handle: claimer::Handle) {
    let stop = supervisor.stop_token(Phase::Intake);
    supervisor.spawn(Phase::Intake, "control", async move {
        if let Err(e) = claimer::control::serve(&dir, handle, stop).await {
            tracing::warn!(error = %e, "nobody at this machine can claim it");
        }
    });
}

/// The claimer removes the keys, which ends the command that asked for it.
fn unclaim(claims: claimer::Handle) -> Unclaim {
    Arc::new(move |wipe| {
        let claims = claims.clone();
        let wipe = match wipe {
            kinds::Wipe::Credentials => Wipe::Credentials,
            kinds::Wipe::All => Wipe::All,
        };
        Box::pin(async move {
            if let Err(e) = claims.unclaim(wipe).await {
                tracing::error!(error = e.text, "the device cannot be unclaimed");
            }
        })
    })
}
