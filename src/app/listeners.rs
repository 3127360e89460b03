//! The public and the private listener.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::error::Error;
use super::tasks::TaskGroups;
use crate::domain::clock::{Clock, UnixMillis};
use crate::lifecycle::Stop;
use crate::web::{self, HttpRefusals, Limits, Routes};

/// Why a bridge that has just started is not ready.
const STARTING: &str = "starting: the store is being opened";

/// Why a bridge that waits for its database is not ready.
const NO_DATABASE: &str = "the database cannot be reached";

/// How long connections wait for a store that is being opened. Most stores are open by then, so that the
/// first response of a bridge is that of a bridge that runs. It is shorter than orchestrators wait for a
/// bridge that does not respond.
const PATIENCE: Duration = Duration::from_secs(2);

/// The listeners and their routes. Until the application sets other routes, they refuse everything but
/// health.
pub(super) struct Listeners {
    /// Cancelled once connections are accepted.
    accepting: CancellationToken,
    /// The routes of the public listener.
    pub(super) public: Routes,
    /// The routes of the private listener.
    pub(super) admin: Routes,
    /// The requests to the public listener that no handler took.
    pub(super) refusals: HttpRefusals,
    /// The address of the listener for webhooks.
    pub(super) public_address: SocketAddr,
    /// The address of the listener for metrics and status.
    pub(super) admin_address: SocketAddr,
}

impl Listeners {
    /// Binds both addresses of `settings`, and serves them once [`accept`](Self::accept) is called, or the
    /// opening of the store takes long: the public one in a task of the work, the private one in a task of the
    /// base, so that health and metrics can be read during the stop. The process began at `started`.
    ///
    /// # Errors
    /// [`Error`] names the address that cannot be listened on.
    pub(super) async fn open(
        settings: &web::Settings,
        tasks: &mut TaskGroups,
        clock: &Clock,
        started: UnixMillis,
    ) -> Result<Self, Error> {
        let public = bind("server.listen", settings.listen).await?;
        let admin = bind("server.admin_listen", settings.admin_listen).await?;
        let listeners = Self {
            accepting: CancellationToken::new(),
            public: Routes::default(),
            admin: Routes::default(),
            refusals: HttpRefusals::new(clock.clone()),
            public_address: public.local_addr()?,
            admin_address: admin.local_addr()?,
        };
        listeners.refuse_all(clock, started, STARTING);
        let Stop { soft, hard } = tasks.stop.clone();
        let limits = Limits::PUBLIC.keeping_alive(settings.keep_alive);
        let (routes, refusals) = (listeners.public.clone(), Some(listeners.refusals.clone()));
        let serving = web::serve(public, routes, limits, refusals, soft.clone(), hard);
        let serving = serve_when(listeners.accepting.clone(), soft.clone(), serving);
        tasks.work.spawn("public listener", soft, serving);
        let (limits, routes) = (Limits::ADMIN.keeping_alive(settings.keep_alive), listeners.admin.clone());
        tasks.spawn_base("admin listener", |stop| {
            let serving = web::serve(admin, routes, limits, None, stop.clone(), stop.clone());
            serve_when(listeners.accepting.clone(), stop, serving)
        });
        let (listen, admin_listen) = (listeners.public_address, listeners.admin_address);
        tracing::info!(%listen, %admin_listen, "listening, and opening the store");
        Ok(listeners)
    }

    /// Accepts connections from now on.
    pub(super) fn accept(&self) {
        self.accepting.cancel();
    }

    /// Accepts connections from now on, and says in readiness that the database cannot be reached.
    pub(super) fn wait_for_database(&self, clock: &Clock, started: UnixMillis) {
        self.refuse_all(clock, started, NO_DATABASE);
        self.accept();
    }

    fn refuse_all(&self, clock: &Clock, started: UnixMillis, reason: &'static str) {
        for routes in [&self.public, &self.admin] {
            routes.set_fixed(web::waiting(clock.clone(), started, reason));
        }
    }
}

/// Does `serving` once `accepting` is cancelled, or after [`PATIENCE`]. Connections wait until then.
async fn serve_when(
    accepting: CancellationToken,
    stop: CancellationToken,
    serving: impl Future<Output = ()>,
) {
    tokio::select! {
        () = accepting.cancelled() => {}
        () = stop.cancelled() => {}
        () = tokio::time::sleep(PATIENCE) => {}
    }
    serving.await;
}

async fn bind(key: &'static str, address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Listen { key, address, source })
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn connections_wait_until_they_are_accepted_or_the_bridge_stops() {
        for is_stop in [false, true] {
            let (accepting, stop) = (CancellationToken::new(), CancellationToken::new());
            let mut serving = Box::pin(serve_when(accepting.clone(), stop.clone(), async {}));
            assert_eq!(serving.as_mut().now_or_never(), None);
            if is_stop { &stop } else { &accepting }.cancel();
            assert_eq!(serving.as_mut().now_or_never(), Some(()), "stopped: {is_stop}");
        }
    }
}
