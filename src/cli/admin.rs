//! The client of a running bridge's admin API, for commands.

mod refused;

use std::time::Duration;

use clap::Subcommand;
use http::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, RequestBuilder, Response};
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::timeout;
use url::Url;

pub(super) use self::refused::Refused;

use super::{Error, health, runtime};
use crate::config::{self, Input};
use crate::domain::cause::innermost;
use crate::domain::clock::{Clock, UnixMillis};
use crate::web;

/// The time limit of a query or a short action.
const TIMEOUT: Duration = Duration::from_secs(20);
/// The time limit of a long action. The limit in the bridge is shorter.
const LONG_TIMEOUT: Duration = Duration::from_secs(660);
/// The header that tells the audit trail that the client is the command line.
const CLIENT: HeaderName = HeaderName::from_static("pepay-bridge-client");
/// The longest response, in bytes.
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

/// A command over the admin API that consists of subcommands.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Command<C: Subcommand> {
    #[command(subcommand)]
    command: C,

    #[command(flatten)]
    admin: Arguments,
}

impl<C: Subcommand> Command<C> {
    /// Has `work` do the subcommand, over a connection to the bridge of the configuration `input`.
    pub(super) fn run(
        &self,
        input: &Input,
        work: impl AsyncFnOnce(&C, &Operator) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let operator = Operator::new(&self.admin, input)?;
        runtime()?.block_on(work(&self.command, &operator))
    }
}

/// An operator's connection to a running bridge.
pub(super) struct Operator {
    pub(super) bridge: Admin,
    /// Whether responses are printed as JSON, unchanged.
    pub(super) json: bool,
    /// The time at which the command started.
    pub(super) now: UnixMillis,
}

impl Operator {
    /// Creates a connection to the bridge of this configuration. Only `[server]` is read.
    pub(super) fn new(arguments: &Arguments, input: &Input) -> Result<Self, Error> {
        let settings = config::server(input)?;
        let bridge = Admin::new(&settings, &arguments.reach)?;
        Ok(Self { bridge, json: arguments.json, now: Clock::system().now() })
    }

    /// Prints `answer` unchanged with `--json`, or else the text that `render` makes of it. If the
    /// response is empty, the change is done and its result is unknown: a line says so, and JSON output
    /// is empty.
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

/// The body of a successful response.
pub(super) struct Answer(pub(super) Vec<u8>);

impl Answer {
    /// Parses the body.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.0).map_err(|error| {
            Error::failure(format!("the bridge answers what this version does not know: {error}"))
        })
    }

    /// Prints the body unchanged.
    pub(super) fn print(&self) -> Result<(), Error> {
        super::print(&self.line())
    }

    /// Returns the body unchanged, with a line break at the end.
    pub(super) fn line(&self) -> String {
        format!("{}\n", String::from_utf8_lossy(&self.0))
    }
}

impl Admin {
    /// Creates a client for the bridge of this configuration.
    pub(super) fn of(settings: &web::Settings) -> Result<Self, Error> {
        Self::new(settings, &Reach { admin_url: None })
    }

    /// Creates a client for the bridge at the URL in `reach`, or else for the bridge of this
    /// configuration.
    pub(super) fn new(settings: &web::Settings, reach: &Reach) -> Result<Self, Error> {
        let configured = || Url::parse(&format!("http://{}", health::reachable(settings.admin_listen)));
        let base = reach.admin_url.clone().map_or_else(configured, Ok).map_err(Error::failure)?;
        let marks = HeaderMap::from_iter([(CLIENT, HeaderValue::from_static("cli"))]);
        let client = health::client(&base).default_headers(marks).build().map_err(Error::failure)?;
        Ok(Self { client, base, token: settings.admin_token.clone() })
    }

    /// Sends `GET path?query`.
    pub(super) async fn get(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Answer, Error> {
        let request = self.client.get(self.address(path)?).query(query).timeout(TIMEOUT);
        Ok(self.ask(request).await?)
    }

    /// Sends `GET path?query` and passes each piece of the unlimited response to `take`, until that
    /// returns `false`. The limit is on the wait for each piece. It is long, since matching items may be
    /// rare.
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

    /// Sends `POST path` for a short action.
    pub(super) async fn post(&self, path: &[&str], body: &Value) -> Result<Answer, Error> {
        self.post_within(TIMEOUT, path, body).await
    }

    /// Sends `POST path` for an action that may take minutes.
    pub(super) async fn post_patiently(&self, path: &[&str], body: &Value) -> Result<Answer, Error> {
        self.post_within(LONG_TIMEOUT, path, body).await
    }

    async fn post_within(&self, limit: Duration, path: &[&str], body: &Value) -> Result<Answer, Error> {
        let request = self.client.post(self.address(path)?).timeout(limit);
        let request = request.header(http::header::CONTENT_TYPE, "application/json");
        Ok(self.ask(request.body(body.to_string())).await?)
    }

    /// Returns the URL of `path`, with its segments escaped.
    fn address(&self, path: &[&str]) -> Result<Url, Error> {
        // These three segments would lead to another path.
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

    /// Sends `request` and returns the successful response once its head has arrived.
    async fn send(&self, request: RequestBuilder) -> Result<Response, Refused> {
        let response = self.authorised(request).send().await.map_err(|error| self.no_answer(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = self.whole(response).await?;
        Err(Refused::read(&self.base, self.token.is_some(), status, &body))
    }

    /// Reads the whole body of `response`.
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
