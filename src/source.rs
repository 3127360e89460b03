//! Where events come from. Each source turns what Pepay sends into
//! [`Received`](crate::domain::event::Received) events and hands them to
//! [`store::inbox`](crate::store::inbox); none knows where they go from there.

pub mod backfill;
pub mod reconcile;
pub mod stream;
pub mod webhook;
