//! Moves a store from a file of `SQLite` into an empty schema. The move is one transaction, which
//! is read back and compared before it is committed. An interrupted move leaves nothing behind.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::TryStreamExt as _;
use rusqlite::types::ValueRef;
use sha2::{Digest as _, Sha256};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _, PgConnection, Row as _};

use super::connect::{Address, BEGIN, UNHURRIED};
use super::migrate;
use crate::store::engine::sqlite::open;
use crate::store::error::OpenError;
use crate::store::settings::{Durability, Server};

/// The number of bytes that are sent at a time.
const CHUNK: usize = 256 * 1024;

/// A table, its columns, and the columns of its order.
struct Table(&'static str, &'static str, &'static str);

/// All tables that both engines have, in the order in which they are written.
const TABLES: [Table; 13] = [
    Table("target", "id, name, paused_at, paused_reason, retry_after_until, retry_after_address", "id"),
    Table(
        "event",
        "sequence, id, type, object_id, created, source, origin, environment, received_at, body, digest, \
         order_lane, order_id, invoice_id",
        "sequence",
    ),
    Table(
        "delivery",
        "target_id, sequence, state, lane, rank, due_at, attempts, replays, first_attempt_at, settled_at, status, \
         duration_ms",
        "target_id, sequence",
    ),
    Table(
        "attempt",
        "target_id, sequence, number, started_at, duration_ms, status, error, answer",
        "target_id, sequence, number",
    ),
    Table("sighting", "sequence, source, origin, at", "sequence, source"),
    Table(
        "conflict",
        "sequence, digest, source, origin, type, received_at, size, body",
        "sequence, digest, source",
    ),
    Table("order_link", "invoice_id, order_id, sequence", "invoice_id"),
    Table("stream_cursor", "stream, event_id, created, moved_at, history", "stream"),
    Table("source_identity", "source, api_url, environment, account, since", "source"),
    Table(
        "audit",
        "id, key, at, kind, who, peer, client, action, target, stream, event_id, filter, count, outcome",
        "id",
    ),
    Table("retention", "id, payload_through, events_through", "id"),
    Table("ripe", "sequence", "sequence"),
    Table("lateness", "id, most", "id"),
];

/// The result of a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The number of events.
    pub events: u64,
    /// The number of rows of all tables.
    pub rows: u64,
    /// The sequence of the newest event; 0 for none.
    pub newest_sequence: i64,
}

/// Why nothing was moved.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// There is no store to move.
    #[error("there is no database at {0}: nothing to import")]
    Nothing(PathBuf),
    /// The file or the server cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The file cannot be read.
    #[error("the database {path} cannot be read: {reason}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        reason: String,
    },
    /// The schema is not empty.
    #[error("the schema \"{0}\" holds events or targets already: an import takes an empty one")]
    NotEmpty(String),
    /// The written rows differ from the rows of the file.
    #[error("the copy of the table `{0}` is not what was read, and was thrown away")]
    Differs(&'static str),
    /// The server refuses the rows.
    #[error("the server refuses what is written: {0}")]
    Write(#[from] sqlx::Error),
}

/// Moves the store in `file`, which no bridge may have open, into the schema of `server`. Calls
/// `progress` with the number of rows moved up to then and the number of all rows.
///
/// # Errors
/// [`ImportError`]; then the schema is empty.
pub async fn import(
    server: &Server,
    file: &Path,
    progress: impl Fn(u64, u64),
) -> Result<Imported, ImportError> {
    if open::schema_of(file)?.is_none() {
        return Err(ImportError::Nothing(file.to_owned()));
    }
    let lock = open::prepare(file).await?;
    let source = open::open_reader(file)?;
    let address = Address::of(server, Durability::Full)?;
    migrate::migrate(&address, &server.schema).await?;
    let mut connection = address.options.connect().await?;
    // A failed transaction ends with its connection.
    let imported = move_all(&mut connection, (server, &address), (file, &source), progress).await;
    drop(lock);
    imported
}

async fn move_all(
    connection: &mut PgConnection,
    (server, address): (&Server, &Address),
    (file, source): (&Path, &rusqlite::Connection),
    progress: impl Fn(u64, u64),
) -> Result<Imported, ImportError> {
    let failed =
        |error: rusqlite::Error| ImportError::Read { path: file.to_owned(), reason: error.to_string() };
    let count = |table: &str| {
        let query = format!("SELECT count(*) FROM {table}");
        source.query_row(&query, [], |row| row.get::<_, i64>(0)).map_err(failed)
    };
    let counts = TABLES.iter().map(|Table(name, ..)| count(name)).collect::<Result<Vec<_>, _>>()?;
    let unsigned = |number: i64| u64::try_from(number).unwrap_or(0);
    let all = counts.iter().map(|number| unsigned(*number)).sum();

    let begin = address.shared.as_deref().unwrap_or(BEGIN);
    let begin = format!(
        // A process that starts meanwhile waits until the end, and then sees the schema as it is.
        "{begin}; {UNHURRIED}; SET LOCAL bytea_output = 'hex'; LOCK TABLE replica, target, event IN EXCLUSIVE MODE; \
         SELECT (EXISTS (SELECT 1 FROM replica WHERE expires_at > clock_timestamp()))::text; \
         SELECT (EXISTS (SELECT 1 FROM event) OR EXISTS (SELECT 1 FROM target))::text"
    );
    let rows = connection.fetch_all(AssertSqlSafe(begin)).await?;
    if rows.iter().rev().nth(1).is_none_or(|row| row.try_get::<&str, _>(0).ok() != Some("false")) {
        connection.execute("ROLLBACK").await?;
        let shown = Arc::clone(&address.shown);
        return Err(OpenError::Shared { server: shown, schema: server.schema.clone() }.into());
    }
    if rows.last().is_none_or(|row| row.try_get::<&str, _>(0).ok() != Some("false")) {
        connection.execute("ROLLBACK").await?;
        return Err(ImportError::NotEmpty(server.schema.clone()));
    }
    connection.execute("DELETE FROM retention; DELETE FROM lateness").await?;
    let mut done = 0;
    for table in &TABLES {
        let sent = send(connection, table, source, &failed, |rows| progress(done + rows, all)).await?;
        done += sent.0;
        if sent.1 != read_back(connection, table).await? {
            return Err(ImportError::Differs(table.0));
        }
    }
    let newest = "SELECT setval(pg_get_serial_sequence('target', 'id'), greatest((SELECT max(id) FROM target), 1)); \
                  SELECT setval(pg_get_serial_sequence('audit', 'id'), greatest((SELECT max(id) FROM audit), 1)); \
                  SELECT coalesce(max(sequence), 0)::text FROM event";
    let rows = connection.fetch_all(newest).await?;
    let newest = rows.last().and_then(|row| row.try_get::<&str, _>(0).ok()?.parse().ok());
    connection.execute("COMMIT").await?;
    Ok(Imported { events: unsigned(counts[1]), rows: done, newest_sequence: newest.unwrap_or(0) })
}

/// Sends the rows of a table. Returns their number, and the hash of their text.
async fn send(
    connection: &mut PgConnection,
    Table(name, columns, order): &Table,
    source: &rusqlite::Connection,
    failed: &impl Fn(rusqlite::Error) -> ImportError,
    progress: impl Fn(u64),
) -> Result<(u64, [u8; 32]), ImportError> {
    let query = format!("SELECT {columns} FROM {name} ORDER BY {order}");
    let mut select = source.prepare(&query).map_err(failed)?;
    let width = select.column_count();
    let mut rows = select.query([]).map_err(failed)?;
    let mut copy = connection.copy_in_raw(&format!("COPY {name} ({columns}) FROM STDIN")).await?;
    let (mut sent, mut hash, mut chunk) = (0, Sha256::new(), Vec::with_capacity(2 * CHUNK));
    while let Some(row) = rows.next().map_err(failed)? {
        for column in 0..width {
            chunk.extend_from_slice(if column == 0 { b"" } else { b"\t" });
            push(&mut chunk, row.get_ref(column).map_err(failed)?);
        }
        chunk.push(b'\n');
        sent += 1;
        if chunk.len() >= CHUNK {
            hash.update(&chunk);
            copy.send(&*chunk).await?;
            chunk.clear();
            progress(sent);
        }
    }
    hash.update(&chunk);
    copy.send(&*chunk).await?;
    copy.finish().await?;
    progress(sent);
    Ok((sent, hash.finalize().into()))
}

/// Returns the hash of the text of a table on the server.
async fn read_back(
    connection: &mut PgConnection,
    Table(name, columns, order): &Table,
) -> Result<[u8; 32], ImportError> {
    // Texts are sorted by their bytes, as in the file.
    let order = order.replace("source", "source COLLATE \"C\"");
    let query = format!("COPY (SELECT {columns} FROM {name} ORDER BY {order}) TO STDOUT");
    let mut rows = connection.copy_out_raw(&query).await?;
    let mut hash = Sha256::new();
    while let Some(row) = rows.try_next().await? {
        hash.update(&row);
    }
    Ok(hash.finalize().into())
}

/// Adds `value` in the text format of COPY.
fn push(line: &mut Vec<u8>, value: ValueRef<'_>) {
    match value {
        ValueRef::Null => line.extend_from_slice(b"\\N"),
        ValueRef::Integer(number) => line.extend_from_slice(number.to_string().as_bytes()),
        // No column of these tables has a value of this type.
        ValueRef::Real(number) => line.extend_from_slice(number.to_string().as_bytes()),
        ValueRef::Blob(bytes) => {
            line.extend_from_slice(b"\\\\x");
            line.extend_from_slice(hex::encode(bytes).as_bytes());
        }
        ValueRef::Text(text) => {
            for &byte in text {
                match byte {
                    // A text on the server may not contain NUL.
                    0 => line.extend_from_slice("\u{fffd}".as_bytes()),
                    b'\\' => line.extend_from_slice(b"\\\\"),
                    b'\t' => line.extend_from_slice(b"\\t"),
                    b'\n' => line.extend_from_slice(b"\\n"),
                    b'\r' => line.extend_from_slice(b"\\r"),
                    0x08 => line.extend_from_slice(b"\\b"),
                    0x0b => line.extend_from_slice(b"\\v"),
                    0x0c => line.extend_from_slice(b"\\f"),
                    byte => line.push(byte),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_copy_reads_them() {
        let mut line = Vec::new();
        let values = [
            ValueRef::Null,
            ValueRef::Integer(-7),
            ValueRef::Text(b"a\\b\t\n\r\0"),
            ValueRef::Blob(&[0, 255]),
        ];
        for value in values {
            push(&mut line, value);
            line.push(b'|');
        }
        assert_eq!(String::from_utf8(line).unwrap(), "\\N|-7|a\\\\b\\t\\n\\r\u{fffd}|\\\\x00ff|");
    }
}
