//! Webhooks: made and switched off by an organization's administrators.

use deadpool_postgres::Transaction;
use serde::Deserialize;
use serde_json::{Value, json};
use url::{Host, Url};
use uuid::Uuid;

use super::signature;
use crate::admin::{self, AdminError};
use crate::secret::WrappingKey;

/// Most webhooks of an organization.
const MAX_ENDPOINTS: i64 = 32;

/// A webhook that is wanted.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// https; http on the loopback network only.
    pub url: String,
    /// `info`, `warning`, `critical`: alerts from this severity on.
    #[serde(default = "warning")]
    pub min_severity: String,
    /// `whsec_…`; a new one when there is none.
    #[serde(default)]
    pub secret: Option<String>,
}

fn warning() -> String {
    "warning".to_owned()
}

impl std::fmt::Debug for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wanted")
            .field("url", &self.url)
            .field("min_severity", &self.min_severity)
            .finish_non_exhaustive()
    }
}

fn refused<T>(what: &str) -> Result<T, AdminError> {
    Err(AdminError::Refused(what.to_owned()))
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn check_url(text: &str) -> Result<(), AdminError> {
    let wrong = "url must be https://…, without login or fragment";
    let Ok(url) = text.parse::<Url>() else {
        return refused(wrong);
    };
    let scheme_is_right = url.scheme() == "https" || url.scheme() == "http" && is_loopback(&url);
    let is_plain =
        url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    if text.len() <= 2048 && scheme_is_right && is_plain {
        Ok(())
    } else {
        refused(wrong)
    }
}

/// What a webhook's secret is bound to.
pub(super) fn secret_name(id: Uuid) -> String {
    format!("webhook/{id}")
}

/// Makes a webhook; `secret` in what it returns is the only copy.
///
/// # Errors
/// `Refused` for an address or a secret that is none, `Conflict` when there are too many.
pub async fn create(
    tx: &Transaction<'_>,
    wrapping: &WrappingKey,
    organization: Uuid,
    wanted: &Wanted,
) -> Result<Value, AdminError> {
    check_url(&wanted.url)?;
    if !matches!(
        wanted.min_severity.as_str(),
        "info" | "warning" | "critical"
    ) {
        return refused("min_severity must be info, warning or critical");
    }
    let secret = match &wanted.secret {
        Some(secret) => secret.clone(),
        None => signature::new_secret()?,
    };
    let Some(key) = signature::key_of(&secret) else {
        return refused("secret must be whsec_ and base64 of 24 to 64 bytes");
    };
    let there: i64 = tx
        .query_one(
            "select count(*) from notification_endpoints where organization_id = $1 and is_active",
            &[&organization],
        )
        .await?
        .get(0);
    if there >= MAX_ENDPOINTS {
        return Err(AdminError::Conflict("there are 32 webhooks".into()));
    }
    let id = Uuid::now_v7();
    let wrapped = wrapping.wrap_bytes(&secret_name(id), &key)?;
    tx.execute(
        "insert into notification_endpoints (id, organization_id, url, secret_wrapped, min_severity)
         values ($1, $2, $3, $4, $5)",
        &[&id, &organization, &wanted.url, &wrapped, &wanted.min_severity],
    )
    .await?;
    let after = json!({ "after": { "url": wanted.url, "min_severity": wanted.min_severity, "secret": "***" } });
    admin::record(
        tx,
        organization,
        "CREATE",
        "webhook",
        &id.to_string(),
        after,
    )
    .await?;
    Ok(
        json!({ "id": id, "url": wanted.url, "min_severity": wanted.min_severity, "secret": secret }),
    )
}

/// Switches a webhook off; what was pending for it has failed.
///
/// # Errors
/// `Unknown` when there is no such webhook.
pub async fn disable(tx: &Transaction<'_>, id: Uuid, reason: &str) -> Result<(), AdminError> {
    let row = tx
        .query_opt(
            "update notification_endpoints set is_active = false, disabled_reason = $2, updated_at = now()
             where id = $1 returning organization_id",
            &[&id, &reason],
        )
        .await?
        .ok_or(AdminError::Unknown("webhook"))?;
    tx.execute(
        "update notification_deliveries set status = 'failed', next_attempt_at = null,
                last_error = coalesce(last_error, 'the webhook was switched off')
         where endpoint_id = $1 and status = 'pending'",
        &[&id],
    )
    .await?;
    let changes = json!({ "after": { "is_active": false, "reason": reason } });
    admin::record(
        tx,
        row.get(0),
        "DISABLE",
        "webhook",
        &id.to_string(),
        changes,
    )
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check_url;

    #[test]
    fn only_https_or_loopback() {
        for right in [
            "https://hooks.example.com/a?b=c",
            "http://127.0.0.1:9/x",
            "http://localhost:9/",
            "http://[::1]:9/",
        ] {
            assert!(check_url(right).is_ok(), "{right}");
        }
        for wrong in [
            "http://hooks.example.com/",
            "http://10.0.0.1/",
            "ftp://x/",
            "https://u:p@x/",
            "https://x/#y",
            "x",
            "",
        ] {
            assert!(check_url(wrong).is_err(), "{wrong}");
        }
    }
}
