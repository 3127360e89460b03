//! Certificates and keys of a target, read from PEM files: once when the
//! configuration is judged, and again when the client is built.

use std::path::{Path, PathBuf};
use std::{fmt, fs};

use reqwest::{Certificate, Identity};

/// Files of a client certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientIdentity {
    /// Certificate chain, PEM.
    pub cert_file: PathBuf,
    /// Private key, PEM.
    pub key_file: PathBuf,
}

/// Why a file is no use. Names the file, and shows nothing of what is in it.
#[derive(Debug, thiserror::Error)]
#[error("{path} cannot be used: {reason}")]
pub struct UnusableFile {
    path: PathBuf,
    reason: String,
}

/// The root certificates in the file at `path`; at least one.
///
/// # Errors
/// [`UnusableFile`] if it cannot be read or holds none.
pub fn roots(path: &Path) -> Result<Vec<Certificate>, UnusableFile> {
    let roots = Certificate::from_pem_bundle(&read(path)?).map_err(|error| unusable(path, &error))?;
    if roots.is_empty() {
        Err(unusable(path, &"there is no certificate in it, in PEM form"))
    } else {
        Ok(roots)
    }
}

impl ClientIdentity {
    /// The certificate chain and its key.
    ///
    /// # Errors
    /// [`UnusableFile`] if a file cannot be read, or does not hold what it should.
    pub fn load(&self) -> Result<Identity, UnusableFile> {
        let mut pem = read(&self.key_file)?;
        pem.push(b'\n');
        pem.extend(read(&self.cert_file)?);
        let unpaired = |_| {
            unusable(&self.cert_file, &"with the key file it is no certificate chain and key, in PEM form")
        };
        Identity::from_pem(&pem).map_err(unpaired)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, UnusableFile> {
    fs::read(path).map_err(|error| unusable(path, &error))
}

fn unusable(path: &Path, reason: &dyn fmt::Display) -> UnusableFile {
    UnusableFile { path: path.to_owned(), reason: reason.to_string() }
}
