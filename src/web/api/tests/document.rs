//! The `OpenAPI` document says what there is.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::*;
use crate::web::api::openapi::document;

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
        let problems: &[_] =
            if method == "get" { &["400", "401", "503"] } else { &["400", "401", "413", "415", "503"] };
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

/// What `value` has, or lacks, against `schema` of `document`.
fn deviations(document: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let mut parts = vec![schema];
    let (mut members, mut required, mut has_members) = (BTreeMap::new(), BTreeSet::new(), false);
    while let Some(part) = parts.pop() {
        if let Some(reference) = part["$ref"].as_str() {
            parts.push(document.pointer(reference.trim_start_matches('#')).unwrap());
            continue;
        }
        let choices = part["oneOf"].as_array();
        if has_members {
            // What is flattened and may be left out.
            parts.extend(choices.into_iter().flatten().filter(|choice| choice["type"] != "null"));
        } else if let Some(choices) = choices {
            let fits = choices.iter().any(|choice| deviations(document, choice, value).is_empty());
            return if fits { Vec::new() } else { vec![format!("no choice fits {value}")] };
        }
        parts.extend(part["allOf"].as_array().into_iter().flatten());
        if part["type"] == "null" && !value.is_null() {
            return vec![format!("{value} is not null")];
        }
        if let Some(names) = part["enum"].as_array().filter(|names| !names.contains(value)) {
            return vec![format!("{value} is none of {names:?}")];
        }
        if let (Some(items), item) = (value.as_array(), &part["items"]) {
            return items.iter().flat_map(|value| deviations(document, item, value)).collect();
        }
        let own = part["properties"].as_object();
        has_members |= own.is_some();
        members.extend(own.into_iter().flatten());
        required.extend(part["required"].as_array().into_iter().flatten().filter_map(Value::as_str));
    }
    let Some(object) = value.as_object().filter(|_| has_members) else {
        let is_nothing = has_members && !required.is_empty();
        return if is_nothing { vec![format!("{value} is no object")] } else { Vec::new() };
    };
    let undescribed = object
        .keys()
        .filter(|name| !members.contains_key(name))
        .map(|name| format!("`{name}` is not described"));
    let missing = required
        .iter()
        .filter(|name| !object.contains_key(**name))
        .map(|name| format!("`{name}` is missing"));
    let inner =
        object.iter().filter_map(|(name, value)| Some(deviations(document, members.get(name)?, value)));
    undescribed.chain(missing).chain(inner.flatten()).collect()
}

#[tokio::test]
async fn answers_have_the_members_that_the_document_describes() {
    let caller = Caller::new().await;
    caller.shown.store_event("evt_1", 30).await;
    let document = serde_json::to_value(document(true)).unwrap();
    for path in
        ["overview", "events", "events/evt_1", "deliveries", "targets", "streams", "audit", "history", "bulk"]
    {
        let path = format!("/api/v1/{path}");
        let answers = &document["paths"][path.replace("/evt_1", "/{id}")]["get"]["responses"]["200"];
        let schema = &answers["content"]["application/json"]["schema"];
        let answer = caller.get(&path).await.ok();
        assert_eq!(deviations(&document, schema, &answer), [""; 0], "{path}: {answer}");
    }
}
