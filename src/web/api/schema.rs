//! The bodies of calls and of server-sent events: their parsing and their documentation. Both are in
//! this file, so that neither knows a member that the other does not.

use utoipa::openapi::schema::{
    AdditionalProperties, KnownFormat, ObjectBuilder, OneOfBuilder, Schema, SchemaFormat, Type,
};
use utoipa::openapi::{Ref, RefOr};
use utoipa::{PartialSchema, ToSchema};

use super::body::Members;
use super::filter::{self, BulkFilter};
use super::problem::Problem;
use crate::domain::clock::UnixMillis;
use crate::domain::event::EventId;
use crate::domain::operator::{Action, BackfillFrom, BulkWork, Filter};

pub(super) fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

/// Returns an object without other members than the given ones.
pub(super) fn closed() -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .additional_properties(Some(AdditionalProperties::FreeForm(false)))
}

/// The largest number that a bulk call can confirm: numbers in JSON are exact up to here.
const MAX_CONFIRMED: u64 = (1 << 53) - 1;

/// The name of an action on a delivery.
pub(super) struct ActionName;

impl PartialSchema for ActionName {
    fn schema() -> RefOr<Schema> {
        text().enum_values(Some(Action::ALL.map(Action::as_str))).into()
    }
}

impl ToSchema for ActionName {}

/// The name of a bulk action.
pub(super) struct BulkName;

impl PartialSchema for BulkName {
    fn schema() -> RefOr<Schema> {
        text().enum_values(Some(BulkWork::NAMES)).into()
    }
}

impl ToSchema for BulkName {}

/// The body of a call that needs only its path.
pub(super) struct Nothing;

impl PartialSchema for Nothing {
    fn schema() -> RefOr<Schema> {
        closed().description(Some("An empty object.")).into()
    }
}

impl ToSchema for Nothing {}

/// The body of a replay: its target.
pub(super) struct ReplayBody {
    pub(super) target: String,
}

impl ReplayBody {
    pub(super) fn read(mut members: Members) -> Result<Self, Problem> {
        members.require("target");
        let target = members.text("target");
        members.finish(target.map(|target| Self { target }))
    }
}

impl PartialSchema for ReplayBody {
    fn schema() -> RefOr<Schema> {
        let target = text().description(Some("The name of the target that it goes to."));
        closed().property("target", target).required("target").into()
    }
}

impl ToSchema for ReplayBody {}

/// The body of a bulk call: its filter, and whether it only counts.
pub(super) struct BulkBody {
    pub(super) filter: Filter,
    /// The filter as it was written, for the log.
    pub(super) written: String,
    pub(super) extent: Extent,
}

/// Whether a bulk call only counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// It only counts the deliveries.
    Counted,
    /// It changes the deliveries, if their number is the confirmed one.
    Confirmed(u64),
}

impl BulkBody {
    pub(super) fn read(mut members: Members) -> Result<Self, Problem> {
        members.require("filter");
        let written = members.written("filter");
        let filter = members.object("filter", "filter.", filter::filter);
        let extent = Extent::read(&mut members);
        let read = filter.zip(extent).map(|(filter, extent)| Self { filter, written, extent });
        members.finish(read)
    }
}

impl PartialSchema for BulkBody {
    fn schema() -> RefOr<Schema> {
        Extent::documented(|| {
            closed().property("filter", Ref::from_schema_name(BulkFilter::name())).required("filter")
        })
    }
}

impl Extent {
    /// Reads `dry_run` and `confirm`.
    pub(super) fn read(members: &mut Members) -> Option<Self> {
        if members.flag("dry_run").unwrap_or_default() {
            if members.has("confirm") {
                members.note("dry_run", "and `confirm` exclude each other");
            }
            return Some(Self::Counted);
        }
        members.require("confirm");
        members.count("confirm").map(Self::Confirmed)
    }

    /// Returns the schema of the two bodies that consist of `others` and of these members.
    pub(super) fn documented(others: impl Fn() -> ObjectBuilder) -> RefOr<Schema> {
        let dry_run = |value: bool| {
            let about = "Only count what matches.";
            ObjectBuilder::new()
                .schema_type(Type::Boolean)
                .enum_values(Some([value]))
                .description(Some(about))
        };
        let confirm = ObjectBuilder::new()
            .schema_type(Type::Integer)
            .minimum(Some(0))
            .maximum(Some(MAX_CONFIRMED))
            .description(Some("How many there are, as the dry run said."));
        let counts = others().property("dry_run", dry_run(true));
        let changes = others().property("dry_run", dry_run(false)).property("confirm", confirm);
        OneOfBuilder::new().item(counts.required("dry_run")).item(changes.required("confirm")).into()
    }
}

impl ToSchema for BulkBody {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((BulkFilter::name().into_owned(), BulkFilter::schema()));
    }
}

/// The body of a backfill: its beginning.
pub(super) struct BackfillBody {
    pub(super) from: BackfillFrom,
    /// The beginning as it was written, for the log.
    pub(super) written: String,
}

impl BackfillBody {
    pub(super) fn read(mut members: Members) -> Result<Self, Problem> {
        if members.has("from") == members.has("after") {
            members.note("from", "or `after` has to be given, and one of them alone");
        }
        let written = members.written("from") + &members.written("after");
        let from = members.parsed("from", str::parse::<UnixMillis>).map(BackfillFrom::Time);
        let after = members.parsed("after", str::parse::<EventId>).map(BackfillFrom::After);
        members.finish(from.or(after).map(|from| Self { from, written }))
    }
}

impl PartialSchema for BackfillBody {
    fn schema() -> RefOr<Schema> {
        let time = text().format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)));
        let from = time.description(Some("Events created at this time (RFC 3339) or later."));
        let id = text().pattern(Some("^[!-~]{1,255}$"));
        let after = id.description(Some("Events after the one of this id."));
        OneOfBuilder::new()
            .item(closed().property("from", from).required("from"))
            .item(closed().property("after", after).required("after"))
            .into()
    }
}

impl ToSchema for BackfillBody {}

/// One of the server-sent events that a listener gets.
pub(super) struct OverviewEvent;

impl PartialSchema for OverviewEvent {
    fn schema() -> RefOr<Schema> {
        let data = text().content_media_type("application/json");
        let data = data.description(Some("An `Overview`, with the newest point of its history alone."));
        closed()
            .property("event", text().enum_values(Some(["overview"])))
            .property("data", data)
            .required("event")
            .required("data")
            .into()
    }
}

impl ToSchema for OverviewEvent {}
