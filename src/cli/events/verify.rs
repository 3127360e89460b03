//! The output of `pepay-bridge events verify`.

use serde::Deserialize;

use crate::cli::Error;
use crate::cli::admin::{Answer, Operator};

/// The result of the comparison, as the API returns it.
#[derive(Debug, Deserialize)]
struct Verification {
    event_id: String,
    outcome: String,
    #[serde(default)]
    differs: Vec<String>,
    asked_as: String,
}

/// Prints the result of the comparison.
///
/// # Errors
/// [`Error::Failure`] for any result other than `equal`, so that the exit code is 1.
pub(super) fn report(operator: &Operator, answer: &Answer) -> Result<(), Error> {
    let Verification { event_id, outcome, differs, asked_as } = answer.read()?;
    if operator.json {
        answer.print()?;
    }
    match &*outcome {
        "equal" if operator.json => Ok(()),
        "equal" => {
            crate::cli::print(&format!("equal: Pepay has the same {event_id} (asked as {asked_as})\n"))
        }
        "unknown" => {
            Err(Error::failure(format!("unknown: Pepay has no event {event_id} (asked as {asked_as})")))
        }
        _ => {
            let parts = differs.join(", ");
            Err(Error::failure(format!(
                "{outcome}: Pepay has another event under {event_id}; what differs: {parts} (asked as {asked_as})"
            )))
        }
    }
}
