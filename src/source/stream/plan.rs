//! The requests of a stream: the URL of the upgrade and the filters of the list. Both are made from
//! the same settings, so that stream and list show the same events.

use http::{HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::state::Narrowing;
use super::{Endpoint, Settings};
use crate::domain::event::{Event, EventId};
use crate::pepay::account::Account;
use crate::pepay::rest;
use crate::pepay::token::Scope;

/// A request to upgrade. It has secrets and must not be logged.
pub(super) struct Upgrade {
    /// The URL with every parameter, including the token.
    pub address: Url,
    /// The header with the API key, if the connection is authorised by it.
    pub key: Option<(HeaderName, HeaderValue)>,
    /// The secrets that must not appear in a log, even if the server repeats them.
    pub secrets: Vec<SecretString>,
}

impl Endpoint {
    const fn path(self) -> &'static str {
        match self {
            Self::Commerce => "ws/commerce/events",
            Self::Merchant => "ws/merchant/events",
        }
    }

    /// Returns whether the stream is certain to bring `event`, if the event passes its filters.
    /// Pepay documents the families of types for each stream. The commerce stream brings invoices
    /// and payments if they are linked to an order (Pepay: `sdk/commerce/websockets`,
    /// `sdk/merchants/websockets`). A payment names only its invoice.
    pub(super) fn carries(self, event: &Event) -> bool {
        let kind = event.kind.as_str();
        let is_of_invoice = kind.starts_with("invoice.") || kind.starts_with("invoice_payment.");
        match self {
            Self::Commerce => {
                kind.starts_with("commerce.order.") || is_of_invoice && event.subject.order.is_some()
            }
            Self::Merchant => is_of_invoice,
        }
    }

    /// Returns the scope of a token for this stream.
    pub(super) const fn scope(self) -> Scope {
        match self {
            Self::Commerce => Scope::Commerce,
            Self::Merchant => Scope::Merchant,
        }
    }
}

/// Returns the request to upgrade. It resumes after `since`, leaves out parameters by `narrowing`,
/// and is authorised by `token`, or without a token by the account's `key`.
pub(super) fn upgrade(
    settings: &Settings,
    since: Option<&EventId>,
    narrowing: Narrowing,
    account: &Account,
    token: Option<&SecretString>,
    key: Option<&HeaderValue>,
) -> Upgrade {
    let mut address = rest::below(&account.ws_url, settings.endpoint.path());
    {
        let mut query = address.query_pairs_mut();
        query.append_pair("format", "event_v1");
        if !settings.types.is_any() && narrowing != Narrowing::Bare {
            query.append_pair("types", &settings.types.to_string());
        }
        if narrowing == Narrowing::Full {
            query.extend_pairs(settings.filters.iter().map(|(filter, value)| (filter.name(), value)));
        }
        if let Some(since) = since {
            query.append_pair("since", since.as_str());
        }
        if let Some(token) = token {
            query.append_pair("token", token.expose_secret());
        }
    }
    let key = if token.is_none() { key.cloned() } else { None };
    Upgrade {
        address,
        key: key.map(|key| (account.api_key_header.clone(), key)),
        secrets: token.into_iter().chain(&account.api_key).cloned().collect(),
    }
}

/// Returns the query parameters that give the list the same filters. Filters that the list is not
/// documented to know, and those that `narrowing` leaves out, are missing.
pub(super) fn list_filters(settings: &Settings, narrowing: Narrowing) -> Vec<(String, String)> {
    let types = (!settings.types.is_any() && narrowing != Narrowing::Bare)
        .then(|| ("type".to_owned(), settings.types.to_string()));
    let listed = settings.filters.iter().filter(|(filter, _)| filter.is_listed());
    let listed = listed.filter(|_| narrowing == Narrowing::Full);
    types
        .into_iter()
        .chain(listed.map(|(filter, value)| (filter.name().to_owned(), value.to_owned())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock::UnixMillis;
    use crate::domain::filter::TypeFilter;
    use crate::pepay::account::Proxy;
    use crate::pepay::envelope;
    use crate::pepay::filter::{Filter, Filters};
    use crate::source::stream::tests::settings;

    fn account() -> Account {
        Account {
            api_url: "https://api.example".parse().unwrap(),
            ws_url: "wss://api.example/base".parse().unwrap(),
            api_key: Some("k3y".into()),
            api_key_header: HeaderName::from_static("x-api-key"),
            ca: None,
            proxy: Proxy::Never,
        }
    }

    fn pairs(upgrade: &Upgrade) -> Vec<String> {
        upgrade.address.query_pairs().map(|(name, value)| format!("{name}={value}")).collect()
    }

    #[test]
    fn the_upgrade_names_cursor_types_filters_and_token() {
        let settings = Settings {
            types: TypeFilter::new(vec!["invoice.*".parse().unwrap(), "test.ping".parse().unwrap()]),
            filters: Filters::new(vec![
                (Filter::WalletNetwork, "bsc".to_owned()),
                (Filter::Environment, "devnet".to_owned()),
            ]),
            ..settings()
        };
        let (since, token) = ("evt_1&x=2".parse().unwrap(), "t+k=".into());
        let request = |narrowing| upgrade(&settings, Some(&since), narrowing, &account(), Some(&token), None);
        let upgrade = request(Narrowing::Full);
        assert_eq!(upgrade.address.path(), "/base/ws/commerce/events");
        assert_eq!(
            pairs(&upgrade),
            [
                "format=event_v1",
                "types=invoice.*,test.ping",
                "wallet_network=bsc",
                "environment=devnet",
                "since=evt_1&x=2",
                "token=t+k="
            ]
        );
        assert!(upgrade.key.is_none());
        assert_eq!(pairs(&request(Narrowing::Bare)), ["format=event_v1", "since=evt_1&x=2", "token=t+k="]);
        let listed = |narrowing| {
            let filters = list_filters(&settings, narrowing);
            filters.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>()
        };
        assert_eq!(listed(Narrowing::Full), ["type=invoice.*,test.ping", "environment=devnet"]);
        assert_eq!(listed(Narrowing::Types), ["type=invoice.*,test.ping"]);
        assert!(listed(Narrowing::Bare).is_empty());
    }

    #[test]
    fn an_endpoint_is_certain_to_bring_what_is_documented_of_it_alone() {
        let event = |kind: &str, order: Option<&str>| {
            let object =
                order.map_or("{}".to_owned(), |order| format!(r#"{{"commerce_order_id":"{order}"}}"#));
            let body =
                format!(r#"{{"id":"evt_1","object":"event","type":"{kind}","data":{{"object":{object}}}}}"#);
            envelope::parse(body.into(), UnixMillis(0)).unwrap()
        };
        for (kind, order, commerce, merchant) in [
            ("commerce.order.updated", None, true, false),
            ("invoice.updated", Some("o"), true, true),
            ("invoice.updated", None, false, true),
            ("invoice_payment.created", None, false, true),
            ("test.ping", None, false, false),
            ("commerce.dispute.opened", None, false, false),
        ] {
            let carries = [Endpoint::Commerce, Endpoint::Merchant]
                .map(|endpoint| endpoint.carries(&event(kind, order)));
            assert_eq!(carries, [commerce, merchant], "{kind} {order:?}");
        }
    }

    #[test]
    fn every_type_is_asked_for_by_naming_none() {
        let key = rest::sensitive("k3y");
        let settings = Settings { endpoint: Endpoint::Merchant, ..settings() };
        let upgrade = upgrade(&settings, None, Narrowing::Full, &account(), None, key.as_ref());
        assert_eq!(upgrade.address.path(), "/base/ws/merchant/events");
        assert_eq!(pairs(&upgrade), ["format=event_v1"]);
        assert_eq!(upgrade.key.unwrap().0, "x-api-key");
        assert!(list_filters(&settings, Narrowing::Full).is_empty());
    }
}
