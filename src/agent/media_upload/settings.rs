//! What the media upload goes by: the twin's word over the configuration file's, and how others reach the task.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::tz::TimeZone;
use tokio::sync::{Notify, watch};

use crate::config::{UploadConfig, UploadPolicy};
use crate::db::uploads::Wants;
use crate::twin::{Effective, HostPattern};
use crate::upload::gate::{What, wanted};

/// What is in force.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where files may go.
    pub hosts: Vec<HostPattern>,
    /// What, how fast, when.
    pub config: UploadConfig,
    /// Of cameras that have a policy of their own.
    pub cameras: BTreeMap<String, UploadPolicy>,
    /// Of quiet hours and days.
    pub zone: TimeZone,
    /// The machine does not know the zone that was asked for: UTC counts.
    pub zone_unknown: bool,
}

impl Settings {
    /// As the twin and the file say.
    pub fn of(effective: &Effective) -> Settings {
        let named = effective.upload.time_zone.as_deref();
        let zone = named.map_or(Some(TimeZone::system()), |name| TimeZone::get(name).ok());
        if zone.is_none() {
            tracing::warn!(
                zone = named,
                "this machine does not know the time zone, UTC counts for uploads"
            );
        }
        let own = |c: &crate::config::CameraConfig| Some((c.id.to_string(), c.recording.upload?));
        Settings {
            hosts: effective.upload_hosts.clone(),
            config: effective.upload.clone(),
            cameras: effective.cameras.iter().filter_map(own).collect(),
            zone_unknown: zone.is_none(),
            zone: zone.unwrap_or(TimeZone::UTC),
        }
    }

    /// The policy of a camera.
    pub fn policy(&self, camera: &str) -> UploadPolicy {
        self.cameras
            .get(camera)
            .copied()
            .unwrap_or(self.config.policy)
    }

    /// What goes by itself, for the table.
    pub fn wants(&self) -> Wants {
        let of = |policy| {
            What::ALL
                .into_iter()
                .filter(|w| wanted(policy, *w))
                .collect()
        };
        let own = self
            .cameras
            .iter()
            .map(|(c, policy)| (Some(c.clone()), of(*policy)));
        own.chain([(None, of(self.config.policy))]).collect()
    }
}

/// How others reach the task; cheap to clone.
#[derive(Clone)]
pub struct UploadHandle {
    /// Rung when there may be something to upload.
    pub wake: Arc<Notify>,
    /// What is in force.
    pub settings: watch::Receiver<Settings>,
}

impl UploadHandle {
    /// Says of a camera whether nothing of it may leave the device.
    pub fn never(&self) -> impl Fn(&str) -> bool + Send + 'static {
        let settings = self.settings.borrow().clone();
        move |camera| settings.policy(camera) == UploadPolicy::None
    }
}
