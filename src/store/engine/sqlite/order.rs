//! The lane that an order shares with its invoice and its payments.
//!
//! An order names itself, an invoice its order, a payment only its invoice. So the
//! lane goes by the order, and what names an order and an invoice is written down, for
//! the payments that follow.

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::domain::event::Event;
use crate::store::routing::lane_of_name;

/// What is known of the order that an event belongs to.
#[derive(Debug)]
pub(super) struct OrderLane {
    /// The lane that it shares with the order.
    pub(super) lane: i64,
    /// The order of its invoice, where it does not name an order itself.
    pub(super) linked: Option<String>,
}

/// The lane of the order that `event` belongs to: by the order it names, else by the
/// order that its invoice is known to belong to, else by the invoice. `None` if it names
/// neither. Notes which invoice belongs to which order; the first word counts.
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

/// The same of an event that is stored; `None` as well if no target had that ordering then.
pub(super) fn stored_order_lane(connection: &Connection, sequence: i64) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT order_lane FROM event WHERE sequence = ?1")?
        .query_row(params![sequence], |row| row.get(0))
}
