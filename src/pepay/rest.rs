//! The REST client: the list of events and the minting of tokens. No retries
//! here: who asks decides what a failure means.

mod page;
mod probe;

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderValue;
use http::header::{CONTENT_TYPE, DATE};
use reqwest::{Client, RequestBuilder, Response, redirect};
use secrecy::ExposeSecret;
use url::Url;

use super::account::Account;
use super::devnet::{self, Order, OrderId, Simulation};
use super::error::Failure;
use super::token::{self, Scope, Token};
use crate::domain::cause::innermost;
use crate::domain::clock::Clock;
use crate::domain::event::EventId;

pub use page::Page;
pub use probe::Probe;

/// The most events Pepay puts on a page.
pub const LARGEST_PAGE: u16 = 100;
/// The largest answer that is read, in bytes. A page beyond it is asked for again in halves.
const LARGEST_ANSWER: usize = 32 * 1024 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const TOTAL_TIMEOUT: Duration = Duration::from_secs(30);

/// A client for one account. Cheap to clone; shares its connections.
#[derive(Clone)]
pub struct Rest {
    http: Client,
    account: Account,
    /// The key, ready to send and marked sensitive.
    key: Option<HeaderValue>,
    clock: Clock,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The key could never be a header.
    #[error("the API key holds characters that no HTTP header can carry")]
    Key,
    /// TLS could not be set up.
    #[error("the HTTP client cannot be set up: {0}")]
    Client(#[from] reqwest::Error),
}

/// One page of the list of events, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListQuery {
    /// Only what is older than this event.
    pub starting_after: Option<EventId>,
    /// Only what was created at or after this, in Unix seconds.
    pub created_gte: Option<i64>,
    /// Events wanted, 1 to [`LARGEST_PAGE`].
    pub limit: u16,
}

impl Rest {
    /// A client for `account`. Redirects are not followed: they would carry the key along.
    ///
    /// # Errors
    /// [`BuildError`] if the key cannot be sent or TLS cannot be set up.
    pub fn new(account: &Account, clock: Clock) -> Result<Self, BuildError> {
        let http = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TOTAL_TIMEOUT)
            .redirect(redirect::Policy::none())
            .referer(false)
            .no_proxy()
            .user_agent(user_agent())
            .build()?;
        let key = match &account.api_key {
            Some(key) => Some(sensitive(key.expose_secret()).ok_or(BuildError::Key)?),
            None => None,
        };
        Ok(Self { http, account: account.clone(), key, clock })
    }

    /// The account it speaks for.
    pub const fn account(&self) -> &Account {
        &self.account
    }

    /// The API key as a header, marked sensitive.
    pub const fn key(&self) -> Option<&HeaderValue> {
        self.key.as_ref()
    }

    /// One page of events that pass `filters` (query parameters of Pepay's). An
    /// answer too large to read is asked for again with half the limit.
    ///
    /// # Errors
    /// [`Failure`]
    pub async fn list(&self, query: &ListQuery, filters: &[(String, String)]) -> Result<Page, Failure> {
        let mut limit = query.limit.clamp(1, LARGEST_PAGE);
        loop {
            let mut request = self.http.get(self.address("api/v1/events")).query(&[("limit", limit)]);
            if let Some(id) = &query.starting_after {
                request = request.query(&[("starting_after", id.as_str())]);
            }
            if let Some(created) = query.created_gte {
                request = request.query(&[("created[gte]", created)]);
            }
            match self.ask(request.query(filters)).await? {
                Some(body) => return page::parse(&body, limit, self.clock.now()),
                None if limit > 1 => limit /= 2,
                None => return Err(Failure::malformed("a page of one event is larger than 32 MiB")),
            }
        }
    }

    /// Mints a token for one connection.
    ///
    /// # Errors
    /// [`Failure`]
    pub async fn mint(&self, scope: Scope, ttl: Duration) -> Result<Token, Failure> {
        let wanted = token::Request { scope, ttl_seconds: ttl.as_secs().max(1) };
        let body =
            serde_json::to_vec(&wanted).map_err(|_| Failure::malformed("no token can be asked for"))?;
        let request = self
            .http
            .post(self.address("api/v1/ws/token"))
            .header(CONTENT_TYPE, "application/json")
            .body(body);
        let body = self.ask(request).await?.unwrap_or_default();
        token::parse(&body).ok_or_else(|| Failure::malformed("the token answer holds no token"))
    }

    /// Has Pepay's devnet simulator move an order.
    ///
    /// # Errors
    /// [`Failure`], also if the order cannot take this transition.
    pub async fn simulate(&self, order: &OrderId, simulation: &Simulation) -> Result<Order, Failure> {
        let body =
            serde_json::to_vec(simulation).map_err(|_| Failure::malformed("it cannot be asked for"))?;
        let address = self.address(&format!("api/commerce/devnet/orders/{}/simulate", order.as_str()));
        let request = self.http.post(address).header(CONTENT_TYPE, "application/json").body(body);
        Ok(devnet::parse(&self.ask(request).await?.unwrap_or_default()))
    }

    /// Asks for one event, to see whether Pepay answers, what it thinks of the
    /// key, and what time it is there.
    ///
    /// # Errors
    /// [`Failure`] if there is no answer at all.
    pub async fn probe(&self) -> Result<Probe, Failure> {
        let asked = self.clock.now();
        let answer = self.send(self.http.get(self.address("api/v1/events")).query(&[("limit", 1)])).await?;
        let now = self.clock.now();
        let date = answer.headers().get(DATE).and_then(|date| date.to_str().ok());
        let clock_offset = date.and_then(|date| probe::offset(date, asked, now));
        let page = self.read(answer).await.and_then(|body| match body {
            Some(body) => page::parse(&body, 1, now).map(drop),
            None => Ok(()),
        });
        Ok(Probe { clock_offset, key: page })
    }

    /// Sends `request`; the body of a 2xx answer, or `None` if that is too large.
    async fn ask(&self, request: RequestBuilder) -> Result<Option<Bytes>, Failure> {
        self.read(self.send(request).await?).await
    }

    async fn send(&self, mut request: RequestBuilder) -> Result<Response, Failure> {
        if let Some(key) = &self.key {
            request = request.header(self.account.api_key_header.clone(), key.clone());
        }
        request.send().await.map_err(unreachable)
    }

    async fn read(&self, mut answer: Response) -> Result<Option<Bytes>, Failure> {
        let mut body = BytesMut::new();
        while let Some(chunk) = answer.chunk().await.map_err(unreachable)? {
            if body.len() + chunk.len() > LARGEST_ANSWER {
                return if answer.status().is_success() { Ok(None) } else { Err(self.refusal(&answer, &[])) };
            }
            body.extend_from_slice(&chunk);
        }
        if answer.status().is_success() { Ok(Some(body.freeze())) } else { Err(self.refusal(&answer, &body)) }
    }

    fn refusal(&self, answer: &Response, body: &[u8]) -> Failure {
        let key = self.account.api_key.as_ref().map_or("", ExposeSecret::expose_secret);
        Failure::refusal(answer.status(), answer.headers(), body, self.clock.now(), &[key])
    }

    fn address(&self, path: &str) -> Url {
        below(&self.account.api_url, path)
    }
}

impl std::fmt::Debug for Rest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rest").field("account", &self.account).finish_non_exhaustive()
    }
}

/// The `user-agent` of everything the bridge sends to Pepay.
pub fn user_agent() -> &'static str {
    concat!("pepay-bridge/", env!("CARGO_PKG_VERSION"))
}

/// `path` below `base`, whose own path is kept.
pub fn below(base: &Url, path: &str) -> Url {
    let mut address = base.clone();
    address.set_path(&format!("{}/{path}", base.path().trim_end_matches('/')));
    address.set_query(None);
    address.set_fragment(None);
    address
}

/// A header value that is never printed.
pub fn sensitive(secret: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(secret).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// What an error of the HTTP client comes down to, without the URL.
fn unreachable(error: reqwest::Error) -> Failure {
    Failure::unreachable(innermost(&error.without_url()).to_string())
}

#[cfg(test)]
mod tests;
