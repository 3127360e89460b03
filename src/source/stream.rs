//! A long-lived WebSocket stream of events that misses none: it resumes, reads
//! from REST what lies between two connections, and sweeps for what is left.

mod state;

use std::sync::Arc;
use std::time::Duration;

use crate::domain::backoff::Backoff;
use crate::domain::event::EventId;
use crate::domain::filter::TypeFilter;

/// One configured stream.
#[derive(Clone, Debug)]
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
    /// Pepay's other filters, as query parameters: name and value.
    pub filters: Vec<(&'static str, String)>,
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
