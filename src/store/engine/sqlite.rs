//! The engine of `SQLite`: opens, copies and checks a database, and writes to it.
//!
//! The writer uses rusqlite, and everything else uses sqlx. With sqlx an event costs the writer
//! twice the processor time, even with one statement for a group (docs/performance.md).
//!
//! | file | holds |
//! |---|---|
//! | [`open`] | the mark and the schema of a file, migrations, connections |
//! | [`file`](self::file) | the files beside it: lock, write-ahead log, free disk space |
//! | [`backup`], [`restore`], [`check`] | copying a database in use, restoring a copy, checking a database |
//! | [`write`] | the connection that writes |
//! | [`append`], [`repeats`], [`order`] | storing events, noting repeated ones, the lane of an order |
//! | [`identity`] | the Pepay account of each source |
//! | [`settle`], [`act`] | outcomes of attempts, actions of operators |
//! | [`search`] | the open deliveries of a target, in their order |
//! | [`retain`], [`checkpoint`] | removing old rows, checkpoints of the write-ahead log |

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
pub(in crate::store) mod write;
