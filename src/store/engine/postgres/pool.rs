//! A connection of a pool, for one call.

use sqlx::pool::PoolConnection;
use sqlx::postgres::PgPool;
use sqlx::{PgConnection, Postgres};

/// A connection that a pool has lent for one call. Unless it is given back, it is closed: the answer to
/// a call that was given up may never come, as from a server that is gone without a word. The pool
/// itself would wait for that answer, for as long as TCP does, and count the connection meanwhile.
#[derive(Debug)]
pub(in crate::store) struct Lent(Option<PoolConnection<Postgres>>);

impl Lent {
    /// Takes a connection of `pool`.
    pub(in crate::store) async fn of(pool: &PgPool) -> Result<Self, sqlx::Error> {
        Ok(Self(Some(pool.acquire().await?)))
    }

    /// Returns the connection.
    pub(in crate::store) fn connection(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        self.0.as_deref_mut().ok_or(sqlx::Error::PoolClosed)
    }

    /// Gives the connection back, after a call that was answered.
    pub(in crate::store) fn give_back(mut self) {
        drop(self.0.take());
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(connection) = &mut self.0 {
            connection.close_on_drop();
        }
    }
}
