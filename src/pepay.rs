//! Pepay's vocabulary: what its events, frames, errors and signatures look
//! like on the wire. Facts are from Pepay's public documentation; where that is
//! silent, the code says so.

pub mod account;
pub mod devnet;
pub mod envelope;
pub mod error;
pub mod frame;
pub mod rest;
pub mod signature;
pub mod token;
