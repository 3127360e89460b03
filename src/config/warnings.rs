//! Warnings about settings that are valid and probably a mistake.

use url::{Host, Url};

use super::Settings;
use super::problem::Warning;
use super::streams::Subscription;
use crate::domain::event::Environment;
use crate::domain::filter::{Pattern, TypeFilter};
use crate::pepay::account::Account;
use crate::source::stream::Auth;

/// Returns the warnings about `settings`.
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
    routes(&mut warnings, settings);
    for (index, target) in settings.targets.iter().enumerate() {
        let section = format!("targets.{}", target.name);
        let mut warn = |key: &str, found: String, advice: &str| {
            warnings.push(Warning { key: format!("{section}.{key}"), found, advice: advice.to_owned() });
        };
        if target.signing_keys.is_empty() {
            let found = "is not set, so the target cannot verify who sends".to_owned();
            warn("signing_secret", found, "set one, and have the target verify it");
        }
        if !target.headers.is_empty() && is_exposed(&target.url) {
            let host = target.url.host_str().unwrap_or_default();
            let found = format!("are sent to `{host}` without encryption");
            warn("headers", found, "use `https://`, or an address on loopback");
        }
        if let Some(other) = settings.targets[..index].iter().find(|other| other.url == target.url) {
            let found = format!(
                "is that of `targets.{}` too, so each event that both take arrives twice",
                other.name
            );
            warn("url", found, "give each target a URL of its own, or make them one target");
        }
    }
    warnings
}

/// Adds warnings about targets that get events from no source, and about types that no target takes.
fn routes(warnings: &mut Vec<Warning>, settings: &Settings) {
    let Settings { streams, webhooks, targets, .. } = settings;
    for target in targets {
        let by_stream = streams.iter().any(|stream| stream.settings.types.overlaps(&target.types));
        // A webhook can bring every type, but only events of its own environment.
        let fits = |bound: Option<Environment>| match (bound, target.environment) {
            (Some(bound), Some(wanted)) => bound == wanted,
            _ => true,
        };
        if !by_stream && !webhooks.iter().any(|webhook| fits(webhook.environment)) {
            let (key, found) = if streams.is_empty() {
                ("environment", "is that of no webhook endpoint")
            } else {
                ("types", "match nothing that a stream subscribes to")
            };
            warnings.push(Warning {
                key: format!("targets.{}.{key}", target.name),
                found: format!("{found}, so the target receives nothing"),
                advice: "compare it with the sources".to_owned(),
            });
        }
    }
    for Subscription { settings, .. } in streams {
        let taken = |pattern: &&Pattern| {
            let alone = TypeFilter::new(vec![(*pattern).clone()]);
            targets.iter().any(|target| target.types.overlaps(&alone))
        };
        for pattern in settings.types.patterns().iter().filter(|pattern| !taken(pattern)) {
            warnings.push(Warning {
                key: format!("streams.{}.types", settings.name),
                found: format!("has `{pattern}`, which no target takes"),
                advice: "leave it out, or have a target take it".to_owned(),
            });
        }
    }
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

/// Returns whether requests to `url` cross a network without encryption.
fn is_exposed(url: &Url) -> bool {
    let loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.to_canonical().is_loopback(),
        None => false,
    };
    !loopback && matches!(url.scheme(), "http" | "ws")
}
