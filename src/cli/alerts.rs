//! `pepay-bridge alerts`.

use clap::Subcommand;
use serde::Deserialize;
use serde_json::json;

use super::Error;
use super::admin::Operator;
use super::text::clean;

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Have the bridge send a message that says nothing is wrong; exits 1 unless it is taken
    Test,
}

#[derive(Debug, Deserialize)]
struct Outcome {
    id: String,
    acknowledged: bool,
    status: Option<u16>,
    duration_ms: u64,
    error: Option<String>,
}

/// Runs the subcommand.
pub(super) async fn alerts(command: &Command, operator: &Operator) -> Result<(), Error> {
    match command {
        Command::Test => test(operator).await,
    }
}

async fn test(operator: &Operator) -> Result<(), Error> {
    let answer = operator.bridge.post_patiently(&["alerts", "test"], &json!({})).await?;
    let outcome: Outcome = answer.read()?;
    let status = outcome.status.map(|status| format!("answered {status}"));
    let why = outcome.error.or(status).unwrap_or_else(|| "no answer".to_owned());
    let why = clean(&format!("the test alert {}: {why} after {} ms", outcome.id, outcome.duration_ms));
    if operator.json {
        answer.print()?;
    } else if outcome.acknowledged {
        super::print(&format!("{why}\n"))?;
    }
    if outcome.acknowledged { Ok(()) } else { Err(Error::failure(why)) }
}
