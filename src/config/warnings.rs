//! What is allowed and probably not meant.

use std::fmt;

use url::{Host, Url};

use super::Settings;
use super::streams::Subscription;
use crate::pepay::account::Account;
use crate::source::stream::Auth;

/// Displays one line, which holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The full path of the key, such as `streams.commerce.api_url`.
    pub key: String,
    /// What is set.
    pub found: String,
    /// What to do about it.
    pub advice: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, found, advice } = self;
        write!(f, "{key}: {found}; {advice}")
    }
}

/// The warnings about `settings`.
pub(super) fn of(settings: &Settings) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let streams = &settings.streams;
    if streams.iter().all(|stream| stream.account != settings.pepay) {
        key_in_the_clear(&mut warnings, "pepay", &settings.pepay);
    }
    for Subscription { settings, account } in streams {
        let section = format!("streams.{}", settings.name);
        key_in_the_clear(&mut warnings, &section, account);
        if is_exposed(&account.ws_url) {
            let sent = match settings.auth {
                Auth::Token => "the stream's token",
                Auth::Header => "the API key",
            };
            warnings.push(in_the_clear(format!("{section}.ws_url"), sent, &account.ws_url, "wss"));
        }
    }
    warnings
}

fn key_in_the_clear(warnings: &mut Vec<Warning>, section: &str, account: &Account) {
    if account.api_key.is_some() && is_exposed(&account.api_url) {
        warnings.push(in_the_clear(format!("{section}.api_url"), "the API key", &account.api_url, "https"));
    }
}

fn in_the_clear(key: String, sent: &str, url: &Url, instead: &str) -> Warning {
    let host = url.host_str().unwrap_or_default();
    Warning {
        key,
        found: format!("sends {sent} to `{host}` without encryption"),
        advice: format!("use `{instead}://`, or an address on loopback"),
    }
}

/// Whether what is sent to `url` crosses a network without encryption.
fn is_exposed(url: &Url) -> bool {
    let loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.to_canonical().is_loopback(),
        None => false,
    };
    !loopback && matches!(url.scheme(), "http" | "ws")
}
