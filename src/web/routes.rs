//! Routes that can be replaced while the listener serves.

use std::convert::Infallible;
use std::task::{Context, Poll};

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tower::{Service, ServiceExt as _};

use super::not_found;

/// Routes that can be replaced. Each request uses the routes in effect when it arrives, even on an older
/// connection. Clones share the same routes.
#[derive(Clone, Debug)]
pub struct Routes(watch::Sender<Router>);

impl Routes {
    /// Creates the handle, with `routes` in effect.
    pub fn new(routes: Router) -> Self {
        Self(watch::Sender::new(routes.fallback(not_found)))
    }

    /// Uses `routes` for every request from now on. Requests in flight keep their routes.
    pub fn replace(&self, routes: Router) {
        drop(self.0.send_replace(routes.fallback(not_found)));
    }
}

impl Service<Request> for Routes {
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let routes = self.0.borrow().clone();
        Box::pin(routes.oneshot(request))
    }
}
