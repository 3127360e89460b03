//! Which deliveries wait for one another, and in what order.

use sha2::{Digest, Sha256};

use crate::domain::clock::UnixMillis;
use crate::domain::delivery::Ordering;
use crate::domain::event::{EventId, Received};

/// The lane of an event towards a target: events of one object share one, or those
/// of one order with its invoice and payments, whose lane is `of_order`.
pub(super) fn lane(ordering: Ordering, event: &Received, of_order: Option<i64>) -> Option<i64> {
    let of_object = || event.event.subject.object.as_deref().map(of_name);
    match ordering {
        Ordering::None => None,
        Ordering::PerObject => of_object(),
        Ordering::PerOrder => of_order.or_else(of_object),
    }
}

/// The lane of what has this name. A number, because it is indexed; the beginning of
/// a SHA-256, because it has to be the same in every later version. Two objects that
/// met in one lane would wait for each other and lose nothing.
pub(super) fn of_name(name: &str) -> i64 {
    let digest = <[u8; 32]>::from(Sha256::digest(name.as_bytes()));
    digest.first_chunk().copied().map_or(0, i64::from_be_bytes)
}

/// The rank of a held delivery: before all that wait, which it holds back.
pub(super) const FIRST: i64 = 0;

/// The place of an event among those that wait in one lane: Pepay's order of
/// creation where the id carries it, else the time of arrival. Both are
/// milliseconds followed by 20 bits to tell the same millisecond apart. Above [`FIRST`].
pub(super) fn rank(id: &EventId, received_at: UnixMillis) -> i64 {
    const BITS: u32 = 20;
    let arrival = u64::try_from(received_at.0).unwrap_or(0);
    let (millis, n) = id.creation_order().unwrap_or((arrival, 0));
    let rank = (millis.min(u64::MAX >> (BITS + 1)) << BITS) | n.min((1 << BITS) - 1);
    i64::try_from(rank).unwrap_or(i64::MAX).max(FIRST + 1)
}
