//! Looking at what came in: the listings of the command line and of the admin API.

use deadpool_postgres::Transaction;
use serde_json::Value;

use crate::db::DbError;

/// What can be listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listing {
    /// `devices`
    Devices,
    /// `cameras`
    Cameras,
    /// `events`
    Events,
    /// `recordings`
    Recordings,
    /// `snapshots`
    Snapshots,
    /// `uploads`
    Uploads,
    /// `stream_sessions`
    Streams,
    /// `notification_endpoints`
    Webhooks,
    /// `notifications`
    Notifications,
    /// `notification_deliveries`
    Deliveries,
    /// `alerts`
    Alerts,
    /// `commands`
    Commands,
    /// `ai_policies`
    Policies,
    /// `edge_records`
    Records,
    /// `audit_logs`
    Audit,
    /// `claim_codes`
    ClaimCodes,
    /// `edge_credentials`
    Keys,
    /// `licenses`
    Licenses,
}

impl Listing {
    const ALL: [Self; 18] = [
        Self::Devices,
        Self::Cameras,
        Self::Events,
        Self::Recordings,
        Self::Snapshots,
        Self::Uploads,
        Self::Streams,
        Self::Webhooks,
        Self::Notifications,
        Self::Deliveries,
        Self::Alerts,
        Self::Commands,
        Self::Policies,
        Self::Records,
        Self::Audit,
        Self::ClaimCodes,
        Self::Keys,
        Self::Licenses,
    ];

    /// The word in paths and commands.
    pub fn word(self) -> &'static str {
        match self {
            Self::Devices => "devices",
            Self::Cameras => "cameras",
            Self::Events => "events",
            Self::Recordings => "recordings",
            Self::Snapshots => "snapshots",
            Self::Uploads => "uploads",
            Self::Streams => "streams",
            Self::Webhooks => "webhooks",
            Self::Notifications => "notifications",
            Self::Deliveries => "deliveries",
            Self::Alerts => "alerts",
            Self::Commands => "commands",
            Self::Policies => "policies",
            Self::Records => "records",
            Self::Audit => "audit",
            Self::ClaimCodes => "claim-codes",
            Self::Keys => "keys",
            Self::Licenses => "licenses",
        }
    }

    /// The listing of this word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|listing| listing.word() == word)
    }

    /// Columns, joins and order; every list can be cut to a device by `d.edge_id`.
    pub(crate) fn sql(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Devices => (
                "d.id, d.edge_id, d.name, d.role, d.status, d.platform, d.app_version, d.hostname,
                 host(d.ip_address) as ip_address, d.presence_online, d.presence_at, d.last_seen_at, d.claimed_at, d.unclaim_due, d.unclaimed_at, d.health",
                "devices d",
                "d.created_at desc",
            ),
            Self::Cameras => (
                "d.edge_id, t.camera_id, t.id, t.name, t.status, t.reason, t.codec, t.width, t.height,
                 t.fps, t.source_kind, t.rtsp_url, t.is_active, t.desired is not null as in_twin, t.rev,
                 t.last_seen_at",
                "cameras t join devices d on d.id = t.device_id",
                "d.edge_id, t.camera_id",
            ),
            Self::Events => (
                "t.event_uid, d.edge_id, t.camera_id, t.event_type, t.title, t.triggered_by, t.severity,
                 t.status, t.occurred_at, t.ended_at, t.duration_ms, t.recording_id, t.meta, t.rev,
                 t.epoch, t.sequence, t.acknowledged_at, t.resolved_at",
                "events t join devices d on d.id = t.device_id",
                "t.occurred_at desc, t.event_uid",
            ),
            Self::Recordings => (
                "t.recording_uid, d.edge_id, t.camera_id, t.event_uid, t.mode, t.status, t.started_at,
                 t.ended_at, t.duration_ms, t.size_bytes, t.sha256, t.truncated, t.has_audio, t.codec,
                 t.width, t.height, t.path_name, t.bucket, t.object_key, t.available_at, t.device_deleted_at,
                 t.is_locked, t.error, t.rev",
                "recordings t join devices d on d.id = t.device_id",
                "t.started_at desc, t.recording_uid",
            ),
            Self::Snapshots => (
                "t.snapshot_uid, d.edge_id, t.camera_id, t.event_uid, t.command_id, t.kind, t.status, t.taken_at,
                 t.width, t.height, t.size_bytes, t.sha256, t.content_type, t.bucket, t.object_key,
                 t.available_at, t.device_deleted_at, t.error, t.rev",
                "snapshots t join devices d on d.id = t.device_id",
                "t.taken_at desc, t.snapshot_uid",
            ),
            Self::Uploads => (
                "t.id, d.edge_id, t.kind, t.object_uid, t.status, t.size_bytes, t.sha256, t.object_key,
                 t.part_size, t.error, t.created_at, t.touched_at, t.available_at",
                "uploads t join devices d on d.id = t.device_id",
                "t.id desc",
            ),
            Self::Streams => (
                "t.id, d.edge_id, t.camera_id, t.command_id, t.protocol, t.publish_endpoint,
                 t.stream_key_wrapped is not null as has_key, t.status, t.expires_at, t.started_at, t.ended_at,
                 t.reason, t.detail, t.bytes, t.rev, t.created_at",
                "stream_sessions t join devices d on d.id = t.device_id",
                "t.id desc",
            ),
            Self::Webhooks => (
                "t.id, t.url, t.min_severity, t.is_active, t.disabled_reason, t.created_at",
                "notification_endpoints t left join devices d on false",
                "t.id desc",
            ),
            Self::Notifications => (
                "t.id, d.edge_id, t.alert_id, t.title, t.body, t.severity, t.event_uid, t.notified_at, t.created_at",
                "notifications t join devices d on d.id = t.device_id",
                "t.id desc",
            ),
            Self::Deliveries => (
                "t.id, d.edge_id, n.title, e.url, t.channel, t.status, t.attempts, t.next_attempt_at,
                 t.last_attempt_at, t.delivered_at, t.last_status, t.last_error, t.created_at",
                "notification_deliveries t join notifications n on n.id = t.notification_id
                 join notification_endpoints e on e.id = t.endpoint_id join devices d on d.id = n.device_id",
                "t.id desc",
            ),
            Self::Alerts => (
                "t.id, d.edge_id, t.alert_type, t.camera_id, t.event_uid, t.title, t.message, t.severity,
                 t.status, t.triggered_at, t.acknowledged_at, t.resolved_at",
                "alerts t join devices d on d.id = t.device_id",
                "t.triggered_at desc, t.id",
            ),
            Self::Commands => (
                "t.id, d.edge_id, t.n, t.command_type, t.payload, t.status, t.rev, t.hinted, t.late_status, t.code,
                 t.progress, t.result, t.error, t.retry_count, t.issued_at, t.expires_at,
                 t.last_dispatched_at, t.acknowledged_at, t.started_at, t.completed_at, t.updated_at",
                "commands t join devices d on d.id = t.device_id",
                "t.created_at desc, t.n desc",
            ),
            Self::Policies => (
                "t.id, d.edge_id, t.name, t.is_enabled, t.cameras, t.modules, t.thresholds, t.actions,
                 t.feature_flags, t.created_at, t.updated_at",
                "(select * from ai_policies where deleted_at is null) t left join devices d on d.id = t.device_id",
                "t.id desc",
            ),
            Self::Records => (
                "t.id, d.edge_id, t.type, t.subject, t.time, t.timequality, t.severity, t.epoch,
                 t.sequence, t.boot_id, t.received_at, t.record",
                "edge_records t join devices d on d.id = t.device_id",
                "t.received_at desc, t.epoch, t.sequence desc",
            ),
            Self::Audit => (
                "t.id, d.edge_id, t.actor, t.action, t.entity_type, t.entity_id, t.changes,
                 t.previous_hash, t.row_hash, t.created_at",
                "audit_logs t left join devices d on d.id = t.actor_device_id",
                "t.id desc",
            ),
            Self::ClaimCodes => (
                "t.id, t.device_name, t.status, t.created_at, t.expires_at, t.claimed_at, d.edge_id",
                "claim_codes t left join devices d on d.id = t.claimed_by_device_id",
                "t.created_at desc",
            ),
            Self::Keys => (
                "t.edge_key, d.edge_id, t.state, t.created_at, t.confirmed_at, t.retired_at, t.claim_id",
                "edge_credentials t join devices d on d.id = t.device_id",
                "t.created_at desc, t.id desc",
            ),
            Self::Licenses => (
                "t.id, o.name as organization, p.name as plan, t.status, t.modules, t.expires_at,
                 coalesce(t.max_edge_servers, p.max_edge_servers) as max_edge_servers,
                 coalesce(t.max_cameras, p.max_cameras) as max_cameras",
                "licenses t join organizations o on o.id = t.organization_id
                 join subscription_plans p on p.id = t.plan_id left join devices d on false",
                "t.created_at desc",
            ),
        }
    }
}

/// Lists rows as JSON objects, newest first, of one device if it is named.
///
/// # Errors
/// When the database does not answer.
pub async fn list(
    tx: &Transaction<'_>,
    listing: Listing,
    edge_id: Option<&str>,
    limit: i64,
) -> Result<Vec<Value>, DbError> {
    let (columns, tables, order) = listing.sql();
    let sql = format!(
        "select to_jsonb(l) from (select {columns} from {tables}
         where $1::text is null or d.edge_id = $1 order by {order} limit $2) l"
    );
    let statement = tx.prepare_cached(&sql).await?;
    let rows = tx.query(&statement, &[&edge_id, &limit]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
