//! The life of one delivery: one event on its way to one target.
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
//! `sending` is recorded only where a repeat must be ruled out, and for an attempt
//! that has been out for long; other attempts end from the state they began in. An
//! operator can end a delivery as `closed` or `cancelled`, and have one that has
//! ended sent again. [`apply`] is the table of all that; the store mirrors the
//! states as a `CHECK`.

mod retry;
mod state;
mod step;

pub use retry::{Attempt, Next, RetryPolicy, Verdict};
pub use state::{State, UnknownState};
pub use step::{Illegal, OnUncertain, Step, apply};

/// Whether deliveries wait for one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ordering {
    /// One at a time, in order, for one order, invoice or payment.
    PerObject,
    /// One at a time, in order, for an order together with its invoice and its payments.
    PerOrder,
    /// Freely.
    None,
}

impl Ordering {
    /// The name in the configuration and in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PerObject => "per_object",
            Self::PerOrder => "per_order",
            Self::None => "none",
        }
    }
}
