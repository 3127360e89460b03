//! Every event that a filter lets through, with its body and outcomes, a line each.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use http::header::CONTENT_TYPE;
use tokio::sync::OwnedSemaphorePermit;

use super::Api;
use super::filter::{self, Filters};
use super::params::Query;
use super::problem::Problem;
use crate::domain::event::EventId;
use crate::domain::operator::{Cursor, Filter, Page};
use crate::web::audit::Audit;

/// Exports at the same time.
pub(super) const MAX_EXPORTS: usize = 2;

/// Events of one page, of which no more than the ids are held.
const PAGE: u32 = 200;

/// Bytes that are put together before they are sent.
const CHUNK: usize = 64 * 1024;

/// An export under way. It goes down from the newest event that there was when it began, so
/// that what arrives meanwhile does not shift it; what retention removes meanwhile is left out.
struct Export {
    api: Arc<Api>,
    filter: Filter,
    next: Next,
    ids: VecDeque<String>,
    /// How many events have been written so far, which the audit trail notes.
    exported: u64,
    audit: Audit,
    _place: OwnedSemaphorePermit,
}

/// Which page comes next.
#[derive(Clone, Copy, Debug)]
enum Next {
    First,
    After(Cursor),
    None,
}

/// Every event that passes, with its body, sightings, deliveries and attempts
///
/// A line of JSON for each, as `GET /api/v1/events/{id}` has it, the newest first. An answer
/// that breaks off is not complete.
#[utoipa::path(get, path = "/api/v1/export", tag = "events", operation_id = "exportEvents",
    params(Filters),
    responses((status = 200, description = "The events, a line each", body = String, content_type = "application/x-ndjson"),
              (status = 503, description = "Two exports are under way", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn export(
    State(api): State<Arc<Api>>,
    RawQuery(written): RawQuery,
    audit: Audit,
    Query(mut params): Query,
) -> Result<Response, Problem> {
    let filter = filter::filter(&mut params);
    params.finish()?;
    let place = Arc::clone(&api.exports).try_acquire_owned();
    let place = place.map_err(|_| Problem::unavailable("too_many_exports", "two exports are under way"))?;
    audit.filter(&written.unwrap_or_default()).streams("export");
    let (next, ids) = (Next::First, VecDeque::new());
    let mut export = Export { api, filter, next, ids, exported: 0, audit, _place: place };
    // What is wrong at once is a problem of its own.
    let first = export.chunk().await?;
    let rest = stream::unfold((export, first), |(mut export, ready)| async move {
        match ready {
            Some(chunk) => Some((Ok(chunk), (export, None))),
            None => match export.chunk().await {
                Ok(chunk) => Some((Ok(chunk?), (export, None))),
                // The connection is cut, which tells that the answer is not complete.
                Err(problem) => {
                    export.next = Next::None;
                    export.ids.clear();
                    Some((Err(io::Error::other(problem.detail().to_owned())), (export, None)))
                }
            },
        }
    });
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(rest)).into_response())
}

impl Export {
    /// The next lines; `None` at the end.
    async fn chunk(&mut self) -> Result<Option<Bytes>, Problem> {
        let mut chunk = Vec::new();
        while chunk.len() < CHUNK {
            let Some(id) = self.ids.pop_front() else {
                if self.page().await? {
                    continue;
                }
                break;
            };
            let Ok(id) = id.parse::<EventId>() else { continue };
            let Some(event) = self.api.ask(self.api.operator().event(&id)).await? else { continue };
            let shown = self.api.shown_event(event);
            serde_json::to_writer(&mut chunk, &shown)
                .map_err(|error| Problem::unavailable("not_readable", error.to_string()))?;
            chunk.push(b'\n');
            self.exported += 1;
        }
        self.audit.note_changed(self.exported);
        Ok((!chunk.is_empty()).then(|| chunk.into()))
    }

    /// Reads the ids of the next page. Returns whether there was one.
    async fn page(&mut self) -> Result<bool, Problem> {
        let cursor = match self.next {
            Next::First => None,
            Next::After(cursor) => Some(cursor),
            Next::None => return Ok(false),
        };
        let page = Page { limit: PAGE, cursor };
        let listed = self.api.ask(self.api.operator().events(&self.filter, &page)).await?;
        self.ids.extend(listed.items.into_iter().map(|event| event.event.id));
        self.next = listed.next.map_or(Next::None, Next::After);
        Ok(true)
    }
}
