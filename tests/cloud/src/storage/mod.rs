//! The way to object storage: presigned addresses for devices, and the cloud's own requests.
//!
//! Any S3-compatible service will do (AWS Signature Version 4). Addresses are signed for the *public*
//! endpoint, which devices see; the cloud itself may use another. An object key is made of ids by the cloud
//! and never comes from a device. Every request of the cloud ends in bounded time, every answer is read
//! within a bound.

mod client;
pub mod keys;

use std::time::Duration;

use jiff::Timestamp;
use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle};
use url::Url;

pub use client::{Hashed, Part, http};

/// Where objects are kept and how to get there.
#[derive(Clone)]
pub struct Settings {
    /// `https://host[:port]` as devices reach it. The host must be a name: it goes into `upload.hosts`.
    pub public_endpoint: String,
    /// The same service as the cloud reaches it; the public one when it is none.
    pub endpoint: Option<String>,
    /// Made at the start when it is not there.
    pub bucket: String,
    /// Part of what is signed.
    pub region: String,
    /// Access key id.
    pub access_key: String,
    /// Secret access key.
    pub secret_key: String,
    /// The authority to trust besides the system's, PEM.
    pub ca_pem: Option<String>,
    /// Life of a presigned address.
    pub url_life: Duration,
    /// An upload that nobody asks for so long is given up.
    pub idle: Duration,
}

impl Settings {
    /// Usual times: addresses live an hour, uploads may pause for a week.
    pub fn new(endpoint: impl Into<String>, access_key: &str, secret_key: &str) -> Self {
        Self {
            public_endpoint: endpoint.into(),
            endpoint: None,
            bucket: "sentrycam".to_owned(),
            region: "us-east-1".to_owned(),
            access_key: access_key.to_owned(),
            secret_key: secret_key.to_owned(),
            ca_pem: None,
            url_life: Duration::from_secs(3600),
            idle: Duration::from_secs(7 * 86_400),
        }
    }
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("public_endpoint", &self.public_endpoint)
            .field("bucket", &self.bucket)
            .field("access_key", &self.access_key)
            .finish_non_exhaustive()
    }
}

/// Why the storage did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The settings are wrong.
    #[error("object storage: {0}")]
    Settings(String),
    /// No answer, or not within its time.
    #[error("object storage does not answer")]
    Network(#[source] reqwest::Error),
    /// An answer that is no success.
    #[error("object storage answered {status} {code}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// S3's word, such as `NoSuchUpload`.
        code: String,
    },
    /// A success that says nothing we understand.
    #[error("object storage gave an answer that is not understood")]
    Answer,
}

/// An address to PUT to, with the headers that are part of its signature.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Put {
    /// Absolute, presigned.
    pub url: String,
    /// To be sent as they are.
    pub headers: std::collections::BTreeMap<&'static str, String>,
}

/// A bucket that the cloud may use.
pub struct Storage {
    public: Bucket,
    own: Bucket,
    credentials: Credentials,
    http: reqwest::Client,
    settings: Settings,
}

impl std::fmt::Debug for Storage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.settings.fmt(f)
    }
}

impl Storage {
    /// Checks the settings; asks nobody.
    ///
    /// # Errors
    /// `Settings` for an address that is none, or a certificate that is none.
    pub fn new(settings: Settings) -> Result<Self, StorageError> {
        let wrong = |what: &str| StorageError::Settings(what.to_owned());
        let bucket = |endpoint: &str| {
            let url: Url = endpoint
                .parse()
                .map_err(|_| wrong("the endpoint is no address"))?;
            let (name, region) = (settings.bucket.clone(), settings.region.clone());
            Bucket::new(url, UrlStyle::Path, name, region)
                .map_err(|_| wrong("the endpoint must be http(s)://host[:port]"))
        };
        let public = bucket(&settings.public_endpoint)?;
        let own = bucket(
            settings
                .endpoint
                .as_deref()
                .unwrap_or(&settings.public_endpoint),
        )?;
        Ok(Self {
            http: client::http(settings.ca_pem.as_deref())?,
            credentials: Credentials::new(&settings.access_key, &settings.secret_key),
            public,
            own,
            settings,
        })
    }

    /// The host that devices upload to: what `upload.hosts` must allow.
    pub fn host(&self) -> &str {
        self.public.base_url().host_str().unwrap_or_default()
    }

    /// The bucket's name.
    pub fn bucket(&self) -> &str {
        self.own.name()
    }

    /// Life of a presigned address.
    pub fn url_life(&self) -> Duration {
        self.settings.url_life
    }

    /// An upload that nobody asks for so long is given up.
    pub fn idle(&self) -> Duration {
        self.settings.idle
    }

    /// Where a whole object is put. The hash is part of the signature: the storage refuses other bytes.
    pub fn put(&self, key: &str, content_type: &str, sha256_base64: &str, now: Timestamp) -> Put {
        let mut action = self.public.put_object(Some(&self.credentials), key);
        let headers = [
            ("content-type", content_type.to_owned()),
            ("x-amz-checksum-sha256", sha256_base64.to_owned()),
        ];
        for (name, value) in &headers {
            action.headers_mut().insert(*name, value.clone());
        }
        Put {
            url: action.sign_with_time(self.settings.url_life, &now).into(),
            headers: headers.into(),
        }
    }

    /// Where one part of a multipart upload is put.
    pub fn put_part(&self, key: &str, upload_id: &str, number: u16, now: Timestamp) -> Put {
        let action = self
            .public
            .upload_part(Some(&self.credentials), key, number, upload_id);
        Put {
            url: action.sign_with_time(self.settings.url_life, &now).into(),
            headers: std::collections::BTreeMap::new(),
        }
    }

    /// Where a person fetches an object, for so long.
    pub fn get_url(&self, key: &str, life: Duration, now: Timestamp) -> String {
        let action = self.public.get_object(Some(&self.credentials), key);
        action.sign_with_time(life, &now).into()
    }
}
