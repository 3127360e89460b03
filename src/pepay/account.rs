//! Where Pepay is, and how the bridge shows who it is.

use http::HeaderName;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

/// The addresses and the key that every request to Pepay is made with.
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
}

/// By value, the key included.
impl PartialEq for Account {
    fn eq(&self, other: &Self) -> bool {
        let Self { api_url, ws_url, api_key, api_key_header } = self;
        let addresses = *api_url == other.api_url && *ws_url == other.ws_url;
        let keys = api_key.as_ref().map(ExposeSecret::expose_secret)
            == other.api_key.as_ref().map(ExposeSecret::expose_secret);
        addresses && keys && *api_key_header == other.api_key_header
    }
}

impl Eq for Account {}
