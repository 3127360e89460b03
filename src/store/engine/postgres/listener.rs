//! Hints from other replicas, by LISTEN: a connection of its own, which may be lost without
//! a sign. What waits for a hint looks now and then without one.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use super::connect::Address;

/// Between two hints of one kind at least.
pub(super) const PACE: Duration = Duration::from_millis(20);

/// Between two tries to listen, and between two looks whether the connection is there still.
const AGAIN: Duration = Duration::from_secs(1);

/// How long one call may take.
const LIMIT: Duration = Duration::from_secs(2);

/// What other replicas tell of.
#[derive(Debug, Default)]
pub(super) struct Hints {
    /// New events.
    pub(super) events: Notify,
    /// Leases that were given back, and requests.
    pub(super) leases: Notify,
}

/// Listens for hints.
#[derive(Debug)]
pub(super) struct Listener {
    /// `None` where there is no address for that.
    options: Option<PgConnectOptions>,
    channel: String,
    hints: Arc<Hints>,
    listens: watch::Sender<bool>,
}

/// The channel of a schema.
pub(super) fn channel(schema: &str) -> String {
    // The name of a channel has 63 bytes at most, as that of a schema has.
    let schema: String = schema.chars().take(40).collect();
    format!("pepay-bridge {schema}")
}

impl Listener {
    /// Will notify `hints`.
    pub(super) fn new(address: &Address, schema: &str, hints: Arc<Hints>) -> Self {
        let options = address.listening();
        Self { options, channel: channel(schema), hints, listens: watch::Sender::new(false) }
    }

    /// Whether hints are being heard.
    pub(super) fn listens(&self) -> watch::Receiver<bool> {
        self.listens.subscribe()
    }

    /// Listens until it is dropped.
    pub(super) async fn run(self) {
        let Some(options) = &self.options else { return std::future::pending().await };
        let mut is_told = false;
        loop {
            if let Err(error) = self.listen(options.clone()).await {
                // Once until it is heard again: it is tried each second.
                is_told &= !*self.listens.borrow();
                if !std::mem::replace(&mut is_told, true) {
                    tracing::warn!(
                        %error,
                        "the hints of other replicas are not heard: looking for their events every 250 ms"
                    );
                }
            }
            self.listens.send_replace(false);
            self.look_for_everything();
            sleep(AGAIN).await;
        }
    }

    /// What was told while it was not heard.
    fn look_for_everything(&self) {
        self.hints.events.notify_one();
        self.hints.leases.notify_one();
    }

    async fn listen(&self, options: PgConnectOptions) -> Result<(), sqlx::Error> {
        let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(LIMIT).connect_lazy_with(options);
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.listen(&self.channel).await?;
        self.listens.send_replace(true);
        self.look_for_everything();
        loop {
            match timeout(AGAIN, listener.try_recv()).await {
                Ok(Ok(Some(hint))) if hint.payload() == "event" => self.hints.events.notify_one(),
                Ok(Ok(Some(_))) => self.hints.leases.notify_one(),
                Ok(Ok(None)) => return Err(sqlx::Error::PoolClosed),
                Ok(Err(error)) => return Err(error),
                // A connection that has died in silence refuses this, or does not answer.
                Err(_) => {
                    let alive = timeout(LIMIT, sqlx::raw_sql("SELECT 1").execute(&mut listener)).await;
                    alive.map_err(|_| sqlx::Error::PoolTimedOut)??;
                }
            }
        }
    }
}
