//! `GET /api/v1/events` and `GET /api/v1/events/{id}`.

use std::sync::atomic::Ordering;

use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, middleware};
use bytes::{BufMut, Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};

use super::fault::Endpoint;
use super::fault::list::PageFault;
use super::journal::{Cursor, Entry, Page, PageRequest};
use super::refusal::{self, Refusal};
use super::selection::{Field, Selection, pairs, types};
use super::switches::{ListShape, Presence, Switches, UnknownParameters};
use super::{Served, Simulator, injection, lock};
use crate::domain::event::Environment;

/// The default number of events of a page.
const DEFAULT_LIMIT: usize = 10;
/// The most events a page may have.
const MAX_LIMIT: usize = 100;

pub(super) fn routes(served: &Served) -> Router<Served> {
    let faults = middleware::from_fn_with_state((Endpoint::Rest, served.simulator.clone()), injection::apply);
    Router::new().route("/api/v1/events", get(list)).route("/api/v1/events/{id}", get(single)).layer(faults)
}

/// The parameters of a request for a page.
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
    simulator.count(|statistics| statistics.list_requests += 1);
    let environment = simulator.key(&headers)?.environment;
    let switches = simulator.switches();
    let invalid = |error| Refusal::bad_request("INVALID_REQUEST", error);
    let parameters = pairs(&query.unwrap_or_default()).map_err(invalid)?;
    let request =
        ListRequest::read(&parameters, environment, switches.unknown_parameters).map_err(invalid)?;
    let fault = lock(&simulator.0.faults).meet_on_list(&parameters);
    if let Some(PageFault::Answer { status, retry_after, body }) = fault {
        return Ok(refusal::instead(status, retry_after.as_ref(), body, simulator.0.clock.now()));
    }
    let page = simulator.page(&request, fault.as_ref(), switches);
    let page = page.ok_or_else(|| Refusal::bad_request("INVALID_CURSOR", "no event of that id is listed"))?;
    for entry in &page.entries {
        entry.sent.listed.fetch_add(1, Ordering::Relaxed);
    }
    simulator.count(|statistics| statistics.rest_pages += 1);
    let bodies: Vec<_> = page.entries.iter().map(|entry| simulator.rest_body(entry)).collect();
    Ok(json_response(page_body(&bodies, page.has_more, switches)))
}

impl Simulator {
    /// Returns the requested page, changed by `fault`; `None` if the cursor is not listed.
    fn page(&self, request: &ListRequest, fault: Option<&PageFault>, switches: Switches) -> Option<Page> {
        let retention = self.options().rest_retention;
        let accepts = |entry: &Entry| request.accepts(entry);
        let page = |cursor: &Cursor| {
            let (order, sort) = (switches.page_order, switches.list_sort);
            let request = PageRequest { cursor, limit: request.limit, order, sort, retention };
            self.0.journal.page(&request, accepts)
        };
        match fault {
            Some(PageFault::Empty { has_more }) => {
                return Some(Page { entries: Vec::new(), has_more: *has_more });
            }
            Some(PageFault::Repeat) => return Some(Page { has_more: true, ..page(&Cursor::Newest)? }),
            _ => {}
        }
        let mut asked = page(&request.cursor)?;
        match fault {
            Some(PageFault::Circle) => {
                if asked.entries.is_empty() {
                    asked = page(&Cursor::Newest)?;
                }
                asked.has_more = true;
            }
            Some(PageFault::Unsorted) => {
                let half = asked.entries.len() / 2;
                asked.entries.rotate_left(half);
            }
            Some(PageFault::OldestOnTop) => {
                if let Some(oldest) = self.0.journal.oldest(retention, accepts) {
                    asked.entries.retain(|entry| entry.event.id != oldest.event.id);
                    asked.entries.insert(0, oldest);
                    // Events beyond the limit are on the next page.
                    asked.has_more |= asked.entries.len() > request.limit;
                    asked.entries.truncate(request.limit);
                }
            }
            _ => {}
        }
        Some(asked)
    }

    /// Returns the bytes of an event over REST.
    fn rest_body(&self, entry: &Entry) -> Bytes {
        match lock(&self.0.faults).damage(entry.event.id.as_str()) {
            Some(damage) => damage.done_to(&entry.event.body),
            None => entry.event.body.clone(),
        }
    }
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
    let event = simulator.rest_body(&entry);
    let body = match simulator.switches().list_shape {
        ListShape::Bare => event,
        ListShape::Wrapped => wrapped(|body| body.put_slice(&event)),
    };
    Ok(json_response(body))
}

impl ListRequest {
    fn read(
        parameters: &[(String, String)],
        environment: Option<Environment>,
        unknown: UnknownParameters,
    ) -> Result<Self, String> {
        let mut request = Self {
            limit: DEFAULT_LIMIT,
            cursor: Cursor::Newest,
            selection: Selection::all(environment),
            created_from: i64::MIN,
            created_to: i64::MAX,
        };
        for (name, value) in parameters {
            request.take(name, value.clone(), unknown).map_err(|error| format!("`{name}`: {error}"))?;
        }
        Ok(request)
    }

    fn take(&mut self, name: &str, value: String, unknown: UnknownParameters) -> Result<(), String> {
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
            _ => match Field::named(name).filter(|field| field.on_list()) {
                Some(field) if field.allows(&value) => self.selection.fields.push((field, value)),
                Some(_) => return Err("cannot have this value".to_owned()),
                None if unknown == UnknownParameters::Ignored => {}
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

/// Returns the body of a page around the exact bytes of the events.
fn page_body(events: &[Bytes], has_more: bool, switches: Switches) -> Bytes {
    let list = |body: &mut BytesMut| {
        body.put_slice(br#"{"object":"list","data":["#);
        for (index, event) in events.iter().enumerate() {
            if index > 0 {
                body.put_u8(b',');
            }
            body.put_slice(event);
        }
        body.put_u8(b']');
        if switches.has_more == Presence::Present {
            body.put_slice(if has_more { br#","has_more":true"# } else { br#","has_more":false"# });
        }
        body.put_u8(b'}');
    };
    match switches.list_shape {
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
