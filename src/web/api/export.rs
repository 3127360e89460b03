//! Exports every event that passes a filter, with its body and outcomes, a line each.

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

/// The largest number of exports at the same time.
pub(super) const MAX_EXPORTS: usize = 2;

/// The number of events of one page, of which only the ids are in memory.
const PAGE: u32 = 200;

/// The number of bytes that are collected before they are sent.
const CHUNK: usize = 64 * 1024;

/// An export in progress. It goes down from the newest event at its beginning, so that later events do
/// not shift it. Events that retention removes meanwhile are left out.
struct Export {
    api: Arc<Api>,
    filter: Filter,
    next: Next,
    ids: VecDeque<String>,
    /// The number of events written so far, for the audit trail.
    exported: u64,
    audit: Audit,
    _place: OwnedSemaphorePermit,
}

/// The next page.
#[derive(Clone, Copy, Debug)]
enum Next {
    First,
    After(Cursor),
    None,
}

/// Every event that passes, with its body, sightings, deliveries and attempts
///
/// The answer has a line of JSON for each event, in the form of `GET /api/v1/events/{id}`, the newest
/// first. An answer that breaks off is not complete.
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
    // A fault at the beginning is answered as a problem.
    let first = export.chunk().await?;
    let rest = stream::unfold((export, first), |(mut export, ready)| async move {
        match ready {
            Some(chunk) => Some((Ok(chunk), (export, None))),
            None => match export.chunk().await {
                Ok(chunk) => Some((Ok(chunk?), (export, None))),
                // The connection is cut, which shows that the answer is not complete.
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
    /// Returns the next lines; `None` at the end.
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
