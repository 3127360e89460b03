//! Certificates and keys of a target, from PEM files: read when the configuration
//! is, so that what was judged is what is used, and a reload sees what has changed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, fs};

use reqwest::{Certificate, Identity};

/// Root certificates, as they were in their file. Equal if the file said the same.
#[derive(Clone, PartialEq, Eq)]
pub struct Roots {
    path: PathBuf,
    pem: Arc<[u8]>,
}

/// A client certificate and its key, as they were in their files. Equal if these said the same.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientIdentity {
    cert_file: PathBuf,
    /// The key and after it the chain.
    pem: Arc<[u8]>,
}

/// Why a file is no use. Names the file, and shows nothing of what is in it.
#[derive(Debug, thiserror::Error)]
#[error("{path} cannot be used: {reason}")]
pub struct UnusableFile {
    path: PathBuf,
    reason: String,
}

impl Roots {
    /// The root certificates in the file at `path`; at least one.
    ///
    /// # Errors
    /// [`UnusableFile`] if it cannot be read or holds none.
    pub fn read(path: PathBuf) -> Result<Self, UnusableFile> {
        let roots = Self { pem: read(&path)?.into(), path };
        if roots.certificates()?.is_empty() {
            return Err(unusable(&roots.path, &"there is no certificate in it, in PEM form"));
        }
        Ok(roots)
    }

    pub(super) fn certificates(&self) -> Result<Vec<Certificate>, UnusableFile> {
        Certificate::from_pem_bundle(&self.pem).map_err(|error| unusable(&self.path, &error))
    }
}

impl ClientIdentity {
    /// The certificate chain in one PEM file and its private key in another.
    ///
    /// # Errors
    /// [`UnusableFile`] if a file cannot be read, or does not hold what it should.
    pub fn read(cert_file: PathBuf, key_file: &Path) -> Result<Self, UnusableFile> {
        let mut pem = read(key_file)?;
        pem.push(b'\n');
        pem.extend(read(&cert_file)?);
        let identity = Self { cert_file, pem: pem.into() };
        identity.identity()?;
        Ok(identity)
    }

    pub(super) fn identity(&self) -> Result<Identity, UnusableFile> {
        let unpaired = |_| {
            unusable(&self.cert_file, &"with the key file it is no certificate chain and key, in PEM form")
        };
        Identity::from_pem(&self.pem).map_err(unpaired)
    }
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Roots({})", self.path.display())
    }
}

/// A private key is in it.
impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientIdentity({})", self.cert_file.display())
    }
}

fn read(path: &Path) -> Result<Vec<u8>, UnusableFile> {
    fs::read(path).map_err(|error| unusable(path, &error))
}

fn unusable(path: &Path, reason: &dyn fmt::Display) -> UnusableFile {
    UnusableFile { path: path.to_owned(), reason: reason.to_string() }
}
