//! `[webhooks.NAME]`.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytesize::ByteSize;

use super::form::{self, DAY, Form, SECOND};
use super::problem::{Faulty, quoted};
use super::section::Section;
use crate::pepay::signature::SigningKey;
use crate::source::webhook;

/// The other paths of the public listener.
const TAKEN: [&str; 3] = ["/healthz", "/readyz", "/readyz/intake"];

/// The paths of the endpoints read so far, each with the name of its endpoint.
pub(super) type Paths = BTreeMap<Arc<str>, String>;

/// Reads one endpoint.
pub(super) fn read(
    name: &str,
    mut section: Section<'_>,
    paths: &mut Paths,
) -> Result<webhook::Settings, Faulty> {
    let path = section.value("path", "/webhooks/pepay", &path());
    if let Ok(path) = &path
        && let Some(other) = paths.insert(path.clone(), name.to_owned())
    {
        let fault =
            format!("`{path}` is the path of `webhooks.{other}` already; allowed is a path of its own");
        section.problem("path", &fault);
    }
    let secrets = section.secrets("secrets");
    if secrets.as_ref().is_ok_and(Vec::is_empty) {
        section.problem("secrets", "is missing; allowed is at least one secret, or `secrets_file`");
    }
    let environment = section.optional("environment", &form::environment());
    let tolerance = section.value("tolerance", "5m", &form::duration(SECOND..=DAY * 3650));
    let largest = ByteSize::b(webhook::Settings::LARGEST_BODY as u64);
    let max_body = section.value("max_body", "256KiB", &form::size(ByteSize::b(1)..=largest));
    section.finish();
    Ok(webhook::Settings {
        name: name.into(),
        path: path?,
        keys: secrets?.iter().map(SigningKey::new).collect(),
        environment: environment?,
        tolerance: tolerance?,
        max_body: usize::try_from(max_body?.as_u64()).unwrap_or(usize::MAX),
    })
}

/// Records a problem if endpoints of different environments share a secret. An owner of the secret could
/// sign events of one environment for the other.
pub(super) fn do_not_share(root: &mut Section<'_>, endpoints: &[webhook::Settings]) {
    for (index, one) in endpoints.iter().enumerate() {
        for other in endpoints.iter().skip(index + 1) {
            let (Some(bound), Some(elsewhere)) = (one.environment, other.environment) else { continue };
            if bound != elsewhere && one.keys.iter().any(|key| other.keys.contains(key)) {
                let fault = format!(
                    "has a secret that `webhooks.{}` has too, though this one is bound to {} and that one to {}; \
                     allowed are secrets of its own, as Pepay gives them out for each environment",
                    one.name,
                    elsewhere.as_str(),
                    bound.as_str()
                );
                root.problem(&format!("webhooks.{}.secrets", other.name), &fault);
            }
        }
    }
}

/// The form of a literal path, without characters that a router reads as a pattern.
fn path() -> Form<Arc<str>> {
    Form::text(|text| {
        let literal = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
        if TAKEN.contains(&text) {
            return Err(format!("{} is served by the bridge itself; allowed is another path", quoted(text)));
        }
        if text.starts_with('/') && text.len() <= 255 && text.bytes().all(literal) {
            return Ok(text.into());
        }
        Err(format!(
            "{} is not a path; allowed are `/` and then letters, digits, `/`, `-`, `.`, `_`, `~`",
            quoted(text)
        ))
    })
}
