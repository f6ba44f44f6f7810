//! Listings as tables: the columns that fit a terminal; `--json` has them all.

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;

use crate::admin::Listing;

/// The columns shown.
fn columns(listing: Listing) -> &'static [&'static str] {
    match listing {
        Listing::Devices => &[
            "edge_id",
            "name",
            "status",
            "app_version",
            "platform",
            "last_seen_at",
        ],
        Listing::Cameras => &[
            "edge_id",
            "camera_id",
            "name",
            "status",
            "reason",
            "last_seen_at",
        ],
        Listing::Events => &[
            "occurred_at",
            "camera_id",
            "event_type",
            "severity",
            "status",
            "duration_ms",
            "event_uid",
        ],
        Listing::Recordings => &[
            "started_at",
            "camera_id",
            "status",
            "duration_ms",
            "size_bytes",
            "recording_uid",
            "object_key",
            "url",
        ],
        Listing::Snapshots => &[
            "taken_at",
            "camera_id",
            "kind",
            "status",
            "size_bytes",
            "snapshot_uid",
            "object_key",
            "url",
        ],
        Listing::Uploads => &[
            "created_at",
            "edge_id",
            "kind",
            "object_uid",
            "status",
            "size_bytes",
            "error",
        ],
        Listing::Streams => &[
            "id",
            "camera_id",
            "protocol",
            "status",
            "started_at",
            "expires_at",
            "reason",
            "bytes",
        ],
        Listing::Webhooks => &["id", "url", "min_severity", "is_active", "disabled_reason"],
        Listing::Notifications => &["created_at", "edge_id", "severity", "title", "notified_at"],
        Listing::Deliveries => &[
            "created_at",
            "title",
            "url",
            "status",
            "attempts",
            "next_attempt_at",
            "last_error",
        ],
        Listing::Alerts => &[
            "triggered_at",
            "alert_type",
            "camera_id",
            "severity",
            "status",
            "title",
        ],
        Listing::Commands => &[
            "issued_at",
            "edge_id",
            "n",
            "command_type",
            "status",
            "code",
            "id",
        ],
        Listing::Policies => &[
            "id",
            "name",
            "edge_id",
            "is_enabled",
            "modules",
            "thresholds",
        ],
        Listing::Records => &[
            "received_at",
            "edge_id",
            "type",
            "subject",
            "sequence",
            "id",
        ],
        Listing::Audit => &["created_at", "actor", "action", "entity_type", "entity_id"],
        Listing::ClaimCodes => &[
            "created_at",
            "device_name",
            "status",
            "expires_at",
            "edge_id",
        ],
        Listing::Keys => &["edge_id", "edge_key", "state", "created_at", "retired_at"],
        Listing::Licenses => &[
            "organization",
            "plan",
            "status",
            "max_edge_servers",
            "max_cameras",
            "modules",
            "expires_at",
        ],
    }
}

/// The table of these rows.
pub fn of(listing: Listing, rows: &[Value]) -> Table {
    with(columns(listing), rows)
}

/// The table of these columns.
pub fn with(columns: &[&str], rows: &[Value]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(columns);
    for row in rows {
        table.add_row(columns.iter().map(|column| {
            let text = cell(&row[*column]);
            if column.ends_with("_at") {
                to_the_second(&text)
            } else {
                text
            }
        }));
    }
    table
}

/// `2026-11-21 11:03:23Z`; anything else as it is.
fn to_the_second(text: &str) -> String {
    let at = text.parse::<jiff::Timestamp>();
    at.map_or_else(
        |_| text.to_owned(),
        |at| at.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
    )
}

/// Text without control characters: what devices send is shown on a terminal.
pub(super) fn cell(value: &Value) -> String {
    let text = match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    };
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_cell_is_for_people() {
        assert_eq!(cell(&json!(["market", "motion"])), "market, motion");
        assert_eq!(cell(&json!([])), "");
        assert_eq!(cell(&json!("a\u{1b}[2J")), "a\u{fffd}[2J");
        assert_eq!(
            to_the_second("2026-11-21T11:03:23.00555+00:00"),
            "2026-11-21 11:03:23Z"
        );
        assert_eq!(to_the_second(""), "");
    }
}
