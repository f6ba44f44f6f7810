//! What an organization may use: its licence, or the limits on its row when it has none.
//!
//! Enforced where a box is claimed (`one_more_box`), where a twin is compiled, and at ingest (`cameras`). A refusal is
//! a sentence that names the plan, the number and what to do. A licence that is given or runs out has every twin of
//! the organization compiled again.

pub mod cameras;

use axum::http::StatusCode;
use deadpool_postgres::Transaction;
use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use crate::admin::{AdminError, record};
use crate::db::{self, Db, DbError};
use crate::problem::Problem;
use crate::secret::random_base64url;
use crate::twin::wish;

/// What may be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// The plan's name; none without a licence.
    pub plan: Option<String>,
    /// `active`, `suspended`, `expired`, or `none`.
    pub status: String,
    /// Cameras of all boxes together.
    pub max_cameras: i32,
    /// Boxes that are claimed.
    pub max_edge_servers: i32,
    /// Modules, such as `market`.
    pub modules: Vec<String>,
    /// When the licence ends.
    pub expires_at: Option<Timestamp>,
    /// Cameras in use.
    pub cameras: i64,
    /// Boxes that are claimed, or bound and about to be.
    pub edge_servers: i64,
}

/// Reads limits and use of an organization.
///
/// # Errors
/// When the database does not answer.
pub async fn limits(
    tx: &Transaction<'_>,
    organization: Uuid,
    now: Timestamp,
) -> Result<Limits, DbError> {
    limits_beside(tx, organization, Uuid::nil(), now).await
}

/// The same without this claim, which is what is being decided on.
///
/// # Errors
/// When the database does not answer.
pub async fn limits_beside(
    tx: &Transaction<'_>,
    organization: Uuid,
    claim: Uuid,
    now: Timestamp,
) -> Result<Limits, DbError> {
    let statement = tx
        .prepare_cached(
            "select p.name,
                    case when l.id is null then 'none'
                         when l.expires_at <= $2 then 'expired' else l.status end,
                    coalesce(l.max_cameras, p.max_cameras, o.max_cameras),
                    coalesce(l.max_edge_servers, p.max_edge_servers, o.max_edge_servers),
                    coalesce(l.modules, '{}'), l.expires_at,
                    (select count(*) from camera_places c where c.organization_id = o.id),
                    (select count(*) from devices d
                     where d.organization_id = o.id and d.status <> 'unclaimed' and d.deleted_at is null
                       and d.role = 'camera')
                    + (select count(*) from device_claiming_queue q
                       where q.organization_id = o.id and q.state in ('bound', 'approved')
                         and coalesce(q.confirm_by, q.expires_at) > $2 and q.claim_id <> $3
                         and not exists (select from devices d where d.organization_id = o.id
                           and d.serial_number = q.serial_number and d.status <> 'unclaimed'))
             from organizations o
             left join licenses l on l.organization_id = o.id and l.status <> 'replaced' and l.deleted_at is null
             left join subscription_plans p on p.id = l.plan_id
             where o.id = $1
             order by l.created_at desc limit 1",
        )
        .await?;
    let row = tx
        .query_one(&statement, &[&organization, &now, &claim])
        .await?;
    Ok(Limits {
        plan: row.get(0),
        status: row.get(1),
        max_cameras: row.get(2),
        max_edge_servers: row.get(3),
        modules: row.get(4),
        expires_at: row.get(5),
        cameras: row.get(6),
        edge_servers: row.get(7),
    })
}

impl Limits {
    /// How people know it.
    fn name(&self) -> String {
        name(self.plan.as_deref())
    }

    /// Whether one more box may be claimed. `again` is one that is claimed already and gets new keys.
    ///
    /// # Errors
    /// What to do about it, for people.
    pub fn one_more_box(&self, again: bool) -> Result<(), String> {
        match self.status.as_str() {
            "expired" => return Err("the licence has expired; renew it to claim boxes".to_owned()),
            "suspended" => return Err("the licence is suspended; ask your provider".to_owned()),
            _ => {}
        }
        if again {
            return Ok(());
        }
        if self.edge_servers >= i64::from(self.max_edge_servers) {
            return Err(format!(
                "{} has room for {} {}, and {} {} claimed; unclaim one or choose a larger plan",
                self.name(),
                self.max_edge_servers,
                plural(self.max_edge_servers.into(), "box", "boxes"),
                self.edge_servers,
                plural(self.edge_servers, "is", "are"),
            ));
        }
        if self.cameras >= i64::from(self.max_cameras) {
            return Err(format!(
                "{} has room for {} {}, and all are in use; remove one or choose a larger plan",
                self.name(),
                self.max_cameras,
                plural(self.max_cameras.into(), "camera", "cameras"),
            ));
        }
        Ok(())
    }

    /// Whether a change may stand that brought the organization from so many cameras to those it has now. One that
    /// adds none may, also where a smaller licence left too many.
    ///
    /// # Errors
    /// What to do about it, for people.
    pub fn cameras_since(&self, before: i64) -> Result<(), String> {
        if self.cameras <= i64::from(self.max_cameras) || self.cameras <= before {
            return Ok(());
        }
        Err(format!(
            "{} has room for {} {}, and {} were asked for; remove some or choose a larger plan",
            self.name(),
            self.max_cameras,
            plural(self.max_cameras.into(), "camera", "cameras"),
            self.cameras,
        ))
    }
}

fn name(plan: Option<&str>) -> String {
    match plan {
        Some(plan) => format!("the plan \"{plan}\""),
        None => "an organization without a licence".to_owned(),
    }
}

/// One decision about an organization's places at a time, until the transaction ends. Taken before the locks of
/// twins.
///
/// # Errors
/// When the statement fails.
pub async fn lock(tx: &Transaction<'_>, organization: Uuid) -> Result<(), DbError> {
    let statement = tx
        .prepare_cached("select pg_advisory_xact_lock(hashtextextended($1, 6))")
        .await?;
    tx.execute(&statement, &[&format!("claim/{organization}")])
        .await?;
    Ok(())
}

fn plural(n: i64, one: &'static str, many: &'static str) -> &'static str {
    if n == 1 { one } else { many }
}

/// What a licence gives; limits that are not named are the plan's.
#[derive(Debug)]
pub struct Grant<'a> {
    /// The plan's name.
    pub plan: &'a str,
    /// Instead of the plan's.
    pub max_edge_servers: Option<i32>,
    /// Instead of the plan's.
    pub max_cameras: Option<i32>,
    /// Instead of the plan's.
    pub modules: Option<Vec<String>>,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
}

/// Gives an organization a licence instead of the one it has, and compiles its twins by it.
///
/// # Errors
/// `Unknown` for a plan that is not on the list.
pub async fn grant(
    tx: &Transaction<'_>,
    organization: Uuid,
    grant: &Grant<'_>,
    now: Timestamp,
) -> Result<Uuid, AdminError> {
    let row = tx
        .query_opt(
            "select id, available_modules from subscription_plans where name = $1 and is_active and deleted_at is null",
            &[&grant.plan],
        )
        .await?
        .ok_or(AdminError::Unknown("plan"))?;
    let (plan, modules): (Uuid, Vec<String>) = (row.get(0), row.get(1));
    let modules = grant.modules.clone().unwrap_or(modules);
    tx.execute(
        "update licenses set status = 'replaced', updated_at = now() where organization_id = $1 and status <> 'replaced'",
        &[&organization],
    )
    .await?;
    let id = Uuid::now_v7();
    tx.execute(
        "insert into licenses (id, organization_id, plan_id, license_key, modules, max_cameras, max_edge_servers, expires_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8)",
        &[
            &id,
            &organization,
            &plan,
            &format!("lic_{}", random_base64url::<16>()?),
            &modules,
            &grant.max_cameras,
            &grant.max_edge_servers,
            &grant.expires_at,
        ],
    )
    .await?;
    let after = serde_json::json!({ "after": {
        "plan": grant.plan, "modules": modules, "max_cameras": grant.max_cameras,
        "max_edge_servers": grant.max_edge_servers, "expires_at": grant.expires_at,
    } });
    record(tx, organization, "GRANT", "license", &id.to_string(), after).await?;
    wish::compile_all(tx, organization, now).await?;
    Ok(id)
}

/// Compiles the twins of all tenants whose licence has run out since the last pass; returns how many tenants.
///
/// # Errors
/// When the database does not answer; the next pass does it.
pub async fn run_out(db: &Db, now: Timestamp) -> Result<usize, AdminError> {
    let mut client = db.client().await?;
    let tx = client.transaction().await?;
    db::set_local(&tx, "app.dispatcher", "on").await?;
    let statement = tx
        .prepare_cached(
            "select id, organization_id from licenses
             where expires_at <= $1 and not end_noted and status = 'active' and deleted_at is null limit 100",
        )
        .await?;
    let rows = tx.query(&statement, &[&now]).await?;
    for row in &rows {
        let (id, organization): (Uuid, Uuid) = (row.get(0), row.get(1));
        db::set_tenant(&tx, organization).await?;
        tx.execute("update licenses set end_noted = true where id = $1", &[&id])
            .await?;
        wish::compile_all(&tx, organization, now).await?;
        tracing::info!(%organization, "the licence has run out");
    }
    tx.commit().await?;
    Ok(rows.len())
}

/// 403 `license` with that sentence.
pub fn refusal(detail: String) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "license", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            plan: Some("basic".into()),
            status: "active".into(),
            max_cameras: 4,
            max_edge_servers: 1,
            modules: Vec::new(),
            expires_at: None,
            cameras: 0,
            edge_servers: 0,
        }
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        assert_eq!(limits().one_more_box(false), Ok(()));
        let full = Limits {
            edge_servers: 1,
            ..limits()
        };
        assert_eq!(
            full.one_more_box(false).unwrap_err(),
            "the plan \"basic\" has room for 1 box, and 1 is claimed; unclaim one or choose a larger plan"
        );
        assert_eq!(full.one_more_box(true), Ok(()));
        let no_cameras = Limits {
            cameras: 4,
            plan: None,
            ..limits()
        };
        assert_eq!(
            no_cameras.one_more_box(false).unwrap_err(),
            "an organization without a licence has room for 4 cameras, and all are in use; remove one or choose a larger plan"
        );
        for status in ["expired", "suspended"] {
            let ended = Limits {
                status: status.into(),
                ..limits()
            };
            assert!(ended.one_more_box(true).unwrap_err().contains(status));
        }
        let too_many = Limits {
            cameras: 5,
            ..limits()
        };
        assert_eq!(limits().cameras_since(0), Ok(()));
        assert_eq!(too_many.cameras_since(5), Ok(()));
        assert_eq!(
            too_many.cameras_since(4).unwrap_err(),
            "the plan \"basic\" has room for 4 cameras, and 5 were asked for; remove some or choose a larger plan"
        );
    }
}
