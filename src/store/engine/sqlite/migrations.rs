//! The migrations of the schema, compiled into the program. Their files are in `migrations/` at the
//! top of the repository.

use std::sync::LazyLock;

use sqlx::SqlStr;
use sqlx::migrate::{Migration, MigrationType, Migrator};

/// The number, description and text of each migration, as `sqlx` reads them from the files and
/// records them in the database.
///
/// They are listed by hand, since `sqlx::migrate!` would compile SQLite and the drivers a second
/// time.
const FILES: [(i64, &str, &str); 12] = [
    (1, "events and deliveries", include_str!("../../../../migrations/0001_events_and_deliveries.sql")),
    (2, "operator", include_str!("../../../../migrations/0002_operator.sql")),
    (3, "object index", include_str!("../../../../migrations/0003_object_index.sql")),
    (4, "lateness", include_str!("../../../../migrations/0004_lateness.sql")),
    (5, "conflicts", include_str!("../../../../migrations/0005_conflicts.sql")),
    (6, "due shares", include_str!("../../../../migrations/0006_due_shares.sql")),
    (7, "stream history", include_str!("../../../../migrations/0007_stream_history.sql")),
    (8, "order and invoice", include_str!("../../../../migrations/0008_order_and_invoice.sql")),
    (9, "order in memory", include_str!("../../../../migrations/0009_order_in_memory.sql")),
    (10, "dead and identity", include_str!("../../../../migrations/0010_dead_and_identity.sql")),
    (11, "audit", include_str!("../../../../migrations/0011_audit.sql")),
    (12, "holds", include_str!("../../../../migrations/0012_holds.sql")),
];

/// Runs the migrations.
pub(in crate::store) static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| {
    let migration = |(number, description, text): (i64, &'static str, &'static str)| {
        let sql = SqlStr::from_static(text);
        Migration::new(number, description.into(), MigrationType::Simple, sql, false)
    };
    Migrator::with_migrations(FILES.into_iter().map(migration).collect())
});

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[tokio::test]
    async fn what_is_compiled_in_is_what_sqlx_reads_from_the_folder() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
        let read = Migrator::new(folder.as_path()).await.unwrap();
        let recorded = |migration: &Migration| {
            let Migration { version, description, migration_type, sql, checksum, no_tx } = migration.clone();
            (version, description, format!("{migration_type:?}"), sql.as_str().to_owned(), checksum, no_tx)
        };
        let compiled_in: Vec<_> = MIGRATIONS.iter().map(recorded).collect();
        assert_eq!(compiled_in, read.iter().map(recorded).collect::<Vec<_>>());
    }
}
