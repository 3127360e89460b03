//! The upgrade of a connection to WebSocket (RFC 6455, section 4).

use http::header::{CONNECTION, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use hyper_util::rt::TokioIo;
use url::Url;

use super::answer::Answer;
use super::{Rest, TOTAL_TIMEOUT};
use crate::pepay::error::Failure;

/// An upgraded connection.
pub type Upgraded = TokioIo<hyper::upgrade::Upgraded>;

impl Rest {
    /// Upgrades a connection to `address` (`ws` or `wss`), and returns it with the head of the answer.
    /// `websocket_key` is the `Sec-WebSocket-Key`. `key` is the header of the API key, if the address
    /// has no token. `secrets` are removed from Pepay's words.
    ///
    /// # Errors
    /// [`Failure`]
    pub async fn upgrade(
        &self,
        address: &Url,
        websocket_key: HeaderValue,
        key: Option<(HeaderName, HeaderValue)>,
        secrets: &[&str],
    ) -> Result<(HeaderMap, Upgraded), Failure> {
        let mut headers = HeaderMap::new();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        headers.insert(SEC_WEBSOCKET_KEY, websocket_key);
        headers.extend(key);
        // The ports and TLS are the same: http for ws, https for wss.
        let address = address.as_str().replacen("ws", "http", 1);
        let mut answer = self.exchange(Method::GET, &address, headers, None, TOTAL_TIMEOUT).await?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            let Answer { status, headers, body, .. } = Answer::refusal(answer).await;
            return Err(Failure::refusal(status, &headers, &body, self.clock.now(), secrets));
        }
        let headers = std::mem::take(answer.headers_mut());
        match hyper::upgrade::on(answer).await {
            Ok(upgraded) => Ok((headers, TokioIo::new(upgraded))),
            Err(error) => Err(Failure::unreachable(error.to_string())),
        }
    }
}
