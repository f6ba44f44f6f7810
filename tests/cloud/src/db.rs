//! The door to PostgreSQL: a pool of connections that act as the server's role, and the naming of the
//! tenant a transaction works for.
//!
//! Guarantees: commits are durable when they return (`synchronous_commit = on`), statements and locks
//! end in bounded time, and `Db::connect` refuses a role to which row-level security does not apply.

use deadpool_postgres::{Client, Manager, ManagerConfig, Pool, RecyclingMethod, Transaction};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Config, NoTls};
use uuid::Uuid;

/// The role whose policies keep tenants apart; made by migration 1.
pub const APP_ROLE: &str = "sentrycam_cloud_app";

/// Settings of every connection: durable commits, nothing waits for ever.
const OPTIONS: &str = "-c synchronous_commit=on -c statement_timeout=15000 -c lock_timeout=10000 \
                       -c idle_in_transaction_session_timeout=30000 -c timezone=UTC";

/// Connections of one server; one batch uses one.
const MAX_CONNECTIONS: usize = 16;

/// How long a request waits for one of them before it answers 503.
const MAX_WAIT: std::time::Duration = std::time::Duration::from_secs(10);

/// Why the database did not do it.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// The connection string is wrong.
    #[error("the database address is not understood")]
    Address(#[source] tokio_postgres::Error),
    /// There is no connection.
    #[error("no database connection")]
    Pool(#[from] deadpool_postgres::PoolError),
    /// The pool could not be made.
    #[error("the connection pool could not be made")]
    Build(#[from] deadpool_postgres::BuildError),
    /// A statement failed.
    #[error("a statement failed")]
    Statement(#[from] tokio_postgres::Error),
    /// Row-level security would not apply.
    #[error("role {0} bypasses row-level security; serve as {APP_ROLE}")]
    Role(String),
}

impl DbError {
    /// Whether the data is at fault (SQLSTATE classes 22 and 23), so that trying again is useless.
    pub fn is_data(&self) -> bool {
        matches!(self, Self::Statement(error) if error
            .code()
            .is_some_and(|code| matches!(code.code().get(..2), Some("22" | "23"))))
    }

    /// Whether a unique key is at fault.
    pub fn is_unique(&self) -> bool {
        matches!(self, Self::Statement(error) if error.code() == Some(&SqlState::UNIQUE_VIOLATION))
    }
}

/// A pool of connections.
#[derive(Clone)]
pub struct Db {
    pool: Pool,
}

impl std::fmt::Debug for Db {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Db").finish_non_exhaustive()
    }
}

impl Db {
    /// Opens a pool as the server's role and checks that policies apply to it.
    ///
    /// # Errors
    /// `Role` for a superuser or a role with `bypassrls`.
    pub async fn connect(url: &str) -> Result<Self, DbError> {
        let db = Self::connect_as_owner(url)?;
        let row = db
            .client()
            .await?
            .query_one(
                "select current_user::text, rolsuper or rolbypassrls from pg_roles where rolname = current_user",
                &[],
            )
            .await?;
        if row.get::<_, bool>(1) {
            return Err(DbError::Role(row.get(0)));
        }
        Ok(db)
    }

    /// Opens a pool for migrations and the operator's commands, without the check of the role.
    ///
    /// # Errors
    /// `Address` when the connection string is wrong.
    pub fn connect_as_owner(url: &str) -> Result<Self, DbError> {
        let mut config: Config = url.parse().map_err(DbError::Address)?;
        config.options(OPTIONS).application_name("sentrycam-cloud");
        config.connect_timeout(std::time::Duration::from_secs(5));
        let manager = Manager::from_config(
            config,
            NoTls,
            ManagerConfig {
                recycling_method: RecyclingMethod::Fast,
            },
        );
        Ok(Self {
            pool: Pool::builder(manager)
                .max_size(MAX_CONNECTIONS)
                .runtime(deadpool_postgres::Runtime::Tokio1)
                .wait_timeout(Some(MAX_WAIT))
                .build()?,
        })
    }

    /// A connection from the pool.
    ///
    /// # Errors
    /// `Pool` when the database cannot be reached.
    pub async fn client(&self) -> Result<Client, DbError> {
        Ok(self.pool.get().await?)
    }

    /// Closes every connection; later uses fail.
    pub fn close(&self) {
        self.pool.close();
    }
}

/// Names the tenant of a transaction; its policies then apply until it ends.
///
/// # Errors
/// When the statement fails.
pub async fn set_tenant(tx: &Transaction<'_>, organization: Uuid) -> Result<(), DbError> {
    set_local(tx, "app.organization_id", &organization.to_string()).await
}

/// Sets a setting for the transaction.
///
/// # Errors
/// When the statement fails.
pub async fn set_local(tx: &Transaction<'_>, name: &str, value: &str) -> Result<(), DbError> {
    let statement = tx.prepare_cached("select set_config($1, $2, true)").await?;
    tx.execute(&statement, &[&name, &value]).await?;
    Ok(())
}
