//! The public and the private listener.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;

use super::error::Error;
use super::tasks::TaskGroups;
use crate::domain::clock::{Clock, UnixMillis};
use crate::lifecycle::Stop;
use crate::web::{self, HttpRefusals, Limits, Routes};

/// The bound listeners, and the routes that they serve.
pub(super) struct Listeners {
    /// The public and the private one; `None` once they are served.
    sockets: Option<(TcpListener, TcpListener)>,
    keep_alive: Duration,
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
    /// Binds both addresses of `settings`. There are no routes yet.
    ///
    /// # Errors
    /// [`Error`] names the address that cannot be listened on.
    pub(super) async fn bind(settings: &web::Settings, clock: Clock) -> Result<Self, Error> {
        let public = bind("server.listen", settings.listen).await?;
        let admin = bind("server.admin_listen", settings.admin_listen).await?;
        let (public_address, admin_address) = (public.local_addr()?, admin.local_addr()?);
        Ok(Self {
            sockets: Some((public, admin)),
            keep_alive: settings.keep_alive,
            public: Routes::default(),
            admin: Routes::default(),
            refusals: HttpRefusals::new(clock),
            public_address,
            admin_address,
        })
    }

    /// Sets routes that refuse everything but health for now, for a bridge that has `started` and waits for
    /// its database.
    pub(super) fn refuse_all(&self, clock: &Clock, started: UnixMillis) {
        let (listen, admin_listen) = (self.public_address, self.admin_address);
        tracing::info!(%listen, %admin_listen, "webhooks are answered 503");
        self.public.set_fixed(web::waiting(clock.clone(), started));
        self.admin.set_fixed(web::waiting(clock.clone(), started));
    }

    /// Serves both listeners from now on, if they are not served already: the public one in a task of
    /// the work, the private one in a task of the base, so that health and metrics can be read during
    /// the stop.
    pub(super) fn serve(&mut self, tasks: &mut TaskGroups) {
        let Some((public, admin)) = self.sockets.take() else { return };
        let Stop { soft, hard } = tasks.stop.clone();
        let (limits, refusals) = (Limits::PUBLIC.keeping_alive(self.keep_alive), self.refusals.clone());
        let serving = web::serve(public, self.public.clone(), limits, Some(refusals), soft.clone(), hard);
        tasks.work.spawn("public listener", soft, serving);
        let (limits, routes) = (Limits::ADMIN.keeping_alive(self.keep_alive), self.admin.clone());
        tasks
            .spawn_base("admin listener", |stop| web::serve(admin, routes, limits, None, stop.clone(), stop));
    }
}

async fn bind(key: &'static str, address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Listen { key, address, source })
}
