//! A long-lived WebSocket stream of events that misses none. It resumes after its cursor, reads the
//! events between two connections from REST, and sweeps Pepay's list for events that both have
//! missed.

mod control;
mod driver;
mod history;
mod plan;
mod report;
mod state;
mod swept;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::domain::backoff::{Backoff, Jitter};
use crate::domain::clock::Clock;
use crate::domain::event::EventId;
use crate::domain::filter::TypeFilter;
use crate::domain::status::StreamStatus;
use crate::pepay::account::Account;
use crate::pepay::error::Failure;
use crate::pepay::filter::Filters;
use crate::pepay::rest::{BuildError, Probe, Rest};
use crate::pepay::token::Identity;
use crate::store::inbox::Inbox;
use crate::store::lease::Lease;

pub use control::Control;

use control::Commands;
use driver::NotConnected;
use state::{ConnectStep, Narrowing};

/// The settings of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The name in the configuration, which is also the key of the cursor.
    pub name: Arc<str>,
    /// The stream of Pepay that it reads.
    pub endpoint: Endpoint,
    /// The way in which a connection is authorised.
    pub auth: Auth,
    /// How long a minted token is valid.
    pub token_ttl: Duration,
    /// The event types to which it subscribes.
    pub types: TypeFilter,
    /// The other filters of Pepay.
    pub filters: Filters,
    /// The place at which the first start begins.
    pub start_from: StartFrom,
    /// The silence after which a connection counts as dead.
    pub idle_timeout: Duration,
    /// The time between two pings of the bridge.
    pub ping_interval: Duration,
    /// The waits between two tries to connect.
    pub backoff: Backoff,
    /// The time between two comparisons of the REST list with the store; `None` never compares
    /// them.
    pub reconcile_interval: Option<Duration>,
    /// How far back a comparison looks.
    pub reconcile_lookback: Duration,
    /// How long failures of the list may hold live events back.
    pub hold_limit: Duration,
}

/// One of Pepay's two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `/ws/commerce/events`.
    Commerce,
    /// `/ws/merchant/events`.
    Merchant,
}

/// The way in which a connection is authorised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// A `ws_token` is minted for every connection and passed as `token`.
    Token,
    /// The API key is sent as a header of the upgrade.
    Header,
}

/// The place at which the first start of a stream begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartFrom {
    /// After the newest event that exists.
    Now,
    /// At the oldest event that Pepay still has.
    Earliest,
    /// After this event.
    After(EventId),
}

/// A stream that is ready to run.
#[derive(Debug)]
pub struct Stream {
    settings: Settings,
    rest: Rest,
    inbox: Inbox,
    lease: Lease,
    clock: Clock,
    jitter: Jitter,
    status: watch::Sender<StreamStatus>,
    commands: Commands,
}

impl Stream {
    /// Creates a stream of `account` that records in `inbox`. Returns it with the operator's handle
    /// and the receiver of its status.
    ///
    /// # Errors
    /// [`BuildError`] if the API key cannot be sent or TLS cannot be set up. A `rustls` provider
    /// has to be installed.
    pub fn new(
        settings: Settings,
        account: &Account,
        inbox: Inbox,
        clock: Clock,
        jitter: Jitter,
    ) -> Result<(Self, Control, watch::Receiver<StreamStatus>), BuildError> {
        let rest = Rest::new(account, clock.clone())?;
        let (status, shown) = watch::channel(StreamStatus::new(Arc::clone(&settings.name), clock.now()));
        let (control, commands) = Control::new(status.clone(), clock.clone());
        let lease = inbox.stream_lease(&settings.name);
        Ok((Self { settings, rest, inbox, lease, clock, jitter, status, commands }, control, shown))
    }

    /// Goes on with the status of a predecessor of the same name, as far as it still applies: the
    /// cursor is the same, and the interruption is only a reconnect.
    pub fn follow(&self, before: &StreamStatus) {
        self.status.send_modify(|status| {
            let StreamStatus { cursor, last_event, last_disconnect, gap, .. } = before.clone();
            (status.cursor, status.last_event) = (cursor, last_event);
            (status.last_disconnect, status.gap) = (last_disconnect, gap);
            (status.ever_connected, status.reconnects) = (before.ever_connected, before.reconnects);
        });
    }

    /// Runs while this process has the lease, until `stop` is cancelled. Then ends within seconds.
    /// A batch that is with the store is waited for. Other frames are dropped, since the cursor
    /// covers only stored events.
    pub async fn run(self, stop: CancellationToken) {
        // The future is on the heap, since it contains the whole state machine.
        Box::pin(driver::run(self, stop)).await;
    }
}

/// Why Pepay did not admit a stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreached {
    /// No token was minted.
    #[error("no token: {0}")]
    Token(Failure),
    /// The connection was not upgraded.
    #[error("no connection: {0}")]
    Upgrade(Failure),
}

/// Opens a connection as a stream does, and closes it at once. Events that arrive meanwhile are
/// dropped, and no cursor moves: Pepay's stream takes nothing away from other readers. Returns the
/// identity of the token.
///
/// # Errors
/// [`Unreached`].
pub async fn reach(settings: &Settings, rest: &Rest) -> Result<Identity, Unreached> {
    match driver::connect(settings.clone(), rest.clone(), None, None, Narrowing::Full).await {
        Ok((socket, identity)) => {
            socket.close().await;
            Ok(identity)
        }
        Err(NotConnected { step: ConnectStep::Upgrade, failure, .. }) => Err(Unreached::Upgrade(failure)),
        Err(NotConnected { failure, .. }) => Err(Unreached::Token(failure)),
    }
}

/// Requests the page of the list that a stream requests.
///
/// # Errors
/// [`Failure`] if there is no answer.
pub async fn probe(settings: &Settings, rest: &Rest) -> Result<Probe, Failure> {
    rest.probe(&plan::list_filters(settings, Narrowing::Full)).await
}

#[cfg(test)]
mod tests;
