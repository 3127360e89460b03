//! Pepay's vocabulary: what its events, frames, errors and signatures look
//! like on the wire. Facts are from Pepay's public documentation; where that is
//! silent, the code says so.

pub mod account;
pub mod envelope;
pub mod signature;
