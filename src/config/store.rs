//! `[store]`.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::SecretString;
use url::Url;

use super::form::{self, DAY, Form, show_duration};
use super::problem::{Faulty, quoted};
use super::section::Section;
use super::streams::Subscription;
use super::targets::client_identity;
use crate::delivery::tls::Roots;
use crate::source::webhook;
use crate::store::{self, Durability, Place, Server};

/// The longest retention, a century. A longer one is taken for a mistake. Below this limit no sum of
/// times overflows.
const LONGEST: Duration = DAY.saturating_mul(36_500);

/// The least time for which ids are kept. A repeat of an event whose id is no longer kept counts as new
/// and is delivered again. Pepay does not document for how long it repeats a webhook, or how far back a
/// stream's replay or snapshot reaches. No sender of webhooks is known to retry for as long as a week.
const SHORTEST_MEMORY: Duration = DAY.saturating_mul(7);

/// Reads `[store]`: the database and the retentions.
pub(super) fn read(mut section: Section<'_>) -> Result<store::Settings, Faulty> {
    let place = place(&mut section);
    let durability = form::choice(&[("full", Durability::Full), ("normal", Durability::Normal)]);
    let durability = section.value("durability", "full", &durability);
    let payload_retention =
        section.value("payload_retention", "30d", &form::duration(Duration::ZERO..=LONGEST));
    let dedupe_retention =
        section.value("dedupe_retention", "365d", &form::duration(SHORTEST_MEMORY..=LONGEST));
    let audit_retention = section.value("audit_retention", "365d", &form::duration(DAY..=LONGEST));
    section.at_most(("payload_retention", payload_retention), ("dedupe_retention", dedupe_retention));
    let dead_retention = section.value("dead_retention", "365d", &form::duration(Duration::ZERO..=LONGEST));
    section.finish();
    let retention = store::Retention {
        payloads: payload_retention?,
        ids: dedupe_retention?,
        dead: dead_retention?,
        audit: audit_retention?,
    };
    Ok(store::Settings { place: place?, durability: durability?, retention })
}

/// Records a problem for each sweep or webhook endpoint that can repeat events older than the kept ids.
pub(super) fn outlives_repeats(
    root: &mut Section<'_>,
    settings: &store::Settings,
    streams: &[Subscription],
    webhooks: &[webhook::Settings],
) {
    let memory = settings.retention.ids;
    let sweeps =
        streams.iter().map(|stream| &stream.settings).filter(|stream| stream.reconcile_interval.is_some());
    let sweeps = sweeps.map(|stream| {
        // A sweep looks back over two intervals at least.
        let (intervals, lookback) =
            (stream.reconcile_interval.unwrap_or_default() * 2, stream.reconcile_lookback);
        let (what, reach) = if intervals > lookback {
            ("reconcile_interval` twice", intervals)
        } else {
            ("reconcile_lookback`", lookback)
        };
        (format!("`streams.{}.{what}", stream.name), reach)
    });
    let repeats =
        webhooks.iter().map(|webhook| (format!("`webhooks.{}.tolerance`", webhook.name), webhook.tolerance));
    for (key, reach) in sweeps.chain(repeats).filter(|(_, reach)| *reach >= memory) {
        let (memory, reach) = (show_duration(memory), show_duration(reach));
        let fault = format!(
            "`{memory}` is too short: ids would be forgotten while Pepay can still repeat them; \
             allowed is more than {key}, which is `{reach}`"
        );
        root.problem("store.dedupe_retention", &fault);
    }
}

/// Reads the place of the database. The scheme of `url`, or of the content of `url_file`, decides between
/// a file and a server.
fn place(section: &mut Section<'_>) -> Result<Place, Faulty> {
    let url = section.text_or_file("url", "sqlite://data/pepay-bridge.db", shown);
    let listen_url = listen_url(section);
    let schema = section.value("schema", "pepay_bridge", &schema());
    let connections = section.value("connections", "4", &form::number(1..=100));
    let shares = form::choice(&[("none", false), ("transaction", true)]);
    let pooled = section.value("pooler", "none", &shares);
    let ca_file = ca_file(section);
    let client_identity = client_identity(section);
    let url = url?;
    if !is_server(&url) {
        return match path(&url) {
            Ok(path) => Ok(Place::File(path)),
            Err(fault) => Err(section.problem("url", &fault)),
        };
    }
    if let Err(fault) = server_url(&url, ALLOWED) {
        return Err(section.problem("url", &fault));
    }
    Ok(Place::Server(Server {
        url: url.into(),
        listen_url: listen_url?,
        ca_file: ca_file?,
        client_identity: client_identity?.map(|(_, files)| files),
        schema: schema?,
        connections: connections?,
        pooled: pooled?,
    }))
}

/// Reads the path of a file of root certificates. The driver of the server reads the file itself, at each
/// connection.
fn ca_file(section: &mut Section<'_>) -> Result<Option<PathBuf>, Faulty> {
    let Some(path) = section.optional_file("ca_file")? else { return Ok(None) };
    match Roots::read(path.clone()) {
        Ok(_) => Ok(Some(path)),
        Err(error) => {
            Err(section.problem("ca_file", &format!("{error}; allowed is a file of PEM certificates")))
        }
    }
}

const ALLOWED: &str = "allowed is `sqlite://PATH`, such as `sqlite://data/pepay-bridge.db`, or \
                       `postgres://USER:PASSWORD@HOST:PORT/DATABASE`";

const ALLOWED_SERVER: &str = "allowed is `postgres://USER:PASSWORD@HOST:PORT/DATABASE`";

/// The allowed values of `sslmode`.
const TLS_MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

fn is_server(url: &str) -> bool {
    url.starts_with("postgres://") || url.starts_with("postgresql://")
}

/// Returns the text that is shown for a URL: that of a server has no password.
fn shown(text: &str) -> String {
    if !is_server(text) {
        return text.to_owned();
    }
    match Url::parse(text) {
        Ok(mut url) => {
            // An error means that the URL cannot have a password.
            let _ = url.set_password(None);
            url.to_string()
        }
        Err(_) => "postgres://[redacted]".to_owned(),
    }
}

/// Checks the URL of a server. No message repeats the URL, since it may contain a password.
fn server_url(text: &str, allowed: &str) -> Result<(), String> {
    let url = Url::parse(text).map_err(|error| format!("is no URL ({error}); {allowed}"))?;
    if url.host_str().is_none_or(str::is_empty) {
        return Err(format!("names no server; {allowed}"));
    }
    if url.host_str().is_some_and(|host| host.contains(',')) {
        return Err(format!("names several servers: name the address that leads to the primary; {allowed}"));
    }
    if url.path().trim_matches('/').is_empty() {
        return Err(format!("names no database; {allowed}"));
    }
    let is_known =
        |(key, value): (Cow<'_, str>, Cow<'_, str>)| key == "sslmode" && TLS_MODES.contains(&&*value);
    // In a path the name of a socket is encoded too.
    let parts =
        [url.username(), url.password().unwrap_or_default(), url.host_str().unwrap_or_default(), url.path()];
    if !parts.into_iter().all(is_encoded_text) {
        return Err(format!("has a `%` that encodes no UTF-8; write `%25` for the sign itself; {allowed}"));
    }
    if url.fragment().is_some() || !url.query_pairs().all(is_known) {
        return Err(format!(
            "has parameters that are not known; allowed is `sslmode` with one of `{}`",
            TLS_MODES.join("`, `")
        ));
    }
    Ok(())
}

/// Returns whether the bytes that `text` encodes by `%` are UTF-8.
fn is_encoded_text(text: &str) -> bool {
    let mut pieces = text.split('%');
    let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        match piece.get(..2).and_then(|digits| hex::decode(digits).ok()) {
            Some(byte) => bytes.extend(byte.into_iter().chain(piece.bytes().skip(2))),
            None => bytes.extend(b"%".iter().copied().chain(piece.bytes())),
        }
    }
    std::str::from_utf8(&bytes).is_ok()
}

/// Reads `listen_url`, another URL of the server that `url` names. An empty text means none.
fn listen_url(section: &mut Section<'_>) -> Result<Option<SecretString>, Faulty> {
    let url = section.text_or_file("listen_url", "", shown)?;
    if url.is_empty() {
        return Ok(None);
    }
    let checked = if is_server(&url) {
        server_url(&url, ALLOWED_SERVER)
    } else {
        Err(format!("is no URL of PostgreSQL; {ALLOWED_SERVER}"))
    };
    match checked {
        Ok(()) => Ok(Some(url.into())),
        Err(fault) => Err(section.problem("listen_url", &fault)),
    }
}

/// The form of a schema name that needs no quotation marks in SQL.
fn schema() -> Form<String> {
    Form::text(|text| {
        let is_letter = |c: char| c.is_ascii_lowercase() || c == '_';
        let is_name = text.starts_with(is_letter) && text.chars().all(|c| is_letter(c) || c.is_ascii_digit());
        if is_name && text.len() <= 63 && !text.starts_with("pg_") {
            return Ok(text.to_owned());
        }
        let fault = "is no name of a schema; allowed are 1 to 63 of `a` to `z`, `0` to `9` and `_`, not beginning \
                     with a digit or `pg_`";
        Err(format!("{} {fault}", quoted(text)))
    })
}

/// Returns the path of `sqlite://PATH` or `sqlite:PATH`.
fn path(text: &str) -> Result<PathBuf, String> {
    let path = text.strip_prefix("sqlite://").or_else(|| text.strip_prefix("sqlite:"));
    let Some(path) = path else {
        return Err(format!("is no URL of SQLite or PostgreSQL; {ALLOWED}"));
    };
    let fault = match path {
        "" => "names no file",
        _ if path.contains(":memory:") => "is a database in memory, which would not outlive the process",
        _ if path.contains(['?', '#']) || path.starts_with("file:") => "has parameters",
        _ if path.ends_with('/') || Path::new(path).is_dir() => "names a folder",
        _ => return Ok(path.into()),
    };
    Err(format!("{fault}; {ALLOWED}"))
}
