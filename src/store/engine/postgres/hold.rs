//! Stores what keeps a target from deliveries beyond a restart: a pause, and a `Retry-After`.

use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::session::Session;
use crate::domain::clock::UnixMillis;
use crate::store::error::ActError;
use crate::store::types::TargetId;
use crate::store::view::RetryAfter;

/// Stores why `target` is paused; with no `reason`, that it is not.
pub(super) async fn pause(
    session: &mut Session,
    target: &str,
    reason: Option<&str>,
    now: UnixMillis,
) -> Result<Result<(), ActError>, sqlx::Error> {
    let update = "UPDATE target SET paused_reason = $2::text, \
                  paused_at = CASE WHEN $2::text IS NOT NULL THEN coalesce(paused_at, $3) END WHERE name = $1";
    let known = session.execute(sqlx::query(update).bind(target).bind(reason).bind(now.0)).await? == 1;
    Ok(if known { Ok(()) } else { Err(ActError::NoSuchTarget) })
}

/// Stores the `Retry-After` of `target`; with no `retry_after`, that it has none.
pub(super) async fn set_retry_after(
    session: &mut Session,
    target: &str,
    retry_after: Option<&RetryAfter>,
) -> Result<Result<(), ActError>, sqlx::Error> {
    let update =
        "UPDATE target SET retry_after_until = $2::bigint, retry_after_address = $3::text WHERE name = $1";
    let query = sqlx::query(update).bind(target).bind(retry_after.map(|one| one.until.0));
    let known = session.execute(query.bind(retry_after.map(|one| &*one.address))).await? == 1;
    Ok(if known { Ok(()) } else { Err(ActError::NoSuchTarget) })
}

/// Returns the stored `Retry-After` of `target`.
pub(super) async fn retry_after(
    session: &mut Session,
    target: TargetId,
) -> Result<Option<RetryAfter>, sqlx::Error> {
    let select = "SELECT retry_after_until, retry_after_address FROM target \
                  WHERE id = $1 AND retry_after_until IS NOT NULL AND retry_after_address IS NOT NULL";
    let rows = session.rows(sqlx::query(select).bind(target.0)).await?;
    let read = |row: &PgRow| {
        let until = UnixMillis(row.try_get("retry_after_until")?);
        Ok(RetryAfter { until, address: row.try_get("retry_after_address")? })
    };
    rows.first().map(read).transpose()
}
