//! Certificates for `rtsps://` in tests.

use std::path::{Path, PathBuf};

use anyhow::Result;

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
