//! Decodes rows to the values that are shown. Columns are read by name.

use super::rows::Row;
use crate::domain::clock::{UnixMillis, millis};
use crate::domain::delivery::State;
use crate::domain::event::Source;
use crate::store::types::Seen;
use crate::store::view::{AttemptEntry, Conflict, DeliverySummary, EventFacts, Sighting, Standing};

/// A decoded value; `None` if the row has a value that this version does not know.
pub(super) type Decoded<T> = Result<Option<T>, sqlx::Error>;

/// Returns the value of `row`. A row that cannot be decoded is logged and left out, so that the
/// others are still shown. `row` has a column `sequence`.
pub(super) fn readable<T>(decoded: Decoded<T>, row: &Row) -> Option<T> {
    let sequence = || row.number("sequence").unwrap_or_default();
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

/// Decodes an event, from the columns of [`EVENT_FACTS`](super::query::EVENT_FACTS).
pub(super) fn event(row: &Row) -> Decoded<EventFacts> {
    let Ok(source) = row.text("source")?.parse() else { return Ok(None) };
    let environment = row.text_or_null("environment")?.map(str::parse).transpose();
    let Ok(environment) = environment else { return Ok(None) };
    Ok(Some(EventFacts {
        sequence: row.number("sequence")?,
        id: row.text("id")?.to_owned(),
        kind: row.text("type")?.to_owned(),
        object_id: row.text_or_null("object_id")?.map(str::to_owned),
        created: UnixMillis(row.number("created")?.saturating_mul(1000)),
        source,
        origin: row.text("origin")?.to_owned(),
        environment,
        received_at: UnixMillis(row.number("received_at")?),
        size: row.number_or_null("size")?.map(count),
    }))
}

/// Decodes the state of a delivery, with the sequence of its event.
pub(super) fn standing(row: &Row) -> Decoded<(i64, Standing)> {
    let Ok(state) = row.text("state")?.parse() else { return Ok(None) };
    let target = row.text("target")?.into();
    let standing = Standing { target, state, attempts: row.small("attempts")? };
    Ok(Some((row.number("sequence")?, standing)))
}

/// Decodes a delivery, with the number of its target, from the columns of
/// [`DELIVERY_FACTS`](super::query::DELIVERY_FACTS).
pub(super) fn delivery(row: &Row) -> Decoded<(i64, DeliverySummary)> {
    let Ok(state) = row.text("state")?.parse::<State>() else { return Ok(None) };
    let received_at = UnixMillis(row.number("received_at")?);
    let waits_for: Option<String> = row.text_or_null("waits_for")?.map(str::to_owned);
    // A first attempt is due from the arrival of its event on. A delivery that waits for another
    // one is not due.
    let due_at = if state == State::Pending { Some(received_at) } else { time(row, "due_at")? };
    let delivery = DeliverySummary {
        sequence: row.number("sequence")?,
        target: row.text("target")?.into(),
        event_id: row.text("event_id")?.to_owned(),
        kind: row.text("type")?.to_owned(),
        object_id: row.text_or_null("object_id")?.map(str::to_owned),
        received_at,
        state,
        attempts: row.small("attempts")?,
        replays: row.small("replays")?,
        due_at: due_at.filter(|_| waits_for.is_none()),
        first_attempt_at: time(row, "first_attempt_at")?,
        settled_at: time(row, "settled_at")?,
        last_status: row.small_or_null("last_status")?,
        last_error: row.text_or_null("last_error")?.map(str::to_owned),
        waits_for,
    };
    Ok(Some((row.number("target_id")?, delivery)))
}

/// Decodes an attempt that has ended.
pub(super) fn attempt(row: &Row) -> Decoded<AttemptEntry> {
    Ok(Some(AttemptEntry {
        number: row.small("number")?,
        started_at: UnixMillis(row.number("started_at")?),
        duration_ms: count(row.number("duration_ms")?),
        status: row.small_or_null("status")?,
        error: row.text_or_null("error")?.map(str::to_owned),
        answer: row.bytes_or_null("answer")?.map(text),
    }))
}

/// Decodes an event that came under the id of another one.
pub(super) fn conflict(row: &Row) -> Decoded<Conflict> {
    let Ok(source) = row.text("source")?.parse() else { return Ok(None) };
    Ok(Some(Conflict {
        source,
        origin: row.text("origin")?.to_owned(),
        received_at: UnixMillis(row.number("received_at")?),
        kind: row.text("type")?.to_owned(),
        digest: hex::encode(row.bytes_or_null("digest")?.unwrap_or_default()),
        size: count(row.number("size")?),
        body: row.bytes_or_null("body")?.map(text),
    }))
}

/// Decodes a further source of an event that first arrived at `first`.
pub(super) fn sighting(row: &Row, first: UnixMillis) -> Decoded<Sighting> {
    let Ok(source) = row.text("source")?.parse() else { return Ok(None) };
    let at = UnixMillis(row.number("at")?);
    let lag_ms = millis(at.since(first));
    Ok(Some(Sighting { source, origin: row.text("origin")?.to_owned(), at, lag_ms }))
}

/// Decodes an event, with the time at which each live source first brought it.
pub(super) fn seen(row: &Row) -> Decoded<Seen> {
    let Ok(first) = row.text("source")?.parse::<Source>() else { return Ok(None) };
    let received_at = UnixMillis(row.number("received_at")?);
    let by = |live: Source, column| {
        if first == live { Ok(Some(received_at)) } else { time(row, column) }
    };
    Ok(Some(Seen {
        sequence: row.number("sequence")?,
        received_at,
        first,
        stream: by(Source::Stream, "stream_at")?,
        webhook: by(Source::Webhook, "webhook_at")?,
    }))
}

/// Returns `bytes` as text. Bytes that are not UTF-8 are replaced.
pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Returns a number of rows or bytes; 0 for a negative one.
pub(super) fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn time(row: &Row, column: &str) -> Result<Option<UnixMillis>, sqlx::Error> {
    Ok(row.number_or_null(column)?.map(UnixMillis))
}
