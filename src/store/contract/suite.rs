//! The suite on one engine, the one of [`UnderTest`](super::UnderTest).

mod auditing;
mod conflicts;
pub(super) mod direct;
mod groups;
mod latency;
mod listing;
mod operating;
mod orders;
mod outcomes;
mod recording;
mod removed;
mod repeats;
pub(super) mod retention;
mod routes;
mod sightings;
mod steps;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::UnderTest;
use crate::domain::clock::{Clock, UnixMillis};
use crate::domain::delivery::Ordering;
use crate::domain::event::{Received, Source};
use crate::pepay::envelope;
use crate::store::contract::{
    self, Backend, NOW, arrived, event, eventually, everything, heads, id, route, work,
};
use crate::store::outbox::{Arrival, DeliveryLog, JobReceiver};
use crate::store::settings::Route;
use crate::store::types::Job;

type Fixture = contract::Fixture<UnderTest>;
