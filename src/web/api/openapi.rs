//! The `OpenAPI` document, as a text. [`code`] makes it from the handlers and their types, and a test
//! compares the two. So the binary contains the text, and not three quarters of a megabyte of code.

pub(super) mod code;

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use serde_json::Value;

use super::Api;
use super::params::NoQuery;

/// The document of a bridge with tokens.
const DOCUMENT: &str = include_str!("openapi.json");

/// This document
#[utoipa::path(get, path = "/api/openapi.json", tag = "bridge", operation_id = "showOpenApi",
    responses((status = 200, description = "The OpenAPI document of this API", body = serde_json::Value, content_type = "application/json")))]
pub(super) async fn show(State(api): State<Arc<Api>>, _: NoQuery) -> Response {
    let document = if api.tokens.are_set() { DOCUMENT.to_owned() } else { without_tokens().to_string() };
    ([(CONTENT_TYPE, "application/json")], document).into_response()
}

/// Returns the document of a bridge without tokens.
pub(super) fn without_tokens() -> Value {
    let mut document: Value = serde_json::from_str(DOCUMENT).unwrap_or_default();
    if let Some(document) = document.as_object_mut() {
        document.remove("security");
    }
    if let Some(components) = document["components"].as_object_mut() {
        components.remove("securitySchemes");
    }
    let paths = document["paths"].as_object_mut().into_iter().flatten();
    for (_, operation) in paths.filter_map(|(_, path)| path.as_object_mut()).flatten() {
        if let Some(responses) = operation["responses"].as_object_mut() {
            responses.retain(|status, _| !["401", "429"].contains(&&**status));
            responses["403"]["description"] = "Not a loopback host".into();
        }
    }
    document
}
