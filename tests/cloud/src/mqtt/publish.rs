//! The publisher: finds in the tables what devices have not been told, signs it and tells them.
//!
//! A pass takes no input and may be repeated at any time. Told twice is harmless (`jti`, `version`); told
//! never is healed by the next connection of either side, and by the device's poll.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use ring::hmac;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::PublishProperties;
use rumqttc::v5::{AsyncClient, ClientError};
use tokio::sync::watch;
use uuid::Uuid;

use super::{NotSent, Wake};
use crate::admin::AdminError;
use crate::command::deliver;
use crate::db::{self, Db, DbError};
use crate::http::App;
use crate::jws;
use crate::twin::store::{self, Target};

/// It looks at least so often.
const PERIOD: Duration = Duration::from_secs(1);
/// Most bytes of a message for a device: it takes packets of 64 KiB.
const MAX_DOWN: usize = 60 * 1024;

/// Devices that have just come: they are told everything again that they have not acknowledged.
#[derive(Debug, Clone, Default)]
pub struct Again(Arc<Mutex<BTreeSet<(Uuid, Uuid)>>>);

impl Again {
    /// Adds a device: organization, device.
    pub fn add(&self, organization: Uuid, device: Uuid) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert((organization, device));
    }

    fn take(&self) -> BTreeSet<(Uuid, Uuid)> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What a pass could not do.
#[derive(Debug, thiserror::Error)]
enum PassError {
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error(transparent)]
    Queue(#[from] NotSent),
}

impl From<DbError> for PassError {
    fn from(error: DbError) -> Self {
        Self::Admin(error.into())
    }
}

impl From<tokio_postgres::Error> for PassError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Admin(error.into())
    }
}

impl From<ClientError> for PassError {
    fn from(_: ClientError) -> Self {
        Self::Queue(NotSent)
    }
}

/// Publishes for ever.
pub async fn run(
    app: Arc<App>,
    mut live: watch::Receiver<Option<AsyncClient>>,
    again: Again,
    wake: Wake,
) {
    // A new connection may be one to a broker that has lost what it had.
    let mut everything = true;
    loop {
        tokio::select! {
            changed = live.changed() => {
                if changed.is_err() {
                    return;
                }
                everything = true;
            }
            () = wake.woken() => {}
            () = tokio::time::sleep(PERIOD) => {}
        }
        let Some(client) = live.borrow_and_update().clone() else {
            continue;
        };
        let come = again.take();
        match pass(&app, &client, everything, &come).await {
            Ok(()) => everything = false,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "publishing broke off"
                );
                for (organization, device) in come {
                    again.add(organization, device);
                }
            }
        }
    }
}

async fn pass(
    app: &App,
    client: &AsyncClient,
    everything: bool,
    come: &BTreeSet<(Uuid, Uuid)>,
) -> Result<(), PassError> {
    let mut devices = with_work(&app.db, app.clock.now(0), everything).await?;
    devices.extend(come);
    for device in devices {
        let all = everything || come.contains(&device);
        tell(app, client, device, all).await?;
    }
    Ok(())
}

/// The devices of all tenants that have something to be told.
async fn with_work(
    db: &Db,
    now: Timestamp,
    everything: bool,
) -> Result<BTreeSet<(Uuid, Uuid)>, PassError> {
    let mut client = db.client().await?;
    let tx = client.transaction().await?;
    db::set_local(&tx, "app.dispatcher", "on").await?;
    let statement = tx
        .prepare_cached(
            "select organization_id, device_id from commands
             where (status = 'queued' or $1 and status = 'dispatched') and expires_at > $2
             union select organization_id, device_id from twins
             where version > 0 and (version > published_version or $1)",
        )
        .await?;
    let rows = tx.query(&statement, &[&everything, &now]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Tells one device its commands and its twin; `all` also what it was told before.
async fn tell(
    app: &App,
    client: &AsyncClient,
    (organization, device): (Uuid, Uuid),
    all: bool,
) -> Result<(), PassError> {
    let mut connection = app.db.client().await?;
    let tx = connection.transaction().await?;
    db::set_tenant(&tx, organization).await?;
    let Some((edge_id, signer)) = signer(app, &tx, device).await? else {
        return Ok(());
    };
    let now = app.clock.now(0);
    let mut after = 0;
    loop {
        let told =
            deliver::hand_out(&tx, device, &edge_id, after, deliver::MAX_LIMIT, now, !all).await?;
        let Some(last) = told.last() else {
            break;
        };
        after = last.n;
        for document in &told {
            if crate::stream::is_secret(document) {
                // The broker reads what it carries: the device fetches this one.
                poke(client, &edge_id)?;
                continue;
            }
            let jws = signer.sign(jws::COMMAND, &document.claims())?;
            let left = document.expires_at.as_second() - now.as_second();
            let properties = PublishProperties {
                message_expiry_interval: Some(u32::try_from(left.max(1)).unwrap_or(u32::MAX)),
                ..PublishProperties::default()
            };
            let topic = format!("edge/v1/{edge_id}/down/cmd");
            client.try_publish_with_properties(
                topic,
                QoS::AtLeastOnce,
                false,
                jws.into_bytes(),
                properties,
            )?;
        }
    }
    let target = Target {
        device_id: device,
        organization_id: organization,
        edge_id,
    };
    tell_twin(app, client, &tx, &target, &signer, all).await?;
    // After the queue took it: a crash between tells twice, never not at all.
    tx.commit().await?;
    Ok(())
}

async fn tell_twin(
    app: &App,
    client: &AsyncClient,
    tx: &Transaction<'_>,
    target: &Target,
    signer: &Signer,
    all: bool,
) -> Result<(), PassError> {
    let row = tx
        .query_opt(
            "select 1 from twins where device_id = $1 and version > 0
             and (version > published_version or $2) for update",
            &[&target.device_id, &all],
        )
        .await?;
    if row.is_none() {
        return Ok(());
    }
    let Some(document) = store::document(tx, target, &app.wrapping_key).await? else {
        return Ok(());
    };
    let jws = signer.sign(jws::TWIN, &document.claims())?;
    if jws.len() <= MAX_DOWN {
        let topic = format!("edge/v1/{}/down/twin", target.edge_id);
        client.try_publish(topic, QoS::AtLeastOnce, true, jws.into_bytes())?;
    } else {
        // Too large for the broker: the device fetches it when a batch's answer names the version.
        poke(client, &target.edge_id)?;
    }
    tx.execute(
        "update twins set published_version = $2 where device_id = $1",
        &[&target.device_id, &document.version],
    )
    .await?;
    Ok(())
}

/// Says "poll now".
///
/// # Errors
/// When the queue is full or gone.
pub fn poke(client: &AsyncClient, edge_id: &str) -> Result<(), NotSent> {
    let topic = format!("edge/v1/{edge_id}/down/poke");
    let sent = client.try_publish(topic, QoS::AtMostOnce, false, b"{}".to_vec());
    sent.map_err(|_| NotSent)
}

/// The device's current key.
struct Signer {
    kid: String,
    key: hmac::Key,
}

impl Signer {
    fn sign(&self, typ: &str, claims: &impl serde::Serialize) -> Result<String, AdminError> {
        let signed = jws::sign(&self.key, &self.kid, typ, claims);
        signed.map_err(|error| AdminError::Refused(error.to_string()))
    }
}

/// None for a device that is not claimed or whose keys are revoked.
async fn signer(
    app: &App,
    tx: &Transaction<'_>,
    device: Uuid,
) -> Result<Option<(String, Signer)>, PassError> {
    let statement = tx
        .prepare_cached(
            "select d.edge_id, c.edge_key, c.secret_wrapped
             from devices d join edge_credentials c on c.device_id = d.id and c.state = 'current'
             where d.id = $1 and d.status <> 'unclaimed' and d.deleted_at is null",
        )
        .await?;
    let Some(row) = tx.query_opt(&statement, &[&device]).await? else {
        return Ok(None);
    };
    let edge_id: String = row.get(0);
    let secret = app
        .wrapping_key
        .unwrap(&edge_id, row.get(2))
        .map_err(AdminError::from)?;
    let signer = Signer {
        kid: row.get(1),
        key: hmac::Key::new(hmac::HMAC_SHA256, secret.expose()),
    };
    Ok(Some((edge_id, signer)))
}
