//! The routes of a listener, some of which can be replaced while it serves.

use axum::Router;
use tokio::sync::watch;

/// The routes of a listener. Each request uses the routes in effect when it arrives, even on an older
/// connection. Clones share the same routes.
#[derive(Clone, Debug, Default)]
pub struct Routes(watch::Sender<Table>);

#[derive(Debug, Default)]
struct Table {
    fixed: Router,
    replaceable: Router,
    /// Both in one router: a request that went through one router to another would pay for two.
    all: Router,
}

impl Routes {
    /// Sets the routes that stay when the others are [replaced](Self::replace), and the fallback. Their
    /// paths have to differ from those of the others.
    pub fn set_fixed(&self, fixed: Router) {
        self.change(|table| table.fixed = fixed);
    }

    /// Uses `routes`, and those that are fixed, for every request from now on. Requests in flight keep
    /// their routes.
    pub fn replace(&self, routes: Router) {
        self.change(|table| table.replaceable = routes);
    }

    fn change(&self, change: impl FnOnce(&mut Table)) {
        self.0.send_modify(|table| {
            change(table);
            table.all = table.fixed.clone().merge(table.replaceable.clone());
        });
    }

    /// Returns the routes in effect.
    pub(super) fn current(&self) -> Router {
        self.0.borrow().all.clone()
    }
}

impl From<Router> for Routes {
    fn from(fixed: Router) -> Self {
        let routes = Self::default();
        routes.set_fixed(fixed);
        routes
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use http::{Request, StatusCode};
    use tower::ServiceExt as _;

    use super::*;

    async fn status(routes: &Routes, path: &str) -> StatusCode {
        let request = Request::get(path).body(axum::body::Body::empty()).unwrap();
        routes.current().oneshot(request).await.unwrap().status()
    }

    #[tokio::test]
    async fn replaced_routes_are_gone_and_fixed_ones_stay_with_their_fallback() {
        let at = |path: &str| Router::new().route(path, get(|| async {}));
        let routes = Routes::from(at("/healthz").fallback(|| async { StatusCode::IM_A_TEAPOT }));
        routes.replace(at("/before"));
        routes.replace(at("/after"));
        for (path, expected) in [
            ("/healthz", StatusCode::OK),
            ("/after", StatusCode::OK),
            ("/before", StatusCode::IM_A_TEAPOT),
            ("/", StatusCode::IM_A_TEAPOT),
        ] {
            assert_eq!(status(&routes, path).await, expected, "{path}");
        }
    }
}
