//! `PostgreSQL`: a schema of a server, which any number of processes share.
//!
//! | file | holds |
//! |---|---|
//! | [`connect`] | addresses, pools, what is set up for a session or a transaction |
//! | [`migrate`] | making a schema, and bringing it up to date |
//! | [`membership`], [`beat`], [`share`], [`fitness`] | the processes that share it: who lives, and who holds what |
//! | [`peers`], [`listener`] | what they ask and tell one another |
//! | [`session`] | the connection that writes: transactions, time limits, errors |
//! | [`write`] | the engine |
//! | [`append`], [`log`] | storing events, by the function of migration 1; what others have stored |
//! | [`fence`] | by which right the deliveries of a target are changed |
//! | [`settle`], [`act`], [`hold`] | outcomes of attempts, actions of operators, what holds a target back |
//! | [`search`] | what of a target is open, and in which order |
//! | [`retain`], [`identity`], [`audit`] | removing what is old; whose events these are; the audit trail |
//! | [`check`], [`import`] | a look at one from outside; moving a store from a file |
//! | [`words`] | values as the server takes them |
//!
//! A verb takes a set and costs a few calls however large it is. Nothing depends on a
//! session, so that all of it works through a pooler that shares sessions.

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
pub(in crate::store) mod peers;
mod retain;
mod search;
mod session;
mod settle;
mod share;
#[cfg(test)]
mod tests;
mod words;
pub(in crate::store) mod write;
