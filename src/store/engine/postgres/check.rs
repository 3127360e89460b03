//! Checks a store for `doctor`. Changes nothing.

use sqlx::{AssertSqlSafe, Row as _};

use super::connect::Address;
use super::migrate::{self, Found};
use crate::store::error::OpenError;
use crate::store::settings::{Durability, Server};

/// The state of a store on a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerCheckup {
    /// The version of the server.
    pub version: String,
    /// The version of the schema; `None` if the schema is still to be created.
    pub schema: Option<i64>,
    /// The newest schema version that this program knows.
    pub newest_schema: i64,
    /// The number of processes that share the store now.
    pub replicas: u64,
    /// The settings of the server that decide what a commit waits for.
    pub commits: String,
}

/// Checks the store of `server`.
///
/// # Errors
/// [`OpenError`] if a bridge could not open it either.
pub async fn examine(server: &Server, durability: Durability) -> Result<ServerCheckup, OpenError> {
    let address = Address::of(server, durability)?;
    let mut connection = migrate::connect(&address).await?;
    let schema = match migrate::find(&mut connection, &address, &server.schema).await? {
        Found::Nothing => None,
        Found::Version(version) => Some(version),
    };
    let text = async |connection: &mut sqlx::PgConnection, query: String| {
        let row = sqlx::raw_sql(AssertSqlSafe(query)).fetch_one(connection).await?;
        row.try_get::<String, _>(0)
    };
    let settings = "SELECT format('synchronous_commit = %s, synchronous_standby_names = ''%s''', \
                    current_setting('synchronous_commit'), current_setting('synchronous_standby_names'))";
    let version = "SELECT current_setting('server_version')";
    let failed = |error: sqlx::Error| address.error(&error);
    let version = text(&mut connection, version.to_owned()).await.map_err(failed)?;
    let commits = text(&mut connection, settings.to_owned()).await.map_err(failed)?;
    let replicas = if schema.is_some() {
        let living = format!(
            "SELECT count(*)::text FROM \"{}\".replica WHERE expires_at > clock_timestamp()",
            server.schema
        );
        text(&mut connection, living).await.map_err(failed)?.parse().unwrap_or(0)
    } else {
        0
    };
    Ok(ServerCheckup { version, schema, newest_schema: migrate::newest(), replicas, commits })
}
