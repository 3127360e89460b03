//! Stores the Pepay account that the events of each source come from.

use rusqlite::{Connection, params};

use crate::domain::clock::UnixMillis;
use crate::domain::event::Environment;
use crate::store::identity::SourceIdentity;

/// Returns the stored identities, by source; `pepay` comes before the streams.
pub(super) fn all(connection: &Connection) -> rusqlite::Result<Vec<SourceIdentity>> {
    let query = "SELECT source, api_url, environment, account FROM source_identity ORDER BY source";
    let mut select = connection.prepare(query)?;
    let rows = select.query_map([], |row| {
        let environment: Option<String> = row.get("environment")?;
        Ok(SourceIdentity {
            source: row.get::<_, String>("source")?.into(),
            api_url: row.get("api_url")?,
            environment: environment.and_then(|name| name.parse().ok()),
            account: row.get("account")?,
        })
    })?;
    rows.collect()
}

/// Stores an identity, in place of an earlier one of the same source.
pub(super) fn note(
    connection: &Connection,
    identity: &SourceIdentity,
    now: UnixMillis,
) -> rusqlite::Result<()> {
    let SourceIdentity { source, api_url, environment, account } = identity;
    let mut insert = connection.prepare_cached(
        "INSERT INTO source_identity (source, api_url, environment, account, since) VALUES (?1, ?2, ?3, ?4, ?5) \
         ON CONFLICT (source) DO UPDATE SET api_url = ?2, environment = ?3, account = ?4",
    )?;
    let environment = environment.map(Environment::as_str);
    insert.execute(params![source, api_url, environment, account, now.0]).map(drop)
}
