//! The certificates and keys of a target, from PEM files. The files are read together with the
//! configuration, so that the validated content is the used content, and a reload compares content.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, fs};

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, client::ResolvesClientCert};
use rustls_platform_verifier::Verifier;

/// Root certificates of one file. Equal if the files have the same path and certificates.
#[derive(Clone, PartialEq, Eq)]
pub struct Roots {
    path: PathBuf,
    certificates: Vec<CertificateDer<'static>>,
}

/// A client certificate and its key. Equal if the files have the same path and content.
#[derive(Clone)]
pub struct ClientIdentity {
    cert_file: PathBuf,
    /// Content of the key file and the certificate file, for the comparison.
    pem: Arc<[u8]>,
    key: Arc<CertifiedKey>,
}

/// Why a file cannot be used. The error names the file and shows none of its content.
#[derive(Debug, thiserror::Error)]
#[error("{path} cannot be used: {reason}")]
pub struct UnusableFile {
    path: PathBuf,
    reason: String,
}

impl Roots {
    /// Reads the root certificates in the file at `path`; at least one.
    ///
    /// # Errors
    /// [`UnusableFile`] if the file cannot be read, or contains no certificate or one that is damaged.
    pub fn read(path: PathBuf) -> Result<Self, UnusableFile> {
        let certificates = certificates(&path, &read(&path)?)?;
        let mut store = RootCertStore::empty();
        let added = certificates.iter().cloned().try_for_each(|certificate| store.add(certificate));
        added.map_err(|error| unusable(&path, &format!("a certificate in it is none ({error})")))?;
        Ok(Self { path, certificates })
    }
}

impl ClientIdentity {
    /// Reads the certificate chain in one PEM file and its private key in another.
    ///
    /// # Errors
    /// [`UnusableFile`] if a file cannot be read, does not contain a certificate or a key, or the key
    /// is not that of the certificate.
    pub fn read(cert_file: PathBuf, key_file: &Path) -> Result<Self, UnusableFile> {
        let (key_pem, cert_pem) = (read(key_file)?, read(&cert_file)?);
        let unpaired = || {
            let reason = "with the key file it is no certificate chain and key, in PEM form";
            unusable(&cert_file, &reason)
        };
        let chain = certificates(&cert_file, &cert_pem).map_err(|_| unpaired())?;
        let key = PrivateKeyDer::from_pem_slice(&key_pem).map_err(|_| unpaired())?;
        let key = CertifiedKey::from_der(chain, key, &provider()).map_err(|_| unpaired())?;
        Ok(Self { cert_file, pem: [key_pem, cert_pem].concat().into(), key: Arc::new(key) })
    }
}

impl PartialEq for ClientIdentity {
    fn eq(&self, other: &Self) -> bool {
        self.cert_file == other.cert_file && self.pem == other.pem
    }
}

impl Eq for ClientIdentity {}

/// Returns the TLS settings of a client that trusts the system's roots and `roots`, and presents
/// `identity` to a target that asks for a certificate.
pub(super) fn client(
    roots: Option<&Roots>,
    identity: Option<&ClientIdentity>,
) -> Result<ClientConfig, rustls::Error> {
    let provider = provider();
    let roots = roots.map(|roots| roots.certificates.clone()).unwrap_or_default();
    let verifier = Verifier::new_with_extra_roots(roots, Arc::clone(&provider))?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match identity {
        Some(identity) => builder.with_client_cert_resolver(Arc::new(Shown(Arc::clone(&identity.key)))),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Presents the same certificate to every target that asks for one.
#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn provider() -> Arc<CryptoProvider> {
    CryptoProvider::get_default().cloned().unwrap_or_else(|| Arc::new(ring::default_provider()))
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, UnusableFile> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(unusable(path, &"there is no certificate in it, in PEM form")),
    }
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Roots({})", self.path.display())
    }
}

/// Leaves out the private key.
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
