//! API keys, as request headers carry them.

use http::HeaderMap;
use secrecy::ExposeSecret;

use super::options::{ApiKey, Scope};
use super::refusal::Refusal;
use super::{Simulator, lock};

/// The two headers a key can come in; the first is the preferred one.
const HEADERS: [&str; 2] = ["x-api-key", "x-commerce-api-key"];

impl Simulator {
    /// Returns the key of a request, and counts the request against the key's limit.
    pub(super) fn key(&self, headers: &HeaderMap) -> Result<ApiKey, Refusal> {
        let Some(sent) = HEADERS.iter().find_map(|name| headers.get(*name)) else {
            return Err(Refusal::unauthorized("an API key is required"));
        };
        let keys = lock(&self.0.keys).clone();
        let known = |key: &ApiKey| key.secret.expose_secret().as_bytes() == sent.as_bytes();
        let Some(at) = keys.iter().position(known) else {
            return Err(Refusal::unauthorized("the API key is not valid"));
        };
        if let Some(limit) = self.options().rate_limit {
            lock(&self.0.rates).take(at, limit, self.0.clock.now()).map_err(Refusal::too_many)?;
        }
        Ok(keys[at].clone())
    }

    /// Returns the key of a request, which has to open `scope`.
    pub(super) fn key_of_scope(&self, headers: &HeaderMap, scope: Scope) -> Result<ApiKey, Refusal> {
        let key = self.key(headers)?;
        if key.scopes.contains(&scope) {
            return Ok(key);
        }
        Err(Refusal::forbidden(format!("the API key has no {} scope", scope.as_str())))
    }
}
