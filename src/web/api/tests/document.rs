//! Tests that the `OpenAPI` document describes every operation.

use std::collections::BTreeSet;

use serde_json::json;

use super::*;
use crate::web::api::document;
use crate::web::api::openapi::without_tokens;

/// Every operation.
const OPERATIONS: [(&str, &str); 27] = [
    ("get", "/api/openapi.json"),
    ("get", "/api/v1/audit"),
    ("get", "/api/v1/bulk"),
    ("get", "/api/v1/deliveries"),
    ("post", "/api/v1/deliveries/{action}"),
    ("get", "/api/v1/deliveries/{target}/{event_id}"),
    ("post", "/api/v1/deliveries/{target}/{event_id}/{action}"),
    ("get", "/api/v1/events"),
    ("get", "/api/v1/events/{id}"),
    ("get", "/api/v1/events/{id}/body"),
    ("post", "/api/v1/events/{id}/replay"),
    ("post", "/api/v1/events/{id}/verify"),
    ("get", "/api/v1/history"),
    ("get", "/api/v1/export"),
    ("post", "/api/v1/deliveries/replay"),
    ("post", "/api/v1/deliveries/move"),
    ("get", "/api/v1/live"),
    ("get", "/api/v1/overview"),
    ("post", "/api/v1/reload"),
    ("get", "/api/v1/streams"),
    ("post", "/api/v1/streams/{name}/backfill"),
    ("post", "/api/v1/streams/{name}/reconnect"),
    ("get", "/api/v1/targets"),
    ("post", "/api/v1/alerts/test"),
    ("post", "/api/v1/targets/{name}/pause"),
    ("post", "/api/v1/targets/{name}/resume"),
    ("post", "/api/v1/targets/{name}/test"),
];

/// Compares `openapi.json` with the code. With `UPDATE` in the environment it writes the file instead:
/// `just openapi`.
#[test]
fn the_document_is_that_of_the_code() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/web/api/openapi.json");
    let text = document(true).to_pretty_json().unwrap() + "\n";
    if std::env::var_os("UPDATE").is_some() {
        return std::fs::write(file, text).unwrap();
    }
    assert!(std::fs::read_to_string(file).unwrap() == text, "openapi.json is old: run `just openapi`");
    assert_eq!(without_tokens(), serde_json::to_value(document(false)).unwrap());
}

#[tokio::test]
async fn every_operation_is_described_with_its_problems_and_answered() {
    let caller = Caller::new().await;
    let document = caller.get("/api/openapi.json").await.ok();
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().unwrap();
    let described: Vec<_> = paths
        .iter()
        .flat_map(|(path, item)| item.as_object().unwrap().keys().map(move |method| (&**method, &**path)))
        .collect();
    assert_eq!(described.iter().copied().collect::<BTreeSet<_>>(), BTreeSet::from(OPERATIONS));
    for (method, path) in described {
        let operation = &paths[path][method];
        assert!(operation["summary"].is_string() && operation["operationId"].is_string(), "{path}");
        let problems: &[_] = if method == "get" {
            &["400", "401", "503"]
        } else {
            &["400", "401", "408", "413", "415", "503"]
        };
        for status in problems {
            let content = &operation["responses"][status]["content"]["application/problem+json"];
            assert_eq!(content["schema"]["$ref"], "#/components/schemas/Problem", "{method} {path} {status}");
        }
        assert_eq!(operation["requestBody"].is_object(), method == "post", "{path}");
        let request = Request::builder().method(NO_METHOD).uri(path.replace(['{', '}'], ""));
        let other = answer(caller.send(request, Body::empty()).await).await;
        assert_eq!(other.status, StatusCode::METHOD_NOT_ALLOWED, "{path} is not routed");
    }
}

#[test]
fn every_schema_that_is_named_is_there() {
    let text = serde_json::to_string(&document(true)).unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    let references: BTreeSet<_> =
        text.split("\"$ref\":\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert!(references.len() > 20, "{references:?}");
    for reference in references {
        let pointer = reference.trim_start_matches('#');
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

#[test]
fn the_document_asks_for_a_token_only_if_the_listener_does() {
    let guarded = serde_json::to_value(document(true)).unwrap();
    assert_eq!(guarded["security"], json!([{ "admin_token": [] }]));
    assert_eq!(guarded["components"]["securitySchemes"]["admin_token"]["scheme"], "bearer");
    let open = serde_json::to_value(document(false)).unwrap();
    assert_eq!(open.get("security"), None);
    let problems = &open["paths"]["/api/v1/events"]["get"]["responses"];
    assert!(problems.get("401").is_none() && problems["403"].is_object());
}

#[test]
fn a_cursor_behind_all_deliveries_of_an_event_is_described() {
    let document = serde_json::to_value(document(true)).unwrap();
    let behind_all = i64::MAX.to_string();
    for list in ["events", "deliveries"] {
        let parameters =
            document["paths"][format!("/api/v1/{list}")]["get"]["parameters"].as_array().unwrap();
        let cursor = parameters.iter().find(|parameter| parameter["name"] == "cursor").unwrap();
        let pattern = cursor["schema"]["pattern"].as_str().unwrap();
        assert!(pattern.split(['|', '(', ')']).any(|choice| choice == behind_all), "{pattern}");
    }
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_described() {
    let mut caller = Caller::new().await;
    caller.shown.close().await;
    let document = serde_json::to_value(document(true)).unwrap();
    let schema = &document["components"]["schemas"]["Store"];
    let overview = caller.get("/api/v1/overview").await.ok();
    let members: Vec<_> = overview["store"].as_object().unwrap().keys().collect();
    assert_eq!(schema["required"], json!(["committing", "error"]));
    for member in members {
        assert!(schema["properties"][member].is_object(), "{member}");
    }
    for (name, member) in schema["properties"].as_object().unwrap() {
        let is_null_allowed = member["type"].as_array().is_some_and(|kinds| kinds.contains(&json!("null")));
        assert_eq!(is_null_allowed, name == "error", "{name}");
    }
}
