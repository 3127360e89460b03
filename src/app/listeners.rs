//! The public and the private listener.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;

use super::error::Error;
use super::tasks::TaskGroups;
use crate::lifecycle::Stop;
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

    /// Serves `public` in a task of the work, and notes in `refusals` the requests that no handler
    /// takes. Serves `admin` in a task of the base, so that health and metrics can be read during the
    /// stop.
    pub(super) fn serve(self, tasks: &mut TaskGroups, public: Routes, refusals: HttpRefusals, admin: Routes) {
        let Stop { soft, hard } = tasks.stop.clone();
        let limits = Limits::PUBLIC.keeping_alive(self.keep_alive);
        let serving = web::serve(self.public, public, limits, Some(refusals), soft.clone(), hard);
        tasks.work.spawn("public listener", soft, serving);
        let limits = Limits::ADMIN.keeping_alive(self.keep_alive);
        tasks.spawn_base("admin listener", |stop| {
            web::serve(self.admin, admin, limits, None, stop.clone(), stop)
        });
    }
}

async fn bind(key: &'static str, address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Listen { key, address, source })
}
