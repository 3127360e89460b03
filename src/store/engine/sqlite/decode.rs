//! Rows as the values that are shown. Columns are read by name.

use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use crate::domain::clock::UnixMillis;
use crate::domain::delivery::State;
use crate::domain::event::Source;
use crate::store::types::Seen;
use crate::store::view::{AttemptEntry, Conflict, DeliverySummary, EventFacts, Sighting, Standing};

/// A value, or `None` if the row holds what this version does not know.
pub(super) type Decoded<T> = Result<Option<T>, sqlx::Error>;

/// The value of `row`. A row that cannot be decoded is logged and passed over, so
/// that the others are still shown. `row` has a column `sequence`.
pub(super) fn readable<T>(decoded: Decoded<T>, row: &SqliteRow) -> Option<T> {
    let sequence = || row.try_get::<i64, _>("sequence").unwrap_or_default();
    match decoded {
        Ok(Some(value)) => Some(value),
        Ok(None) => {
            tracing::error!(
                sequence = sequence(),
                "a stored row holds a value this version does not know and is passed over"
            );
            None
        }
        Err(error) => {
            tracing::error!(%error, sequence = sequence(), "a stored row cannot be read and is passed over");
            None
        }
    }
}

/// An event, from the columns of [`EVENT_FACTS`](super::query::EVENT_FACTS).
pub(super) fn event(row: &SqliteRow) -> Decoded<EventFacts> {
    let Ok(source) = row.try_get::<&str, _>("source")?.parse() else { return Ok(None) };
    let environment = row.try_get::<Option<&str>, _>("environment")?.map(str::parse).transpose();
    let Ok(environment) = environment else { return Ok(None) };
    Ok(Some(EventFacts {
        sequence: row.try_get("sequence")?,
        id: row.try_get("id")?,
        kind: row.try_get("type")?,
        object_id: row.try_get("object_id")?,
        created: UnixMillis(row.try_get::<i64, _>("created")?.saturating_mul(1000)),
        source,
        origin: row.try_get("origin")?,
        environment,
        received_at: UnixMillis(row.try_get("received_at")?),
        size: row.try_get::<Option<i64>, _>("size")?.map(count),
    }))
}

/// The state of a delivery, and the sequence of its event.
pub(super) fn standing(row: &SqliteRow) -> Decoded<(i64, Standing)> {
    let Ok(state) = row.try_get::<&str, _>("state")?.parse() else { return Ok(None) };
    let target = row.try_get::<&str, _>("target")?.into();
    let standing = Standing { target, state, attempts: row.try_get("attempts")? };
    Ok(Some((row.try_get("sequence")?, standing)))
}

/// The number of a target, and a delivery to it, from the columns of
/// [`DELIVERY_FACTS`](super::query::DELIVERY_FACTS).
pub(super) fn delivery(row: &SqliteRow) -> Decoded<(i64, DeliverySummary)> {
    let Ok(state) = row.try_get::<&str, _>("state")?.parse::<State>() else { return Ok(None) };
    let received_at = UnixMillis(row.try_get("received_at")?);
    let waits_for: Option<String> = row.try_get("waits_for")?;
    // A first attempt is due since its event arrived. What waits for another is not due.
    let due_at = if state == State::Pending { Some(received_at) } else { time(row, "due_at")? };
    let delivery = DeliverySummary {
        sequence: row.try_get("sequence")?,
        target: row.try_get::<&str, _>("target")?.into(),
        event_id: row.try_get("event_id")?,
        kind: row.try_get("type")?,
        object_id: row.try_get("object_id")?,
        received_at,
        state,
        attempts: row.try_get("attempts")?,
        replays: row.try_get("replays")?,
        due_at: due_at.filter(|_| waits_for.is_none()),
        first_attempt_at: time(row, "first_attempt_at")?,
        settled_at: time(row, "settled_at")?,
        last_status: row.try_get("last_status")?,
        last_error: row.try_get("last_error")?,
        waits_for,
    };
    Ok(Some((row.try_get("target_id")?, delivery)))
}

/// An attempt that has ended.
pub(super) fn attempt(row: &SqliteRow) -> Decoded<AttemptEntry> {
    Ok(Some(AttemptEntry {
        number: row.try_get("number")?,
        started_at: UnixMillis(row.try_get("started_at")?),
        duration_ms: count(row.try_get("duration_ms")?),
        status: row.try_get("status")?,
        error: row.try_get("error")?,
        answer: row.try_get::<Option<Vec<u8>>, _>("answer")?.as_deref().map(text),
    }))
}

/// An event that came under the id of another one.
pub(super) fn conflict(row: &SqliteRow) -> Decoded<Conflict> {
    let Ok(source) = row.try_get::<&str, _>("source")?.parse() else { return Ok(None) };
    Ok(Some(Conflict {
        source,
        origin: row.try_get("origin")?,
        received_at: UnixMillis(row.try_get("received_at")?),
        kind: row.try_get("type")?,
        digest: hex::encode(row.try_get::<&[u8], _>("digest")?),
        size: count(row.try_get("size")?),
        body: row.try_get::<Option<Vec<u8>>, _>("body")?.as_deref().map(text),
    }))
}

/// A further source of an event whose first one brought it at `first`.
pub(super) fn sighting(row: &SqliteRow, first: UnixMillis) -> Decoded<Sighting> {
    let Ok(source) = row.try_get::<&str, _>("source")?.parse() else { return Ok(None) };
    let at = UnixMillis(row.try_get("at")?);
    let lag_ms = u64::try_from(at.since(first).as_millis()).unwrap_or(u64::MAX);
    Ok(Some(Sighting { source, origin: row.try_get("origin")?, at, lag_ms }))
}

/// An event, and when each live source first brought it.
pub(super) fn seen(row: &SqliteRow) -> Decoded<Seen> {
    let Ok(first) = row.try_get::<&str, _>("source")?.parse::<Source>() else { return Ok(None) };
    let received_at = UnixMillis(row.try_get("received_at")?);
    let by = |live: Source, column| {
        if first == live { Ok(Some(received_at)) } else { time(row, column) }
    };
    Ok(Some(Seen {
        sequence: row.try_get("sequence")?,
        received_at,
        first,
        stream: by(Source::Stream, "stream_at")?,
        webhook: by(Source::Webhook, "webhook_at")?,
    }))
}

/// `bytes` as text; what is no UTF-8 is replaced.
pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A number of rows or bytes.
pub(super) fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn time(row: &SqliteRow, column: &str) -> Result<Option<UnixMillis>, sqlx::Error> {
    Ok(row.try_get::<Option<i64>, _>(column)?.map(UnixMillis))
}
