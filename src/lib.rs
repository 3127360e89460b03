//! pepay-bridge.

pub mod app;
pub mod cli;
pub mod config;
pub mod delivery;
pub mod domain;
pub mod lifecycle;
pub mod pepay;
pub mod source;
pub mod store;
pub mod telemetry;
pub mod web;
