//! Lists all queries that read. Tests check how an engine would carry them out.

use super::query::Named;
use super::rows::Query;
use super::{detail, query, scan, statistics};
use crate::domain::delivery::State;
use crate::domain::operator::{Cursor, Filter};

/// Returns the queries that are always the same.
pub(in crate::store) fn fixed() -> Vec<String> {
    let texts = [
        statistics::WAITING,
        statistics::SEEN_AFTER,
        statistics::DELIVERED_BELOW,
        statistics::OLDEST_OPEN,
        detail::SIGHTINGS,
        detail::ATTEMPTS,
        detail::CONFLICTS,
        detail::BODY,
        scan::BY_ID,
        scan::BY_SEQUENCE,
        scan::ARRIVAL,
    ];
    let by_id = [None, Some(Named::Order), Some(Named::Invoice)];
    let by_id = by_id.into_iter().flat_map(|named| [query::in_blocks(named), query::in_found_blocks(named)]);
    texts.into_iter().map(str::to_owned).chain(by_id).collect()
}

/// The query that reads the newest deliveries of a target, in any state.
pub(in crate::store) const NEWEST: &str = statistics::DELIVERED_BELOW;

/// Returns the queries that are built for `filter`.
pub(in crate::store) fn of(filter: &Filter, cursor: Option<Cursor>) -> Vec<String> {
    let sequences = [1, 2, 3];
    let queries = [
        query::events(filter, &sequences, 50),
        query::standings(&sequences),
        query::deliveries(filter, cursor, &sequences, 50),
        query::keys(filter, &State::ALL, &sequences),
    ];
    let by_state = State::ALL.into_iter().filter_map(scan::by_state).map(str::to_owned);
    queries.iter().map(Query::sqlite).chain(by_state).collect()
}
