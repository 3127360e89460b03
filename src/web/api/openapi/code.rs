//! The `OpenAPI` document as the code of the handlers has it.

use utoipa::OpenApi;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Ref, ResponseBuilder, Server};

use crate::web::api::problem::{self, Problem};
use crate::web::api::schema::ActionName;
use crate::web::api::{
    audit, bridge, bulk, deliveries, events, export, history, live, openapi, overview, streams, targets,
    under_way,
};

/// The name of the security scheme.
const TOKEN: &str = "admin_token";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "pepay-bridge admin API",
        description = "What an operator sees and does. Failures are problem details (RFC 9457); unknown \
                       parameters and members are refused by name.",
    ),
    paths(
        events::list, export::export, events::show, events::body, events::replay, events::verify,
        deliveries::list, deliveries::show, deliveries::act, bulk::act, bulk::replay, bulk::move_all,
        under_way::list,
        targets::list, targets::pause, targets::resume, targets::test,
        streams::list, streams::reconnect, streams::backfill,
        overview::show, history::show, audit::list, live::listen, bridge::reload, bridge::test_alerts,
        openapi::show,
    ),
    components(schemas(Problem, ActionName)),
    tags(
        (name = "events", description = "What Pepay has sent"),
        (name = "deliveries", description = "Events on their way to targets"),
        (name = "targets", description = "Where events go"),
        (name = "streams", description = "Where events come from"),
        (name = "bridge", description = "The bridge as a whole"),
    ),
)]
struct Document;

/// Returns the document; `guarded` says whether calls need a token. Only tests call this: a bridge serves
/// the text in `openapi.json`.
pub fn document(guarded: bool) -> utoipa::openapi::OpenApi {
    let mut document = Document::openapi();
    env!("CARGO_PKG_VERSION").clone_into(&mut document.info.version);
    document.servers = Some(vec![Server::new("/")]);
    for item in document.paths.paths.values_mut() {
        complete(item, guarded);
    }
    if guarded {
        let bearer = Http::builder().scheme(HttpAuthScheme::Bearer);
        let bearer = bearer.description(Some("The value of `server.admin_token`, or of a token in `[server.tokens.NAME]` whose scope includes the call.")).build();
        document.components.get_or_insert_default().add_security_scheme(TOKEN, SecurityScheme::Http(bearer));
        document.security = Some(vec![SecurityRequirement::new(TOKEN, [""; 0])]);
    }
    document
}

/// Adds the problems that any call may return.
fn complete(item: &mut PathItem, guarded: bool) {
    let any: &[_] = if guarded {
        &[
            ("401", "Not the right token"),
            ("403", "The token's scope does not include that"),
            ("429", "Too many wrong tokens from this address; see `Retry-After`"),
        ]
    } else {
        &[("403", "Not a loopback host")]
    };
    let wrong = [("400", "A parameter or member is unknown or wrong; `errors` names each")];
    let short =
        [("503", "The store does not answer, or something else is short for a moment; see `Retry-After`")];
    let change = [
        ("408", "The body has not arrived in time"),
        ("413", "The body is too long"),
        ("415", "The body is not said to be JSON"),
    ];
    let all = || any.iter().chain(&wrong).chain(&short);
    item.get.iter_mut().for_each(|get| add(get, all()));
    item.post.iter_mut().for_each(|post| add(post, all().chain(&change)));
}

fn add<'a>(operation: &mut Operation, problems: impl Iterator<Item = &'a (&'static str, &'static str)>) {
    for (status, description) in problems {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
        let response =
            ResponseBuilder::new().description(*description).content(problem::MEDIA_TYPE, content).build();
        operation.responses.responses.entry((*status).to_owned()).or_insert_with(|| response.into());
    }
}
