//! A running server: TLS, the router, the sweep of nonces, and an orderly end.
//!
//! TLS is rustls with ring and HTTP/1.1 only; without a certificate it serves plain HTTP for a proxy that
//! has one. The listening socket is bound before `start` returns.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum_server::Handle;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::task::JoinHandle;

use crate::admin::AdminError;
use crate::claiming::{self, rotate};
use crate::clock::Clock;
use crate::command::{deliver, leave};
use crate::db::{Db, DbError};
use crate::edge::verify::sweep_nonces;
use crate::faults::Faults;
use crate::faults::cut::CutAcceptor;
use crate::http::{App, normal_authority, router};
use crate::license;
use crate::mqtt::{Access, Mqtt};
use crate::notify;
use crate::secret::WrappingKey;
use crate::storage::{self, Storage, StorageError};
use crate::stream;
use crate::twin;
use crate::upload::{self, Busy};

/// How often nonces are swept.
const SWEEP: Duration = Duration::from_secs(60);
/// How often commands are looked at that nobody acknowledged.
const EXPIRE: Duration = Duration::from_secs(1);
/// How often claims are swept and the broker is told what it does not know.
const CLAIMS: Duration = Duration::from_secs(1);
/// How often notifications are looked for that are due.
const NOTIFY: Duration = Duration::from_millis(500);
/// How often uploads are looked for that nobody asks about.
const UPLOADS: Duration = Duration::from_secs(1);
/// How long requests may take to finish at the end.
const GRACE: Duration = Duration::from_secs(5);

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The database refused.
    #[error(transparent)]
    Db(#[from] DbError),
    /// The socket could not be bound.
    #[error("cannot listen on {0}")]
    Listen(SocketAddr, #[source] std::io::Error),
    /// The certificate or its key is not usable.
    #[error("the certificate is not usable: {0}")]
    Certificate(String),
    /// The object storage is not there, or not usable.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// A certificate chain and its key, PEM.
#[derive(Clone)]
pub struct Tls {
    /// Leaf first.
    pub cert_pem: Vec<u8>,
    /// PKCS#8.
    pub key_pem: Vec<u8>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls(***)")
    }
}

/// What a server needs to start.
#[derive(Debug)]
pub struct Options {
    /// Port 0 picks one.
    pub listen: SocketAddr,
    /// Connection string of the server's role.
    pub database: String,
    /// Public `host[:port]`; `localhost:<port>` when it is not given.
    pub authority: Option<String>,
    /// None serves plain HTTP.
    pub tls: Option<Tls>,
    /// Opens `edge_secret`s.
    pub wrapping_key: WrappingKey,
    /// The fault layer, if it is wanted.
    pub faults: Option<Faults>,
    /// The clock.
    pub clock: Clock,
    /// The way into the broker for commands, twins and hints, if there is one.
    pub link: Option<Access>,
    /// Times and limits of claiming.
    pub claiming: claiming::Settings,
    /// The broker that devices are sent to.
    pub mqtt: Option<claiming::Mqtt>,
    /// Where evidence is uploaded to.
    pub storage: Option<storage::Settings>,
    /// How notifications are repeated.
    pub notify: notify::Settings,
}

/// A server that runs until it is stopped or dropped.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    /// What it serves with.
    pub app: Arc<App>,
    /// The connection to the broker.
    pub link: Option<Mqtt>,
    https: bool,
    handle: Handle<SocketAddr>,
    serving: JoinHandle<std::io::Result<()>>,
    sweeping: JoinHandle<()>,
    expiring: JoinHandle<()>,
    claiming: JoinHandle<()>,
    uploads: JoinHandle<()>,
    notifying: JoinHandle<()>,
}

impl Server {
    /// Binds, connects to the database and serves on the current runtime.
    ///
    /// # Errors
    /// When the socket, the certificate or the database is not usable.
    pub async fn start(options: Options) -> Result<Self, ServerError> {
        let listen = |error| ServerError::Listen(options.listen, error);
        let listener = TcpListener::bind(options.listen).map_err(listen)?;
        listener.set_nonblocking(true).map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let db = Db::connect(&options.database).await?;
        // The authority of a private storage is that of a private receiver too.
        let ca_pem = options
            .storage
            .as_ref()
            .and_then(|settings| settings.ca_pem.clone());
        let webhooks = storage::http(ca_pem.as_deref())?;
        let storage = match options.storage {
            Some(settings) => Some(open_storage(settings, &db).await?),
            None => None,
        };
        let authority = options
            .authority
            .unwrap_or_else(|| format!("localhost:{}", address.port()));
        let app = Arc::new(App {
            db: db.clone(),
            clock: options.clock.clone(),
            wrapping_key: options.wrapping_key,
            authority: normal_authority(&authority),
            faults: options.faults,
            claiming: options.claiming,
            mqtt: options.mqtt,
            storage: storage.map(Arc::new),
            busy: Busy::default(),
        });
        let link = options
            .link
            .map(|access| Mqtt::start(app.clone(), options.database, access));
        let service = router(app.clone()).into_make_service_with_connect_info::<SocketAddr>();
        let handle = Handle::new();
        let server = axum_server::from_tcp(listener)
            .map_err(listen)?
            .handle(handle.clone());
        let https = options.tls.is_some();
        let serving = match options.tls {
            Some(tls) => {
                let config = RustlsConfig::from_config(Arc::new(tls_config(&tls)?));
                let acceptor = RustlsAcceptor::new(config).acceptor(CutAcceptor);
                tokio::spawn(server.acceptor(acceptor).serve(service))
            }
            None => tokio::spawn(server.acceptor(CutAcceptor).serve(service)),
        };
        let sweeping = tokio::spawn(sweep(db.clone()));
        let expiring = tokio::spawn(expire(db, options.clock));
        let claiming = tokio::spawn(tend_claims(app.clone()));
        let uploads = tokio::spawn(tend_uploads(app.clone()));
        let notifying = tokio::spawn(notify(app.clone(), webhooks, Arc::new(options.notify)));
        Ok(Self {
            address,
            app,
            link,
            https,
            handle,
            serving,
            sweeping,
            expiring,
            claiming,
            uploads,
            notifying,
        })
    }

    /// `https://authority`.
    pub fn base(&self) -> String {
        let scheme = if self.https { "https" } else { "http" };
        format!("{scheme}://{}", self.app.authority)
    }

    /// Lets requests finish (5 s), closes connections and the pool.
    pub async fn stop(mut self) {
        self.handle.graceful_shutdown(Some(GRACE));
        if let Ok(Err(error)) = (&mut self.serving).await {
            tracing::warn!(%error, "server ended with an error");
        }
        self.app.db.close();
    }

    /// Breaks every connection at once, as a crash of the server would.
    pub async fn kill(mut self) {
        self.handle.shutdown();
        self.serving.abort();
        let _ended = (&mut self.serving).await;
        self.app.db.close();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.handle.shutdown();
        self.serving.abort();
        self.sweeping.abort();
        self.expiring.abort();
        self.claiming.abort();
        self.uploads.abort();
        self.notifying.abort();
    }
}

async fn sweep(db: Db) {
    let mut every = tokio::time::interval(SWEEP);
    loop {
        every.tick().await;
        match sweep_nonces(&db).await {
            Ok(swept) => tracing::debug!(swept, "nonces swept"),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "nonces not swept");
            }
        }
    }
}

/// Sweeps claims that are over, and tells the broker what it does not know yet.
async fn tend_claims(app: Arc<App>) {
    let mut every = tokio::time::interval(CLAIMS);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        if let Err(error) = claiming::queue::sweep(&app.db, app.clock.now(0)).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "claims not swept");
        }
        if let Some(mqtt) = &app.mqtt
            && let Err(error) = claiming::mqtt::sync(&app.db, &app.wrapping_key, mqtt).await
        {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the broker was not told"
            );
        }
    }
}

/// What happens because time has passed and nobody came.
async fn due(db: &Db, now: jiff::Timestamp) {
    let done = async {
        leave::due(db, now).await?;
        rotate::retire(db, now).await?;
        rotate::old(db, now).await?;
        license::run_out(db, now).await?;
        Ok::<_, AdminError>(())
    };
    if let Err(error) = done.await {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "what is due was not done"
        );
    }
}

/// Makes the bucket, and lets the twins know where it is.
async fn open_storage(settings: storage::Settings, db: &Db) -> Result<Storage, ServerError> {
    let storage = Storage::new(settings)?;
    storage.ensure_bucket().await?;
    twin::store::set_upload_hosts(db, &[storage.host().to_owned()]).await?;
    Ok(storage)
}

/// Delivers notifications.
async fn notify(app: Arc<App>, http: reqwest::Client, settings: Arc<notify::Settings>) {
    let mut every = tokio::time::interval(NOTIFY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        if let Err(error) = notify::deliver::pass(&app, &http, &settings).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "notifications not delivered");
        }
    }
}

/// Gives up uploads that nobody asks about.
async fn tend_uploads(app: Arc<App>) {
    let Some(storage) = &app.storage else {
        return;
    };
    let mut every = tokio::time::interval(UPLOADS);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        match upload::expire(&app.db, storage, app.clock.now(0)).await {
            Ok(0) => {}
            Ok(expired) => tracing::info!(expired, "uploads given up"),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "uploads not swept");
            }
        }
    }
}

async fn expire(db: Db, clock: Clock) {
    let mut every = tokio::time::interval(EXPIRE);
    loop {
        every.tick().await;
        if let Err(error) = deliver::silence(&db).await {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "silence not noted"
            );
        }
        due(&db, clock.now(0)).await;
        if let Err(error) = stream::sweep(&db, clock.now(0)).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "live sessions not swept");
        }
        if let Err(error) = notify::offline::pass(&db).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "offline devices not looked for");
        }
        match deliver::expire(&db, clock.now(0)).await {
            Ok(0) => {}
            Ok(expired) => tracing::info!(expired, "commands expired"),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "commands not expired"
                );
            }
        }
    }
}

pub(crate) fn tls_config(tls: &Tls) -> Result<rustls::ServerConfig, ServerError> {
    let certificate = |what: &str| ServerError::Certificate(what.to_owned());
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&tls.cert_pem)
        .collect::<Result<_, _>>()
        .map_err(|_| certificate("the chain is not PEM"))?;
    let key = PrivateKeyDer::from_pem_slice(&tls.key_pem)
        .map_err(|_| certificate("the key is not PEM"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| certificate(&error.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| certificate(&error.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
