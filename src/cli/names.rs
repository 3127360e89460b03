//! The names of targets and streams of a running bridge. The hidden command `pepay-bridge complete-names`
//! prints them for the completion scripts. Other commands check the name of a target here.

use std::time::Duration;

use clap::ValueEnum;
use serde::Deserialize;

use super::admin::{self, Admin, Operator};
use super::text::clean;
use super::{Error, print, runtime};
use crate::config::Input;

/// The time limit of a completion.
const LIMIT: Duration = Duration::from_secs(1);

/// The arguments of `complete-names`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Names of what
    #[arg(value_enum)]
    kind: Kind,

    #[command(flatten)]
    admin: admin::Arguments,
}

/// What has a name.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Kind {
    Targets,
    Streams,
}

#[derive(Debug, Deserialize)]
struct Answer {
    #[serde(alias = "targets", alias = "streams")]
    all: Vec<Named>,
}

#[derive(Debug, Deserialize)]
struct Named {
    name: String,
}

/// Prints each name on a line. Prints nothing if no bridge responds in time.
pub(super) fn names(arguments: &Arguments, input: &Input) -> Result<(), Error> {
    let operator = Operator::new(&arguments.admin, input)?;
    let found = runtime()?.block_on(async {
        let asked = tokio::time::timeout(LIMIT, of(&operator.bridge, arguments.kind));
        asked.await.unwrap_or_else(|_| Ok(Vec::new()))
    });
    let mut lines = String::new();
    for name in found? {
        lines += &clean(&name);
        lines += "\n";
    }
    print(&lines)
}

async fn of(bridge: &Admin, kind: Kind) -> Result<Vec<String>, Error> {
    let path = match kind {
        Kind::Targets => "targets",
        Kind::Streams => "streams",
    };
    let answer: Answer = bridge.get(&[path], &[]).await?.read()?;
    Ok(answer.all.into_iter().map(|named| named.name).collect())
}

/// Checks that the bridge has a target named `target`. Commands call this when they have found nothing.
///
/// # Errors
/// [`Error::Failure`] lists the targets of the bridge.
pub(super) async fn target_is_known(bridge: &Admin, target: Option<&str>) -> Result<(), Error> {
    let Some(target) = target else { return Ok(()) };
    let known = of(bridge, Kind::Targets).await?;
    if known.iter().any(|name| name == target) {
        return Ok(());
    }
    let there = if known.is_empty() {
        "there is none".to_owned()
    } else {
        format!("there are: {}", known.join(", "))
    };
    Err(Error::failure(clean(&format!("no target \"{target}\"; {there}"))))
}
