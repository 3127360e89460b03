//! Writes entries of the audit trail, and removes old ones.

use rusqlite::{Connection, params};

use crate::domain::audit::{Entry, Kind};
use crate::domain::clock::UnixMillis;
use crate::store::engine::AUDIT_STEP;

/// Writes `entry`, unless an entry with this `key` exists.
pub(super) fn write(connection: &Connection, key: i64, entry: &Entry) -> rusqlite::Result<()> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO audit (key, at, kind, who, peer, client, action, target, stream, event_id, filter, count, \
                            outcome) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13) ON CONFLICT (key) DO NOTHING",
    )?;
    let Entry { at, kind, who, peer, client, action, target, stream, event_id, filter, count, outcome } =
        entry;
    let count = i64::try_from(*count).unwrap_or(i64::MAX);
    let (at, kind) = (at.0, kind.as_str());
    insert
        .execute(params![
            key, at, kind, who, peer, client, action, target, stream, event_id, filter, count, outcome
        ])
        .map(drop)
}

/// Removes some of the oldest entries of each kind: those from before `before`, and those that are
/// not among the `newest`. Returns whether there may be more.
pub(super) fn remove_old(connection: &Connection, before: UnixMillis, newest: i64) -> rusqlite::Result<bool> {
    let mut more = false;
    for kind in Kind::ALL {
        let mut delete = connection.prepare_cached(
            "DELETE FROM audit WHERE id IN (SELECT old.id FROM \
               (SELECT id, at FROM audit WHERE kind = ?1 ORDER BY id LIMIT ?4) old \
             WHERE old.at < ?2 OR old.id <= \
               (SELECT id FROM audit WHERE kind = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?3))",
        )?;
        let removed = delete.execute(params![kind.as_str(), before.0, newest, AUDIT_STEP])?;
        more |= i64::try_from(removed).is_ok_and(|removed| removed >= AUDIT_STEP);
    }
    Ok(more)
}
