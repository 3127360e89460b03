//! `GET /api/v1/events` and `GET /api/v1/events/{id}`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, middleware};
use bytes::{BufMut, Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};

use super::fault::Door;
use super::journal::{Cursor, Entry, Page};
use super::options::ListShape;
use super::refusal::Refusal;
use super::selection::{Field, Selection, pairs, types};
use super::{Served, Simulator, door};
use crate::domain::event::Environment;

/// Events of a page where the request does not say.
const DEFAULT_LIMIT: usize = 10;
/// The most events a page may have.
const MAX_LIMIT: usize = 100;

pub(super) fn routes(served: &Served) -> Router<Served> {
    let door = middleware::from_fn_with_state((Door::Rest, served.simulator.clone()), door::pass);
    Router::new().route("/api/v1/events", get(list)).route("/api/v1/events/{id}", get(single)).layer(door)
}

/// What a page was asked for.
#[derive(Debug)]
struct ListRequest {
    limit: usize,
    cursor: Cursor,
    selection: Selection,
    created_from: i64,
    created_to: i64,
}

async fn list(
    State(simulator): State<Simulator>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let environment = simulator.key(&headers)?.environment;
    let request = ListRequest::read(&query.unwrap_or_default(), environment)
        .map_err(|error| Refusal::bad_request("INVALID_REQUEST", error))?;
    let options = simulator.options();
    let page = simulator.0.journal.page(
        &request.cursor,
        request.limit,
        options.page_order,
        options.rest_retention,
        |entry| request.accepts(entry),
    );
    let page = page.ok_or_else(|| Refusal::bad_request("INVALID_CURSOR", "no event of that id is listed"))?;
    for entry in &page.entries {
        entry.sent.listed.fetch_add(1, Ordering::Relaxed);
    }
    simulator.count(|statistics| statistics.rest_pages += 1);
    Ok(json_response(page_body(&page, options.list_shape)))
}

async fn single(
    State(simulator): State<Simulator>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let visible = Selection::all(simulator.key(&headers)?.environment);
    let entry = simulator
        .0
        .journal
        .get(&id, simulator.options().rest_retention)
        .filter(|entry| visible.matches(&entry.event, &entry.facts))
        .ok_or_else(|| Refusal::of_status(StatusCode::NOT_FOUND))?;
    entry.sent.listed.fetch_add(1, Ordering::Relaxed);
    simulator.count(|statistics| statistics.rest_events += 1);
    let body = match simulator.options().list_shape {
        ListShape::Bare => entry.event.body.clone(),
        ListShape::Wrapped => wrapped(|body| body.put_slice(&entry.event.body)),
    };
    Ok(json_response(body))
}

impl ListRequest {
    fn read(query: &str, environment: Option<Environment>) -> Result<Self, String> {
        let mut request = Self {
            limit: DEFAULT_LIMIT,
            cursor: Cursor::Newest,
            selection: Selection::all(environment),
            created_from: i64::MIN,
            created_to: i64::MAX,
        };
        for (name, value) in pairs(query)? {
            request.take(&name, value).map_err(|error| format!("`{name}`: {error}"))?;
        }
        Ok(request)
    }

    fn take(&mut self, name: &str, value: String) -> Result<(), String> {
        let seconds = |value: &str| value.parse().map_err(|_| "Unix seconds are needed".to_owned());
        match name {
            "limit" => match value.parse() {
                Ok(limit) if (1..=MAX_LIMIT).contains(&limit) => self.limit = limit,
                _ => return Err(format!("has to lie between 1 and {MAX_LIMIT}")),
            },
            "starting_after" | "ending_before" if self.cursor != Cursor::Newest => {
                return Err("only one of `starting_after` and `ending_before` may be given".to_owned());
            }
            "starting_after" => self.cursor = Cursor::OlderThan(value),
            "ending_before" => self.cursor = Cursor::NewerThan(value),
            "type" => self.selection.types = types(&value)?,
            "created[gte]" => self.created_from = seconds(&value)?,
            "created[lte]" => self.created_to = seconds(&value)?,
            _ => match Field::named(name) {
                Some(field) if field.allows(&value) => self.selection.fields.push((field, value)),
                Some(_) => return Err("cannot have this value".to_owned()),
                None => return Err("is no parameter of this list".to_owned()),
            },
        }
        Ok(())
    }

    fn accepts(&self, entry: &Entry) -> bool {
        (self.created_from..=self.created_to).contains(&entry.event.created)
            && self.selection.matches(&entry.event, &entry.facts)
    }
}

/// The list around the events' exact bytes.
fn page_body(page: &Page, shape: ListShape) -> Bytes {
    let list = |body: &mut BytesMut| {
        body.put_slice(br#"{"object":"list","data":["#);
        for (index, entry) in page.entries.iter().map(Arc::as_ref).enumerate() {
            if index > 0 {
                body.put_u8(b',');
            }
            body.put_slice(&entry.event.body);
        }
        body.put_slice(br#"],"has_more":"#);
        body.put_slice(if page.has_more { b"true}" } else { b"false}" });
    };
    match shape {
        ListShape::Wrapped => wrapped(list),
        ListShape::Bare => {
            let mut body = BytesMut::new();
            list(&mut body);
            body.freeze()
        }
    }
}

fn wrapped(data: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut body = BytesMut::from(&br#"{"success":true,"data":"#[..]);
    data(&mut body);
    body.put_u8(b'}');
    body.freeze()
}

fn json_response(body: Bytes) -> Response {
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}
