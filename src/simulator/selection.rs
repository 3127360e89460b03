//! Which events somebody asked for: type patterns and the fields of
//! `data.object` that Pepay's filters name.

use serde::Deserialize;
use serde_json::{Map, Value};
use url::form_urlencoded;

use super::options::Scope;
use crate::domain::event::{Environment, Event};
use crate::domain::filter::{InvalidPattern, TypeFilter};

/// A field that can be filtered on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Order,
    Invoice,
    Customer,
    WalletAddress,
    WalletNetwork,
    InvoiceType,
    Environment,
}

impl Field {
    /// Every field, with its query parameter.
    pub(super) const ALL: [(Self, &str); 7] = [
        (Self::Order, "order_id"),
        (Self::Invoice, "invoice_id"),
        (Self::Customer, "customer_id"),
        (Self::WalletAddress, "wallet_address"),
        (Self::WalletNetwork, "wallet_network"),
        (Self::InvoiceType, "invoice_type"),
        (Self::Environment, "environment"),
    ];

    /// Whether the stream of `scope` takes this filter.
    const fn on_stream(self, scope: Scope) -> bool {
        match self {
            Self::Invoice | Self::Customer => true,
            Self::Order | Self::WalletAddress | Self::WalletNetwork => matches!(scope, Scope::Commerce),
            Self::InvoiceType | Self::Environment => matches!(scope, Scope::Merchant),
        }
    }

    /// The field of that name, if the stream of `scope` takes it.
    pub(super) fn of_stream(scope: Scope, name: &str) -> Option<Self> {
        Self::named(name).filter(|field| field.on_stream(scope))
    }

    /// The field of that name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find_map(|(field, parameter)| (parameter == name).then_some(field))
    }

    /// Whether `value` can be asked for.
    pub(super) fn allows(self, value: &str) -> bool {
        match self {
            Self::Environment => value.parse::<Environment>().is_ok(),
            Self::InvoiceType => matches!(value, "standard" | "commerce"),
            _ => !value.is_empty(),
        }
    }
}

/// What an event says about the filterable fields.
#[derive(Debug, Default)]
pub(super) struct Facts(Vec<(Field, Box<str>)>);

impl Facts {
    /// Reads them from `data.object`; what is missing matches no filter.
    pub(super) fn of(event: &Event) -> Self {
        #[derive(Deserialize)]
        struct Envelope {
            data: Data,
        }
        #[derive(Deserialize)]
        struct Data {
            object: Map<String, Value>,
        }
        let Ok(Envelope { data: Data { object } }) = serde_json::from_slice(&event.body) else {
            return Self::default();
        };
        let kind = object.get("object").and_then(Value::as_str).unwrap_or_default();
        let of_name = |name: &str| match (name, kind) {
            ("id", "commerce_order") | ("order_id" | "commerce_order_id", _) => Some(Field::Order),
            ("id", "invoice") | ("invoice_id", _) => Some(Field::Invoice),
            ("payer_wallet_address", _) => Some(Field::WalletAddress),
            ("payer_wallet_network", _) => Some(Field::WalletNetwork),
            (other, _) => Field::named(other),
        };
        let fact = |(name, value): (&String, &Value)| Some((of_name(name)?, value.as_str()?.into()));
        Self(object.iter().filter_map(fact).collect())
    }

    fn has(&self, field: Field, value: &str) -> bool {
        self.0.iter().any(|(named, fact)| *named == field && **fact == *value)
    }
}

/// The events somebody asked for and may see.
#[derive(Debug)]
pub(super) struct Selection {
    pub(super) types: TypeFilter,
    pub(super) fields: Vec<(Field, String)>,
    /// The environment the key is bound to.
    pub(super) environment: Option<Environment>,
}

impl Selection {
    /// Everything a key bound to `environment` sees.
    pub(super) fn all(environment: Option<Environment>) -> Self {
        Self { types: TypeFilter::any(), fields: Vec::new(), environment }
    }

    /// Whether an event is among them.
    pub(super) fn matches(&self, event: &Event, facts: &Facts) -> bool {
        let visible = match (self.environment, event.subject.environment) {
            (Some(own), Some(other)) => own == other,
            _ => true,
        };
        visible
            && self.types.matches(event.kind.as_str())
            && self.fields.iter().all(|(field, value)| facts.has(*field, value))
    }
}

/// Reads a comma-separated list of type patterns.
pub(super) fn types(text: &str) -> Result<TypeFilter, String> {
    text.split(',')
        .map(str::parse)
        .collect::<Result<_, _>>()
        .map(TypeFilter::new)
        .map_err(|error: InvalidPattern| error.to_string())
}

/// The pairs of a query string; a name that stands twice is an error, since
/// nobody can say which of the two was meant.
pub(super) fn pairs(query: &str) -> Result<Vec<(String, String)>, String> {
    let pairs: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    match pairs.iter().enumerate().find(|(at, (name, _))| pairs[..*at].iter().any(|(seen, _)| seen == name)) {
        Some((_, (name, _))) => Err(format!("`{name}` stands twice")),
        None => Ok(pairs),
    }
}
