//! The public and the private listener.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::error::Error;
use crate::lifecycle::{Stop, Tasks};
use crate::web::{self, HttpRefusals, Limits, Routes};

/// The bound listeners, which are not served yet.
pub(super) struct Listeners {
    public: TcpListener,
    admin: TcpListener,
    keep_alive: Duration,
    /// The address of the listener for webhooks.
    pub(super) public_address: SocketAddr,
    /// The address of the listener for metrics and status.
    pub(super) admin_address: SocketAddr,
}

impl Listeners {
    /// Binds both addresses of `settings`.
    ///
    /// # Errors
    /// [`Error`] names the address that cannot be listened on.
    pub(super) async fn bind(settings: &web::Settings) -> Result<Self, Error> {
        let public = bind("server.listen", settings.listen).await?;
        let admin = bind("server.admin_listen", settings.admin_listen).await?;
        let (public_address, admin_address) = (public.local_addr()?, admin.local_addr()?);
        Ok(Self { public, admin, keep_alive: settings.keep_alive, public_address, admin_address })
    }

    /// Serves `public` in a task of `work`, until the soft stop. Serves `admin` in a task of `base`,
    /// until `base_stop`, so that health and metrics can be read during the stop.
    pub(super) fn serve(
        self,
        stop: &Stop,
        (work, public, refusals): (&mut Tasks, Routes, HttpRefusals),
        (base, admin, base_stop): (&mut Tasks, Routes, &CancellationToken),
    ) {
        let (soft, hard) = (stop.soft.clone(), stop.hard.clone());
        let limits = Limits::PUBLIC.keeping_alive(self.keep_alive);
        let serving = web::serve(self.public, public, limits, Some(refusals), soft.clone(), hard);
        work.spawn("public listener", soft.clone(), serving);
        let limits = Limits::ADMIN.keeping_alive(self.keep_alive);
        let serving = web::serve(self.admin, admin, limits, None, base_stop.clone(), base_stop.clone());
        base.spawn("admin listener", soft, serving);
    }
}

async fn bind(key: &'static str, address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Listen { key, address, source })
}
