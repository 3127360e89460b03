//! The vocabulary every other module shares: what an event is, which states a
//! delivery can be in, how filters match and how retries spread.
//!
//! Nothing here does I/O, waits, or imports another module.

pub mod alert;
pub mod audit;
pub mod backoff;
pub mod cause;
pub mod clock;
pub mod delivery;
pub mod event;
pub mod filter;
pub mod log_limit;
pub mod next_try;
pub mod operator;
pub mod reload;
pub mod retry_after;
pub mod status;
