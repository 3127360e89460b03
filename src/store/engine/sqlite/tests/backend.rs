//! The database of a test: a file in a folder of its own.

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use tempfile::TempDir;

use super::super::open;
use super::super::write::SqliteEngine;
use crate::domain::clock::Clock;
use crate::store::contract::{Backend, NOW, RETENTION};
use crate::store::engine::Engine;
use crate::store::settings::{Durability, Place, Route, Settings};
use crate::store::types::Term;
use crate::store::{Committer, OpenError, Store};

/// A folder that contains a database.
pub(super) struct Sqlite {
    pub(super) folder: TempDir,
}

/// Returns the path of the database in `folder`.
pub(super) fn database(folder: &Path) -> PathBuf {
    folder.join("data/test.db")
}

pub(super) fn settings(folder: &Path) -> Settings {
    Settings { place: Place::File(database(folder)), durability: Durability::Normal, retention: RETENTION }
}

/// Opens the store in `folder`.
pub(super) async fn open(folder: &Path, routes: Vec<Route>) -> Result<(Store, Committer), OpenError> {
    Store::open(&settings(folder), routes, Clock::from_fn(|| NOW)).await
}

impl Sqlite {
    /// Opens a second connection, like a tool of an operator.
    pub(super) fn side_door(&self) -> Connection {
        Connection::open(database(self.folder.path())).unwrap()
    }

    fn rows<T: rusqlite::types::FromSql>(&self, query: &str) -> Vec<T> {
        let door = self.side_door();
        let mut select = door.prepare(query).unwrap();
        assert_eq!(select.column_count(), 1, "{query}");
        let rows = select.query_map([], |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    }
}

impl Backend for Sqlite {
    const IS_SHARED: bool = false;

    async fn new() -> Self {
        Self { folder: TempDir::new().unwrap() }
    }

    async fn open(&self, routes: Vec<Route>, clock: Clock) -> (Store, Committer) {
        Store::open(&settings(self.folder.path()), routes, clock).await.unwrap()
    }

    async fn engine(&self) -> Box<dyn Engine> {
        let path = database(self.folder.path());
        let lock = open::prepare(&path).await.unwrap();
        Box::new(SqliteEngine::open(&path, Durability::Normal, lock).unwrap())
    }

    fn term(&self, _: &str) -> Term {
        Term::SOLE
    }

    fn execute(&self, statement: &str) {
        self.side_door().execute(statement, []).unwrap();
    }

    fn execute_unchecked(&self, statement: &str) {
        let door = self.side_door();
        door.pragma_update(None, "ignore_check_constraints", true).unwrap();
        door.execute(statement, []).unwrap();
    }

    fn numbers(&self, query: &str) -> Vec<i64> {
        self.rows(query)
    }

    fn texts(&self, query: &str) -> Vec<String> {
        self.rows(query)
    }

    fn refuse(&self, write: &str, condition: &str) {
        self.execute(&format!(
            "CREATE TRIGGER refuse BEFORE {write} WHEN {condition} \
             BEGIN SELECT RAISE(ABORT, 'refused by the test'); END"
        ));
    }

    fn accept(&self, _: &str) {
        self.execute("DROP TRIGGER refuse");
    }
}
