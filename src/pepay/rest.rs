//! The REST client: the list of events and the minting of tokens. No retries
//! here: who asks decides what a failure means.

mod answer;
mod page;
mod probe;
mod single;

use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use reqwest::{Client, RequestBuilder, Response, redirect};
use secrecy::ExposeSecret;
use url::Url;

use super::account::Account;
use super::devnet::{self, Order, OrderId, Simulation};
use super::error::{Failure, legible, of_page};
use super::token::{self, NoToken, Scope, Token};
use crate::domain::cause::innermost;
use crate::domain::clock::Clock;
use crate::domain::event::EventId;

use answer::{Answer, parsed};
use page::Unreadable;
use single::Single;

pub use page::{Page, Skipped};
pub use probe::Probe;

/// The most events Pepay puts on a page.
pub const LARGEST_PAGE: u16 = 100;
const TOO_LARGE: &str = "the answer is larger than is read";
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
    /// Only what is newer than this event.
    pub ending_before: Option<EventId>,
    /// Only what was created at or after this, in Unix seconds.
    pub created_gte: Option<i64>,
    /// Only what was created at or before this, in Unix seconds.
    pub created_lte: Option<i64>,
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

    /// One page of events that pass `filters` (query parameters of Pepay's), by one
    /// request. At a limit of one, an entry that makes the page unreadable is
    /// skipped, if its id can be found.
    ///
    /// # Errors
    /// [`Failure`]; of the kind `Malformed` if the page is larger than 8 MiB, no
    /// JSON, or of no known form: half the limit may do better.
    pub async fn list(&self, query: &ListQuery, filters: &[(String, String)]) -> Result<Page, Failure> {
        self.page(self.listing(query, filters).await?, query.limit).await
    }

    /// Pepay's answer to a request for a page.
    async fn listing(&self, query: &ListQuery, filters: &[(String, String)]) -> Result<Answer, Failure> {
        let limit = query.limit.clamp(1, LARGEST_PAGE);
        let mut request = self.http.get(self.address("api/v1/events")).query(&[("limit", limit)]);
        for (name, id) in [("starting_after", &query.starting_after), ("ending_before", &query.ending_before)]
        {
            if let Some(id) = id {
                request = request.query(&[(name, id.as_str())]);
            }
        }
        for (name, created) in [("created[gte]", query.created_gte), ("created[lte]", query.created_lte)] {
            if let Some(created) = created {
                request = request.query(&[(name, created)]);
            }
        }
        self.ask(request.query(filters), answer::LIST).await
    }

    /// The page in `answer`, which was asked for with `limit`.
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

    /// The event `id` as Pepay has it, byte for byte; `None` if Pepay knows of none.
    ///
    /// # Errors
    /// [`Failure`]
    pub async fn event(&self, id: &EventId) -> Result<Option<Bytes>, Failure> {
        let mut address = self.address("api/v1/events");
        let path = address.path().len();
        if let Ok(mut segments) = address.path_segments_mut() {
            segments.push(id.as_str());
        }
        // `.` and `..` are no segments of their own.
        if address.path().len() == path {
            return Ok(None);
        }
        let answer = Answer::read(self.send(self.http.get(address)).await?, answer::EVENT).await?;
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
        let request = self
            .http
            .post(self.address("api/v1/ws/token"))
            .header(CONTENT_TYPE, "application/json")
            .body(body);
        let answer = self.ask(request, answer::SMALL).await?;
        match token::parse(&answer.body) {
            Ok(token) => Ok(token),
            Err(NoToken::Denied) => Err(self.denial(&answer)),
            Err(NoToken::Unreadable) => Err(unreadable("the token answer holds no token", &answer)),
        }
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
        Ok(devnet::parse(&self.ask(request, answer::SMALL).await?.body))
    }

    /// Asks for one event, to see whether Pepay answers, what it thinks of the
    /// key, and what time it is there.
    ///
    /// # Errors
    /// [`Failure`] if there is no answer at all.
    pub async fn probe(&self) -> Result<Probe, Failure> {
        let asked = self.clock.now();
        let request = self.http.get(self.address("api/v1/events")).query(&[("limit", 1)]);
        let answer = Answer::read(self.send(request).await?, answer::LIST).await?;
        let clock_offset = answer.server_time().map(|date| probe::offset(date, asked, self.clock.now()));
        let key = match self.accepted(answer) {
            Ok(answer) => self.page(answer, 1).await.map(drop),
            Err(refusal) => Err(refusal),
        };
        Ok(Probe { clock_offset, key })
    }

    /// Sends `request`; the answer if it is a success, of at most `limit` bytes.
    async fn ask(&self, request: RequestBuilder, limit: usize) -> Result<Answer, Failure> {
        self.accepted(Answer::read(self.send(request).await?, limit).await?)
    }

    async fn send(&self, mut request: RequestBuilder) -> Result<Response, Failure> {
        if let Some(key) = &self.key {
            request = request.header(self.account.api_key_header.clone(), key.clone());
        }
        request.send().await.map_err(unreachable)
    }

    /// `answer`, if it is a success.
    fn accepted(&self, answer: Answer) -> Result<Answer, Failure> {
        if answer.status.is_success() {
            return Ok(answer);
        }
        let Answer { status, headers, body, .. } = answer;
        Err(Failure::refusal(status, &headers, &body, self.clock.now(), &[self.secret()]))
    }

    /// What a success says that is none.
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

/// What is wrong with a success that cannot be read, and what it is instead.
fn unreadable(what: &str, answer: &Answer) -> Failure {
    match of_page(&answer.headers, &answer.body) {
        Some(page) => Failure::malformed(format!("{what}: Pepay answered with {}", legible(&page, &[]))),
        None => Failure::malformed(what),
    }
}

/// What an error of the HTTP client comes down to, without the URL.
fn unreachable(error: reqwest::Error) -> Failure {
    Failure::unreachable(innermost(&error.without_url()).to_string())
}

#[cfg(test)]
mod tests;
