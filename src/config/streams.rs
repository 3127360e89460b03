//! `[streams.NAME]`.

use std::sync::Arc;
use std::time::Duration;

use super::form::{self, DAY, Form, HOUR, MILLISECOND, SECOND};
use super::layers::Table;
use super::pepay;
use super::problem::{Faulty, quoted};
use super::section::Section;
use crate::domain::backoff::Backoff;
use crate::domain::event::EventId;
use crate::domain::filter::{Pattern, TypeFilter};
use crate::pepay::account::Account;
use crate::pepay::filter::{Filter, Filters};
use crate::source::stream::{self, Auth, Endpoint, StartFrom};

/// Returns the endpoints that support a filter (Pepay: `api-spec/realtime/websockets`).
const fn endpoints(filter: Filter) -> &'static [Endpoint] {
    match filter {
        Filter::InvoiceId | Filter::CustomerId => &[Endpoint::Commerce, Endpoint::Merchant],
        Filter::OrderId | Filter::WalletAddress | Filter::WalletNetwork => &[Endpoint::Commerce],
        Filter::InvoiceType | Filter::Environment => &[Endpoint::Merchant],
    }
}

/// The least pause between two attempts to connect, since Pepay limits the number of requests.
const LEAST_BACKOFF: Duration = Duration::from_millis(50);

/// A stream and its account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The settings of the stream.
    pub settings: stream::Settings,
    /// The addresses of Pepay for this stream, and its key, which is always set.
    pub account: Arc<Account>,
}

/// Reads one stream. Account keys that are missing are those of `pepay`. A stream without an API key is
/// added to `keyless`.
pub(super) fn read(
    name: &str,
    mut section: Section<'_>,
    pepay: &Table,
    keyless: &mut Vec<String>,
) -> Result<Subscription, Faulty> {
    let account = pepay::of_stream(&mut section, pepay);
    if account.as_ref().is_ok_and(|account| account.api_key.is_none()) {
        keyless.push(name.to_owned());
    }
    let settings = settings(name, &mut section);
    section.finish();
    Ok(Subscription { settings: settings?, account: Arc::new(account?) })
}

fn settings(name: &str, section: &mut Section<'_>) -> Result<stream::Settings, Faulty> {
    let endpoint = form::choice(&[("commerce", Endpoint::Commerce), ("merchant", Endpoint::Merchant)]);
    let endpoint = section.value("endpoint", "commerce", &endpoint);
    let auth = form::choice(&[("token", Auth::Token), ("header", Auth::Header)]);
    let auth = section.value("auth", "token", &auth);
    let token_ttl = section.value("token_ttl", "60s", &whole_seconds());
    let types = types(section, default_types(endpoint));
    let filters = filters(section, endpoint);
    let start_from = section.value("start_from", "now", &start_from());
    let idle_timeout = section.value("idle_timeout", "60s", &form::duration(MILLISECOND * 500..=DAY));
    let ping_interval = section.value("ping_interval", "20s", &form::duration(MILLISECOND * 100..=DAY));
    if let (Ok(ping), Ok(idle)) = (ping_interval, idle_timeout)
        && ping >= idle
    {
        let (ping, idle) = (form::show_duration(ping), form::show_duration(idle));
        section.problem(
            "ping_interval",
            &format!("`{ping}` is too long; allowed is less than `idle_timeout`, which is `{idle}`"),
        );
    }
    let backoff = backoff(section, LEAST_BACKOFF, ("backoff_min", "500ms"), ("backoff_max", "60s"));
    let reconcile_interval =
        section.value("reconcile_interval", "5m", &off_or(form::duration(SECOND..=DAY * 30)));
    let reconcile_lookback = section.value("reconcile_lookback", "15m", &form::duration(SECOND..=DAY * 365));
    let hold_limit = section.value("hold_limit", "30s", &form::duration(SECOND..=DAY));
    Ok(stream::Settings {
        name: name.into(),
        endpoint: endpoint?,
        auth: auth?,
        token_ttl: token_ttl?,
        types: types?,
        filters: filters?,
        start_from: start_from?,
        idle_timeout: idle_timeout?,
        ping_interval: ping_interval?,
        backoff: backoff?,
        reconcile_interval: Some(reconcile_interval?).filter(|interval| !interval.is_zero()),
        reconcile_lookback: reconcile_lookback?,
        hold_limit: hold_limit?,
    })
}

/// Reads the event types of a stream or a target; at least one.
pub(super) fn types(section: &mut Section<'_>, default: &[&str]) -> Result<TypeFilter, Faulty> {
    let patterns = section.list("types", default, &form::parsed::<Pattern>())?;
    if patterns.is_empty() {
        return Err(section.problem("types", "names no type; allowed is at least one, and `*` for all"));
    }
    Ok(TypeFilter::new(patterns))
}

/// Reads the two keys of a retry schedule, the shortest and the longest pause. Each has a default and is
/// at least `least`.
pub(super) fn backoff(
    section: &mut Section<'_>,
    least: Duration,
    (min_key, min): (&str, &str),
    (max_key, max): (&str, &str),
) -> Result<Backoff, Faulty> {
    let min = section.value(min_key, min, &form::duration(least..=DAY * 30));
    let max = section.value(max_key, max, &form::duration(least..=DAY * 30));
    section.at_most((min_key, min), (max_key, max));
    Backoff::new(min?, max?).ok_or(Faulty)
}

fn filters(section: &mut Section<'_>, endpoint: Result<Endpoint, Faulty>) -> Result<Filters, Faulty> {
    let mut filters = Vec::new();
    for known in Filter::ALL {
        let (key, endpoints) = (known.name(), endpoints(known));
        let form = match known {
            Filter::InvoiceType => {
                form::choice(&[("standard", "standard"), ("commerce", "commerce")]).map(str::to_owned)
            }
            Filter::Environment => {
                form::choice(&[("devnet", "devnet"), ("mainnet", "mainnet")]).map(str::to_owned)
            }
            _ => form::plain_text(),
        };
        let filter = section.optional(key, &form);
        let refused = endpoint.is_ok_and(|endpoint| !endpoints.contains(&endpoint));
        filters.push(match filter {
            Ok(Some(_)) if refused => {
                let other = if endpoints == [Endpoint::Commerce] { "commerce" } else { "merchant" };
                let fault =
                    format!("is no filter of this endpoint; allowed with `endpoint = \"{other}\"` only");
                Err(section.problem(key, &fault))
            }
            filter => filter.map(|value| value.map(|value| (known, value))),
        });
    }
    filters.into_iter().filter_map(Result::transpose).collect::<Result<_, _>>().map(Filters::new)
}

/// Returns the event types of a stream of `endpoint` (Pepay: `sdk/commerce/websockets`,
/// `sdk/merchants/websockets`).
const fn default_types(endpoint: Result<Endpoint, Faulty>) -> &'static [&'static str] {
    match endpoint {
        Ok(Endpoint::Merchant) => &["invoice.*", "invoice_payment.*"],
        _ => &["commerce.order.*", "invoice.*", "invoice_payment.*"],
    }
}

/// The form of a duration of zero, which means off, or one that `duration` allows.
fn off_or(duration: Form<Duration>) -> Form<Duration> {
    Form::text(move |text| match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Ok(Duration::ZERO),
        _ => duration.read(text).map_err(|fault| format!("{fault}, and `0s` for off")),
    })
}

fn whole_seconds() -> Form<Duration> {
    let duration = form::duration(SECOND..=HOUR * 24);
    Form::text(move |text| match duration.read(text)? {
        ttl if ttl.subsec_nanos() == 0 => Ok(ttl),
        _ => Err(format!("{} is no whole number of seconds; allowed are values such as `60s`", quoted(text))),
    })
}

fn start_from() -> Form<StartFrom> {
    Form::text(|text| match text {
        "now" => Ok(StartFrom::Now),
        "earliest" => Ok(StartFrom::Earliest),
        id => match id.parse::<EventId>() {
            Ok(id) => Ok(StartFrom::After(id)),
            Err(error) => Err(format!(
                "{} is no event id ({error}); allowed are `now`, `earliest` and an event id",
                quoted(id)
            )),
        },
    })
}
