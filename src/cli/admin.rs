//! The admin API of a running bridge, as commands ask it.

use std::time::Duration;

use http::StatusCode;
use reqwest::Client;
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

use super::{Error, health};
use crate::domain::cause::innermost;
use crate::web::Settings;

/// For one question.
const TIMEOUT: Duration = Duration::from_secs(10);
/// No answer is longer, in bytes.
const LONGEST_ANSWER: usize = 64 << 20;

/// A running bridge.
pub(super) struct Admin {
    client: Client,
    base: Url,
    token: Option<SecretString>,
}

impl Admin {
    /// The bridge of this configuration, or the one at `url`.
    pub(super) fn new(settings: &Settings, url: Option<Url>) -> Result<Self, Error> {
        let configured = || Url::parse(&format!("http://{}", health::reachable(settings.admin_listen)));
        let base = url.map_or_else(configured, Ok).map_err(Error::failure)?;
        let client = Client::builder().timeout(TIMEOUT).no_proxy().build().map_err(Error::failure)?;
        Ok(Self { client, base, token: settings.admin_token.clone() })
    }

    /// `GET path?query`; `None` if there is no such thing.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<Option<T>, Error> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(["api", "v1"]).extend(path);
        }
        let mut request = self.client.get(url).query(query);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose_secret());
        }
        let no_answer = |error: reqwest::Error| {
            let why = innermost(&error);
            Error::failure(format!("no bridge answers at {}: {why}; is it running?", self.base))
        };
        let mut answer = request.send().await.map_err(no_answer)?;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(no_answer)? {
            body.extend_from_slice(&chunk);
            if body.len() > LONGEST_ANSWER {
                return Err(Error::failure(format!("{} answers without an end", self.base)));
            }
        }
        match answer.status() {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => serde_json::from_slice(&body).map(Some).map_err(|error| {
                Error::failure(format!("{} answers what this version does not know: {error}", self.base))
            }),
            StatusCode::UNAUTHORIZED => {
                let fault = "the bridge does not take this `server.admin_token`";
                Err(Error::failure(format!("{fault}; is it that of {}?", self.base)))
            }
            status => {
                let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
                let detail = problem["detail"].as_str().unwrap_or("without a reason");
                Err(Error::failure(format!("{} answered {status}: {detail}", self.base)))
            }
        }
    }
}
