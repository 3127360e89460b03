//! `pepay-bridge targets`.

pub(super) mod shown;

use clap::Subcommand;
use serde::Deserialize;
use serde_json::json;

use self::shown::{Failure, Latency, Target, Targets};
use super::Error;
use super::admin::Operator;
use super::moment::Moment;
use super::table::Table;
use super::text::clean;
use crate::domain::clock::UnixMillis;

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the targets and the deliveries that wait for each
    List,
    /// Pause a target: nothing is sent to it until it is resumed, also after a restart
    Pause {
        /// The target's name
        target: String,
    },
    /// Resume a paused target
    Resume {
        /// The target's name
        target: String,
    },
    /// Send a target a made-up event, signed like any other and not stored; exits 1 unless acknowledged
    Test {
        /// The target's name
        target: String,
    },
}

/// Runs the subcommand.
pub(super) async fn targets(command: &Command, operator: &Operator) -> Result<(), Error> {
    match command {
        Command::List => {
            let answer = operator.bridge.get(&["targets"], &[]).await?;
            operator.show(&answer, |targets: Targets| targets.render(operator.now))
        }
        Command::Pause { target } => switch(operator, target, "pause").await,
        Command::Resume { target } => switch(operator, target, "resume").await,
        Command::Test { target } => test(operator, target).await,
    }
}

async fn switch(operator: &Operator, target: &str, verb: &str) -> Result<(), Error> {
    let answer = operator.bridge.post(&["targets", target, verb], &json!({})).await?;
    operator.show(&answer, |target: Target| {
        let paused = if target.paused { "is paused" } else { "goes on" };
        format!("target {} {paused}, backlog: {}\n", clean(&target.name), number(target.backlog))
    })
}

async fn test(operator: &Operator, target: &str) -> Result<(), Error> {
    let answer = operator.bridge.post_patiently(&["targets", target, "test"], &json!({})).await?;
    let outcome: Outcome = answer.read()?;
    let status = outcome.status.map(|status| format!("answered {status}"));
    let why = outcome.error.or(status).unwrap_or_else(|| "did not answer".to_owned());
    let why = clean(&format!("target {target}: {why} after {} ms", outcome.duration_ms));
    if operator.json {
        answer.print()?;
    } else if outcome.acknowledged {
        super::print(&format!("{why}, and acknowledged {}\n", clean(&outcome.event_id)))?;
    }
    if outcome.acknowledged { Ok(()) } else { Err(Error::failure(why)) }
}

#[derive(Debug, Deserialize)]
struct Outcome {
    event_id: String,
    acknowledged: bool,
    status: Option<u16>,
    duration_ms: u64,
    error: Option<String>,
}

const HEADER: [&str; 12] = [
    "TARGET",
    "STATE",
    "WAITS FOR",
    "BACKLOG",
    "OLDEST",
    "HELD",
    "DEAD",
    "SENDING",
    "P50",
    "P99",
    "DELIVERED",
    "LAST ERROR",
];

impl Targets {
    fn render(self, now: UnixMillis) -> String {
        let mut table = Table::new(&HEADER);
        for target in self.targets {
            table.row(target.cells(now));
        }
        table.take()
    }
}

impl Target {
    /// Returns the state in one word, and what the target waits for.
    fn state(&self, now: UnixMillis) -> (&'static str, String) {
        let asked_to_wait = self.retry_after_until.filter(|until| until.is_after(now));
        let asked_to_wait = asked_to_wait.map(|until| format!("its Retry-After, {}", until.from(now)));
        let probe = self
            .next_probe
            .as_ref()
            .map(|probe| format!("a probe, {}", probe.first_attempt_at.min(probe.retry_at).from(now)));
        match (&*self.circuit, &self.rejecting) {
            _ if self.configured == Some(false) => {
                ("removed", "`deliveries move`, or cancelling them".to_owned())
            }
            _ if self.paused => {
                let reason = self.paused_reason.as_deref().unwrap_or_default();
                ("paused", format!("a resume; paused {reason}"))
            }
            (_, Some(_)) => ("rejecting", asked_to_wait.unwrap_or_default()),
            ("closed", None) => match asked_to_wait {
                Some(until) => ("waiting", until),
                None => ("ok", String::new()),
            },
            _ => ("failing", asked_to_wait.or(probe).unwrap_or_default()),
        }
    }

    fn cells(self, now: UnixMillis) -> [String; HEADER.len()] {
        let (state, waits_for) = self.state(now);
        let age = |at: Option<Moment>| at.map(|at| at.age(now)).unwrap_or_default();
        let (p50, p99) = match self.latency {
            Some(Latency { p50_ms, p99_ms }) => (format!("{p50_ms}ms"), format!("{p99_ms}ms")),
            None => Default::default(),
        };
        let failure = |Failure { error, at }: Failure| format!("{error} ({})", at.from(now));
        [
            self.name,
            state.to_owned(),
            waits_for,
            number(self.backlog),
            age(self.backlog_oldest_at),
            number(self.held),
            number(self.dead),
            self.in_flight.to_string(),
            p50,
            p99,
            age(self.last_delivered_at),
            self.last_error.map(failure).unwrap_or_default(),
        ]
    }
}

/// Returns a count as text. The count is missing while the store does not respond.
fn number(count: Option<u64>) -> String {
    count.map_or_else(|| "unknown".to_owned(), |count| count.to_string())
}
