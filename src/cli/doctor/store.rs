//! The checks of the database, of its disk, and of the accounts whose events it holds.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;

use super::report::Check;
use crate::app;
use crate::config::{Settings, access};
use crate::domain::cause::chain;
use crate::pepay::token::Identity;
use crate::store::check::{self, Checkup, Integrity};
use crate::store::inbox::SourceIdentity;
use crate::store::server_check::{self, ServerCheckup};
use crate::store::{self, Disk, Durability, Place, Server};

/// The time limit of the integrity check.
const PATIENCE: Duration = Duration::from_secs(10);

/// The free space below which there is a warning, in bytes.
const UNEASY: u64 = 1 << 30;

pub(super) async fn examine(settings: &store::Settings) -> Vec<Check> {
    match &settings.place {
        Place::File(database) => of_file(database).await,
        Place::Server(server) => vec![of_server(server, settings.durability).await],
    }
}

/// Checks a schema on a server. The server has its own disk and its own integrity checks.
async fn of_server(server: &Server, durability: Durability) -> Check {
    match server_check::examine(server, durability).await {
        Ok(found) => {
            let ServerCheckup { version, schema, newest_schema, replicas, commits } = found;
            let schema = match schema {
                None => "no schema yet, which the first start creates".to_owned(),
                Some(schema) if schema < newest_schema => {
                    format!("schema {schema} (the next start brings it to {newest_schema})")
                }
                Some(schema) => format!("schema {schema}"),
            };
            let running = match replicas {
                0 => "no bridge runs on it".to_owned(),
                1 => "1 bridge runs on it".to_owned(),
                more => format!("{more} bridges run on it"),
            };
            Check::ok("database", format!("PostgreSQL {version}, {schema}, {running}; {commits}"))
        }
        Err(error) => {
            Check::failed("database", chain(&error), "is `store.url` right, and does the server run?")
        }
    }
}

async fn of_file(database: &Path) -> Vec<Check> {
    let path = database.to_owned();
    let examined = tokio::task::spawn_blocking(move || check::examine(&path, PATIENCE)).await;
    let of_database = match examined {
        Ok(Ok(Some(checkup))) => of_database(&checkup),
        Ok(Ok(None)) => {
            let found = format!("none at {} yet: the first start creates it", database.display());
            Check::ok("database", found)
        }
        Ok(Err(error)) => {
            Check::failed("database", chain(&error), "is `store.url` right, and may this user read it?")
        }
        Err(error) => Check::failed("database", error.to_string(), "report this as a defect"),
    };
    let unwritable = access::unwritable(database).map(|reason| {
        let found = format!("{} cannot be written: {reason}", database.display());
        Check::failed("permissions", found, "run this as the user the bridge runs as")
    });
    [Some(of_database), unwritable, Some(of_disk(database))].into_iter().flatten().collect()
}

fn of_database(checkup: &Checkup) -> Check {
    let Checkup { schema, newest_schema, events, bytes, wal_bytes, integrity } = checkup;
    let size = |bytes: u64| ByteSize::b(bytes).display().iec().to_string();
    let upgrade = if schema < newest_schema {
        format!(" (the next start brings it to {newest_schema})")
    } else {
        String::new()
    };
    let found = format!(
        "{events} events in {}, log {}, schema {schema}{upgrade}, {}",
        size(*bytes),
        size(*wal_bytes),
        check::engine()
    );
    match integrity {
        Integrity::Sound => Check::ok("database", format!("{found}, sound")),
        Integrity::Unfinished => {
            let seconds = PATIENCE.as_secs();
            Check::ok("database", format!("{found}, no damage in what could be read in {seconds} s"))
        }
        Integrity::Damaged(damage) => Check::failed(
            "database",
            format!("damaged: {}", damage.replace('\n', " ")),
            "stop the bridge, keep the file, and restore a backup",
        ),
    }
}

fn of_disk(database: &Path) -> Check {
    match Disk::of(database) {
        Ok(disk) => of_room(disk),
        Err(error) => Check::failed("disk", error.to_string(), "is `store.url` right?"),
    }
}

fn of_room(disk: Disk) -> Check {
    let size = |bytes: u64| ByteSize::b(bytes).display().iec().to_string();
    let found = format!("{} free of {}", size(disk.free), size(disk.total));
    let advice = "make room, or shorten `store.payload_retention`";
    if disk.free < disk.least_free() {
        Check::failed("disk", format!("{found}, too little for the bridge to be ready"), advice)
    } else if disk.free < UNEASY {
        Check::warning("disk", found, advice)
    } else {
        Check::ok("disk", found)
    }
}

/// Compares the accounts that the store remembers with the configuration and with the accounts of the
/// streams' tokens. Returns no check if the store remembers no account yet.
pub(super) fn of_account(settings: &Settings, minted: Vec<(Arc<str>, Identity)>) -> Vec<Check> {
    let mut found = app::identities(settings);
    for (stream, Identity { environment, account }) in minted {
        if let Some(source) = found.iter_mut().find(|source| source.source == stream) {
            (source.environment, source.account) = (environment, account);
        }
    }
    let identities = match &settings.store.place {
        Place::File(database) => check::identities(database, &found),
        // For a store on a server, `run` makes this comparison at its start.
        Place::Server(_) => return Vec::new(),
    };
    let check = match identities {
        Ok(check::Identities::None) => return Vec::new(),
        Ok(check::Identities::Same(held)) => {
            let knows_more = |one: &SourceIdentity| {
                held.iter().any(|other| other.api_url == one.api_url && other.account.is_some())
            };
            let told = held.iter().filter(|one| one.account.is_some() || !knows_more(one));
            let mut held: Vec<_> = told.map(ToString::to_string).collect();
            held.dedup();
            Check::ok("account", format!("the store holds events of {}", held.join(", ")))
        }
        Ok(check::Identities::Other(other)) => {
            Check::failed("account", other.to_string(), "`run` refuses to start so")
        }
        // The check of the database reports the fault itself.
        Err(error) => {
            let found = format!("whose events the store holds cannot be read: {}", chain(&error));
            Check::warning("account", found, "see the check of the database")
        }
    };
    vec![check]
}

#[cfg(test)]
mod tests {
    use super::super::Report;
    use super::*;

    #[test]
    fn a_disk_with_which_the_bridge_is_not_ready_is_a_failure() {
        let line = |free: u64, total: u64| {
            Report(vec![of_room(Disk { free: free << 20, total: total << 20 })]).to_string()
        };
        assert!(line(255, 100_000).starts_with("FAILED   disk"), "{}", line(255, 100_000));
        assert!(line(256, 100_000).starts_with("warning  disk"));
        assert!(line(100, 1000).starts_with("warning  disk"));
        assert!(line(2000, 100_000).starts_with("ok       disk"));
    }
}
