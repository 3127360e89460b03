//! `SQLite`: opening, copying and checking a database, and writing to it.
//!
//! The writer goes through rusqlite, everything else through sqlx: with sqlx an event
//! costs the writer twice the processor time, even with one statement for a group
//! (docs/performance.md).
//!
//! | file | holds |
//! |---|---|
//! | [`open`] | whose a file is, migrations, connections |
//! | [`file`](self::file) | what lies beside it: lock, write-ahead log, free disk space |
//! | [`backup`], [`restore`], [`check`] | a copy of a database in use, putting one back, a look at one |
//! | [`write`] | the connection that writes |
//! | [`append`], [`repeats`], [`order`] | storing events, what is held already, the lane of an order |
//! | [`identity`] | whose events they are |
//! | [`settle`], [`act`] | outcomes of attempts, actions of operators |
//! | [`search`] | what of a target is open, and in which order |
//! | [`retain`], [`checkpoint`] | removing what is old, moving the log |

mod act;
mod append;
mod audit;
pub mod backup;
pub mod check;
mod checkpoint;
pub mod file;
mod identity;
mod migrations;
pub(in crate::store) mod open;
mod order;
mod repeats;
pub mod restore;
mod retain;
mod search;
mod settle;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(in crate::store) mod watched;
pub(in crate::store) mod write;
