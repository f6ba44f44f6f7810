//! Whom to believe on `rtsps://`.
//!
//! GnuTLS (Debian package `glib-networking`) checks the camera against the system's authorities first. Only what it
//! refuses comes here, and is accepted where `ca_file` says so: the camera's own certificate is in the file (cameras
//! sign their own, often for no name at all), or it was issued for this host by an authority in the file. The second
//! is proven by rustls, with names, dates and signatures.

use std::path::Path;
use std::sync::Arc;

use gstreamer::glib;
use gstreamer::prelude::*;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use url::Url;

use crate::model::DownReason;

/// The longest chain that is looked at.
const MAX_CHAIN: usize = 8;

/// Sets an `rtspsrc` up for TLS.
pub(super) fn configure(
    src: &gstreamer::Element,
    url: &Url,
    ca_file: Option<&Path>,
    verify: bool,
) -> Result<(), DownReason> {
    if !verify {
        tracing::warn!("the camera's certificate is not verified");
        src.set_property_from_str("tls-validation-flags", "0");
        return Ok(());
    }
    let Some(path) = ca_file else { return Ok(()) };
    let trust = Trust::read(path, url.host_str().unwrap_or_default())
        .map_err(|e| DownReason::Failed(format!("ca_file {}: {e}", path.display())))?;
    src.connect("accept-certificate", false, move |values| {
        let peer = values.get(2)?.get::<glib::Object>().ok()?;
        let verdict = trust.judge(&chain_of(peer));
        if let Err(why) = &verdict {
            tracing::debug!(why, "the camera's certificate is refused");
        }
        Some(verdict.is_ok().to_value())
    });
    Ok(())
}

/// DER of a `GTlsCertificate` and its issuers, as far as the camera sent them.
fn chain_of(leaf: glib::Object) -> Vec<CertificateDer<'static>> {
    let mut chain = Vec::new();
    let mut next = Some(leaf);
    while let Some(cert) = next.take().filter(|_| chain.len() < MAX_CHAIN) {
        if let Some(der) = cert.property::<Option<glib::ByteArray>>("certificate") {
            chain.push(CertificateDer::from(der.to_vec()));
        }
        next = cert.property::<Option<glib::Object>>("issuer");
    }
    chain
}

/// Certificates to trust for one host.
struct Trust {
    pinned: Vec<CertificateDer<'static>>,
    host: String,
}

impl Trust {
    fn read(path: &Path, host: &str) -> Result<Trust, String> {
        let pem = std::fs::read(path).map_err(|e| e.to_string())?;
        Trust::parse(&pem, host)
    }

    fn parse(pem: &[u8], host: &str) -> Result<Trust, String> {
        let pinned = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| e.to_string())?;
        if pinned.is_empty() {
            return Err("no certificate in the file".into());
        }
        Ok(Trust {
            pinned,
            host: host.trim_matches(['[', ']']).to_owned(),
        })
    }

    fn judge(&self, chain: &[CertificateDer<'_>]) -> Result<(), String> {
        let Some((leaf, issuers)) = chain.split_first() else {
            return Err("no certificate".into());
        };
        if self.pinned.contains(leaf) {
            return Ok(());
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(self.pinned.iter().cloned());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|e| e.to_string())?;
        let host = ServerName::try_from(self.host.as_str()).map_err(|e| e.to_string())?;
        verifier
            .verify_server_cert(leaf, issuers, &host, &[], UnixTime::now())
            .map(|_| ())
            .map_err(|e| e.to_string())
    }
}
