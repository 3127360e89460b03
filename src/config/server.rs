//! `[server]` and `[log]`.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::form::{self, Form, HOUR, SECOND};
use super::problem::{Faulty, quoted};
use super::section::Section;
use crate::web::{Scope, Token};
use crate::{telemetry, web};

/// The default of `server.listen`.
const LISTEN: &str = "0.0.0.0:8080";

/// Reads `[server]`: the settings of the listeners, and the longest time for a soft stop.
pub(super) fn read(mut section: Section<'_>) -> Result<(web::Settings, Duration), Faulty> {
    let listen = listen(&mut section);
    let admin_listen = section.value("admin_listen", "127.0.0.1:9090", &form::address());
    let shutdown_grace = section.value("shutdown_grace", "25s", &form::duration(Duration::ZERO..=HOUR));
    let keep_alive = section.value("keep_alive", "75s", &form::duration(SECOND..=HOUR));
    let admin_token = section.header_safe_secret("admin_token");
    let admin_token = long_enough(&mut section, "admin_token", admin_token);
    let mut tokens = section.sections("tokens", token);
    if let Ok(all) = &tokens
        && let Some(fault) = shared(all, admin_token.as_ref().ok().and_then(Option::as_ref))
    {
        tokens = Err(section.problem("tokens", &fault));
    }
    if let (Ok(listen), Ok(admin)) = (listen, admin_listen)
        && collide(listen, admin)
    {
        section.problem(
            "admin_listen",
            &format!(
                "`{admin}` is taken by `server.listen` (`{listen}`); allowed is another port or address"
            ),
        );
    }
    let is_open = matches!((&admin_token, &tokens), (Ok(None), Ok(tokens)) if tokens.is_empty());
    if let (Ok(admin), true) = (admin_listen, is_open)
        && !admin.ip().to_canonical().is_loopback()
    {
        section.problem(
            "admin_listen",
            &format!(
                "`{admin}` is reachable from outside and there is no `server.admin_token` and no `[server.tokens.NAME]`; \
                 allowed without one is a loopback address such as `127.0.0.1:9090`"
            ),
        );
    }
    section.finish();
    let web = web::Settings {
        listen: listen?,
        admin_listen: admin_listen?,
        admin_token: admin_token?,
        tokens: tokens?,
        keep_alive: keep_alive?,
    };
    Ok((web, shutdown_grace?))
}

/// The least number of characters of a token. A shorter one could be guessed over the network.
const LEAST_TOKEN: usize = 16;

/// Reads one `[server.tokens.NAME]`.
fn token(name: &str, mut section: Section<'_>) -> Result<Token, Faulty> {
    let secret = section.header_safe_secret("token");
    let secret = match long_enough(&mut section, "token", secret) {
        Ok(None) => Err(section.problem("token", "is missing; allowed is a token, or `token_file`")),
        Ok(Some(secret)) => Ok(secret),
        Err(faulty) => Err(faulty),
    };
    let scope =
        form::choice(&[("metrics", Scope::Metrics), ("read", Scope::Read), ("operate", Scope::Operate)]);
    let scope = section.required("scope", "`metrics`, `read` or `operate`", &scope);
    section.finish();
    Ok(Token { name: format!("server.tokens.{name}").into(), scope: scope?, secret: secret? })
}

fn long_enough(
    section: &mut Section<'_>,
    key: &str,
    secret: Result<Option<SecretString>, Faulty>,
) -> Result<Option<SecretString>, Faulty> {
    match secret {
        Ok(Some(secret)) if secret.expose_secret().len() < LEAST_TOKEN => {
            let fault =
                format!("has a value that is too short; allowed are at least {LEAST_TOKEN} characters");
            Err(section.problem(key, &fault))
        }
        secret => secret,
    }
}

/// Returns the fault if two of the tokens are the same. The scope of a request would be ambiguous.
fn shared(tokens: &[Token], admin: Option<&SecretString>) -> Option<String> {
    let all = tokens.iter().map(|token| (&*token.name, &token.secret));
    let all: Vec<_> = admin.map(|secret| ("server.admin_token", secret)).into_iter().chain(all).collect();
    all.iter().enumerate().find_map(|(index, (name, secret))| {
        let same = |(_, other): &&(&str, &SecretString)| other.expose_secret() == secret.expose_secret();
        let (other, _) = all[..index].iter().find(same)?;
        Some(format!("has the same token as `{other}` in `{name}`; allowed is a token of its own"))
    })
}

/// Reads the address of the public listener.
pub(super) fn listen(section: &mut Section<'_>) -> Result<SocketAddr, Faulty> {
    section.value("listen", LISTEN, &form::address())
}

/// Returns whether the second of two listeners could not bind.
fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let everywhere = |ip: IpAddr| ip.is_unspecified();
    let same_ip = a.ip() == b.ip() || everywhere(a.ip()) || everywhere(b.ip());
    // The system chooses a different port for each bind to port 0.
    same_ip && a.port() == b.port() && a.port() != 0
}

/// Reads the format of the log.
pub(super) fn log_format(section: &mut Section<'_>) -> Result<telemetry::Format, Faulty> {
    use telemetry::Format;
    section.value("format", "text", &form::choice(&[("text", Format::Text), ("json", Format::Json)]))
}

/// Reads `[log]`.
pub(super) fn read_log(mut section: Section<'_>) -> Result<telemetry::Settings, Faulty> {
    let format = log_format(&mut section);
    let filter = section.value("filter", "info", &filter());
    if let Some(word) = filter.as_deref().ok().and_then(taken_for_a_module) {
        let found = format!("has {}, which is no level and is taken for a module", quoted(word));
        section.warn("filter", found, "name a level for all lines: error, warn, info, debug, trace or off");
    }
    section.finish();
    Ok(telemetry::Settings { format: format?, filter: filter? })
}

/// Returns a word of `filter` that is neither a level nor this program, if no other word is a level for
/// all lines. A misspelt level is such a word, and turns every other line off.
fn taken_for_a_module(filter: &str) -> Option<&str> {
    let words = || filter.split(',').map(str::trim).filter(|word| !word.contains(['=', '[', ':']));
    let is_level = |word: &str| word.parse::<LevelFilter>().is_ok();
    let unknown = words().find(|word| !word.is_empty() && !is_level(word) && *word != PROGRAM);
    unknown.filter(|_| !words().any(is_level))
}

/// The module of all lines of this program.
const PROGRAM: &str = "pepay_bridge";

fn filter() -> Form<String> {
    Form::text(|text| match EnvFilter::builder().parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!(
            "{} is not a filter ({error}); allowed are values such as `info` or `info,pepay_bridge::delivery=debug`",
            quoted(text)
        )),
    })
}
