//! Integration tests: one module for each behaviour.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod accounts;
mod alerts;
mod architecture;
mod assumptions;
mod backup;
mod commands;
mod config;
mod crash;
mod delivery;
mod demo;
mod devnet;
mod doctor;
mod forwarding;
mod fuzz;
mod identity;
mod listening;
mod manual;
mod monitoring;
mod operate;
mod postgres;
mod reload;
mod simulator;
mod stream;
mod support;
#[cfg(feature = "otlp")]
mod traces;
