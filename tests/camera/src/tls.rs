//! Certificates for `rtsps://` in tests.

use std::path::{Path, PathBuf};

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

/// Writes a self-signed certificate for `localhost` and 127.0.0.1 and its key into `dir`; answers their paths.
///
/// # Errors
/// Where the files cannot be written.
pub fn self_signed(dir: &Path) -> Result<(PathBuf, PathBuf)> {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names)?;
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    std::fs::write(&cert, made.cert.pem())?;
    std::fs::write(&key, made.signing_key.serialize_pem())?;
    Ok((cert, key))
}

/// Writes a certificate for `name` that a fresh authority has issued; answers the paths of the authority's
/// certificate, the certificate and its key.
///
/// # Errors
/// Where the files cannot be written.
pub fn issued(dir: &Path, name: &str) -> Result<(PathBuf, PathBuf, PathBuf)> {
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
    let key_pair = KeyPair::generate()?;
    let made = CertificateParams::new(vec![name.to_owned()])?.signed_by(&key_pair, &authority)?;
    let file = |n: &str| dir.join(n);
    let (ca, cert, key) = (file("ca.pem"), file("cert.pem"), file("key.pem"));
    std::fs::write(&ca, authority.pem())?;
    std::fs::write(&cert, made.pem())?;
    std::fs::write(&key, key_pair.serialize_pem())?;
    Ok((ca, cert, key))
}
