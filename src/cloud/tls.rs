//! One TLS configuration for everything that leaves the device: rustls with `ring`, the system's roots, an optional
//! private root, and a clock that never runs behind what is known to be past.
//!
//! A device whose clock lies outside the certificate's validity could ask nobody for the time. For that one question
//! there is a second configuration: chain and name are checked as ever, at the moment of the certificate's validity
//! that is nearest. What comes over it proves nothing by itself; only a signed answer counts.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

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

/// How to trust.
#[derive(Debug, Clone)]
pub struct TlsConfigs {
    /// For everything.
    pub usual: ClientConfig,
    /// To ask for the time, where the usual one refused a certificate for its dates.
    pub any_date: ClientConfig,
}

/// Builds the configurations; TLS 1.2 and 1.3.
pub fn client_config(ca_file: Option<&Path>, time: TimeSource) -> Result<TlsConfigs, TlsError> {
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
    let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .map_err(|e| TlsError::Setup(Error::General(e.to_string())))?;
    let clock = Arc::new(Clock(time));
    let config = |verifier: Arc<dyn ServerCertVerifier>| {
        Ok::<_, TlsError>(
            ClientConfig::builder_with_details(Arc::clone(&provider), Arc::clone(&clock) as _)
                .with_safe_default_protocol_versions()?
                .dangerous()
                .with_custom_certificate_verifier(verifier)
                .with_no_client_auth(),
        )
    };
    Ok(TlsConfigs {
        usual: config(Arc::clone(&inner) as _)?,
        any_date: config(Arc::new(AnyDate(inner)))?,
    })
}

/// Whether a handshake failed because the certificate is not valid at this time.
pub(super) fn is_about_dates(e: &Error) -> bool {
    use CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
    matches!(
        e,
        Error::InvalidCertificate(
            Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. }
        )
    )
}

/// Checks everything at the moment of the leaf's validity that is nearest to now.
#[derive(Debug)]
struct AnyDate(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyDate {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // Without intermediates only the leaf's own dates can be complained of: roots are not checked for theirs.
        let alone = self
            .0
            .verify_server_cert(end_entity, &[], server_name, &[], now);
        let at = match alone {
            Err(Error::InvalidCertificate(CertificateError::NotValidYetContext {
                not_before,
                ..
            })) => not_before,
            Err(Error::InvalidCertificate(CertificateError::ExpiredContext {
                not_after, ..
            })) => not_after,
            _ => now,
        };
        self.0
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, at)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
