//! One TLS configuration for everything that leaves the device: rustls with `ring`, the system's roots, an optional
//! private root, and a clock that never runs behind what is known to be past.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore};

use crate::time::Wall;

/// Tells trusted time for certificate checks (a device without a clock boots in 1970).
pub type TimeSource = Arc<dyn Fn() -> Wall + Send + Sync>;

struct Clock(TimeSource);

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from((self.0)().unix_seconds()).ok()?;
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(
            seconds,
        )))
    }
}

/// Why no TLS configuration could be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The private root is not there or not PEM.
    #[error("cannot read the CA file {0}: {1}")]
    CaFile(String, String),
    /// Nothing to trust: neither system roots nor a private one.
    #[error("no root certificates found; install ca-certificates or set cloud.ca_file")]
    NoRoots,
    /// rustls refused the configuration.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

/// Builds the configuration; TLS 1.2 and 1.3.
pub fn client_config(ca_file: Option<&Path>, time: TimeSource) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    let (_, _unusable) =
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca_file {
        let fail =
            |e: &dyn std::fmt::Display| TlsError::CaFile(path.display().to_string(), e.to_string());
        for cert in CertificateDer::pem_file_iter(path).map_err(|e| fail(&e))? {
            roots
                .add(cert.map_err(|e| fail(&e))?)
                .map_err(|e| fail(&e))?;
        }
    }
    if roots.is_empty() {
        return Err(TlsError::NoRoots);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(
        ClientConfig::builder_with_details(provider, Arc::new(Clock(time)))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth(),
    )
}
