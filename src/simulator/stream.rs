//! `GET /ws/commerce/events` and `GET /ws/merchant/events`: admits clients, and chooses where their
//! streams begin. [`connection`] serves the open stream.

mod connection;

use std::time::Duration;

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{RawQuery, State, WebSocketUpgrade};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router, middleware};
use http::HeaderMap;

use self::connection::Connection;
use super::fault::{Channel, Endpoint};
use super::journal::Opening;
use super::options::Scope;
use super::refusal::{Refusal, Shape};
use super::selection::{Field, Selection, foreign as foreign_pattern, pairs, types};
use super::server::Wire;
use super::switches::{ExpiredToken, ForeignTypes, OldCursor};
use super::token::Pass;
use super::{Served, Simulator, injection, lock};
use crate::domain::clock::UnixMillis;
use crate::domain::event::EventId;

/// The size limit for a frame from a client, which is read and ignored.
const MAX_INCOMING: usize = 64 * 1024;

/// The `Retry-After` when the number of streams is at its limit.
const FULL_WAIT: Duration = Duration::from_secs(1);

pub(super) fn routes(served: &Served) -> Router<Served> {
    let faults =
        middleware::from_fn_with_state((Endpoint::Upgrade, served.simulator.clone()), injection::apply);
    let stream = |scope| {
        get(
            move |State(served): State<Served>,
                  Extension(wire): Extension<Wire>,
                  RawQuery(query): RawQuery,
                  headers: HeaderMap,
                  upgrade: Upgrade| async move {
                open(served, wire, scope, &query.unwrap_or_default(), &headers, upgrade)
            },
        )
    };
    Router::new()
        .route("/ws/commerce/events", stream(Scope::Commerce))
        .route("/ws/merchant/events", stream(Scope::Merchant))
        .layer(faults)
}

type Upgrade = Result<WebSocketUpgrade, WebSocketUpgradeRejection>;

/// The parameters of a stream.
#[derive(Debug)]
struct Subscription {
    selection: Selection,
    since: Option<EventId>,
    /// When the stream has to end because its token expires.
    expires_at: Option<UnixMillis>,
}

fn open(
    served: Served,
    wire: Wire,
    scope: Scope,
    query: &str,
    headers: &HeaderMap,
    upgrade: Upgrade,
) -> Response {
    let subscription = match served.simulator.admit(scope, query, headers) {
        Ok(subscription) => subscription,
        Err(refusal) => return refusal.shaped(Shape::Plain).into_response(),
    };
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade.max_message_size(MAX_INCOMING),
        Err(rejection) => return rejection.into_response(),
    };
    // The beginning is fixed before the upgrade is answered: an event that is published after the
    // answer is live for the client.
    let opening = served.simulator.opening(&subscription);
    if opening.too_old && served.simulator.switches().old_cursor == OldCursor::Refused {
        let refusal = Refusal::bad_request("INVALID_CURSOR", "`since` is unknown or too old");
        return refusal.shaped(Shape::Plain).into_response();
    }
    let tracked = served.streams.token();
    upgrade.on_upgrade(move |socket| async move {
        let _tracked = tracked;
        Connection::new(served.simulator, socket, wire, subscription, opening).run(&served.stop).await;
    })
}

impl Simulator {
    /// Checks an upgrade: first the key or token, then the parameters, then the number of streams.
    fn admit(&self, scope: Scope, query: &str, headers: &HeaderMap) -> Result<Subscription, Refusal> {
        let pairs = pairs(query).map_err(|error| Refusal::bad_request("INVALID_QUERY", error))?;
        let token = pairs.iter().find_map(|(name, value)| (name == "token").then_some(value));
        let switches = self.switches();
        let (environment, expires_at) = match token {
            Some(token) => {
                self.token_pass(scope, token).map(|pass| (pass.environment, Some(pass.expires_at)))?
            }
            None => (self.key_of_scope(headers, scope)?.environment, None),
        };
        let foreign = scope == Scope::Merchant && switches.foreign_types != ForeignTypes::Sent;
        let mut subscription = Subscription {
            selection: Selection { foreign: foreign.then_some("commerce."), ..Selection::all(environment) },
            since: None,
            expires_at: expires_at.filter(|_| switches.expired_token == ExpiredToken::EndsStream),
        };
        for (name, value) in &pairs {
            subscription.take(scope, name, value)?;
            if name == "types"
                && switches.foreign_types == ForeignTypes::Refused
                && let Some(pattern) = foreign_pattern(scope, value)
            {
                let message = format!("`types`: {pattern} is no type of this stream");
                return Err(Refusal::bad_request("INVALID_FILTER", message));
            }
        }
        if self.statistics().streams_open >= self.options().max_streams as u64 {
            return Err(Refusal::too_many(FULL_WAIT));
        }
        Ok(subscription)
    }

    fn token_pass(&self, scope: Scope, token: &str) -> Result<Pass, Refusal> {
        let presented = lock(&self.0.tokens).present(token, self.0.clock.now());
        let Some((pass, used_before)) = presented else {
            return Err(Refusal::unauthorized("the token is not valid or has expired"));
        };
        self.count(|statistics| {
            statistics.tokens_used += u64::from(!used_before);
            statistics.tokens_reused += u64::from(used_before);
        });
        if pass.scope != scope {
            return Err(Refusal::forbidden(format!("the token is of scope {}", pass.scope.as_str())));
        }
        Ok(pass)
    }

    /// Returns the beginning of the stream of `subscription`: replay or snapshot, without the events
    /// that faults leave out.
    fn opening(&self, subscription: &Subscription) -> Opening {
        let options = self.options();
        let mut opening = self.0.journal.open(
            subscription.since.as_ref(),
            &subscription.selection,
            options.replay_retention,
            options.snapshot,
        );
        let mut faults = lock(&self.0.faults);
        opening.replay.retain(|_| !faults.skips(Channel::Replay));
        opening
    }
}

impl Subscription {
    /// Reads one query parameter.
    fn take(&mut self, scope: Scope, name: &str, value: &str) -> Result<(), Refusal> {
        let bad_filter = |message| Err(Refusal::bad_request("INVALID_FILTER", message));
        match name {
            "token" => {}
            "since" => match value.parse() {
                Ok(since) => self.since = Some(since),
                Err(error) => {
                    return Err(Refusal::bad_request("INVALID_CURSOR", format!("`since`: {error}")));
                }
            },
            "types" => match types(value) {
                Ok(types) => self.selection.types = types,
                Err(error) => return bad_filter(format!("`types`: {error}")),
            },
            "format" if value == "event_v1" => {}
            "format" => return bad_filter("`format` has to be event_v1".to_owned()),
            _ => match Field::of_stream(scope, name) {
                Some(field) if field.allows(value) => self.selection.fields.push((field, value.to_owned())),
                Some(_) => return bad_filter(format!("`{name}` has a value that cannot be")),
                None => return bad_filter(format!("`{name}` is no filter of this stream")),
            },
        }
        Ok(())
    }
}
