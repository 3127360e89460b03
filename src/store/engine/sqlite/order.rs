//! The lane that an order shares with its invoice and its payments.
//!
//! An order names itself, an invoice names its order, and a payment names only its invoice. The
//! lane is that of the order. Each pair of order and invoice that an event names is stored, for the
//! payments that follow.

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::domain::event::Event;
use crate::store::routing::lane_of_name;

/// The order that an event belongs to.
#[derive(Debug)]
pub(super) struct OrderLane {
    /// The lane that the event shares with the order.
    pub(super) lane: i64,
    /// The order of the event's invoice, if the event itself names no order.
    pub(super) linked: Option<String>,
}

/// Returns the lane of `event`. It is the lane of the order that the event names, otherwise of the
/// order that is known for its invoice, otherwise of the invoice. `None` if the event names
/// neither. Stores which order an invoice belongs to; the first event that says so counts.
pub(super) fn order_lane(
    connection: &Connection,
    event: &Event,
    sequence: i64,
) -> rusqlite::Result<Option<OrderLane>> {
    let (order, invoice) = (event.subject.order.as_deref(), event.subject.invoice.as_deref());
    let (lane, linked) = match (order, invoice) {
        (Some(order), Some(invoice)) => {
            connection
                .prepare_cached(
                    "INSERT INTO order_link (invoice_id, order_id, sequence) VALUES (?1, ?2, ?3) \
                     ON CONFLICT DO NOTHING",
                )?
                .execute(params![invoice, order, sequence])?;
            (lane_of_name(order), None)
        }
        (Some(order), None) => (lane_of_name(order), None),
        (None, Some(invoice)) => {
            let order = connection
                .prepare_cached("SELECT order_id FROM order_link WHERE invoice_id = ?1")?
                .query_row(params![invoice], |row| row.get::<_, String>(0))
                .optional()?;
            (lane_of_name(order.as_deref().unwrap_or(invoice)), order)
        }
        (None, None) => return Ok(None),
    };
    Ok(Some(OrderLane { lane, linked }))
}

/// Returns the order lane of a stored event. `None` also if no target was ordered by order when the
/// event was stored.
pub(super) fn stored_order_lane(connection: &Connection, sequence: i64) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT order_lane FROM event WHERE sequence = ?1")?
        .query_row(params![sequence], |row| row.get(0))
}
