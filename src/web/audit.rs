//! The audit trail: who has made which call on the private listener, and its outcome.
//!
//! The middleware [`record`] notes every call of the API whose method may change something. Handlers add
//! details with [`Audit`], and note reads of bodies. An entry is a line of the log, whatever the log
//! filter, and a row of the store. A call is never refused because its entry cannot be stored: the
//! response waits for the row for a limited time. The entry of a streamed response is made when the
//! stream ends.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use futures_util::{Stream, StreamExt as _, stream};
use http::Method;
use http::request::Parts;

use super::guard;
use crate::domain::audit::{Entry, Kind};
use crate::domain::backoff::Jitter;
use crate::domain::clock::Clock;
use crate::store::operator::OperatorStore;
use crate::telemetry::AUDIT;

/// The longest time for which a response waits for its entry. After that the response is sent, and the
/// entry may still be stored.
const LIMIT: Duration = Duration::from_secs(1);

/// The header in which a client says that it is the page or the command line.
const CLIENT: &str = "pepay-bridge-client";

/// The number of characters of a name or an id that are kept.
const LONGEST_NAME: usize = 255;

/// The number of characters of a filter that are kept.
const LONGEST_FILTER: usize = 1000;

/// The audit trail. Clones share the same trail.
#[derive(Clone)]
pub struct Trail(Arc<Inner>);

struct Inner {
    operator: OperatorStore,
    clock: Clock,
    /// The source of the random keys of entries.
    random: Jitter,
}

/// The name of the token that admitted a request; `None` if no token is configured. Every request that
/// passes the check of tokens has it as an extension.
#[derive(Clone, Debug)]
pub(super) struct Caller(pub(super) Option<Arc<str>>);

/// The code of a problem. Every response with a problem has it as an extension.
#[derive(Clone, Debug)]
pub(super) struct Code(pub(super) String);

/// The details of a call that only its handler knows.
#[derive(Clone, Debug, Default)]
pub(super) struct Audit(Arc<Mutex<Details>>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Details {
    /// The kind of the entry. `None` means that the call leaves no entry.
    kind: Option<Kind>,
    action: String,
    target: Option<String>,
    stream: Option<String>,
    event_id: Option<String>,
    filter: Option<String>,
    /// The number of changes or of returned bodies that have been noted.
    count: u64,
    /// Whether the call ends only with the body of its response.
    is_streamed: bool,
}

/// A call that has begun. It leaves one entry, when it ends or when the client disconnects before its
/// end.
struct Call {
    trail: Trail,
    /// The entry without the details and the outcome.
    begun: Entry,
    audit: Audit,
    ended: bool,
}

impl Audit {
    /// Notes the target of the call.
    pub(super) fn target(&self, name: &str) -> &Self {
        self.details().target = Some(bounded(name, LONGEST_NAME));
        self
    }

    /// Notes the stream of the call.
    pub(super) fn stream(&self, name: &str) -> &Self {
        self.details().stream = Some(bounded(name, LONGEST_NAME));
        self
    }

    /// Notes the event of the call.
    pub(super) fn event(&self, id: &str) -> &Self {
        self.details().event_id = Some(bounded(id, LONGEST_NAME));
        self
    }

    /// Notes the filter of the call, as it was written.
    pub(super) fn filter(&self, filter: &str) -> &Self {
        self.details().filter = Some(bounded(filter, LONGEST_FILTER));
        self
    }

    /// Notes the number of changes so far. They stay even if the call fails.
    pub(super) fn note_changed(&self, so_far: u64) {
        self.details().count = so_far;
    }

    /// Returns the number of changes so far.
    pub(super) fn changed(&self) -> u64 {
        self.details().count
    }

    /// Notes that the call, named `action`, returns this number of bodies.
    pub(super) fn reads(&self, action: &str, bodies: u64) -> &Self {
        let mut details = self.details();
        (details.kind, details.count) = (Some(Kind::Read), bodies);
        action.clone_into(&mut details.action);
        drop(details);
        self
    }

    /// Notes that the call, named `action`, streams bodies. Their number is [noted](Self::note_changed)
    /// as they are sent. The entry is made at the end of the stream.
    pub(super) fn streams(&self, action: &str) -> &Self {
        self.reads(action, 0).details().is_streamed = true;
        self
    }

    /// Notes that the call changes nothing, whatever its method is, and so leaves no entry.
    pub(super) fn changes_nothing(&self) {
        self.details().kind = None;
    }

    /// Locks the details. Each change is one step, so the details are whole even after a panic.
    fn details(&self) -> MutexGuard<'_, Details> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Sync> FromRequestParts<S> for Audit {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get().cloned().unwrap_or_default())
    }
}

impl Trail {
    /// Creates a trail in the store of `operator`. The keys of entries are drawn from `random`.
    pub fn new(operator: OperatorStore, clock: Clock, random: Jitter) -> Self {
        Self(Arc::new(Inner { operator, clock, random }))
    }

    /// Notes a request that the scope of its token does not include, if the request may change something.
    /// Resolves once the entry is stored, or after [`LIMIT`].
    pub(super) fn refused(
        &self,
        request: &Request,
        caller: Caller,
        code: &str,
    ) -> impl Future<Output = ()> + use<> {
        let entry = self.begin(request, caller).entry(code).filter(|entry| entry.kind == Kind::Change);
        let trail = self.clone();
        async move {
            if let Some(entry) = entry {
                trail.put(entry).await;
            }
        }
    }

    /// Notes an action that a system signal, named `signal`, has caused. `count` is the number of
    /// changes. Resolves once the entry is stored, or after one second.
    pub async fn signalled(&self, signal: &str, action: &str, count: u64, outcome: &str) {
        let entry = Entry {
            at: self.0.clock.now(),
            kind: Kind::Change,
            who: Some(signal.to_owned()),
            peer: None,
            client: "signal".to_owned(),
            action: action.to_owned(),
            target: None,
            stream: None,
            event_id: None,
            filter: None,
            count,
            outcome: outcome.to_owned(),
        };
        self.put(entry).await;
    }

    fn begin(&self, request: &Request, caller: Caller) -> Call {
        let said = request.headers().get(CLIENT).and_then(|value| value.to_str().ok());
        let client = said.filter(|said| ["page", "cli"].contains(said)).unwrap_or("api");
        let begun = Entry {
            at: self.0.clock.now(),
            kind: Kind::Change,
            who: caller.0.map(|name| name.to_string()),
            peer: guard::peer(request).map(|peer| peer.to_string()),
            client: client.to_owned(),
            action: String::new(),
            target: None,
            stream: None,
            event_id: None,
            filter: None,
            count: 0,
            outcome: String::new(),
        };
        let kind = if request.method().is_safe() { None } else { Some(Kind::Change) };
        let details = Details { kind, ..Details::of(request.uri().path()) };
        Call { trail: self.clone(), begun, audit: Audit(Arc::new(Mutex::new(details))), ended: false }
    }

    /// Logs `entry` and waits until it is stored, for at most [`LIMIT`].
    async fn put(&self, entry: Entry) {
        // The store reports an entry that it could not write.
        let _ = tokio::time::timeout(LIMIT, self.hand_over(entry)).await;
    }

    /// Logs `entry` and passes it to the store, which writes it even if no caller waits.
    fn hand_over(&self, entry: Entry) -> impl Future<Output = ()> + use<> {
        let Entry { who, peer, client, action, target, stream, event_id, filter, count, outcome, .. } =
            &entry;
        let (who, peer, client) = (who.as_deref(), peer.as_deref(), &**client);
        let (target, stream, event_id) = (target.as_deref(), stream.as_deref(), event_id.as_deref());
        let (action, filter, outcome) = (&**action, filter.as_deref(), &**outcome);
        tracing::info!(
            target: AUDIT,
            who, peer, client, action, target, stream, event_id, filter, count, outcome,
            "audit"
        );
        let key = self.0.random.next().to_bits().cast_signed();
        let written = self.0.operator.record(key, entry);
        async { drop(written.await) }
    }
}

impl Details {
    /// Returns the details in the `path` of a call. Below `/api/v1/` the action is the last segment.
    fn of(path: &str) -> Self {
        let path = path.trim_start_matches("/api").trim_start_matches("/v1/");
        let segments: Vec<&str> = path.split('/').collect();
        let name = |text: &str| bounded(text, LONGEST_NAME);
        let some = |text: &str| Some(name(text));
        let action = name(segments.last().unwrap_or(&""));
        match *segments {
            ["deliveries", target, id, _] => {
                Self { action, target: some(target), event_id: some(id), ..Self::default() }
            }
            ["events", id, _] => Self { action, event_id: some(id), ..Self::default() },
            // The word `test` alone would not say what was tested.
            ["targets", target, "test"] => {
                Self { action: "target test".to_owned(), target: some(target), ..Self::default() }
            }
            ["alerts", "test"] => Self { action: "alerts test".to_owned(), ..Self::default() },
            ["targets", target, _] => Self { action, target: some(target), ..Self::default() },
            ["streams", stream, _] => Self { action, stream: some(stream), ..Self::default() },
            _ => Self { action, ..Self::default() },
        }
    }
}

/// Returns the entry of a call that has ended with `outcome`.
fn entry(begun: Entry, details: Details, outcome: &str) -> Entry {
    let Details { kind, action, target, stream, event_id, filter, count, is_streamed: _ } = details;
    let (kind, outcome) = (kind.unwrap_or(begun.kind), outcome.to_owned());
    Entry { kind, action, target, stream, event_id, filter, count, outcome, ..begun }
}

/// Returns the first `limit` characters of a text from a client. An ellipsis replaces the rest.
fn bounded(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

impl Call {
    /// Returns the entry of the call, which has ended with `outcome`; `None` if it leaves no entry.
    fn entry(&mut self, outcome: &str) -> Option<Entry> {
        self.ended = true;
        let details = self.audit.details().clone();
        details.kind.map(|_| entry(self.begun.clone(), details, outcome))
    }
}

/// Returns `body` unchanged. The end of the body ends `call`.
fn ending_with(body: Body, call: Call) -> impl Stream<Item = Result<Bytes, axum::Error>> {
    stream::unfold((body.into_data_stream(), call), async |(mut chunks, mut call)| {
        let next = chunks.next().await;
        let outcome = match &next {
            Some(Ok(_)) => return Some((next?, (chunks, call))),
            Some(Err(_)) => "failed",
            None => "done",
        };
        if !call.ended
            && let Some(entry) = call.entry(outcome)
        {
            call.trail.put(entry).await;
        }
        Some((next?, (chunks, call)))
    })
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.ended
            && let Some(entry) = self.entry("abandoned")
        {
            // No caller waits for the entry.
            drop(self.trail.hand_over(entry));
        }
    }
}

/// Notes the outcome of each call.
pub(super) async fn record(State(trail): State<Trail>, mut request: Request, next: Next) -> Response {
    let caller = request.extensions().get().cloned().unwrap_or(Caller(None));
    let mut call = trail.begin(&request, caller);
    request.extensions_mut().insert(call.audit.clone());
    let has_no_body = request.method() == Method::HEAD;
    let response = next.run(request).await;
    if has_no_body {
        // The response to HEAD has no body, so none has been read.
        call.audit.changes_nothing();
    }
    let code = response.extensions().get().map(|Code(code)| &**code);
    let outcome = if response.status().is_success() { "done" } else { code.unwrap_or("failed") };
    if outcome == "done" && call.audit.details().is_streamed {
        return response.map(|body| Body::from_stream(ending_with(body, call)));
    }
    if let Some(entry) = call.entry(outcome) {
        // A failed read has returned no body, and leaves no entry.
        if entry.kind == Kind::Change || outcome == "done" {
            trail.put(entry).await;
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_says_what_is_asked_for_and_about_what() {
        let details = |action: &str, target: Option<&str>, stream: Option<&str>, id: Option<&str>| {
            let owned = |text: Option<&str>| text.map(str::to_owned);
            let action = action.to_owned();
            let (target, stream, event_id) = (owned(target), owned(stream), owned(id));
            Details { action, target, stream, event_id, ..Details::default() }
        };
        for (path, expected) in [
            ("/api/v1/targets/orders/pause", details("pause", Some("orders"), None, None)),
            ("/v1/targets/orders/pause", details("pause", Some("orders"), None, None)),
            ("/v1/streams/commerce/backfill", details("backfill", None, Some("commerce"), None)),
            ("/v1/events/evt_1/replay", details("replay", None, None, Some("evt_1"))),
            ("/v1/deliveries/orders/evt_1/retry", details("retry", Some("orders"), None, Some("evt_1"))),
            ("/v1/deliveries/cancel", details("cancel", None, None, None)),
            ("/api/v1/reload", details("reload", None, None, None)),
            ("/api/v1/targets/orders/test", details("target test", Some("orders"), None, None)),
            ("/api/v1/alerts/test", details("alerts test", None, None, None)),
        ] {
            assert_eq!(Details::of(path), expected, "{path}");
        }
    }

    #[test]
    fn the_kept_part_of_a_text_is_bounded() {
        assert_eq!(bounded("orders", 6), "orders");
        assert_eq!(bounded("örders", 2), "ör…");
        let audit = Audit::default();
        audit.target(&"x".repeat(10_000)).event(&"y".repeat(10_000)).filter(&"z".repeat(60_000));
        let details = audit.details().clone();
        assert_eq!(details.target.unwrap().chars().count(), LONGEST_NAME + 1);
        assert_eq!(details.filter.unwrap().chars().count(), LONGEST_FILTER + 1);
    }
}
