//! The command line: serve, migrate, administer, and what the demo and scripts need.

mod admin;
mod claim;
mod command;
mod storage;
mod stream;
mod table;
mod twin;
mod webhook;

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use crate::broker::Broker;
use crate::cert::DevCert;
use crate::claiming;
use crate::clock::Clock;
use crate::db::{APP_ROLE, Db};
use crate::faults::Faults;
use crate::migrate;
use crate::mqtt::Access;
use crate::notify;
use crate::postgres::{Postgres, StopMode};
use crate::secret::WrappingKey;
use crate::server::{Options, Server, Tls};

/// A line to standard output; whoever reads it may go away.
fn print(text: impl std::fmt::Display) -> Result<()> {
    Ok(writeln!(std::io::stdout(), "{text}")?)
}

/// The reference cloud of sentrycam.
#[derive(Debug, Parser)]
#[command(name = "sentrycam-cloud", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the device and admin APIs until SIGTERM.
    Serve(Box<Serve>),
    /// Bring the schema up or down, or show where it is. Wants the owner's role.
    Migrate {
        #[command(subcommand)]
        command: Migrate,
        /// Connection string, such as "host=/run/postgresql user=postgres dbname=sentrycam".
        #[arg(long, env = "SENTRYCAM_CLOUD_DATABASE", hide_env_values = true)]
        database: String,
    },
    /// Make, revoke and look. Wants a role that row-level security does not bind.
    Admin(admin::Admin),
    /// Make a development CA and a certificate for localhost.
    DevCert {
        /// Directory for ca.pem, cert.pem and key.pem.
        #[arg(long)]
        dir: PathBuf,
    },
    /// A private PostgreSQL in a directory, on a Unix socket only.
    DemoDb {
        #[command(subcommand)]
        command: DemoDb,
    },
}

#[derive(Debug, clap::Args)]
struct Serve {
    /// Address to listen on; port 0 picks one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Connection string of the role sentrycam_cloud_app.
    #[arg(long, env = "SENTRYCAM_CLOUD_DATABASE", hide_env_values = true)]
    database: String,
    /// What devices call this cloud, host[:port]; it is part of what they sign.
    #[arg(long)]
    public_authority: Option<String>,
    /// Certificate chain, PEM.
    #[arg(long, requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its key, PEM.
    #[arg(long, requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Written with the base URL once requests are served.
    #[arg(long)]
    ready_file: Option<PathBuf>,
    /// Let anyone who reaches /faults make the cloud misbehave. For tests.
    #[arg(long)]
    faults: bool,
    /// Start a private Mosquitto in this directory and send devices to it; it ends with the cloud.
    #[arg(long, requires = "tls_key")]
    mqtt_dir: Option<PathBuf>,
    /// Its TLS port on 127.0.0.1; 0 picks one.
    #[arg(long, default_value_t = 0)]
    mqtt_port: u16,
    /// What devices call it; must be a name of the certificate.
    #[arg(long, default_value = "localhost")]
    mqtt_host: String,
    #[command(flatten)]
    storage: storage::StorageArgs,
}

#[derive(Debug, Subcommand)]
enum Migrate {
    /// Apply what is pending.
    Up,
    /// Take migrations back. All data of theirs is lost.
    Down {
        /// Keep migrations up to this one; 0 takes everything back.
        #[arg(long, default_value_t = 0)]
        to: i32,
    },
    /// List the migrations.
    Status,
}

#[derive(Debug, Subcommand)]
enum DemoDb {
    /// Start it, make the database "sentrycam" and its schema, print the connection strings.
    Start {
        /// Where it lives.
        #[arg(long)]
        dir: PathBuf,
    },
    /// Stop it; the data stays.
    Stop {
        /// Where it lives.
        #[arg(long)]
        dir: PathBuf,
    },
}

impl Cli {
    /// Does what was asked for.
    ///
    /// # Errors
    /// With a message for people.
    pub async fn run(self) -> Result<()> {
        match self.command {
            Command::Serve(serve) => serve.run().await,
            Command::Migrate { command, database } => {
                let db = Db::connect_as_owner(&database)?;
                match command {
                    Migrate::Up => println!("applied: {:?}", migrate::up(&db).await?),
                    Migrate::Down { to } => {
                        println!("taken back: {:?}", migrate::down(&db, to).await?);
                    }
                    Migrate::Status => {
                        for status in migrate::status(&db).await? {
                            let at = status
                                .applied_at
                                .map_or("pending".into(), |at| at.to_string());
                            println!("{:04} {:<16} {at}", status.version, status.name);
                        }
                    }
                }
                Ok(())
            }
            Command::Admin(admin) => admin.run().await,
            Command::DevCert { dir } => {
                DevCert::generate()?.write(&dir)?;
                println!("wrote ca.pem, cert.pem and key.pem to {}", dir.display());
                Ok(())
            }
            Command::DemoDb { command } => demo_db(command).await,
        }
    }
}

impl Serve {
    async fn run(self) -> Result<()> {
        // Before anything can be waited for, so that no signal is missed.
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let tls = match (&self.tls_cert, &self.tls_key) {
            (Some(cert), Some(key)) => Some(Tls {
                cert_pem: std::fs::read(cert).with_context(|| cert.display().to_string())?,
                key_pem: std::fs::read(key).with_context(|| key.display().to_string())?,
            }),
            _ => None,
        };
        let broker = match (&self.mqtt_dir, &tls) {
            (Some(directory), Some(tls)) => {
                let broker =
                    Broker::serving(directory, &tls.cert_pem, &tls.key_pem, self.mqtt_port)?;
                println!("mqtt {}:{}", self.mqtt_host, broker.port());
                Some(broker)
            }
            _ => None,
        };
        let (storage, objects) = self.storage.open(tls.as_ref())?;
        if let Some(settings) = &storage {
            println!("storage {}", settings.public_endpoint);
        }
        let mqtt = broker.as_ref().map(|broker| claiming::Mqtt {
            host: self.mqtt_host,
            port: broker.port(),
            control: broker.control(),
        });
        let server = Server::start(Options {
            listen: self.listen,
            database: self.database,
            authority: self.public_authority,
            tls,
            wrapping_key: WrappingKey::from_env()?,
            faults: self.faults.then(Faults::default),
            clock: Clock::default(),
            claiming: claiming::Settings::default(),
            mqtt,
            link: broker.as_ref().map(Access::of),
            storage,
            notify: notify::Settings::default(),
        })
        .await?;
        let base = server.base();
        println!("listening {base} on {}", server.address);
        if let Some(path) = &self.ready_file {
            // Renamed into place, so that whoever waits for it never reads half of it.
            let temporary = path.with_extension("tmp");
            std::fs::write(&temporary, format!("{base}\n")).context("ready file")?;
            std::fs::rename(&temporary, path).context("ready file")?;
        }
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
        server.stop().await;
        drop((broker, objects));
        Ok(())
    }
}

async fn demo_db(command: DemoDb) -> Result<()> {
    match command {
        DemoDb::Start { dir } => {
            let postgres = Postgres::at(&dir)?;
            postgres.start()?;
            let db = Db::connect_as_owner(&postgres.url("postgres", "postgres"))?;
            let client = db.client().await?;
            let sql = "select 1 from pg_database where datname = 'sentrycam'";
            if client.query_opt(sql, &[]).await?.is_none() {
                client.batch_execute("create database sentrycam").await?;
            }
            migrate::up(&Db::connect_as_owner(
                &postgres.url("postgres", "sentrycam"),
            )?)
            .await?;
            println!("owner {}", postgres.url("postgres", "sentrycam"));
            println!("app   {}", postgres.url(APP_ROLE, "sentrycam"));
            Ok(())
        }
        DemoDb::Stop { dir } => Ok(Postgres::at(&dir)?.stop(StopMode::Fast)?),
    }
}
