//! The sources of events. Each source parses Pepay's messages into
//! [`Received`](crate::domain::event::Received) events and hands them to
//! [`store::inbox`](crate::store::inbox). No source knows the targets.

pub mod backfill;
pub mod reconcile;
pub mod stream;
pub mod webhook;
