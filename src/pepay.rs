//! Pepay's vocabulary: what its events, frames, errors and signatures look
//! like on the wire. Facts are from Pepay's public documentation; where that is
//! silent, the code says so.

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
