//! Events that come under the id of another one: kept beside it and never delivered.

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::domain::event::{Digest, Received};

/// Conflicts that are kept of one event.
const KEPT: i64 = 8;
/// The largest body that is kept, in bytes.
const LARGEST_BODY: usize = 256 * 1024;

/// Whether `event` says something else than the one that is held under its id, of
/// `sequence` and with `held` as its digest. An event that was stored without a
/// digest contradicts nothing.
pub(super) fn is_one(event: &Received, held: Option<Digest>) -> bool {
    held.zip(event.event.digest).is_some_and(|(held, other)| held != other)
}

/// Keeps `event` as a conflict of the event of `sequence`. Returns whether it is to be
/// told of: not where the same was brought by the same source before.
pub(super) fn keep(connection: &Connection, sequence: i64, event: &Received) -> rusqlite::Result<bool> {
    let Received { event, source, origin, received_at, .. } = event;
    let Some(Digest(digest)) = event.digest else { return Ok(false) };
    let known = connection
        .prepare_cached("SELECT 1 FROM conflict WHERE sequence = ?1 AND digest = ?2 AND source = ?3")?
        .query_row(params![sequence, digest, source.as_str()], |_| Ok(()))
        .optional()?;
    if known.is_some() {
        return Ok(false);
    }
    let kept: i64 = connection
        .prepare_cached("SELECT count(*) FROM conflict WHERE sequence = ?1")?
        .query_row(params![sequence], |row| row.get(0))?;
    if kept < KEPT {
        let body = Some(&event.body[..]).filter(|body| body.len() <= LARGEST_BODY);
        connection
            .prepare_cached(
                "INSERT INTO conflict (sequence, digest, source, origin, type, received_at, size, body) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, CASE WHEN EXISTS \
                   (SELECT 1 FROM conflict WHERE sequence = ?1 AND digest = ?2) THEN NULL ELSE ?8 END)",
            )?
            .execute(params![
                sequence,
                digest,
                source.as_str(),
                origin,
                event.kind.as_str(),
                received_at.0,
                i64::try_from(event.body.len()).unwrap_or(i64::MAX),
                body,
            ])?;
    }
    Ok(true)
}
