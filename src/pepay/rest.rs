//! The REST client: the list of events and the minting of tokens. It makes no retries: the caller
//! decides what a failure means.

mod answer;
mod page;
mod probe;
mod single;
mod upgrade;

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use secrecy::ExposeSecret;
use tokio::time::timeout;
use url::Url;

use super::account::Account;
use super::client::Client;
use super::devnet::{self, Order, OrderId, Simulation};
use super::error::{Failure, legible, of_page};
use super::token::{self, NoToken, Scope, Token};
use crate::domain::clock::Clock;
use crate::domain::event::EventId;

use answer::{Answer, parsed};
use page::Unreadable;
use single::Single;

pub use page::{Page, Skipped};
pub use probe::Probe;
pub use upgrade::Upgraded;

/// The largest number of events on a page.
pub const LARGEST_PAGE: u16 = 100;
const TOO_LARGE: &str = "the answer is larger than is read";
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

/// Why a client could not be created.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The key cannot be a header.
    #[error("the API key holds characters that no HTTP header can carry")]
    Key,
    /// TLS could not be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// A request for a page of the list of events, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListQuery {
    /// Only events older than this one.
    pub starting_after: Option<EventId>,
    /// Only events newer than this one.
    pub ending_before: Option<EventId>,
    /// Only events created at or after this time, in Unix seconds.
    pub created_gte: Option<i64>,
    /// Only events created at or before this time, in Unix seconds.
    pub created_lte: Option<i64>,
    /// The number of requested events, 1 to [`LARGEST_PAGE`].
    pub limit: u16,
}

impl Rest {
    /// Creates a client for `account`. Redirects are not followed, since they would carry the key
    /// along.
    ///
    /// # Errors
    /// [`BuildError`] if the key cannot be sent or TLS cannot be set up.
    pub fn new(account: &Account, clock: Clock) -> Result<Self, BuildError> {
        let http = Client::new(account)?;
        let key = match &account.api_key {
            Some(key) => Some(sensitive(key.expose_secret()).ok_or(BuildError::Key)?),
            None => None,
        };
        Ok(Self { http, account: account.clone(), key, clock })
    }

    /// Returns the account of the client.
    pub const fn account(&self) -> &Account {
        &self.account
    }

    /// Returns the API key as a header, marked sensitive.
    pub const fn key(&self) -> Option<&HeaderValue> {
        self.key.as_ref()
    }

    /// Returns a page of events that pass `filters` (query parameters of Pepay's), by one request. At a
    /// limit of one, an entry that makes the page unreadable is skipped, if its id can be found.
    ///
    /// # Errors
    /// [`Failure`]; of the kind `Malformed` if the page is larger than 8 MiB, not JSON, or of no known
    /// form: half the limit may succeed.
    pub async fn list(&self, query: &ListQuery, filters: &[(String, String)]) -> Result<Page, Failure> {
        self.page(self.listing(query, filters).await?, query.limit).await
    }

    /// Returns Pepay's answer to a request for a page.
    async fn listing(&self, query: &ListQuery, filters: &[(String, String)]) -> Result<Answer, Failure> {
        let limit = query.limit.clamp(1, LARGEST_PAGE);
        let mut address = self.address("api/v1/events");
        {
            let mut pairs = address.query_pairs_mut();
            pairs.append_pair("limit", &limit.to_string());
            for (name, id) in
                [("starting_after", &query.starting_after), ("ending_before", &query.ending_before)]
            {
                if let Some(id) = id {
                    pairs.append_pair(name, id.as_str());
                }
            }
            for (name, created) in [("created[gte]", query.created_gte), ("created[lte]", query.created_lte)]
            {
                if let Some(created) = created {
                    pairs.append_pair(name, &created.to_string());
                }
            }
            pairs.extend_pairs(filters);
        }
        self.accepted(self.ask(Method::GET, &address, None, answer::LIST).await?)
    }

    /// Returns the page in `answer`, which was requested with `limit`.
    async fn page(&self, answer: Answer, limit: u16) -> Result<Page, Failure> {
        let limit = limit.clamp(1, LARGEST_PAGE);
        let (cut, now, server_time) = (answer.cut, self.clock.now(), answer.server_time());
        let outcome = parsed(answer.body.clone(), move |body| {
            let why = match page::parse(body, limit, now) {
                Ok(page) => return Ok(page),
                Err(_) if cut => TOO_LARGE.to_owned(),
                Err(Unreadable::Denied) => return Err(None),
                Err(unreadable) => unreadable.to_string(),
            };
            let rescued = if limit == 1 { page::around_bad_entry(body, &why, now) } else { None };
            rescued.ok_or(Some(why))
        });
        match outcome.await? {
            Ok(page) => Ok(Page { server_time, ..page }),
            Err(None) => Err(self.denial(&answer)),
            Err(Some(why)) => Err(unreadable(&why, &answer)),
        }
    }

    /// Returns Pepay's event `id`, byte for byte; `None` if Pepay has none.
    ///
    /// # Errors
    /// [`Failure`]
    pub async fn event(&self, id: &EventId) -> Result<Option<Bytes>, Failure> {
        let mut address = self.address("api/v1/events");
        let path = address.path().len();
        if let Ok(mut segments) = address.path_segments_mut() {
            segments.push(id.as_str());
        }
        // `.` and `..` are removed from a path.
        if address.path().len() == path {
            return Ok(None);
        }
        let answer = self.ask(Method::GET, &address, None, answer::EVENT).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let answer = self.accepted(answer)?;
        let whole = answer.body.clone();
        match parsed(whole.clone(), move |_| single::parse(&whole)).await? {
            _ if answer.cut => Err(Failure::malformed(TOO_LARGE)),
            Single::Event(body) => Ok(Some(body)),
            Single::Denied => Err(self.denial(&answer)),
            Single::Unreadable => Err(unreadable("the answer holds no event", &answer)),
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
        let address = self.address("api/v1/ws/token");
        let answer = self.accepted(self.ask(Method::POST, &address, Some(body), answer::SMALL).await?)?;
        match token::parse(&answer.body) {
            Ok(token) => Ok(token),
            Err(NoToken::Denied) => Err(self.denial(&answer)),
            Err(NoToken::Unreadable) => Err(unreadable("the token answer holds no token", &answer)),
        }
    }

    /// Moves an order by Pepay's devnet simulator.
    ///
    /// # Errors
    /// [`Failure`], also if the order does not allow this transition.
    pub async fn simulate(&self, order: &OrderId, simulation: &Simulation) -> Result<Order, Failure> {
        let body =
            serde_json::to_vec(simulation).map_err(|_| Failure::malformed("it cannot be asked for"))?;
        let address = self.address(&format!("api/commerce/devnet/orders/{}/simulate", order.as_str()));
        let answer = self.accepted(self.ask(Method::POST, &address, Some(body), answer::SMALL).await?)?;
        Ok(devnet::parse(&answer.body))
    }

    /// Requests one page, to find out whether Pepay answers, whether it accepts the key, and what its
    /// time is.
    ///
    /// # Errors
    /// [`Failure`] if there is no answer at all.
    pub async fn probe(&self, filters: &[(String, String)]) -> Result<Probe, Failure> {
        let asked = self.clock.now();
        let mut address = self.address("api/v1/events");
        address.query_pairs_mut().append_pair("limit", &LARGEST_PAGE.to_string()).extend_pairs(filters);
        let answer = self.ask(Method::GET, &address, None, answer::LIST).await?;
        let clock_offset = answer.server_time().map(|date| probe::offset(date, asked, self.clock.now()));
        let key = match self.accepted(answer) {
            Ok(answer) => self.page(answer, LARGEST_PAGE).await.map(drop),
            Err(refusal) => Err(refusal),
        };
        Ok(Probe { clock_offset, key })
    }

    /// Returns how the account's addresses are reached: directly or through which proxy, and whether
    /// its own roots are trusted. The text has no credentials.
    pub fn way(&self) -> String {
        let by = |address: &Url| match self.http.proxy_for(address) {
            Some(proxy) => format!("through the proxy {proxy}"),
            None => "directly".to_owned(),
        };
        let mut ws = self.account.ws_url.clone();
        // It does not fail for the address of a WebSocket: both are special schemes.
        let _ = ws.set_scheme(if ws.scheme() == "wss" { "https" } else { "http" });
        let (api, stream) = (by(&self.account.api_url), by(&ws));
        let mut way = if api == stream { api } else { format!("API {api}, stream {stream}") };
        if self.account.ca.is_some() && [&self.account.api_url, &ws].iter().any(|url| url.scheme() == "https")
        {
            way += ", trusting `ca_file`";
        }
        way
    }

    /// Returns the answer to a request with the key, of at most `limit` bytes.
    async fn ask(
        &self,
        method: Method,
        address: &Url,
        json: Option<Vec<u8>>,
        limit: usize,
    ) -> Result<Answer, Failure> {
        let mut headers = HeaderMap::new();
        if let Some(key) = &self.key {
            headers.insert(self.account.api_key_header.clone(), key.clone());
        }
        let exchange = async {
            let answer = self.exchange(method, address.as_str(), headers, json, TOTAL_TIMEOUT).await?;
            Answer::read(answer, limit).await
        };
        let late = || format!("no whole answer within {} s", TOTAL_TIMEOUT.as_secs());
        timeout(TOTAL_TIMEOUT, exchange).await.unwrap_or_else(|_| Err(Failure::unreachable(late())))
    }

    /// Sends one request, and returns the head of its answer within `limit`.
    async fn exchange(
        &self,
        method: Method,
        address: &str,
        headers: HeaderMap,
        json: Option<Vec<u8>>,
        limit: Duration,
    ) -> Result<Response<Incoming>, Failure> {
        let mut request = Request::builder().method(method).uri(address).header(USER_AGENT, user_agent());
        if json.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request = request.header(ACCEPT, "*/*").body(Full::from(json.unwrap_or_default()));
        let mut request = request.map_err(|_| Failure::unreachable("the address cannot be asked for"))?;
        request.headers_mut().extend(headers);
        self.http.send(request, limit).await
    }

    /// Returns `answer`, if it is a success.
    fn accepted(&self, answer: Answer) -> Result<Answer, Failure> {
        if answer.status.is_success() {
            return Ok(answer);
        }
        let Answer { status, headers, body, .. } = answer;
        Err(Failure::refusal(status, &headers, &body, self.clock.now(), &[self.secret()]))
    }

    /// Returns the failure of a 2xx that is a denial.
    fn denial(&self, answer: &Answer) -> Failure {
        Failure::denial(&answer.headers, &answer.body, self.clock.now(), &[self.secret()])
    }

    fn secret(&self) -> &str {
        self.account.api_key.as_ref().map_or("", ExposeSecret::expose_secret)
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

/// Returns the `user-agent` of all requests to Pepay.
pub fn user_agent() -> &'static str {
    concat!("pepay-bridge/", env!("CARGO_PKG_VERSION"))
}

/// Returns the address of `path` below `base`, whose own path is kept.
pub fn below(base: &Url, path: &str) -> Url {
    let mut address = base.clone();
    address.set_path(&format!("{}/{path}", base.path().trim_end_matches('/')));
    address.set_query(None);
    address.set_fragment(None);
    address
}

/// Returns a header value that is never printed.
pub fn sensitive(secret: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(secret).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Returns the failure of a 2xx that cannot be read, with a description of its content.
fn unreadable(what: &str, answer: &Answer) -> Failure {
    match of_page(&answer.headers, &answer.body) {
        Some(page) => Failure::malformed(format!("{what}: Pepay answered with {}", legible(&page, &[]))),
        None => Failure::malformed(what),
    }
}

/// Private parsers, for the fuzz targets of `tests/fuzz`.
#[cfg(fuzzing)]
pub mod fuzzing {
    use super::{Page, Token};
    use crate::domain::clock::UnixMillis;

    /// See `page::parse`.
    pub fn page(body: &[u8], limit: u16, received_at: UnixMillis) -> Option<Page> {
        super::page::parse(body, limit, received_at).ok()
    }

    /// See `page::around_bad_entry`.
    pub fn around_bad_entry(body: &[u8], received_at: UnixMillis) -> Option<Page> {
        super::page::around_bad_entry(body, &"unreadable", received_at)
    }

    /// See `token::parse`.
    pub fn token(body: &[u8]) -> Option<Token> {
        super::token::parse(body).ok()
    }

    /// See `probe::date`.
    pub fn date(value: &str) -> Option<UnixMillis> {
        super::probe::date(value)
    }
}

#[cfg(test)]
mod tests;
