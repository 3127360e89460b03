//! `pepay-bridge streams backfill`.

use std::time::Duration;

use clap::ArgGroup;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::{Backfill, Stream};
use crate::cli::admin::{Answer, Operator};
use crate::cli::moment::When;
use crate::cli::text::clean;
use crate::cli::{Error, print, progress};

/// The interval between two queries for the progress of a backfill.
const PACE: Duration = Duration::from_millis(250);

/// Read Pepay's list again from a time or an event on, and store the events that are missing
///
/// Live events go on meanwhile, and no cursor moves. A stop of the bridge ends it.
#[derive(Debug, clap::Args)]
#[command(group(ArgGroup::new("beginning").required(true)))]
pub(in crate::cli) struct Arguments {
    /// The stream's name
    stream: String,

    /// Events created then or later: RFC 3339, a day such as `2026-01-31`, or an age such as `2h`
    #[arg(long, value_name = "TIME", group = "beginning")]
    from: Option<When>,

    /// Events after the one of this id
    #[arg(long, value_name = "EVENT_ID", group = "beginning")]
    after: Option<String>,

    /// Wait for its end; exits 0 only if nothing is missing
    #[arg(long)]
    wait: bool,
}

/// Starts a backfill of the stream. With `--wait`, waits for its end.
pub(super) async fn backfill(arguments: &Arguments, operator: &Operator) -> Result<(), Error> {
    let Arguments { stream, from, after, wait } = arguments;
    let beginning = match (from, after) {
        (Some(when), _) => json!({ "from": when.written(operator.now) }),
        (None, after) => json!({ "after": after }),
    };
    let answer = operator.bridge.post(&["streams", stream, "backfill"], &beginning).await?;
    if !wait {
        return operator.show(&answer, |stream: Stream| {
            let name = clean(&stream.name);
            format!("stream {name} reads again; `streams list` shows how far it is\n")
        });
    }
    let begun: Stream = answer.read()?;
    let begun = begun.backfill.ok_or_else(|| interrupted(stream))?;
    let (ended, answer) = ended(stream, &begun, operator).await?;
    if operator.json {
        answer.print()?;
    } else {
        print(&(clean(&ended.render()) + "\n"))?;
    }
    match ended.error {
        Some(_) => Err(Error::failure("the backfill has not brought everything")),
        None => Ok(()),
    }
}

/// Waits until the backfill that has `begun` has ended. Returns its outcome, and the stream at that time.
async fn ended(name: &str, begun: &Backfill, operator: &Operator) -> Result<(Backfill, Answer), Error> {
    let spinner = progress::spinner(clean(&begun.render()));
    let mut ticks = tokio::time::interval(PACE);
    loop {
        ticks.tick().await;
        let streams: Streams = operator.bridge.get(&["streams"], &[]).await?.read()?;
        let mut found = None;
        for raw in streams.streams {
            let answer = Answer(raw.get().as_bytes().to_vec());
            let stream: Stream = answer.read()?;
            if stream.name == name {
                found = stream.backfill.map(|backfill| (backfill, answer));
            }
        }
        // After a restart of the bridge this backfill is gone. There may be another one.
        match found.filter(|(backfill, _)| backfill.started_at == begun.started_at) {
            None => return Err(interrupted(name)),
            Some((backfill, answer)) if !backfill.running => return Ok((backfill, answer)),
            Some((backfill, _)) => spinner.say(clean(&backfill.render())),
        }
    }
}

/// The streams, each as unparsed JSON.
#[derive(Debug, Deserialize)]
struct Streams {
    streams: Vec<Box<RawValue>>,
}

fn interrupted(stream: &str) -> Error {
    Error::failure(format!(
        "stream {stream} knows nothing of the backfill any more: was the bridge restarted?"
    ))
}
