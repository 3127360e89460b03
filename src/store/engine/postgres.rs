//! `PostgreSQL`: a schema of a server, to which one process at a time writes.
//!
//! | file | holds |
//! |---|---|
//! | [`connect`] | addresses, pools, what is set up for a session or a transaction |
//! | [`migrate`] | making a schema, and bringing it up to date |
//! | [`lease`] | who may write |
//! | [`session`] | the connection that writes: transactions, time limits, errors |
//! | [`write`] | the engine |
//! | [`append`] | storing events, by the function of migration 1 |
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
pub mod check;
mod connect;
mod hold;
mod identity;
pub mod import;
mod lease;
mod migrate;
mod retain;
mod search;
mod session;
mod settle;
#[cfg(test)]
mod tests;
mod words;
pub(in crate::store) mod write;
