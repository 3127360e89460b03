//! Lists the audit trail.

use super::Reader;
use super::decode::readable;
use super::rows::{Query, Row};
use crate::domain::audit::{Entry, Filter, Kind};
use crate::domain::clock::UnixMillis;
use crate::store::error::ReadError;
use crate::store::view::AuditEntry;

impl Reader {
    /// Returns at most `limit` entries with a number below `before` that pass `filter`, the newest
    /// first. May read all of the trail, whose size is bounded.
    pub(in crate::store) async fn audit(
        &self,
        filter: &Filter,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<AuditEntry>, ReadError> {
        let rows = self.database.run(query(filter, before, limit)).await?;
        Ok(rows.iter().filter_map(|row| readable(entry(row), row)).collect())
    }
}

/// Returns the query of a list of entries.
pub(super) fn query(filter: &Filter, before: Option<i64>, limit: usize) -> Query {
    let Filter { kind, who, action, target, event_id, from, to } = filter;
    let mut query = Query::new(
        "SELECT id, at, kind, who, peer, client, action, target, stream, event_id, filter, count, outcome \
         FROM audit WHERE id < ",
    );
    query.push_bind(before.unwrap_or(i64::MAX));
    let texts = [
        (" AND kind = ", kind.map(Kind::as_str)),
        (" AND who = ", who.as_deref()),
        (" AND action = ", action.as_deref()),
        (" AND target = ", target.as_deref()),
        (" AND event_id = ", event_id.as_deref()),
    ];
    for (condition, text) in texts {
        if let Some(text) = text {
            query.push(condition).push_bind(text);
        }
    }
    for (condition, time) in [(" AND at >= ", from), (" AND at < ", to)] {
        if let Some(time) = time {
            query.push(condition).push_bind(time.0);
        }
    }
    query.push(" ORDER BY id DESC").limit(limit);
    query
}

fn entry(row: &Row) -> Result<Option<AuditEntry>, sqlx::Error> {
    let text = |column: &str| row.text(column).map(str::to_owned);
    let text_or_null = |column: &str| row.text_or_null(column).map(|text| text.map(str::to_owned));
    let kind = row.text("kind")?;
    let Some(kind) = Kind::ALL.into_iter().find(|known| known.as_str() == kind) else { return Ok(None) };
    let entry = Entry {
        at: UnixMillis(row.number("at")?),
        kind,
        who: text_or_null("who")?,
        peer: text_or_null("peer")?,
        client: text("client")?,
        action: text("action")?,
        target: text_or_null("target")?,
        stream: text_or_null("stream")?,
        event_id: text_or_null("event_id")?,
        filter: text_or_null("filter")?,
        count: u64::try_from(row.number("count")?).unwrap_or(0),
        outcome: text("outcome")?,
    };
    Ok(Some(AuditEntry { id: row.number("id")?, entry }))
}
