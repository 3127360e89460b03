//! Starting, watching and stopping: who is told to stop, who is waited for,
//! and what the process says about it in the end.

use tokio_util::sync::CancellationToken;

/// The two stops, as parts of the bridge see them.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// Soft: take nothing new in, finish what is in hand.
    pub soft: CancellationToken,
    /// Hard: abandon what is in hand.
    pub hard: CancellationToken,
}
