//! The engine of `PostgreSQL`: a schema of a server, which any number of processes may share.
//!
//! | file | holds |
//! |---|---|
//! | [`connect`], [`pool`] | addresses, pools, settings of sessions and transactions; a connection for one call |
//! | [`migrate`] | creating and migrating a schema |
//! | [`membership`], [`beat`], [`share`], [`fitness`] | the processes that share the schema, and their leases |
//! | [`peers`], [`listener`] | requests and notifications between them |
//! | [`session`] | the connection that writes: transactions, time limits, errors |
//! | [`write`] | the engine |
//! | [`append`], [`log`] | storing events, by the function of migration 1; reading the events of other processes |
//! | [`fence`] | checking the right to change the deliveries of a target |
//! | [`settle`], [`hold`] | outcomes of attempts, pauses and `Retry-After` |
//! | [`act`], [`moving`] | actions of operators; deliveries that move to another target |
//! | [`search`] | the open deliveries of a target, in their order |
//! | [`retain`], [`identity`], [`audit`] | removing old rows; the Pepay account of each source; the audit trail |
//! | [`check`], [`import`] | checking a store; moving a store from a file |
//! | [`words`] | values in the form that the server takes |
//!
//! A verb takes a set of values and costs a few calls, whatever the size of the set. Nothing
//! depends on a session, so everything works through a pooler that shares sessions.

mod act;
mod append;
mod audit;
mod beat;
pub mod check;
pub(in crate::store) mod connect;
mod fence;
mod fitness;
mod hold;
mod identity;
pub mod import;
mod listener;
mod log;
pub(in crate::store) mod membership;
mod migrate;
mod moving;
pub(in crate::store) mod peers;
pub(in crate::store) mod pool;
mod retain;
mod search;
mod session;
mod settle;
mod share;
#[cfg(test)]
mod tests;
mod words;
pub(in crate::store) mod write;
