//! `pepay-bridge demo`: runs the simulator, a sample target and a bridge in one process, on loopback and
//! in a temporary folder. It injects faults into all three and prints a ledger.

mod ledger;
mod stage;

use std::ffi::OsStr;
use std::io::{self, IsTerminal as _};
use std::pin::pin;
use std::time::Duration;

use clap::Args;
use http::StatusCode;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use self::stage::Stage;
use super::{Error, print};
use crate::config::Input;
use crate::lifecycle::{Signals, Stop};
use crate::simulator::fault::{Channel, Ending, Fault};
use crate::simulator::target::{Reaction, Target};
use crate::{config, telemetry};

/// The time limit of the demo, and the time that each event adds to it.
const LIMIT: Duration = Duration::from_secs(60);
const LIMIT_FOR_EACH: Duration = Duration::from_millis(10);

/// See the bridge work on loopback, without an account
///
/// Plays order events over both sources with duplicates, a dropped connection and a failing target,
/// and ends with the ledger. Exits 0 only if nothing was lost or delivered twice.
#[derive(Args, Clone, Debug)]
pub(super) struct Arguments {
    /// How many events to play
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    events: u32,

    /// Then leave the page open, and print its address, until Ctrl-C
    #[arg(long)]
    keep: bool,
}

/// Plays the demo.
pub(super) fn demo(arguments: &Arguments, input: &Input) -> Result<(), Error> {
    super::runtime()?.block_on(play(arguments.events as usize, arguments.keep, input.log_filter()))
}

/// Plays `events` events. Only the log filter is taken from the environment: the demo has its own
/// configuration.
async fn play(events: usize, keep: bool, log_filter: Option<&OsStr>) -> Result<(), Error> {
    let show = Show::new(events);
    let mut stage = Stage::build(events, log_filter).await?;
    show.say(&format!("simulator   {}", stage.simulator_url))?;
    show.say(&format!("bridge      {}   (status on {}/status)", stage.public_url, stage.admin_url))?;
    show.say(&format!("target      {}", stage.target_url))?;

    let (signals, stop) = (Signals::listen().map_err(Error::failure)?, Stop::default());
    let mut obeyed = pin!(signals.obey(stop.clone()));
    let limit = LIMIT + LIMIT_FOR_EACH * u32::try_from(events).unwrap_or(u32::MAX);
    let played = tokio::select! {
        played = tokio::time::timeout(limit, acts(&stage, &show, events)) => played,
        () = stop.soft.cancelled() => return Err(Error::failure("interrupted")),
        never = &mut obeyed => match never {},
    };
    match played {
        Ok(played) => played?,
        // The ledger reports what is missing.
        Err(_) => show.say(&format!("gave up waiting after {} s", limit.as_secs()))?,
    }
    let received = stage.received().await?;
    if !keep {
        stage.close().await?;
    }
    // The ledger is made before an operator can replay an event from the page.
    let ledger = stage.ledger(events, received);
    show.finish(&ledger.to_string())?;
    if keep {
        show.say(&format!("\npage        {}/   open until Ctrl-C", stage.admin_url))?;
        tokio::select! {
            () = stop.soft.cancelled() => {}
            never = &mut obeyed => match never {},
        }
        stage.close().await?;
    }
    ledger.verdict().map_err(Error::failure)
}

/// Plays the events in three parts: without faults, with the stream cut, and with the target down.
async fn acts(stage: &Stage, show: &Show, events: usize) -> Result<(), Error> {
    let Stage { simulator, target, .. } = stage;
    let third = events / 3;
    let cut = |ending| simulator.inject(Fault::Drop { ending }).map_err(Error::failure);

    simulator.until(|statistics| statistics.streams_open == 1).await;
    show.say(&format!(
        "stream up; playing {} events, each once by stream and twice by webhook",
        events - 2 * third
    ))?;
    simulator.play(events - 2 * third);
    show.follow(target, events - 2 * third).await?;

    show.say(&format!("cutting the stream under {third} events, and losing the webhooks of half of them"))?;
    cut(Ending::Reset)?;
    let lost = u32::try_from(third / 2).unwrap_or(u32::MAX);
    simulator.inject(Fault::Skip { channel: Channel::Webhook, times: lost }).map_err(Error::failure)?;
    simulator.play(third);
    show.follow(target, events - third).await?;

    show.say(&format!("the target answers 503 and breaks connections; playing {third} events"))?;
    target.next(2, Reaction::Answer(StatusCode::SERVICE_UNAVAILABLE, None));
    target.next(1, Reaction::Reset);
    simulator.play(third);
    show.follow(target, events).await?;
    simulator.webhooks_settled().await;
    Ok(())
}

/// The output of the demo while it runs: a progress bar on a terminal, or else plain lines.
struct Show {
    bar: ProgressBar,
}

impl Show {
    fn new(events: usize) -> Self {
        let target = if io::stdout().is_terminal() {
            ProgressDrawTarget::stdout()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(events as u64), target);
        // If the template is wrong, the default style stays.
        if let Ok(style) = ProgressStyle::with_template("{bar:32} {pos}/{len} delivered  {elapsed}") {
            bar.set_style(style);
        }
        Self { bar }
    }

    /// Prints one line.
    fn say(&self, line: &str) -> Result<(), Error> {
        self.bar.suspend(|| print(&format!("{line}\n")))
    }

    /// Shows the progress until `target` has acknowledged `events` different events.
    async fn follow(&self, target: &Target, events: usize) -> Result<(), Error> {
        let events = events as u64;
        let reached = target.until(|totals| {
            self.bar.set_position(totals.unique);
            totals.unique >= events
        });
        let totals = reached.await;
        if self.bar.is_hidden() {
            self.say(&format!("  {} delivered, {} attempts failed so far", totals.unique, totals.failed))?;
        }
        Ok(())
    }

    /// Removes the bar and prints `summary`.
    fn finish(&self, summary: &str) -> Result<(), Error> {
        self.bar.finish_and_clear();
        print(&format!("\n{summary}\n"))
    }
}
