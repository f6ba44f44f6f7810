//! An operator's wishes: sections, cameras, policies. Each change is in the audit chain, without secrets,
//! and gives the twins that it concerns their next version.

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::document::{self, HIDDEN, Password};
use super::store::{self, Target};
use crate::admin::AdminError;
use crate::license;
use crate::project::audit::{self, Entry};
use crate::secret::WrappingKey;

/// Desired and reported state of a device, secrets hidden.
///
/// # Errors
/// `Unknown` when there is no such device.
pub async fn show(tx: &Transaction<'_>, edge_id: &str) -> Result<Value, AdminError> {
    let row = tx
        .query_opt(
            "select to_jsonb(l) from (
               select d.edge_id, coalesce(t.version, 0) as version, t.changed_at, t.settings, t.doc,
                      coalesce(t.reported_status = 'applied' and t.reported_applied = t.version,
                               t.version is null) as in_force,
                      t.reported, t.reported_desired, t.reported_applied, t.reported_status, t.reported_at
               from devices d left join twins t on t.device_id = d.id and t.version > 0
               where d.edge_id = $1 and d.deleted_at is null) l",
            &[&edge_id],
        )
        .await?;
    Ok(row.ok_or(AdminError::Unknown("device"))?.get(0))
}

/// Merges a patch into a device's sections.
///
/// # Errors
/// `Unknown` device, `Refused` patch.
pub async fn set_settings(
    tx: &Transaction<'_>,
    edge_id: &str,
    patch: &Value,
    now: Timestamp,
) -> Result<Value, AdminError> {
    let target = store::lock(tx, edge_id).await?;
    let before: Value = tx
        .query_one(
            "select settings from twins where device_id = $1",
            &[&target.device_id],
        )
        .await?
        .get(0);
    let after = document::patch(&before, patch)?;
    tx.execute(
        "update twins set settings = $2 where device_id = $1",
        &[&target.device_id, &after],
    )
    .await?;
    let changes = json!({ "before": before, "after": after });
    changed(tx, &target, "twin", edge_id, "UPDATE", changes, now).await?;
    show(tx, edge_id).await
}

/// Puts a camera into a device's twin, or changes it. From the first on, the twin says which cameras the
/// device has; one without a source (`url`, `device`, `test`) is the one of that id in the device's own file.
///
/// # Errors
/// `Unknown` device, `Refused` camera, `Conflict` when the organization has as many as it may.
pub async fn set_camera(
    tx: &Transaction<'_>,
    wrapping: &WrappingKey,
    edge_id: &str,
    camera_id: &str,
    wanted: &Value,
    now: Timestamp,
) -> Result<Value, AdminError> {
    let (desired, password) = document::camera(camera_id, wanted)?;
    let target = lock_all(tx, edge_id).await?;
    let cameras = license::limits(tx, target.organization_id, now)
        .await?
        .cameras;
    let text = |name: &str| desired.get(name).and_then(Value::as_str);
    let wrapped = match &password {
        Password::Set(password) => {
            let name = store::secret_name(edge_id, camera_id);
            Some(wrapping.wrap_bytes(&name, password.as_bytes())?)
        }
        _ => None,
    };
    let before = tx
        .query_opt(
            "select desired, password_wrapped is not null from cameras
             where device_id = $1 and camera_id = $2 and deleted_at is null",
            &[&target.device_id, &camera_id],
        )
        .await?
        .map(|row| shown(row.get(0), row.get(1)));
    tx.execute(
        "insert into cameras (device_id, organization_id, camera_id, id) values ($1, $2, $3, $4)
         on conflict (device_id, camera_id) do nothing",
        &[
            &target.device_id,
            &target.organization_id,
            &camera_id,
            &Uuid::now_v7(),
        ],
    )
    .await?;
    let is_on = desired.get("enabled") != Some(&Value::Bool(false));
    let row = tx
        .query_one(
            "update cameras set desired = $3, is_active = $4, name = coalesce($5, name), rtsp_url = $6,
               password_wrapped = case when $7 then null else coalesce($8, password_wrapped) end,
               deleted_at = null, updated_at = now()
             where device_id = $1 and camera_id = $2
             returning password_wrapped is not null",
            &[
                &target.device_id,
                &camera_id,
                &desired,
                &is_on,
                &text("name"),
                &text("url"),
                &(password == Password::Remove),
                &wrapped,
            ],
        )
        .await?;
    tx.execute(
        "update twins set manages_cameras = true where device_id = $1",
        &[&target.device_id],
    )
    .await?;
    let limits = license::limits(tx, target.organization_id, now).await?;
    limits
        .cameras_since(cameras)
        .map_err(AdminError::Conflict)?;
    let changes = json!({ "before": before, "after": shown(Some(desired), row.get(0)) });
    let entity = store::secret_name(edge_id, camera_id);
    changed(tx, &target, "camera", &entity, "UPDATE", changes, now).await?;
    if limits.cameras < cameras {
        compile_all(tx, target.organization_id, now).await?;
    }
    show(tx, edge_id).await
}

/// Takes a camera out of a device's twin, or forgets one of the device's own file: its place in the licence is free,
/// its events and recordings stay. One that is in the file and comes up again is back.
///
/// # Errors
/// `Unknown` device or camera.
pub async fn remove_camera(
    tx: &Transaction<'_>,
    edge_id: &str,
    camera_id: &str,
    now: Timestamp,
) -> Result<Value, AdminError> {
    let target = lock_all(tx, edge_id).await?;
    let removed = tx
        .execute(
            "update cameras set desired = null, password_wrapped = null, is_active = false,
               deleted_at = now(), updated_at = now()
             where device_id = $1 and camera_id = $2 and (desired is not null or deleted_at is null)",
            &[&target.device_id, &camera_id],
        )
        .await?;
    if removed == 0 {
        return Err(AdminError::Unknown("camera"));
    }
    let entity = store::secret_name(edge_id, camera_id);
    changed(tx, &target, "camera", &entity, "DELETE", json!({}), now).await?;
    compile_all(tx, target.organization_id, now).await?;
    show(tx, edge_id).await
}

fn shown(desired: Option<Value>, has_password: bool) -> Value {
    let mut shown = desired.unwrap_or_default();
    if has_password && shown.is_object() {
        shown["password"] = HIDDEN.into();
    }
    shown
}

/// Locks a device's twin for a change that may move the places of the organization's cameras.
async fn lock_all(tx: &Transaction<'_>, edge_id: &str) -> Result<Target, AdminError> {
    let row = tx
        .query_opt(
            "select organization_id from devices where edge_id = $1 and deleted_at is null",
            &[&edge_id],
        )
        .await?
        .ok_or(AdminError::Unknown("device"))?;
    license::lock(tx, row.get(0)).await?;
    store::lock(tx, edge_id).await
}

/// A policy that is wanted.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WantedPolicy {
    /// For people.
    pub name: String,
    /// Only this device.
    pub edge_id: Option<String>,
    /// Only these cameras.
    #[serde(default)]
    pub cameras: Vec<String>,
    /// What analyses; what the licence does not have stays out of twins.
    #[serde(default)]
    pub modules: Vec<String>,
    /// Module → score from 0 to 1 below which there is no event.
    #[serde(default)]
    pub thresholds: std::collections::BTreeMap<String, f64>,
    /// What the cloud does about an event.
    #[serde(default)]
    pub actions: Vec<String>,
    /// Switches of modules.
    #[serde(default)]
    pub feature_flags: std::collections::BTreeMap<String, bool>,
    /// Off: kept, in no twin.
    #[serde(default = "yes")]
    pub is_enabled: bool,
}

fn yes() -> bool {
    true
}

impl WantedPolicy {
    fn check(&self) -> Result<(), AdminError> {
        let is_word = |word: &String| {
            (1..=64).contains(&word.len())
                && word.bytes().all(|b| {
                    b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-' | b'.')
                })
        };
        let words = [&self.cameras, &self.modules, &self.actions];
        let names = self.thresholds.keys().chain(self.feature_flags.keys());
        if words.iter().any(|list| list.len() > 32)
            || !words.into_iter().flatten().chain(names).all(is_word)
        {
            return Err(AdminError::Refused(
                "names must be at most 32 words of a-z, 0-9, _, - and .".into(),
            ));
        }
        if !self
            .thresholds
            .values()
            .all(|value| (0.0..=1.0).contains(value))
        {
            return Err(AdminError::Refused("thresholds must be 0 to 1".into()));
        }
        Ok(())
    }
}

/// Makes a policy, or replaces the one of that id.
///
/// # Errors
/// `Unknown` policy or device, `Refused` policy.
pub async fn set_policy(
    tx: &Transaction<'_>,
    organization: Uuid,
    id: Option<Uuid>,
    wanted: &WantedPolicy,
    now: Timestamp,
) -> Result<Value, AdminError> {
    wanted.check()?;
    license::lock(tx, organization).await?;
    let device: Option<Uuid> = match &wanted.edge_id {
        None => None,
        Some(edge_id) => Some(store::lock(tx, edge_id).await?.device_id),
    };
    let before = match id {
        None => Value::Null,
        Some(id) => policy(tx, id).await?,
    };
    let new = id.unwrap_or_else(Uuid::now_v7);
    tx.execute(
        "insert into ai_policies (id, organization_id, device_id, name, cameras, modules, thresholds, actions,
                                  feature_flags, is_enabled)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
         on conflict (id) do update set device_id = excluded.device_id, name = excluded.name,
           cameras = excluded.cameras, modules = excluded.modules, thresholds = excluded.thresholds,
           actions = excluded.actions, feature_flags = excluded.feature_flags,
           is_enabled = excluded.is_enabled, updated_at = now()",
        &[
            &new,
            &organization,
            &device,
            &wanted.name,
            &wanted.cameras,
            &wanted.modules,
            &json!(wanted.thresholds),
            &wanted.actions,
            &json!(wanted.feature_flags),
            &wanted.is_enabled,
        ],
    )
    .await?;
    let after = policy(tx, new).await?;
    let action = if id.is_some() { "UPDATE" } else { "CREATE" };
    let changes = json!({ "before": before, "after": after });
    note(
        tx,
        organization,
        "policy",
        &new.to_string(),
        action,
        changes,
    )
    .await?;
    compile_all(tx, organization, now).await?;
    Ok(after)
}

/// Removes a policy.
///
/// # Errors
/// `Unknown` policy.
pub async fn remove_policy(
    tx: &Transaction<'_>,
    id: Uuid,
    now: Timestamp,
) -> Result<Value, AdminError> {
    let before = policy(tx, id).await?;
    let organization: Uuid = tx
        .query_one(
            "update ai_policies set deleted_at = now(), updated_at = now() where id = $1
             returning organization_id",
            &[&id],
        )
        .await?
        .get(0);
    let changes = json!({ "before": before });
    note(
        tx,
        organization,
        "policy",
        &id.to_string(),
        "DELETE",
        changes,
    )
    .await?;
    compile_all(tx, organization, now).await?;
    Ok(before)
}

async fn policy(tx: &Transaction<'_>, id: Uuid) -> Result<Value, AdminError> {
    let (columns, tables, _) = crate::admin::Listing::Policies.sql();
    let sql = format!("select to_jsonb(l) from (select {columns} from {tables} where t.id = $1) l");
    let row = tx.query_opt(&sql, &[&id]).await?;
    Ok(row.ok_or(AdminError::Unknown("policy"))?.get(0))
}

/// Compiles the twins of all claimed devices again: after a change of a policy, the licence, or a camera's place.
///
/// # Errors
/// When a statement fails.
pub async fn compile_all(
    tx: &Transaction<'_>,
    organization: Uuid,
    now: Timestamp,
) -> Result<(), AdminError> {
    license::lock(tx, organization).await?;
    let rows = tx
        .query(
            "select edge_id from devices where organization_id = $1 and deleted_at is null
             and status <> 'unclaimed' order by id",
            &[&organization],
        )
        .await?;
    for row in &rows {
        let target = store::lock(tx, row.get(0)).await?;
        store::compile(tx, &target, now).await?;
    }
    Ok(())
}

async fn changed(
    tx: &Transaction<'_>,
    target: &Target,
    entity_type: &str,
    entity_id: &str,
    action: &str,
    changes: Value,
    now: Timestamp,
) -> Result<(), AdminError> {
    store::compile(tx, target, now).await?;
    let organization = target.organization_id;
    note(tx, organization, entity_type, entity_id, action, changes).await
}

async fn note(
    tx: &Transaction<'_>,
    organization: Uuid,
    entity_type: &str,
    entity_id: &str,
    action: &str,
    changes: Value,
) -> Result<(), AdminError> {
    let entry = Entry {
        action,
        entity_type,
        entity_id,
        changes,
    };
    Ok(audit::append(tx, organization, &entry).await?)
}
