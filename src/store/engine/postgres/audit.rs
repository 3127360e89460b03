//! Writes entries of the audit trail, and removes old ones.

use super::session::Session;
use super::words::clean;
use crate::domain::audit::{Entry, Kind};
use crate::domain::clock::UnixMillis;
use crate::store::engine::AUDIT_STEP;

/// Writes `entry`, unless an entry with this `key` exists.
pub(super) async fn write(session: &mut Session, key: i64, entry: &Entry) -> Result<(), sqlx::Error> {
    let insert = "INSERT INTO audit (key, at, kind, who, peer, client, action, target, stream, event_id, filter, \
                                     count, outcome) \
                  VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) ON CONFLICT (key) DO NOTHING";
    let Entry { at, kind, who, peer, client, action, target, stream, event_id, filter, count, outcome } =
        entry;
    let optional = |text: &Option<String>| text.as_deref().map(clean);
    let query = sqlx::query(insert)
        .bind(key)
        .bind(at.0)
        .bind(kind.as_str())
        .bind(optional(who))
        .bind(optional(peer))
        .bind(clean(client))
        .bind(clean(action))
        .bind(optional(target))
        .bind(optional(stream))
        .bind(optional(event_id))
        .bind(optional(filter))
        .bind(i64::try_from(*count).unwrap_or(i64::MAX))
        .bind(clean(outcome));
    session.execute(query).await.map(drop)
}

/// Removes some of the oldest entries of each kind: those from before `before`, and those that are
/// not among the `newest`. Returns whether there may be more.
pub(super) async fn remove_old(
    session: &mut Session,
    before: UnixMillis,
    newest: i64,
) -> Result<bool, sqlx::Error> {
    let delete = "DELETE FROM audit WHERE id IN (SELECT old.id FROM \
                    (SELECT id, at FROM audit WHERE kind = $1 ORDER BY id LIMIT $4) old \
                  WHERE old.at < $2 OR old.id <= \
                    (SELECT id FROM audit WHERE kind = $1 ORDER BY id DESC LIMIT 1 OFFSET $3))";
    let mut more = false;
    for kind in Kind::ALL {
        let query = sqlx::query(delete).bind(kind.as_str()).bind(before.0).bind(newest).bind(AUDIT_STEP);
        more |= i64::try_from(session.execute(query).await?).is_ok_and(|removed| removed >= AUDIT_STEP);
    }
    Ok(more)
}
