//! The admin API of a running bridge, as commands ask it.

mod refused;

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, RequestBuilder, Response};
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::timeout;
use url::Url;

pub(super) use self::refused::Refused;

use super::{Error, health};
use crate::config;
use crate::domain::cause::innermost;
use crate::domain::clock::{Clock, UnixMillis};
use crate::web;

/// For a question, and for what is done at once.
const TIMEOUT: Duration = Duration::from_secs(20);
/// For what takes its time: the bridge itself limits it to less.
const LONG_TIMEOUT: Duration = Duration::from_secs(660);
/// By this header the audit trail knows the command line.
const CLIENT: HeaderName = HeaderName::from_static("pepay-bridge-client");
/// No answer is longer, in bytes.
const LONGEST_ANSWER: usize = 64 << 20;

/// Where the running bridge is.
#[derive(Debug, clap::Args)]
pub(super) struct Reach {
    /// The bridge's admin listener; by default where `server.admin_listen` says, on this machine
    #[arg(long, global = true, alias = "url", value_name = "URL", value_parser = health::http_url)]
    admin_url: Option<Url>,
}

/// What every command over the admin API takes.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Arguments {
    #[command(flatten)]
    reach: Reach,

    /// Print what the bridge answers, as JSON
    #[arg(long, global = true)]
    json: bool,
}

/// An operator's connection to a running bridge.
pub(super) struct Operator {
    pub(super) bridge: Admin,
    /// Whether answers are printed as JSON, unchanged.
    pub(super) json: bool,
    /// When the command was given.
    pub(super) now: UnixMillis,
}

impl Operator {
    /// A connection to the bridge of this configuration, of which `[server]` alone is read.
    pub(super) fn new(
        arguments: &Arguments,
        config: Option<&Path>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, Error> {
        let settings = config::server(config, environment)?;
        let bridge = Admin::new(&settings, &arguments.reach)?;
        Ok(Self { bridge, json: arguments.json, now: Clock::system().now() })
    }

    /// Prints `answer` as it is if JSON is wanted, or else the text that `render` makes of it. One
    /// without content says that it is done, and nothing more.
    pub(super) fn show<T: DeserializeOwned>(
        &self,
        answer: &Answer,
        render: impl FnOnce(T) -> String,
    ) -> Result<(), Error> {
        match (self.json, answer.0.is_empty()) {
            (true, true) => Ok(()),
            (true, false) => answer.print(),
            (false, true) => super::print("done; its state now cannot be read at the moment\n"),
            (false, false) => super::print(&render(answer.read()?)),
        }
    }
}

/// A running bridge.
pub(super) struct Admin {
    client: Client,
    base: Url,
    token: Option<SecretString>,
}

/// A successful answer of the bridge.
pub(super) struct Answer(pub(super) Vec<u8>);

impl Answer {
    /// The value that the answer is.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.0).map_err(|error| {
            Error::failure(format!("the bridge answers what this version does not know: {error}"))
        })
    }

    /// Prints the answer as it is.
    pub(super) fn print(&self) -> Result<(), Error> {
        super::print(&self.line())
    }

    /// The answer as it is, on a line.
    pub(super) fn line(&self) -> String {
        format!("{}\n", String::from_utf8_lossy(&self.0))
    }
}

impl Admin {
    /// The bridge of this configuration.
    pub(super) fn of(settings: &web::Settings) -> Result<Self, Error> {
        Self::new(settings, &Reach { admin_url: None })
    }

    /// The bridge of this configuration, or the one that is reached another way.
    pub(super) fn new(settings: &web::Settings, reach: &Reach) -> Result<Self, Error> {
        let configured = || Url::parse(&format!("http://{}", health::reachable(settings.admin_listen)));
        let base = reach.admin_url.clone().map_or_else(configured, Ok).map_err(Error::failure)?;
        let marks = HeaderMap::from_iter([(CLIENT, HeaderValue::from_static("cli"))]);
        let client = Client::builder().no_proxy().default_headers(marks).build().map_err(Error::failure)?;
        Ok(Self { client, base, token: settings.admin_token.clone() })
    }

    /// `GET path?query`.
    pub(super) async fn get(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Answer, Error> {
        let request = self.client.get(self.address(path)?).query(query).timeout(TIMEOUT);
        Ok(self.ask(request).await?)
    }

    /// `GET path?query` of what has no bounds: each piece goes to `take`, until that wants no more.
    /// A piece may be long in coming, since what is asked for may be rare.
    pub(super) async fn stream(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
        mut take: impl FnMut(&[u8]) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        let late = |_| Error::failure(format!("nothing came for {} s", LONG_TIMEOUT.as_secs()));
        let request = self.client.get(self.address(path)?).query(query);
        let mut answer = timeout(LONG_TIMEOUT, self.send(request)).await.map_err(late)??;
        let broken = |error: reqwest::Error| {
            Error::failure(format!("the answer is not complete: {}", innermost(&error)))
        };
        while let Some(piece) = timeout(LONG_TIMEOUT, answer.chunk()).await.map_err(late)?.map_err(broken)? {
            if !take(&piece)? {
                break;
            }
        }
        Ok(())
    }

    fn authorised(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.token {
            Some(token) => request.bearer_auth(token.expose_secret()),
            None => request,
        }
    }

    /// `POST path` of what is done at once.
    pub(super) async fn post(&self, path: &[&str], body: &Value) -> Result<Answer, Error> {
        self.post_within(TIMEOUT, path, body).await
    }

    /// `POST path` of what may take minutes.
    pub(super) async fn post_patiently(&self, path: &[&str], body: &Value) -> Result<Answer, Error> {
        self.post_within(LONG_TIMEOUT, path, body).await
    }

    async fn post_within(&self, limit: Duration, path: &[&str], body: &Value) -> Result<Answer, Error> {
        let request = self.client.post(self.address(path)?).timeout(limit);
        let request = request.header(http::header::CONTENT_TYPE, "application/json");
        Ok(self.ask(request.body(body.to_string())).await?)
    }

    /// The address of `path`, whose segments are escaped.
    fn address(&self, path: &[&str]) -> Result<Url, Error> {
        // These three would mean another path.
        if let Some(name) = path.iter().find(|name| ["", ".", ".."].contains(*name)) {
            return Err(Error::Usage(format!("`{name}` is no name and no id")));
        }
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(["api", "v1"]).extend(path);
        }
        Ok(url)
    }

    async fn ask(&self, request: RequestBuilder) -> Result<Answer, Refused> {
        let answer = self.send(request).await?;
        self.whole(answer).await.map(Answer)
    }

    /// The successful response to `request`, of which the head has arrived.
    async fn send(&self, request: RequestBuilder) -> Result<Response, Refused> {
        let response = self.authorised(request).send().await.map_err(|error| self.no_answer(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = self.whole(response).await?;
        Err(Refused::read(&self.base, self.token.is_some(), status, &body))
    }

    /// The body of `response`.
    async fn whole(&self, mut response: Response) -> Result<Vec<u8>, Refused> {
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|error| self.no_answer(&error))? {
            body.extend_from_slice(&piece);
            if body.len() > LONGEST_ANSWER {
                return Err(Refused(format!("{} answers without an end", self.base)));
            }
        }
        Ok(body)
    }

    fn no_answer(&self, error: &reqwest::Error) -> Refused {
        let why = innermost(error);
        let hint = if error.is_connect() {
            "; is it running? `server.admin_listen` or --admin-url says where"
        } else {
            ""
        };
        Refused(format!("no bridge answers at {}: {why}{hint}", self.base))
    }
}
