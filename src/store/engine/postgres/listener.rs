//! Listens to notifications of other replicas, by LISTEN. The connection of its own may be lost
//! without an error. A task that waits for a notification therefore also looks at intervals.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use super::connect::Address;

/// The shortest time between two notifications of one kind.
pub(super) const PACE: Duration = Duration::from_millis(20);

/// The time between two tries to listen, and between two checks of an idle connection.
const AGAIN: Duration = Duration::from_secs(1);

/// The time limit of one call.
const LIMIT: Duration = Duration::from_secs(2);

/// What other replicas notify about.
#[derive(Debug, Default)]
pub(super) struct Hints {
    /// There are new events.
    pub(super) events: Notify,
    /// Leases were given back, or there are requests.
    pub(super) leases: Notify,
}

/// Listens to notifications.
#[derive(Debug)]
pub(super) struct Listener {
    /// `None` if there is no address to listen on.
    options: Option<PgConnectOptions>,
    channel: String,
    hints: Arc<Hints>,
    listens: watch::Sender<bool>,
}

/// Returns the name of a schema's channel.
pub(super) fn channel(schema: &str) -> String {
    // The name of a channel, like that of a schema, has at most 63 bytes.
    let schema: String = schema.chars().take(40).collect();
    format!("pepay-bridge {schema}")
}

impl Listener {
    /// Creates a listener that notifies `hints`.
    pub(super) fn new(address: &Address, schema: &str, hints: Arc<Hints>) -> Self {
        let options = address.listening();
        Self { options, channel: channel(schema), hints, listens: watch::Sender::new(false) }
    }

    /// Returns a flag that says at any time whether the listener is connected.
    pub(super) fn listens(&self) -> watch::Receiver<bool> {
        self.listens.subscribe()
    }

    /// Listens until it is dropped.
    pub(super) async fn run(self) {
        let Some(options) = &self.options else { return std::future::pending().await };
        let mut is_told = false;
        loop {
            if let Err(error) = self.listen(options.clone()).await {
                // The failure is logged once until it has listened again: it tries each second.
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

    /// Notifies everything, since notifications may have been missed.
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
                // A connection that was lost without an error refuses this, or does not respond.
                Err(_) => {
                    let alive = timeout(LIMIT, sqlx::raw_sql("SELECT 1").execute(&mut listener)).await;
                    alive.map_err(|_| sqlx::Error::PoolTimedOut)??;
                }
            }
        }
    }
}
