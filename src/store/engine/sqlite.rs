//! `SQLite`: opening, copying and checking a database, and reading from it.
//!
//! | file | holds |
//! |---|---|
//! | [`open`] | whose a file is, migrations, connections |
//! | [`file`](self::file) | what lies beside it: lock, write-ahead log, free disk space |
//! | [`backup`], [`check`] | a copy of a database in use, a look at one |
//! | [`write`] | the connection that writes |
//! | [`append`], [`repeats`], [`order`] | storing events, what is held already, the lane of an order |
//! | [`settle`], [`act`] | outcomes of attempts, actions of operators |
//! | [`search`] | what of a target is open, and in which order |
//! | [`retain`], [`checkpoint`] | removing what is old, moving the log |
//! | [`read`] | the pool of readers; cursors of streams |
//! | [`list`], [`detail`] | lists of events and deliveries; one of them in full |
//! | [`statistics`] | sizes, backlogs, what came by which source, how long deliveries took |
//! | [`scan`], [`query`], [`decode`] | which events a list looks at, its SQL, its rows |

mod act;
mod append;
pub mod backup;
pub mod check;
mod checkpoint;
mod decode;
mod detail;
mod event_row;
pub mod file;
mod list;
pub(in crate::store) mod open;
mod order;
mod query;
pub(in crate::store) mod read;
mod repeats;
mod retain;
mod scan;
mod search;
mod settle;
pub(in crate::store) mod statistics;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(in crate::store) mod watched;
pub(in crate::store) mod write;

/// Every query that reads, for the test that looks at how `SQLite` would carry it out.
#[cfg(test)]
pub(in crate::store) mod asked {
    use super::query::Named;
    use super::{detail, query, scan, statistics};
    use crate::domain::delivery::State;
    use crate::domain::operator::{Cursor, Filter};

    /// Those that are always the same.
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
        let by_id =
            by_id.into_iter().flat_map(|named| [query::in_blocks(named), query::in_found_blocks(named)]);
        texts.into_iter().map(str::to_owned).chain(by_id).collect()
    }

    /// The one that takes the newest deliveries of a target, whatever their state.
    pub(in crate::store) const NEWEST: &str = statistics::DELIVERED_BELOW;

    /// Those that are put together for `filter`.
    pub(in crate::store) fn of(filter: &Filter, cursor: Option<Cursor>) -> Vec<String> {
        let sequences = [1, 2, 3];
        let queries = [
            query::events(filter, &sequences, 50),
            query::standings(&sequences),
            query::deliveries(filter, cursor, &sequences, 50),
            query::keys(filter, &State::ALL, &sequences),
        ];
        let by_state = State::ALL.into_iter().filter_map(scan::by_state).map(str::to_owned);
        queries.iter().map(|query| query.sql().as_str().to_owned()).chain(by_state).collect()
    }
}
