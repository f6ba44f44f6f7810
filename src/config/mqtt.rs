//! The `[mqtt]` section: every key, its default and its range.

use std::time::Duration;

use super::MqttConfig;
use super::table::Section;

pub(super) fn mqtt_config(mut s: Section<'_>) -> MqttConfig {
    let config = MqttConfig {
        enabled: s.boolean("enabled").unwrap_or(true),
        keep_alive: s
            .duration(
                "keep_alive",
                Duration::from_secs(2),
                Duration::from_secs(1200),
            )
            .unwrap_or(Duration::from_secs(30)),
    };
    s.end();
    config
}
