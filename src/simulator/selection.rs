//! The events that a request selects, by type patterns and by the fields of `data.object` that Pepay's
//! filters name.

use std::collections::{HashMap, VecDeque};

use serde::Deserialize;
use serde_json::{Map, Value};
use url::form_urlencoded;

use super::options::Scope;
use crate::domain::event::{Environment, Event};
use crate::domain::filter::{InvalidPattern, TypeFilter};

/// The largest number of remembered invoices; beyond it the oldest is dropped.
const MAX_LINKS: usize = 100_000;

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

    /// Returns whether the stream of `scope` has this filter.
    const fn on_stream(self, scope: Scope) -> bool {
        match self {
            Self::Invoice | Self::Customer => true,
            Self::Order | Self::WalletAddress | Self::WalletNetwork => matches!(scope, Scope::Commerce),
            Self::InvoiceType | Self::Environment => matches!(scope, Scope::Merchant),
        }
    }

    /// Returns whether the list documents this filter.
    pub(super) const fn on_list(self) -> bool {
        matches!(self, Self::Invoice | Self::Environment)
    }

    /// Returns the field of this name, if the stream of `scope` has its filter.
    pub(super) fn of_stream(scope: Scope, name: &str) -> Option<Self> {
        Self::named(name).filter(|field| field.on_stream(scope))
    }

    /// Returns the field of this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find_map(|(field, parameter)| (parameter == name).then_some(field))
    }

    /// Returns whether `value` is a value of this field.
    pub(super) fn allows(self, value: &str) -> bool {
        match self {
            Self::Environment => value.parse::<Environment>().is_ok(),
            Self::InvoiceType => matches!(value, "standard" | "commerce"),
            _ => !value.is_empty(),
        }
    }
}

/// The values of the filterable fields of an event. They are not read by the bridge's own code, so that
/// each is a check on the other.
#[derive(Debug, Default)]
pub(super) struct Facts {
    fields: Vec<(Field, Box<str>)>,
    environment: Option<Environment>,
    object_id: Option<Box<str>>,
}

impl Facts {
    /// Reads the values from `data.object`, in every documented spelling. A missing value matches no
    /// filter.
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
        let kind = event.kind.as_str();
        let of_name = |name: &str| match name {
            "id" if kind.starts_with("commerce.order.") => Some(Field::Order),
            "id" if kind.starts_with("invoice.") => Some(Field::Invoice),
            "orderId" | "order_id" | "commerce_order_id" => Some(Field::Order),
            "invoiceId" | "invoice_id" => Some(Field::Invoice),
            "customerId" | "customer_id" => Some(Field::Customer),
            "walletAddress" | "wallet_address" | "payer_wallet_address" => Some(Field::WalletAddress),
            "walletNetwork" | "wallet_network" | "payer_wallet_network" => Some(Field::WalletNetwork),
            "networkEnvironment" | "environment" => Some(Field::Environment),
            "invoice_type" => Some(Field::InvoiceType),
            _ => None,
        };
        let text = |value: &Value| match value {
            Value::String(text) => Some(Box::from(text.as_str())),
            Value::Number(number) => Some(number.to_string().into_boxed_str()),
            _ => None,
        };
        let fact = |(name, value): (&String, &Value)| Some((of_name(name)?, text(value)?));
        let mut facts = Self {
            fields: object.iter().filter_map(fact).collect(),
            environment: None,
            object_id: object.get("id").or_else(|| object.get("orderId")).and_then(text),
        };
        facts.environment = facts.value(Field::Environment).and_then(|name| name.parse().ok());
        facts
    }

    /// Returns the order, invoice or payment that the event is about.
    pub(super) fn object_id(&self) -> Option<&str> {
        self.object_id.as_deref()
    }

    /// Returns the first value of a field.
    pub(super) fn value(&self, field: Field) -> Option<&str> {
        self.fields.iter().find_map(|(named, fact)| (*named == field).then_some(&**fact))
    }

    pub(super) fn add(&mut self, field: Field, value: Box<str>) {
        self.fields.push((field, value));
    }

    fn has(&self, field: Field, value: &str) -> bool {
        self.fields.iter().any(|(named, fact)| *named == field && **fact == *value)
    }
}

/// The orders of invoices, as earlier events have named them. A payment names its invoice alone; by the
/// link it belongs to the order.
#[derive(Debug, Default)]
pub(super) struct Links {
    orders: HashMap<Box<str>, Box<str>>,
    by_age: VecDeque<Box<str>>,
}

impl Links {
    /// Remembers the link that an event names, or adds the order to an event that names its invoice
    /// alone.
    pub(super) fn complete(&mut self, facts: &mut Facts) {
        let Some(invoice) = facts.value(Field::Invoice).map(Box::<str>::from) else { return };
        if let Some(order) = facts.value(Field::Order).map(Box::<str>::from) {
            if self.orders.insert(invoice.clone(), order).is_none() {
                self.by_age.push_back(invoice);
            }
            if self.by_age.len() > MAX_LINKS
                && let Some(oldest) = self.by_age.pop_front()
            {
                self.orders.remove(&oldest);
            }
        } else if let Some(order) = self.orders.get(&invoice) {
            facts.add(Field::Order, order.clone());
        }
    }
}

/// The events that a request selects and its key may see.
#[derive(Debug)]
pub(super) struct Selection {
    pub(super) types: TypeFilter,
    pub(super) fields: Vec<(Field, String)>,
    /// The environment the key is bound to.
    pub(super) environment: Option<Environment>,
    /// The beginning of the types that the endpoint does not carry.
    pub(super) foreign: Option<&'static str>,
}

impl Selection {
    /// Selects every event that a key bound to `environment` sees.
    pub(super) fn all(environment: Option<Environment>) -> Self {
        Self { types: TypeFilter::any(), fields: Vec::new(), environment, foreign: None }
    }

    /// Returns whether an event is selected.
    pub(super) fn matches(&self, event: &Event, facts: &Facts) -> bool {
        let visible = match (self.environment, facts.environment) {
            (Some(own), Some(other)) => own == other,
            _ => true,
        };
        visible
            && !self.foreign.is_some_and(|prefix| event.kind.as_str().starts_with(prefix))
            && self.types.matches(event.kind.as_str())
            && self.fields.iter().all(|(field, value)| facts.has(*field, value))
    }
}

/// Returns the beginnings of the types that the stream of `scope` is documented to carry.
const fn families(scope: Scope) -> &'static [&'static str] {
    match scope {
        Scope::Commerce => &["commerce.order.", "invoice.", "invoice_payment."],
        Scope::Merchant => &["invoice.", "invoice_payment."],
    }
}

/// Returns the first pattern of `text` that matches no type of the stream of `scope`.
pub(super) fn foreign(scope: Scope, text: &str) -> Option<&str> {
    text.split(',').map(str::trim).find(|pattern| {
        let wanted = pattern.trim_end_matches('*');
        !families(scope).iter().any(|family| family.starts_with(wanted) || wanted.starts_with(family))
    })
}

/// Reads a comma-separated list of type patterns.
pub(super) fn types(text: &str) -> Result<TypeFilter, String> {
    text.split(',')
        .map(str::parse)
        .collect::<Result<_, _>>()
        .map(TypeFilter::new)
        .map_err(|error: InvalidPattern| error.to_string())
}

/// Returns the pairs of a query string. A name that is given twice is an error, since it is not clear
/// which value was meant.
pub(super) fn pairs(query: &str) -> Result<Vec<(String, String)>, String> {
    let pairs: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    match pairs.iter().enumerate().find(|(at, (name, _))| pairs[..*at].iter().any(|(seen, _)| seen == name)) {
        Some((_, (name, _))) => Err(format!("`{name}` stands twice")),
        None => Ok(pairs),
    }
}
