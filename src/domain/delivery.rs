//! The states of a delivery: one event on its way to one target.
//!
//! ```text
//!             ┌────────────── retry due ──────────────┐
//!             ▼                                       │
//! pending ─▶ sending ─▶ delivered                     │
//!               ├─────▶ retrying ─────────────────────┘
//!               ├─────▶ held   (outcome unknown, and the target must never see it twice)
//!               └─────▶ dead   (not worth retrying, or tried for long enough)
//! ```
//!
//! `sending` is recorded if a repeat must be ruled out, and for a slow attempt; other attempts end from
//! the state in which they began. An operator can end a delivery as `closed` or `cancelled`, and have
//! an ended one sent again. [`apply`] has the table of all steps; the store mirrors the states as a
//! `CHECK`.

mod retry;
mod state;
mod step;

pub use retry::{Attempt, Next, RetryPolicy, Verdict};
pub use state::{State, UnknownState};
pub use step::{Illegal, OnUncertain, Step, apply};

/// Which deliveries wait for one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ordering {
    /// Deliveries of one order, invoice or payment are sent one at a time, in order.
    PerObject,
    /// Deliveries of an order, its invoice and its payments are sent one at a time, in order.
    PerOrder,
    /// None waits for another.
    None,
}

impl Ordering {
    /// Returns the name in the configuration and in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PerObject => "per_object",
            Self::PerOrder => "per_order",
            Self::None => "none",
        }
    }
}
