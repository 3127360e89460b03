//! The room the store takes, and the room there is.

use std::sync::Arc;

use sqlx::Row as _;

use super::{Reader, count};
use crate::store::disk::{self, Disk};
use crate::store::error::ReadError;
use crate::store::view::Usage;

impl Reader {
    pub(in crate::store) async fn usage(&self) -> Result<Usage, ReadError> {
        let query = "SELECT c.page_count * s.page_size, f.freelist_count * s.page_size \
                     FROM pragma_page_count c, pragma_page_size s, pragma_freelist_count f";
        let row = sqlx::query(query).fetch_one(&self.pool).await?;
        let path = Arc::clone(&self.path);
        // A disk that hangs must hang a thread of its own.
        let disk = tokio::task::spawn_blocking(move || Disk::of(&path)).await;
        let Disk { free, total } = disk
            .map_err(|error| ReadError(error.to_string()))?
            .map_err(|error| ReadError(format!("its disk does not tell its room: {error}")))?;
        Ok(Usage {
            database_bytes: count(row.try_get(0)?),
            wal_bytes: self.wal_bytes(),
            free_bytes: count(row.try_get(1)?),
            disk_free_bytes: free,
            disk_total_bytes: total,
        })
    }

    /// Bytes of the write-ahead log.
    pub(in crate::store) fn wal_bytes(&self) -> u64 {
        disk::wal_bytes(&self.path)
    }
}
