//! pepay-bridge.

pub mod cli {
    //! The command line.

    pub mod simulator;
}
pub mod delivery;
pub mod domain;
pub mod lifecycle;
pub mod pepay;
pub mod simulator;
pub mod source;
pub mod store;
pub mod telemetry;
pub mod web;
