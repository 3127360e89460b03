//! The upper limit: an axum handler that reads the body, verifies the signature and responds. It stores
//! nothing.

use std::net::SocketAddr;

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Router, serve};
use pepay_bridge::pepay::signature::SigningKey;
use tokio::net::TcpListener;

use crate::requests::{PATH, SECRET};
use crate::{Outcome, role};

/// Serves until the process is killed.
pub async fn play() -> Outcome<()> {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    role::say(&listener.local_addr()?)?;
    let key = SigningKey::new(&SECRET.into());
    let answer = move |headers: HeaderMap, body: Bytes| {
        let key = key.clone();
        async move { verified(&headers, &body, &key) }
    };
    let listener = serve::ListenerExt::tap_io(listener, |stream| {
        let _ = stream.set_nodelay(true);
    });
    Ok(serve(listener, Router::new().route(PATH, post(answer))).await?)
}

fn verified(headers: &HeaderMap, body: &[u8], key: &SigningKey) -> Response {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if key.verify(text("x-pepay-signature"), text("x-pepay-timestamp"), body) {
        ([(header::CONTENT_TYPE, "application/json")], r#"{"ok":true,"duplicate":false}"#).into_response()
    } else {
        StatusCode::BAD_REQUEST.into_response()
    }
}
