//! Stores the Pepay account that the events of each source come from.

use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::session::Session;
use super::words::clean;
use crate::domain::clock::UnixMillis;
use crate::domain::event::Environment;
use crate::store::identity::SourceIdentity;

/// Selects the stored identities, by source; `pepay` comes before the streams.
pub(super) const ALL: &str =
    "SELECT source, api_url, environment, account FROM source_identity ORDER BY source";

/// Returns the stored identities, by source; `pepay` comes before the streams.
pub(super) async fn all(session: &mut Session) -> Result<Vec<SourceIdentity>, sqlx::Error> {
    session.rows(sqlx::query(ALL)).await?.iter().map(of).collect()
}

/// Returns the identity in `row`.
pub(super) fn of(row: &PgRow) -> Result<SourceIdentity, sqlx::Error> {
    let environment: Option<&str> = row.try_get("environment")?;
    Ok(SourceIdentity {
        source: row.try_get::<&str, _>("source")?.into(),
        api_url: row.try_get("api_url")?,
        environment: environment.and_then(|name| name.parse().ok()),
        account: row.try_get("account")?,
    })
}

/// Stores an identity, in place of an earlier one of the same source.
pub(super) async fn note(
    session: &mut Session,
    identity: &SourceIdentity,
    now: UnixMillis,
) -> Result<(), sqlx::Error> {
    let SourceIdentity { source, api_url, environment, account } = identity;
    let insert = "INSERT INTO source_identity (source, api_url, environment, account, since) \
                  VALUES ($1, $2, $3, $4, $5) ON CONFLICT (source) DO UPDATE \
                  SET api_url = excluded.api_url, environment = excluded.environment, account = excluded.account";
    let query = sqlx::query(insert)
        .bind(clean(source))
        .bind(clean(api_url))
        .bind(environment.map(Environment::as_str))
        .bind(account.as_deref().map(clean))
        .bind(now.0);
    session.execute(query).await.map(drop)
}
