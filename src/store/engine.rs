//! The engines, which hold all SQL. `SQLite` is the only one.

pub mod sqlite;
