//! The addresses of Pepay, the network path to them, and the credentials of the bridge.

use std::path::Path;
use std::{fmt, fs, io};

use http::HeaderName;
use hyper_util::client::proxy::matcher::Matcher;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

/// The addresses and the key of all requests to Pepay.
#[derive(Clone, Debug)]
pub struct Account {
    /// Base of the REST API; `http` or `https`.
    pub api_url: Url,
    /// Base of the WebSocket streams; `ws` or `wss`.
    pub ws_url: Url,
    /// The API key, visible ASCII. Only webhooks work without one.
    pub api_key: Option<SecretString>,
    /// The header that carries the key.
    pub api_key_header: HeaderName,
    /// Root certificates beside those of the system.
    pub ca: Option<Roots>,
    /// The proxy.
    pub proxy: Proxy,
}

impl Account {
    /// Returns the base of the REST API without a slash at its end, as the store has it.
    pub fn base(&self) -> String {
        self.api_url.as_str().trim_end_matches('/').to_owned()
    }
}

/// Compares by value, the key included.
impl PartialEq for Account {
    fn eq(&self, other: &Self) -> bool {
        let Self { api_url, ws_url, api_key, api_key_header, ca, proxy } = self;
        let addresses = *api_url == other.api_url && *ws_url == other.ws_url;
        let way = *ca == other.ca && *proxy == other.proxy;
        let keys = exposed(api_key.as_ref()) == exposed(other.api_key.as_ref());
        addresses && way && keys && *api_key_header == other.api_key_header
    }
}

impl Eq for Account {}

fn exposed(secret: Option<&SecretString>) -> Option<&str> {
    secret.map(ExposeSecret::expose_secret)
}

/// Root certificates of a file.
#[derive(Clone, PartialEq, Eq)]
pub struct Roots(Vec<CertificateDer<'static>>);

impl Roots {
    /// Reads the certificates in the PEM file at `path`; at least one.
    ///
    /// # Errors
    /// If the file cannot be read, or contains no certificate or one that is damaged.
    pub fn read(path: &Path) -> io::Result<Self> {
        let pem = fs::read(path)?;
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        match certificates {
            Ok(certificates) if !certificates.is_empty() => {
                let mut store = RootCertStore::empty();
                let added = certificates.iter().cloned().try_for_each(|one| store.add(one));
                added.map_err(|error| io::Error::other(format!("a certificate in it is none ({error})")))?;
                Ok(Self(certificates))
            }
            _ => Err(io::Error::other("there is no certificate in it, in PEM form")),
        }
    }

    /// The certificates.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.0
    }
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Roots({})", self.0.len())
    }
}

/// The HTTP proxy through which Pepay is reached, by `CONNECT`.
#[derive(Clone, Debug, Default)]
pub enum Proxy {
    /// No proxy.
    #[default]
    Never,
    /// This proxy, for every address.
    Always(SecretString),
    /// The proxy of `HTTPS_PROXY`, for `https` and `wss`, except for the hosts of `NO_PROXY`.
    Environment {
        /// The value of `HTTPS_PROXY`.
        https: SecretString,
        /// The value of `NO_PROXY`.
        no: String,
    },
}

impl Proxy {
    /// Returns the matcher that chooses the proxy for an address.
    pub(super) fn matcher(&self) -> Matcher {
        match self {
            Self::Never => Matcher::builder().build(),
            Self::Always(proxy) => Matcher::builder().all(proxy.expose_secret()).build(),
            // The builder takes `*` for every name, but not for every address.
            Self::Environment { no, .. } if no.split(',').any(|host| host.trim() == "*") => {
                Matcher::builder().build()
            }
            Self::Environment { https, no } => {
                Matcher::builder().https(https.expose_secret()).no(no.as_str()).build()
            }
        }
    }
}

impl PartialEq for Proxy {
    fn eq(&self, other: &Self) -> bool {
        let parts = |proxy: &Self| match proxy {
            Self::Never => (0, None, String::new()),
            Self::Always(proxy) => (1, Some(proxy.expose_secret().to_owned()), String::new()),
            Self::Environment { https, no } => (2, Some(https.expose_secret().to_owned()), no.clone()),
        };
        parts(self) == parts(other)
    }
}

impl Eq for Proxy {}
