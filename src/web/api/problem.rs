//! Problem details (RFC 9457), the answers of calls that fail.

use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::operator::OperationError;
use crate::domain::reload::ReloadError;
use crate::store::error::{ActError, ReadError, RecordError};
use crate::web::audit::Code;

/// The media type of a problem.
pub(super) const MEDIA_TYPE: &str = "application/problem+json";

/// `Retry-After` while the store is unavailable, in seconds.
const RETRY_SECONDS: &str = "2";

/// Problem details as of RFC 9457.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::web) struct Problem {
    /// `urn:pepay-bridge:problem:` and the code of this kind of problem.
    #[serde(rename = "type")]
    #[schema(pattern = "^urn:pepay-bridge:problem:[a-z_]+$")]
    kind: String,
    /// The status in words.
    title: &'static str,
    /// The status of the answer.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// The fault of this request, in words.
    detail: String,
    /// Every wrong value.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Fault>,
    /// The number of deliveries that match the filter now, if another number was confirmed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    matching: Option<u64>,
}

/// A wrong value.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct Fault {
    /// The parameter or member, such as `limit` or `filter.state`.
    name: String,
    /// The fault.
    reason: String,
    /// The allowed values, if they can be listed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    allowed: Vec<String>,
}

/// All faults of a request, which one answer lists together.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<Fault>);

impl Faults {
    /// Notes that `name` is wrong.
    pub(super) fn note(&mut self, name: impl Into<String>, reason: impl Into<String>) {
        self.note_allowed(name, reason, [""; 0]);
    }

    /// Notes that `name` is wrong, and the allowed values.
    pub(super) fn note_allowed<A: ToString>(
        &mut self,
        name: impl Into<String>,
        reason: impl Into<String>,
        allowed: impl IntoIterator<Item = A>,
    ) {
        let allowed = allowed.into_iter().map(|value| value.to_string()).collect();
        self.0.push(Fault { name: name.into(), reason: reason.into(), allowed });
    }

    /// Notes all of `other` as well.
    pub(super) fn absorb(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Refuses the request if a fault was noted.
    pub(super) fn check(self) -> Result<(), Problem> {
        let Some(first) = self.0.first() else { return Ok(()) };
        let more = if self.0.len() > 1 { ", and more is wrong" } else { "" };
        let detail = format!("`{}` {}{more}", first.name, first.reason);
        Err(Problem { errors: self.0, ..Problem::new(StatusCode::BAD_REQUEST, "invalid_request", detail) })
    }
}

impl Problem {
    pub(in crate::web) fn new(status: StatusCode, code: &str, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:pepay-bridge:problem:{code}"),
            title: status.canonical_reason().unwrap_or_default(),
            status: status.as_u16(),
            detail: detail.into(),
            errors: Vec::new(),
            matching: None,
        }
    }

    /// Returns the problem that `what` does not exist.
    pub(super) fn not_found(what: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", what)
    }

    /// Returns the problem that `name` does not exist, with the `known` ones: `no target "x"; there
    /// are: a, b`.
    pub(super) fn no_such(kind: &str, name: &str, known: &[String]) -> Self {
        let there = match known {
            [] => "there is none".to_owned(),
            known => format!("there are: {}", known.join(", ")),
        };
        Self::not_found(format!("no {kind} \"{name}\"; {there}"))
    }

    /// Returns the problem that the present state does not allow the call.
    pub(super) fn conflict(code: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, detail)
    }

    /// Returns the problem that retention has removed the requested data.
    pub(super) fn gone(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, "payload_removed", detail)
    }

    /// Returns the problem that the store does not answer, or that another resource is short for a
    /// moment.
    pub(super) fn unavailable(code: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail)
    }

    /// Returns the problem that another number was confirmed than matches now.
    pub(super) fn count_changed(confirmed: u64, matching: u64) -> Self {
        let detail = format!("{confirmed} were confirmed and {matching} match now; nothing was changed");
        Self { matching: Some(matching), ..Self::conflict("count_changed", detail) }
    }

    /// Returns the problem of an invalid configuration, with all its faults.
    fn configuration(reasons: Vec<String>) -> Self {
        let detail = "the configuration is not valid; nothing was changed";
        let errors = reasons
            .into_iter()
            .map(|reason| Fault { name: "configuration".to_owned(), reason, allowed: Vec::new() })
            .collect();
        Self { errors, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_configuration", detail) }
    }

    /// Returns the fault in words.
    pub(super) fn detail(&self) -> &str {
        &self.detail
    }

    /// Returns the code of the problem, for the audit trail.
    fn code(&self) -> &str {
        self.kind.rsplit(':').next().unwrap_or_default()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let code = Code(self.code().to_owned());
        let mut response = (status, axum::Json(self)).into_response();
        response.extensions_mut().insert(code);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static(RETRY_SECONDS));
        }
        response
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        Self::unavailable("store_unavailable", error.to_string())
    }
}

impl From<RecordError> for Problem {
    fn from(error: RecordError) -> Self {
        Self::unavailable("store_unavailable", error.to_string())
    }
}

impl From<ActError> for Problem {
    fn from(error: ActError) -> Self {
        let detail = error.to_string();
        match error {
            ActError::NoSuchEvent | ActError::NoSuchTarget | ActError::NoSuchDelivery => {
                Self::not_found(detail)
            }
            ActError::NotAllowed { state, allowed } => {
                let mut faults = Faults::default();
                let allowed = allowed.iter().map(|state| state.as_str());
                faults.note_allowed("state", format!("is {}", state.as_str()), allowed);
                Self { errors: faults.0, ..Self::conflict("state_not_allowed", detail) }
            }
            ActError::OnTheWire => Self::conflict("on_the_wire", detail),
            ActError::NotConfigured => Self::conflict("target_removed", detail),
            ActError::AlreadyThere => Self::conflict("already_there", detail),
            ActError::InUse => Self::conflict("target_in_use", detail),
            ActError::PayloadGone => Self::gone(detail),
            ActError::Store(error) => error.into(),
        }
    }
}

impl From<ReloadError> for Problem {
    fn from(error: ReloadError) -> Self {
        match error {
            ReloadError::Invalid(reasons) => Self::configuration(reasons),
            ReloadError::Unavailable(reason) => {
                let detail = format!("the configuration was not reloaded, nothing was changed: {reason}");
                Self::unavailable("reload_unavailable", detail)
            }
        }
    }
}

impl From<OperationError> for Problem {
    fn from(error: OperationError) -> Self {
        let detail = error.to_string();
        match error {
            OperationError::Unknown => Self::not_found(detail),
            OperationError::Busy => Self::conflict("busy", detail),
            OperationError::Refused(_) => Self::conflict("refused", detail),
            OperationError::Pepay(_) => Self::new(StatusCode::BAD_GATEWAY, "pepay_failed", detail),
            OperationError::Elsewhere => Self::unavailable("elsewhere", detail),
            OperationError::Unavailable(_) => Self::unavailable("store_unavailable", detail),
        }
    }
}
