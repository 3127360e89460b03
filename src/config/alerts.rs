//! `[alerts]`.

use std::collections::BTreeSet;

use secrecy::ExposeSecret as _;

use super::form::{self, Form};
use super::problem::{Faulty, quoted};
use super::section::Section;
use super::targets::signing_keys;
use crate::alerts::{self, Format};
use crate::domain::alert::Kind;

/// Reads the settings. Returns `None` without a `url`.
pub(super) fn read(mut section: Section<'_>) -> Result<Option<alerts::Settings>, Faulty> {
    let url = section.hidden("url");
    let format = form::choice(&[("json", Format::Json), ("slack", Format::Slack)]);
    let format = section.value("format", "json", &format);
    let signing_keys = signing_keys(&mut section);
    let defaults = Kind::ALL.map(Kind::as_str);
    let on = section.list("on", &defaults, &kind());
    let url = url.and_then(|url| {
        let Some(url) = url else { return Ok(None) };
        let form = form::url(["https", "http"], "give it a path or a query that cannot be guessed");
        form.read(url.expose_secret()).map(Some).map_err(|fault| section.problem("url", &fault))
    });
    section.finish();
    let (format, signing_keys, on) = (format?, signing_keys?, on?);
    let on: BTreeSet<_> = on.into_iter().collect();
    Ok(url?.map(|url| alerts::Settings { url, signing_keys, format, on }))
}

fn kind() -> Form<Kind> {
    Form::text(|text| {
        Kind::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| {
            let all: Vec<_> = Kind::ALL.iter().map(|kind| format!("`{kind}`")).collect();
            format!("{} is nothing to alert of; allowed are {}", quoted(text), all.join(", "))
        })
    })
}
