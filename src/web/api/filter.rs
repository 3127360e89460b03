//! The filters of events and deliveries: how they are written, what is allowed
//! and how they are documented, for the query of a list and for the body of a
//! bulk call alike.

use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{
    AdditionalProperties, KnownFormat, Object, ObjectBuilder, Schema, SchemaFormat, Type,
};
use utoipa::openapi::{RefOr, Required};
use utoipa::{IntoParams, PartialSchema, ToSchema};

use super::params::Params;
use crate::domain::clock::UnixMillis;
use crate::domain::delivery::State;
use crate::domain::event::{EventId, InvalidEventId, Source};
use crate::domain::filter::TypeFilter;
use crate::domain::operator::{Cursor, Filter, Page};

/// Reads every filter that is given.
pub(super) fn filter(params: &mut Params) -> Filter {
    Filter {
        types: params.parsed("type", str::parse::<TypeFilter>),
        object_id: params.parsed("object_id", some_text),
        order_id: params.parsed("order_id", some_text),
        invoice_id: params.parsed("invoice_id", some_text),
        source: params.one_of("source", &Source::ALL, Source::as_str),
        state: params.one_of("state", &State::ALL, State::as_str),
        target: params.parsed("target", some_text),
        from: params.parsed("from", str::parse::<UnixMillis>),
        to: params.parsed("to", str::parse::<UnixMillis>),
        id_prefix: params.parsed("id_prefix", prefix),
    }
}

/// Reads which page of a list is asked for.
pub(super) fn page(params: &mut Params) -> Page {
    let limit = params.parsed("limit", limit).unwrap_or(Page::default().limit);
    let cursor = params.parsed("cursor", str::parse::<Cursor>);
    Page { limit, cursor }
}

fn some_text(text: &str) -> Result<String, &'static str> {
    if text.is_empty() { Err("is empty") } else { Ok(text.to_owned()) }
}

fn prefix(text: &str) -> Result<String, InvalidEventId> {
    text.parse::<EventId>().map(|prefix| prefix.to_string())
}

fn limit(text: &str) -> Result<u32, String> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let limit = if digits { text.parse().ok() } else { None };
    limit
        .filter(|limit| (1..=Page::LARGEST).contains(limit))
        .ok_or_else(|| format!("allowed is 1 to {}", Page::LARGEST))
}

/// Every filter: its name, what it keeps, and how it is written.
fn documented() -> [(&'static str, &'static str, Object); 10] {
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let time = || text().format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime))).build();
    let pattern = r" *(\*|[A-Za-z0-9._-]{1,253}(\.\*)?) *";
    [
        (
            "type",
            "Events of these types: exact, or a prefix such as `invoice.*`; several are separated by commas.",
            text().pattern(Some(format!("^{pattern}(,{pattern})*$"))).build(),
        ),
        ("object_id", "Events about this order, invoice or payment.", text().min_length(Some(1)).build()),
        (
            "order_id",
            "Events about this order, and about an invoice that names it.",
            text().min_length(Some(1)).build(),
        ),
        (
            "invoice_id",
            "Events about this invoice, and about a payment that names it.",
            text().min_length(Some(1)).build(),
        ),
        (
            "source",
            "Events that came by this road first.",
            text().enum_values(Some(Source::ALL.map(Source::as_str))).build(),
        ),
        (
            "state",
            "Deliveries in this state; events that have one.",
            text().enum_values(Some(State::ALL.map(State::as_str))).build(),
        ),
        ("target", "Deliveries to this target; events that have one.", text().min_length(Some(1)).build()),
        ("from", "Events received at this time (RFC 3339) or later.", time()),
        ("to", "Events received before this time (RFC 3339).", time()),
        ("id_prefix", "Events whose id begins so.", text().pattern(Some("^[!-~]{1,255}$")).build()),
    ]
}

/// Every cursor that an answer has, and none that is refused: the second number is
/// the largest there is where a list goes on behind all deliveries of an event.
const CURSOR: &str = "^[0-9]{1,18}-([0-9]{1,18}|9223372036854775807)$";

/// The parameters of a list.
pub(super) struct Listing;

impl IntoParams for Listing {
    fn into_params(place: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let whole =
            ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).maximum(Some(Page::LARGEST));
        let limit = whole.default(Some(Page::default().limit.into())).build();
        // Of no use to a client; a test of the API compares it.
        let cursor = ObjectBuilder::new().schema_type(Type::String).pattern(Some(CURSOR));
        let cursor = RefOr::T(Schema::Object(cursor.build()));
        let more = [
            ("limit", "The most that the answer holds.", RefOr::T(Schema::Object(limit))),
            ("cursor", "`next_cursor` of an earlier answer: goes on where that one ended.", cursor),
        ];
        let filters =
            documented().map(|(name, about, schema)| (name, about, RefOr::T(Schema::Object(schema))));
        let parameter = |(name, about, schema)| {
            ParameterBuilder::new()
                .name(name)
                .parameter_in(place().unwrap_or(ParameterIn::Query))
                .required(Required::False)
                .description(Some(about))
                .schema(Some(schema))
                .build()
        };
        filters.into_iter().chain(more).map(parameter).collect()
    }
}

/// The filter of a bulk call.
pub(super) struct BulkFilter;

impl PartialSchema for BulkFilter {
    fn schema() -> RefOr<Schema> {
        let closed = AdditionalProperties::FreeForm(false);
        let object = ObjectBuilder::new()
            .description(Some("What the action is for; an empty one is for everything it applies to."))
            .additional_properties(Some(closed));
        let with = |object: ObjectBuilder, (name, about, schema): (&str, &str, Object)| {
            object.property(name, ObjectBuilder::from(schema).description(Some(about)))
        };
        documented().into_iter().fold(object, with).into()
    }
}

impl ToSchema for BulkFilter {}
