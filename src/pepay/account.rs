//! Where Pepay is, and how the bridge shows who it is.

use http::HeaderName;
use secrecy::SecretString;
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
