//! The filters of events and deliveries: their notation, their allowed values and their documentation,
//! for the query of a list and for the body of a bulk call.

use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{
    AdditionalProperties, KnownFormat, Object, ObjectBuilder, Schema, SchemaFormat, Type,
};
use utoipa::openapi::{RefOr, Required};
use utoipa::{IntoParams, PartialSchema, ToSchema};

use super::params::Params;
use crate::domain::audit;
use crate::domain::clock::UnixMillis;
use crate::domain::delivery::State;
use crate::domain::event::{EventId, InvalidEventId, Source};
use crate::domain::filter::TypeFilter;
use crate::domain::operator::{Cursor, Filter, Page};

/// Reads all given filters.
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
        text: None,
    }
}

/// Reads the requested page of a list.
pub(super) fn page(params: &mut Params) -> Page {
    let limit = params.parsed("limit", limit).unwrap_or(Page::default().limit);
    let cursor = params.parsed("cursor", str::parse::<Cursor>);
    Page { limit, cursor }
}

pub(super) fn some_text(text: &str) -> Result<String, &'static str> {
    if text.is_empty() { Err("is empty") } else { Ok(text.to_owned()) }
}

fn prefix(text: &str) -> Result<String, InvalidEventId> {
    text.parse::<EventId>().map(|prefix| prefix.to_string())
}

pub(super) fn limit(text: &str) -> Result<u32, String> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let limit = if digits { text.parse().ok() } else { None };
    limit
        .filter(|limit| (1..=Page::LARGEST).contains(limit))
        .ok_or_else(|| format!("allowed is 1 to {}", Page::LARGEST))
}

/// Returns the schema of a text.
pub(super) fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

/// Returns the schema of a time.
pub(super) fn time() -> ObjectBuilder {
    text().format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
}

/// Returns the schema of `limit`.
pub(super) fn limited() -> ObjectBuilder {
    let whole = ObjectBuilder::new().schema_type(Type::Integer);
    whole.minimum(Some(1)).maximum(Some(Page::LARGEST)).default(Some(Page::default().limit.into()))
}

/// Returns the documentation of a parameter of a list.
pub(super) fn parameter(
    place: impl Fn() -> Option<ParameterIn>,
    name: &str,
    about: &str,
    schema: impl Into<Schema>,
) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(place().unwrap_or(ParameterIn::Query))
        .required(Required::False)
        .description(Some(about))
        .schema(Some(RefOr::T(schema.into())))
        .build()
}

/// Returns the name, the meaning and the notation of every filter.
fn documented() -> [(&'static str, &'static str, Object); 10] {
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
            "Events that came by this source first.",
            text().enum_values(Some(Source::ALL.map(Source::as_str))).build(),
        ),
        (
            "state",
            "Deliveries in this state; events that have one.",
            text().enum_values(Some(State::ALL.map(State::as_str))).build(),
        ),
        ("target", "Deliveries to this target; events that have one.", text().min_length(Some(1)).build()),
        ("from", "Events received at this time (RFC 3339) or later.", time().build()),
        ("to", "Events received before this time (RFC 3339).", time().build()),
        ("id_prefix", "Events whose id begins so.", text().pattern(Some("^[!-~]{1,255}$")).build()),
    ]
}

/// The pattern of cursors: it matches every cursor of an answer, and none that is refused. The second
/// number is the largest one if a list goes on behind all deliveries of an event.
const CURSOR: &str = "^[0-9]{1,18}-([0-9]{1,18}|9223372036854775807)$";

/// The parameters of a list.
pub(super) struct Listing;

impl IntoParams for Listing {
    fn into_params(place: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        // Clients do not need it; a test of the API compares it.
        let cursor = text().pattern(Some(CURSOR)).build();
        let more = [
            ("limit", "The most that the answer holds.", limited().build()),
            ("cursor", "`next_cursor` of an earlier answer: goes on where that one ended.", cursor),
        ];
        let all = documented().into_iter().chain(more);
        all.map(|(name, about, schema)| parameter(&place, name, about, schema)).collect()
    }
}

/// The parameters of the list of events: a list's, and the text that their bodies have.
pub(super) struct EventListing;

impl IntoParams for EventListing {
    fn into_params(place: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let some = text().min_length(Some(1)).max_length(Some(LONGEST_TEXT)).build();
        let searched = parameter(&place, "q", "Events whose body has this text, byte for byte.", some);
        Listing::into_params(place).into_iter().chain([searched]).collect()
    }
}

/// The filters as parameters, without a page.
pub(super) struct Filters;

impl IntoParams for Filters {
    fn into_params(place: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        documented().map(|(name, about, schema)| parameter(&place, name, about, schema)).into()
    }
}

/// The parameters of the audit trail.
pub(super) struct AuditListing;

impl IntoParams for AuditListing {
    fn into_params(place: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let some = || text().min_length(Some(1));
        let kinds = text().enum_values(Some(audit::Kind::ALL.map(audit::Kind::as_str)));
        let all: [(&str, &str, ObjectBuilder); 9] = [
            ("kind", "Entries of this kind.", kinds),
            ("who", "Calls by the token of this name; `admin_token` is `server.admin_token`.", some()),
            ("action", "Calls for this, such as `retry`, `pause` or `read_body`.", some()),
            ("target", "Calls about this target.", some()),
            ("event_id", "Calls about this event.", some()),
            ("from", "Asked for at this time (RFC 3339) or later.", time()),
            ("to", "Asked for before this time (RFC 3339).", time()),
            ("limit", "The most that the answer holds.", limited()),
            (
                "cursor",
                "`next_cursor` of an earlier answer: goes on where that one ended.",
                text().pattern(Some("^[0-9]{1,18}$")),
            ),
        ];
        all.map(|(name, about, schema)| parameter(&place, name, about, schema)).into()
    }
}

/// The longest text that is searched for, in characters.
const LONGEST_TEXT: usize = 200;

/// Reads the text for the search in bodies.
pub(super) fn searched(params: &mut Params) -> Option<String> {
    params.parsed("q", |text| match text.chars().count() {
        1..=LONGEST_TEXT => Ok(text.to_owned()),
        _ => Err(format!("allowed are 1 to {LONGEST_TEXT} characters")),
    })
}

/// The filter of a bulk call.
pub(super) struct BulkFilter;

impl PartialSchema for BulkFilter {
    fn schema() -> RefOr<Schema> {
        object_of(documented())
    }
}

impl ToSchema for BulkFilter {}

/// The filter of a move, whose target is named beside it.
pub(super) struct MoveFilter;

impl PartialSchema for MoveFilter {
    fn schema() -> RefOr<Schema> {
        object_of(documented().into_iter().filter(|(name, ..)| *name != "target"))
    }
}

/// Returns the schema of an object of these filters and no others.
fn object_of(filters: impl IntoIterator<Item = (&'static str, &'static str, Object)>) -> RefOr<Schema> {
    let closed = AdditionalProperties::FreeForm(false);
    let object = ObjectBuilder::new()
        .description(Some("What the action is for; an empty one is for everything it applies to."))
        .additional_properties(Some(closed));
    let with = |object: ObjectBuilder, (name, about, schema): (&str, &str, Object)| {
        object.property(name, ObjectBuilder::from(schema).description(Some(about)))
    };
    filters.into_iter().fold(object, with).into()
}
