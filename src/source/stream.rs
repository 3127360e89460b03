//! A long-lived WebSocket stream of events that misses none: it resumes, reads
//! from REST what lies between two connections, and sweeps for what is left.

mod control;
mod driver;
mod history;
mod plan;
mod reach;
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
use crate::pepay::filter::Filters;
use crate::pepay::rest::{BuildError, Rest};
use crate::store::inbox::Inbox;
use crate::store::lease::Lease;

pub use control::Control;
pub use reach::{Unreached, probe, reach};

use control::Orders;

/// One configured stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Its name in the configuration; also the key of its cursor.
    pub name: Arc<str>,
    /// Which stream of Pepay's it reads.
    pub endpoint: Endpoint,
    /// How a connection is authorised.
    pub auth: Auth,
    /// How long a minted token is valid.
    pub token_ttl: Duration,
    /// Which event types it subscribes to.
    pub types: TypeFilter,
    /// Pepay's other filters.
    pub filters: Filters,
    /// Where the very first start begins.
    pub start_from: StartFrom,
    /// Silence after which a connection counts as dead.
    pub idle_timeout: Duration,
    /// How often the bridge sends a ping of its own.
    pub ping_interval: Duration,
    /// Waits between tries to connect.
    pub backoff: Backoff,
    /// How often the REST list is compared with what the sources brought; `None` is never.
    pub reconcile_interval: Option<Duration>,
    /// How far back that comparison looks.
    pub reconcile_lookback: Duration,
    /// How long trouble of the list may hold live events back.
    pub hold_limit: Duration,
}

/// Which of Pepay's two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `/ws/commerce/events`.
    Commerce,
    /// `/ws/merchant/events`.
    Merchant,
}

/// How a connection is authorised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Mint a `ws_token` for every connection and pass it as `token`.
    Token,
    /// Send the API key as a header of the upgrade.
    Header,
}

/// Where the very first start of a stream begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartFrom {
    /// With what comes after the newest event there is.
    Now,
    /// With the oldest event Pepay still has.
    Earliest,
    /// After this event.
    After(EventId),
}

/// A stream, ready to run.
#[derive(Debug)]
pub struct Stream {
    settings: Settings,
    rest: Rest,
    inbox: Inbox,
    lease: Lease,
    clock: Clock,
    jitter: Jitter,
    status: watch::Sender<StreamStatus>,
    orders: Orders,
}

impl Stream {
    /// A stream of `account`'s that records in `inbox`, the operator's handle on it,
    /// and where its status is shown.
    ///
    /// # Errors
    /// [`BuildError`] if the API key cannot be sent or TLS cannot be set up; a
    /// `rustls` provider has to be installed.
    pub fn new(
        settings: Settings,
        account: &Account,
        inbox: Inbox,
        clock: Clock,
        jitter: Jitter,
    ) -> Result<(Self, Control, watch::Receiver<StreamStatus>), BuildError> {
        let rest = Rest::new(account, clock.clone())?;
        let (status, shown) = watch::channel(StreamStatus::new(Arc::clone(&settings.name), clock.now()));
        let (control, orders) = Control::new(status.clone(), clock.clone());
        let lease = inbox.stream_lease(&settings.name);
        Ok((Self { settings, rest, inbox, lease, clock, jitter, status, orders }, control, shown))
    }

    /// Shows what a predecessor of the same name has shown, as far as it is still true:
    /// the cursor is the same, and its interruption is no more than a reconnect.
    pub fn follow(&self, before: &StreamStatus) {
        self.status.send_modify(|status| {
            let StreamStatus { cursor, last_event, last_disconnect, gap, .. } = before.clone();
            (status.cursor, status.last_event) = (cursor, last_event);
            (status.last_disconnect, status.gap) = (last_disconnect, gap);
            (status.ever_connected, status.reconnects) = (before.ever_connected, before.reconnects);
        });
    }

    /// Runs while this process has the lease, until `stop` is cancelled, and then ends within seconds: a batch that
    /// is with the store is waited for; frames that are not yet there are dropped,
    /// since the cursor covers only what is stored.
    pub async fn run(self, stop: CancellationToken) {
        // On the heap: the whole state machine is in this future.
        Box::pin(driver::run(self, stop)).await;
    }
}

#[cfg(test)]
mod tests;
