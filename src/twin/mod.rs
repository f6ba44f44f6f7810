//! The twin: what the cloud wants this device to be, one signed document with a growing version.
//!
//! ```text
//! claims ──strict──▶ Envelope ──secrets──▶ document + secrets ──compile, over the TOML──▶ Effective ──diff──▶ changes
//! ```
//!
//! A document is refused as a whole, with every fault at once (JSON pointer and code), before anything is touched.
//! Pure: reading, storing and applying are the tasks'.

mod compile;
pub mod diff;
mod envelope;
mod hosts;
mod policy;
mod secrets;
pub mod state;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use url::Url;

pub use compile::compile;
pub use envelope::{Envelope, Refusal};
pub use hosts::HostPattern;
pub use policy::Policy;
pub use secrets::Secrets;

use crate::config::{CameraConfig, Config, Fault, UploadConfig};

/// Claims of a twin are at most this long; what comes by MQTT is shorter still.
pub const MAX_BYTES: usize = 256 << 10;
/// Faults that are reported of one document.
pub const MAX_FAULTS: usize = 32;
/// Characters of a fault's text.
const MAX_DETAIL: usize = 160;

/// What the device is, with the twin laid over its configuration file.
#[derive(Debug, Clone, PartialEq)]
pub struct Effective {
    /// In the order of the twin, else of the file.
    pub cameras: Vec<CameraConfig>,
    /// How the cloud is reached.
    pub cloud: CloudPart,
    /// Where clips may be uploaded to.
    pub upload_hosts: Vec<HostPattern>,
    /// What is uploaded, how fast, and when.
    pub upload: UploadConfig,
    /// Where live video may be published to.
    pub stream: StreamPart,
    /// What the cloud's rules ask of analysis.
    pub policies: Vec<Policy>,
    /// Whether the button may reset the device while it has an owner.
    pub physical_reset: bool,
}

/// How the cloud is reached; `None` keeps what credentials and configuration file say.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CloudPart {
    /// Base address of the API.
    pub api_base: Option<Url>,
    /// Time between heartbeats.
    pub heartbeat: Option<Duration>,
}

/// Where live video may be published to; nothing is allowed by default.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StreamPart {
    /// Hosts.
    pub hosts: Vec<HostPattern>,
    /// Ports.
    pub ports: Vec<u16>,
}

impl Effective {
    /// Without a twin: as the configuration file says.
    pub fn local(config: &Config) -> Effective {
        Effective {
            cameras: config.cameras.clone(),
            cloud: CloudPart::default(),
            upload_hosts: Vec::new(),
            upload: config.upload.clone(),
            stream: StreamPart::default(),
            policies: Vec::new(),
            physical_reset: true,
        }
    }

    /// Whether going from `confirmed` to this may cut the cloud off, so that it must prove itself first.
    pub fn may_cut_off(&self, confirmed: &Effective) -> bool {
        self.cloud.api_base != confirmed.cloud.api_base
            || self.upload_hosts != confirmed.upload_hosts
    }
}

/// A fault as it is reported: never with the value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// JSON pointer into `doc`.
    pub path: String,
    /// `range`, `type`, `unknown`, …
    pub code: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

impl Reason {
    /// A fault of the whole document.
    pub fn of_document(code: &str, detail: &str) -> Reason {
        Reason {
            path: String::new(),
            code: code.into(),
            detail: detail.into(),
        }
    }

    /// The faults, in order of place, at most [`MAX_FAULTS`].
    pub fn of_faults(faults: &[Fault]) -> Vec<Reason> {
        let mut reasons: Vec<Reason> = faults
            .iter()
            .map(|f| Reason {
                path: f.pointer.chars().take(MAX_DETAIL).collect(),
                code: f.code.into(),
                detail: f.problem.chars().take(MAX_DETAIL).collect(),
            })
            .collect();
        reasons.sort_by(|a, b| (&a.path, &a.code).cmp(&(&b.path, &b.code)));
        reasons.dedup();
        reasons.truncate(MAX_FAULTS);
        reasons
    }
}
