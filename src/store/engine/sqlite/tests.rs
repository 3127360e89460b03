//! Runs the suite of all engines on `SQLite`, and the tests of this engine.

mod backend;
mod backup;
mod migration;
mod opening;
mod plans;
mod restore;
mod retention;
mod sightings;
mod states;

use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use crate::domain::clock::{Clock, UnixMillis};
use crate::domain::delivery::Ordering;
use crate::domain::event::{Received, Source};
use crate::pepay::envelope;
use crate::store::contract::{NOW, arrived, event, everything, heads, id, route};
use crate::store::outbox::DeliveryLog;
use crate::store::settings::{Place, Settings};
use crate::store::types::Job;
use crate::store::{OpenError, Store, check, routing};
use backend::{Sqlite, database, open, settings};

use Sqlite as UnderTest;
#[path = "../../contract/suite.rs"]
mod contract;

type Fixture = crate::store::contract::Fixture<Sqlite>;
