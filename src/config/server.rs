//! `[server]` and `[log]`.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tracing_subscriber::EnvFilter;

use super::form::{self, Form, HOUR, SECOND};
use super::problem::Faulty;
use super::section::Section;
use crate::{telemetry, web};

/// The default of `server.listen`.
const LISTEN: &str = "0.0.0.0:8080";

/// The listeners, and how long a stop may take.
pub(super) fn read(mut section: Section<'_>) -> Result<(web::Settings, Duration), Faulty> {
    let listen = listen(&mut section);
    let admin_listen = section.value("admin_listen", "127.0.0.1:9090", &form::address());
    let shutdown_grace = section.value("shutdown_grace", "25s", &form::duration(Duration::ZERO..=HOUR));
    let keep_alive = section.value("keep_alive", "75s", &form::duration(SECOND..=HOUR));
    let admin_token = section.header_safe_secret("admin_token");
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
    if let (Ok(admin), Ok(None)) = (admin_listen, &admin_token)
        && !admin.ip().to_canonical().is_loopback()
    {
        section.problem(
            "admin_listen",
            &format!(
                "`{admin}` is reachable from outside and there is no `server.admin_token`; \
                 allowed without one is a loopback address such as `127.0.0.1:9090`"
            ),
        );
    }
    section.finish();
    let web = web::Settings {
        listen: listen?,
        admin_listen: admin_listen?,
        admin_token: admin_token?,
        keep_alive: keep_alive?,
    };
    Ok((web, shutdown_grace?))
}

/// The address of the public listener.
pub(super) fn listen(section: &mut Section<'_>) -> Result<SocketAddr, Faulty> {
    section.value("listen", LISTEN, &form::address())
}

/// Whether the second of two listeners could not bind.
fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let everywhere = |ip: IpAddr| ip.is_unspecified();
    let same_ip = a.ip() == b.ip() || everywhere(a.ip()) || everywhere(b.ip());
    // Port 0 is a different one each time.
    same_ip && a.port() == b.port() && a.port() != 0
}

/// How the bridge logs.
pub(super) fn read_log(mut section: Section<'_>) -> Result<telemetry::Settings, Faulty> {
    use telemetry::Format;
    let format =
        section.value("format", "text", &form::choice(&[("text", Format::Text), ("json", Format::Json)]));
    let filter = section.value("filter", "info", &filter());
    section.finish();
    Ok(telemetry::Settings { format: format?, filter: filter? })
}

fn filter() -> Form<String> {
    Form::text(|text| match EnvFilter::builder().parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!(
            "{} is not a filter ({error}); allowed are values such as `info` or `info,pepay_bridge::delivery=debug`",
            super::problem::quoted(text)
        )),
    })
}
