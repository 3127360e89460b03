//! How to reach Pepay and who we are there.

use http::HeaderName;
use secrecy::SecretString;
use url::Url;

/// Connection data shared by the streams.
#[derive(Clone, Debug)]
pub struct Account {
    /// Base address of the REST API.
    pub api_url: Url,
    /// Base address of the WebSocket streams; `ws` or `wss`.
    pub ws_url: Url,
    /// The API key.
    pub api_key: Option<SecretString>,
    /// The header the key is sent in.
    pub api_key_header: HeaderName,
}
