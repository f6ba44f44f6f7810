//! A private certificate authority for tests and the demo: one CA, one server certificate for
//! `localhost`, `127.0.0.1` and `::1`. Nobody else should trust it; its key is thrown away.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use jiff::civil::Date;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

/// What was made, PEM.
#[derive(Clone)]
pub struct DevCert {
    /// The authority's certificate: what a device trusts.
    pub ca_pem: String,
    /// The server's certificate.
    pub cert_pem: String,
    /// The server's key.
    pub key_pem: String,
}

impl std::fmt::Debug for DevCert {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DevCert(***)")
    }
}

impl DevCert {
    /// Makes a new authority and a server certificate that is valid for ages.
    ///
    /// # Errors
    /// When the keys cannot be made.
    pub fn generate() -> Result<Self, rcgen::Error> {
        Self::generate_for(&["localhost", "127.0.0.1", "::1"], None)
    }

    /// Makes a new authority and a server certificate for these names, valid from one midnight (UTC) to the other.
    ///
    /// # Errors
    /// When the keys cannot be made.
    pub fn generate_for(names: &[&str], valid: Option<(Date, Date)>) -> Result<Self, rcgen::Error> {
        let mut ca = CertificateParams::new(Vec::new())?;
        ca.distinguished_name
            .push(DnType::CommonName, "sentrycam development CA");
        ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca_key = KeyPair::generate()?;
        let ca_certificate = ca.self_signed(&ca_key)?;
        let issuer = Issuer::new(ca, ca_key);

        let mut leaf =
            CertificateParams::new(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>())?;
        leaf.distinguished_name.push(
            DnType::CommonName,
            names.first().copied().unwrap_or_default(),
        );
        if let Some((from, to)) = valid {
            let midnight = |d: Date| {
                date_time_ymd(
                    i32::from(d.year()),
                    d.month().unsigned_abs(),
                    d.day().unsigned_abs(),
                )
            };
            (leaf.not_before, leaf.not_after) = (midnight(from), midnight(to));
        }
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        leaf.use_authority_key_identifier_extension = true;
        let leaf_key = KeyPair::generate()?;
        let certificate = leaf.signed_by(&leaf_key, &issuer)?;
        Ok(Self {
            ca_pem: ca_certificate.pem(),
            cert_pem: certificate.pem(),
            key_pem: leaf_key.serialize_pem(),
        })
    }

    /// Writes `ca.pem`, `cert.pem` and `key.pem` (0600) into a directory.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(&self, directory: &Path) -> std::io::Result<()> {
        std::fs::create_dir_all(directory)?;
        std::fs::write(directory.join("ca.pem"), &self.ca_pem)?;
        std::fs::write(directory.join("cert.pem"), &self.cert_pem)?;
        let key = directory.join("key.pem");
        if key.exists() {
            std::fs::remove_file(&key)?;
        }
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(key)?;
        file.write_all(self.key_pem.as_bytes())
    }
}
