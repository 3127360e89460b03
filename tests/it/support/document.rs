//! The comparison of responses with the `OpenAPI` document of a bridge.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::bridge::Bridge;

/// The document as the bridge serves it.
pub struct Document(Value);

impl Document {
    pub async fn of(bridge: &Bridge) -> Self {
        let body = bridge.admin("/api/openapi.json").await.bytes().await.unwrap();
        Self(serde_json::from_slice(&body).unwrap())
    }

    /// Fails unless the document describes `body` as the success of `GET path`. Parameters of
    /// `path` are in braces.
    #[track_caller]
    pub fn assert_describes(&self, path: &str, body: &Value) {
        let responses = &self.0["paths"][path]["get"]["responses"];
        let schema = &responses["200"]["content"]["application/json"]["schema"];
        assert!(schema.is_object(), "{path} is not described");
        assert_eq!(self.deviations(schema, body), [""; 0], "{path}: {body}");
    }

    /// Returns how `value` deviates from `schema`. A member that is not described is a deviation.
    fn deviations(&self, schema: &Value, value: &Value) -> Vec<String> {
        let mut parts = vec![schema];
        let (mut members, mut required, mut has_members) = (BTreeMap::new(), BTreeSet::new(), false);
        while let Some(part) = parts.pop() {
            if let Some(reference) = part["$ref"].as_str() {
                parts.push(self.0.pointer(reference.trim_start_matches('#')).unwrap());
                continue;
            }
            if let Some(choices) = part["oneOf"].as_array() {
                let fitting = choices.iter().filter(|choice| self.deviations(choice, value).is_empty());
                match fitting.count() {
                    1 => continue,
                    count => return vec![format!("{count} of {} choices fit {value}", choices.len())],
                }
            }
            parts.extend(part["allOf"].as_array().into_iter().flatten());
            if !is_of_kind(&part["type"], value) {
                return vec![format!("{value} is not of type {}", part["type"])];
            }
            if let Some(names) = part["enum"].as_array().filter(|names| !names.contains(value)) {
                return vec![format!("{value} is none of {names:?}")];
            }
            if let (Some(items), item) = (value.as_array(), &part["items"]) {
                return items.iter().flat_map(|value| self.deviations(item, value)).collect();
            }
            let own = part["properties"].as_object();
            has_members |= own.is_some();
            members.extend(own.into_iter().flatten());
            required.extend(part["required"].as_array().into_iter().flatten().filter_map(Value::as_str));
        }
        let Some(object) = value.as_object().filter(|_| has_members) else { return Vec::new() };
        let undescribed = object
            .keys()
            .filter(|name| !members.contains_key(name))
            .map(|name| format!("`{name}` is not described"));
        let missing = required
            .iter()
            .filter(|name| !object.contains_key(**name))
            .map(|name| format!("`{name}` is missing"));
        let inner =
            object.iter().filter_map(|(name, value)| Some(self.deviations(members.get(name)?, value)));
        undescribed.chain(missing).chain(inner.flatten()).collect()
    }
}

/// Returns whether `value` is of `kind`: the name of a type, a list of names of types, or null for any type.
fn is_of_kind(kind: &Value, value: &Value) -> bool {
    let is = |name: &Value| match name.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("{other} is no type"),
    };
    match kind {
        Value::Null => true,
        Value::Array(kinds) => kinds.iter().any(is),
        kind => is(kind),
    }
}

#[test]
fn a_response_that_is_not_as_described_is_recognised() {
    let reference = |name: &str| json!({ "$ref": format!("#/components/schemas/{name}") });
    let document = Document(json!({ "components": { "schemas": {
        "Named": { "type": "object", "required": ["name"], "properties": { "name": { "type": "string" } } },
        "Counted": { "allOf": [reference("Named"), {
            "type": "object",
            "properties": { "count": { "type": ["integer", "null"] }, "kind": { "enum": ["a", "b"] } },
        }] },
        "Perhaps": { "oneOf": [{ "type": "null" }, reference("Named")] },
    } } }));
    let deviations = |name: &str, value: Value| document.deviations(&reference(name), &value).len();
    for value in [json!({ "name": "x" }), json!({ "name": "x", "count": null, "kind": "a" })] {
        assert_eq!(deviations("Counted", value), 0);
    }
    for value in [
        json!({}),
        json!({ "name": 1 }),
        json!({ "name": "x", "count": 1.5 }),
        json!({ "name": "x", "kind": "c" }),
        json!({ "name": "x", "other": 1 }),
        json!("x"),
    ] {
        assert!(deviations("Counted", value.clone()) > 0, "{value}");
    }
    assert_eq!(deviations("Perhaps", json!(null)) + deviations("Perhaps", json!({ "name": "x" })), 0);
    assert!(deviations("Perhaps", json!({})) > 0);
}
