//! The HTTP client for Pepay: HTTP/1.1, over TCP or TLS, directly or through a proxy.

mod connector;
mod race;

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::timeout;

use super::account::Account;
use super::error::Failure;
use crate::domain::cause::innermost;
use connector::Connector;

/// How long an unused connection is kept.
const IDLE: Duration = Duration::from_secs(30);

/// A client. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub(super) struct Client {
    http: legacy::Client<Connector, Full<Bytes>>,
    connector: Connector,
}

impl Client {
    /// Creates a client that reaches Pepay by the settings of `account`.
    pub(super) fn new(account: &Account) -> Result<Self, rustls::Error> {
        let connector = Connector::new(account)?;
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(connector.clone());
        Ok(Self { http, connector })
    }

    /// Sends `request` and returns the head of the answer, if it comes within `limit`.
    pub(super) async fn send(
        &self,
        request: Request<Full<Bytes>>,
        limit: Duration,
    ) -> Result<Response<Incoming>, Failure> {
        match timeout(limit, self.http.request(request)).await {
            Ok(answered) => answered.map_err(|error| Failure::unreachable(innermost(&error).to_string())),
            Err(_) => Err(Failure::unreachable(format!("no answer within {} s", limit.as_secs()))),
        }
    }

    /// Returns host and port of the proxy for `address`, if there is one.
    pub(super) fn proxy_for(&self, address: &url::Url) -> Option<String> {
        self.connector.proxy_for(&address.as_str().parse().ok()?)
    }
}
