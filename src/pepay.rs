//! Pepay's wire formats: events, frames, errors and signatures. The facts are from Pepay's public
//! documentation. The code says so where the documentation is silent.

pub mod account;
mod client;
pub mod comparison;
pub mod condition;
mod created;
pub mod devnet;
mod digest;
pub mod envelope;
pub mod error;
pub mod filter;
pub mod frame;
mod json;
pub mod rest;
pub mod signature;
mod subject;
pub mod token;
