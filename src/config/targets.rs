//! `[targets.NAME]`.

use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use http::header::{
    CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, TE, TRAILER, TRANSFER_ENCODING,
    UPGRADE, USER_AGENT,
};
use http::{HeaderName, StatusCode};
use url::Url;

use super::access;
use super::form::{self, DAY, Form, HOUR, MILLISECOND};
use super::problem::{Faulty, quoted};
use super::section::Section;
use super::streams::{backoff, types};
use crate::delivery;
use crate::delivery::sign::SigningKey;
use crate::delivery::tls::{ClientIdentity, Roots};
use crate::domain::delivery::{OnUncertain, Ordering, RetryPolicy};

/// The largest number of signing secrets of one target. Each of them signs every request.
const MOST_SECRETS: usize = 8;

/// Reads one target.
pub(super) fn read(name: &str, mut section: Section<'_>) -> Result<delivery::Settings, Faulty> {
    let url = section.required("url", "an http or https URL", &url());
    let types = types(&mut section, &["*"]);
    let environment = section.optional("environment", &form::environment());
    let condition = section.condition("where");
    let signing_keys = signing_keys(&mut section);
    let headers = section.headers("headers", is_taken);
    let timeout = section.value("timeout", "10s", &form::duration(MILLISECOND..=HOUR));
    let connect_timeout = section.value("connect_timeout", "3s", &form::duration(MILLISECOND..=HOUR));
    let idle_timeout = section.value("idle_timeout", "4s", &form::duration(Duration::ZERO..=HOUR));
    let roots = roots(&mut section);
    let client_identity = client_identity(&mut section);
    let concurrency = section.value("concurrency", "64", &form::number(1..=1024));
    let ordering = form::choice(&[
        ("per_object", Ordering::PerObject),
        ("per_order", Ordering::PerOrder),
        ("none", Ordering::None),
    ]);
    let ordering = section.value("ordering", "per_object", &ordering);
    let rate_limit = section.value("rate_limit", "0", &form::number(0.0..=1_000_000.0));
    let backoff = backoff(&mut section, MILLISECOND, ("retry_min", "1s"), ("retry_max", "1h"));
    let give_up_after = section.value("give_up_after", "3d", &form::duration(Duration::ZERO..=DAY * 3650));
    let dead_on = section.list("dead_on", &[], &status());
    let pause_when_rejecting = section.value("pause_when_rejecting", "0", &form::number(0..=1_000_000_u64));
    let on_uncertain = form::choice(&[("retry", OnUncertain::Retry), ("hold", OnUncertain::Hold)]);
    let on_uncertain = section.value("on_uncertain", "retry", &on_uncertain);
    section.finish();
    Ok(delivery::Settings {
        name: name.into(),
        url: url?,
        types: types?,
        environment: environment?,
        condition: condition?,
        signing_keys: signing_keys?,
        headers: headers?,
        timeout: timeout?,
        connect_timeout: connect_timeout?,
        idle_timeout: idle_timeout?,
        roots: roots?,
        client_identity: client_identity?.map(|(identity, _)| identity),
        concurrency: concurrency?,
        ordering: ordering?,
        rate_limit: Some(rate_limit?).filter(|limit| *limit > 0.0),
        retry: RetryPolicy { backoff: backoff?, give_up_after: give_up_after?, on_uncertain: on_uncertain? },
        dead_on: dead_on?.into_iter().collect::<BTreeSet<_>>(),
        pause_when_rejecting: NonZeroU64::new(pause_when_rejecting?),
    })
}

fn url() -> Form<Url> {
    form::url(["https", "http"], "credentials belong into `headers`, as `authorization`")
        .shown_as(|text| text.split('?').next().unwrap_or_default().to_owned())
}

/// Reads the signing secrets. During a rotation both the old and the new secret sign.
pub(super) fn signing_keys(section: &mut Section<'_>) -> Result<Vec<SigningKey>, Faulty> {
    let secrets = section.one_or_more_secrets("signing_secret")?;
    if secrets.len() > MOST_SECRETS {
        let fault = format!("has {} secrets; allowed are up to {MOST_SECRETS}", secrets.len());
        return Err(section.problem("signing_secret", &fault));
    }
    let mut keys = Vec::with_capacity(secrets.len());
    for secret in &secrets {
        match SigningKey::parse(secret) {
            Ok(key) if keys.contains(&key) => {
                return Err(section.problem("signing_secret", "has a secret twice; allowed is each once"));
            }
            Ok(key) => keys.push(key),
            Err(error) => return Err(section.problem("signing_secret", &format!("is {error}"))),
        }
    }
    Ok(keys)
}

/// Reads the root certificates of `ca_file`.
fn roots(section: &mut Section<'_>) -> Result<Option<Roots>, Faulty> {
    let Some(path) = section.optional_file("ca_file")? else { return Ok(None) };
    match Roots::read(path) {
        Ok(roots) => Ok(Some(roots)),
        Err(error) => {
            Err(section.problem("ca_file", &format!("{error}; allowed is a file of PEM certificates")))
        }
    }
}

/// The paths of the files of a certificate and of its key.
pub(super) type IdentityFiles = (PathBuf, PathBuf);

/// Reads a client certificate and its key. Also returns the paths of their files.
pub(super) fn client_identity(
    section: &mut Section<'_>,
) -> Result<Option<(ClientIdentity, IdentityFiles)>, Faulty> {
    let cert_file = section.optional_file("client_cert_file");
    let key_file = section.optional_file("client_key_file");
    let lone = match (cert_file?, key_file?) {
        (Some(cert_file), Some(key_file)) => {
            if let Some(found) = key_file.metadata().ok().as_ref().and_then(access::readable) {
                section.warn("client_key_file", found, "take that permission away (chmod o-r)");
            }
            section.warn_of_folder("client_key_file", &key_file);
            return match ClientIdentity::read(cert_file.clone(), &key_file) {
                Ok(identity) => Ok(Some((identity, (cert_file, key_file)))),
                Err(error) => Err(section.problem("client_cert_file", &format!("{error}"))),
            };
        }
        (None, None) => return Ok(None),
        (Some(_), None) => "client_key_file",
        (None, Some(_)) => "client_cert_file",
    };
    let fault = "is missing; allowed are `client_cert_file` and `client_key_file` together, or neither";
    Err(section.problem(lone, fault))
}

fn status() -> Form<StatusCode> {
    let number = form::number(400..=599_u16);
    Form::bare(move |text| {
        let status = number.read(text)?;
        StatusCode::from_u16(status).map_err(|_| format!("{} is no HTTP status", quoted(text)))
    })
}

/// Returns whether the bridge or HTTP itself sets this header.
fn is_taken(name: &HeaderName) -> bool {
    const OWN: [&str; 3] = ["webhook-", "x-pepay-", "pepay-bridge-"];
    const MESSAGE: [HeaderName; 11] = [
        CONNECTION,
        CONTENT_ENCODING,
        CONTENT_LENGTH,
        CONTENT_TYPE,
        EXPECT,
        HOST,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
        USER_AGENT,
    ];
    const OTHERS: [&str; 3] = ["idempotency-key", "keep-alive", "proxy-connection"];
    MESSAGE.contains(name)
        || OTHERS.contains(&name.as_str())
        || OWN.iter().any(|prefix| name.as_str().starts_with(prefix))
}
