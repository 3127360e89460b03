//! The bodies of the bulk calls that name targets.

use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{Ref, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::domain::operator::{BulkMove, BulkReplay, Filter};
use crate::web::api::body::Members;
use crate::web::api::filter::{self, BulkFilter, MoveFilter};
use crate::web::api::problem::Problem;
use crate::web::api::schema::{Extent, closed, text};

/// The body of a replay of many events to a target.
pub(in crate::web::api) struct ReplayAllBody {
    pub(super) replay: BulkReplay,
    /// The filter as it was written, for the log.
    pub(super) written: String,
    pub(super) extent: Extent,
}

impl ReplayAllBody {
    pub(in crate::web::api) fn read(mut members: Members) -> Result<Self, Problem> {
        members.require("target");
        members.require("filter");
        let written = members.written("filter");
        let target = members.text("target");
        let filter = members.object("filter", "filter.", filter::filter);
        let missing = members.flag("missing").unwrap_or_default();
        let extent = Extent::read(&mut members);
        let read = target.zip(filter).zip(extent).map(|((target, filter), extent)| Self {
            replay: BulkReplay { target, filter, missing },
            written,
            extent,
        });
        members.finish(read)
    }
}

impl PartialSchema for ReplayAllBody {
    fn schema() -> RefOr<Schema> {
        let target = || text().description(Some("The name of the target that they go to."));
        let missing = || {
            let about = "Only events that the target takes and never had a delivery of.";
            ObjectBuilder::new().schema_type(Type::Boolean).description(Some(about))
        };
        Extent::documented(|| {
            closed()
                .property("target", target())
                .required("target")
                .property("filter", Ref::from_schema_name(BulkFilter::name()))
                .required("filter")
                .property("missing", missing())
        })
    }
}

impl ToSchema for ReplayAllBody {}

/// The body of a move of deliveries from a removed target to another one.
pub(in crate::web::api) struct MoveBody {
    pub(super) moved: BulkMove,
    /// The filter as it was written, for the log.
    pub(super) written: String,
    pub(super) extent: Extent,
}

impl MoveBody {
    pub(in crate::web::api) fn read(mut members: Members) -> Result<Self, Problem> {
        members.require("from");
        members.require("to");
        let (from, to) = (members.text("from"), members.text("to"));
        let written = members.written("filter");
        let is_narrowed = members.has("filter");
        let filter = members.object("filter", "filter.", filter::filter);
        let filter = if is_narrowed { filter } else { Some(Filter::default()) };
        if filter.as_ref().is_some_and(|filter| filter.target.is_some()) {
            members.note("filter.target", "is not known here: it is `from`");
        }
        let extent = Extent::read(&mut members);
        let read = from.zip(to).zip(filter).zip(extent).map(|(((from, to), filter), extent)| Self {
            moved: BulkMove { from, to, filter },
            written,
            extent,
        });
        members.finish(read)
    }
}

impl PartialSchema for MoveBody {
    fn schema() -> RefOr<Schema> {
        let from = || text().description(Some("The name of the target that is not configured any more."));
        let to = || text().description(Some("The name of the target that goes on with them."));
        Extent::documented(|| {
            closed()
                .property("from", from())
                .required("from")
                .property("to", to())
                .required("to")
                .property("filter", MoveFilter::schema())
        })
    }
}

impl ToSchema for MoveBody {}
