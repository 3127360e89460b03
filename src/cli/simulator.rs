//! `pepay-bridge simulator`: the simulator of Pepay as a separate process.

use std::ffi::OsStr;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use clap::Args;
use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::Error;
use crate::app;
use crate::config::Input;
use crate::domain::clock::Clock;
use crate::domain::event::Environment;
use crate::lifecycle::{Signals, Stop};
use crate::pepay::signature::SigningKey;
use crate::simulator::options::{ApiKey, Copies, Options, Scope, WebhookEndpoint};
use crate::simulator::switches::Switches;
use crate::simulator::target::{self, InvalidSecret, Target, Verifier};
use crate::simulator::{ServeError, Simulator};
use crate::telemetry::{self, Format};

/// The shortest pause between two generated events. At a higher rate they come in bursts.
const TICK: Duration = Duration::from_millis(10);

/// Run a local stand-in for Pepay
///
/// It has stream tokens, both WebSocket streams, the REST list of events, a sender of signed
/// webhooks and the order transitions of devnet. Faults are injected under /_simulator/faults.
#[derive(Args, Clone, Debug)]
pub(super) struct Arguments {
    /// Where it listens. Its control surface asks for no key: keep it private
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8088")]
    listen: SocketAddr,

    /// The API key it accepts, in x-api-key or x-commerce-api-key
    #[arg(
        long,
        value_name = "KEY",
        env = "PEPAY_SIMULATOR_API_KEY",
        hide_env_values = true,
        default_value = "simulator-only-key"
    )]
    api_key: SecretString,

    /// Send every event as a webhook to this address
    #[arg(long, value_name = "URL", requires = "webhook_secret")]
    webhook_url: Option<Url>,

    /// Sign webhooks with this secret
    #[arg(long, value_name = "SECRET", env = "PEPAY_SIMULATOR_WEBHOOK_SECRET", hide_env_values = true)]
    webhook_secret: Option<SecretString>,

    /// Sign them with this one too, as during a rotation (X-Pepay-Signature-Previous)
    #[arg(
        long,
        value_name = "SECRET",
        env = "PEPAY_SIMULATOR_WEBHOOK_PREVIOUS_SECRET",
        hide_env_values = true
    )]
    webhook_previous_secret: Option<SecretString>,

    /// Name this environment in X-Pepay-Network-Environment: devnet or mainnet
    #[arg(long, value_name = "NAME")]
    webhook_environment: Option<Environment>,

    /// Make up this many events a second; without it, events come only from
    /// order transitions and /_simulator/events
    #[arg(long, value_name = "EVENTS_PER_SECOND")]
    rate: Option<NonZeroU32>,

    /// Stop making events up after this many
    #[arg(long, value_name = "N", requires = "rate")]
    events: Option<u64>,

    /// What made-up events are made from; the same seed gives the same orders
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// Send each event this many times by each channel
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    copies: u32,

    /// How many of the newest events `since` can replay from
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    replay_retention: usize,

    /// How many events the snapshot holds that follows a `since` that is too old
    #[arg(long, value_name = "N", default_value_t = 100)]
    snapshot: usize,

    /// How many of the newest events the REST list knows
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    rest_retention: usize,

    /// How often a stream gets a ping, such as 25s; 0s is never
    #[arg(long, value_name = "TIME", default_value = "25s", value_parser = humantime::parse_duration)]
    ping_interval: Duration,

    /// Close a stream at this age, such as 10s
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    max_stream_age: Option<Duration>,

    /// The close code of a stream that has reached that age
    #[arg(long, value_name = "CODE", default_value_t = 1001, value_parser = clap::value_parser!(u16).range(1000..=4999))]
    age_close_code: u16,

    /// Requests a minute that the key may make; more get a 429
    #[arg(long, value_name = "N")]
    rate_limit: Option<NonZeroU32>,

    /// What the key opens: commerce, merchant, or both
    #[arg(long, value_name = "SCOPE", value_delimiter = ',', value_parser = scope, default_value = "commerce,merchant")]
    key_scope: Vec<Scope>,

    /// The only environment that the key sees: devnet or mainnet
    #[arg(long, value_name = "NAME")]
    key_environment: Option<Environment>,

    #[command(flatten, next_help_heading = "What Pepay's documentation leaves open")]
    switches: Switches,

    /// Also run a sample target here: it logs each event, answers 200 and shows
    /// what it got on GET /ledger
    #[arg(long, value_name = "ADDR")]
    target_listen: Option<SocketAddr>,

    /// The sample target's signing secret (whsec_…); with it, unsigned requests are refused
    #[arg(
        long,
        value_name = "SECRET",
        env = "PEPAY_SIMULATOR_TARGET_SECRET",
        hide_env_values = true,
        requires = "target_listen"
    )]
    target_secret: Option<SecretString>,
}

fn scope(name: &str) -> Result<Scope, String> {
    [Scope::Commerce, Scope::Merchant]
        .into_iter()
        .find(|scope| scope.as_str() == name)
        .ok_or_else(|| "commerce and merchant are the scopes there are".to_owned())
}

/// The error that ended the simulator.
#[derive(Debug, thiserror::Error)]
enum SimulatorError {
    /// The simulator cannot listen on an address.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The error of the system.
        source: io::Error,
    },
    /// The secret of the sample target is invalid.
    #[error("--target-secret: {0}")]
    TargetSecret(#[from] InvalidSecret),
    /// The simulator cannot serve.
    #[error(transparent)]
    Serve(#[from] ServeError),
}

/// Runs the simulator until a signal stops it.
pub(super) fn simulator(arguments: Arguments, input: &Input) -> Result<(), Error> {
    let filter = input.log_filter().and_then(OsStr::to_str).filter(|filter| !filter.is_empty());
    let filter = filter.unwrap_or("info").to_owned();
    telemetry::start(&telemetry::Settings { format: Format::Text, filter }).map_err(Error::failure)?;
    let stop = Stop::default();
    super::runtime()?.block_on(async {
        let signals = Signals::listen().map_err(Error::failure)?;
        tokio::select! {
            ended = run(arguments, stop.soft.clone()) => ended.map_err(Error::failure),
            never = signals.obey(stop.clone()) => match never {},
        }
    })
}

/// Runs the simulator until `stop`, with the sample target if an option asks for it.
///
/// # Errors
/// [`SimulatorError`] if the simulator cannot start.
async fn run(args: Arguments, stop: CancellationToken) -> Result<(), SimulatorError> {
    let (clock, jitter) = (Clock::system(), app::random());
    let target = match args.target_listen {
        Some(address) => {
            let target = args.target(clock.clone())?;
            Some((target, listen(address, "the sample target").await?))
        }
        None => None,
    };
    let listener = listen(args.listen, "the simulator").await?;
    let simulator = Simulator::new(args.options(), clock, jitter);
    let serve_target = async {
        if let Some((target, listener)) = target {
            target.serve(listener, stop.clone()).await;
        }
    };
    let play = async {
        if let Some(rate) = args.rate {
            play(&simulator, rate, args.events, &stop).await;
        }
    };
    let serve = async {
        let served = simulator.serve(listener, stop.clone()).await;
        // If the simulator could not start, the other tasks must end too.
        stop.cancel();
        served
    };
    let (served, (), ()) = tokio::join!(serve, serve_target, play);
    Ok(served?)
}

async fn listen(address: SocketAddr, who: &'static str) -> Result<TcpListener, SimulatorError> {
    let failed = |source| SimulatorError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    // The log needs the bound address, since the port of `address` may be 0.
    let address = listener.local_addr().map_err(failed)?;
    tracing::info!(%address, "{who} listens");
    Ok(listener)
}

/// Generates `rate` events a second, until `stop` or until `limit` events are made.
async fn play(simulator: &Simulator, rate: NonZeroU32, limit: Option<u64>, stop: &CancellationToken) {
    let mut ticks = tokio::time::interval(TICK.max(Duration::from_secs(1) / rate.get()));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (begun, limit) = (Instant::now(), limit.unwrap_or(u64::MAX));
    let mut played = 0;
    while played < limit {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        // The number of due events follows from the elapsed time, so late ticks do not lower the rate.
        let due = begun.elapsed().as_millis() * u128::from(rate.get()) / 1000 + 1;
        let due = u64::try_from(due).unwrap_or(u64::MAX).min(limit);
        simulator.play(usize::try_from(due.saturating_sub(played)).unwrap_or(usize::MAX));
        played = due;
    }
    tracing::info!(events = played, "every event has been made up");
}

impl Arguments {
    fn options(&self) -> Options {
        let mut options = Options {
            keys: vec![ApiKey {
                scopes: self.key_scope.clone(),
                environment: self.key_environment,
                ..ApiKey::new(self.api_key.clone())
            }],
            replay_retention: self.replay_retention,
            snapshot: self.snapshot,
            rest_retention: self.rest_retention,
            ping_interval: Some(self.ping_interval).filter(|interval| !interval.is_zero()),
            max_stream_age: self.max_stream_age,
            age_close_code: self.age_close_code,
            rate_limit: self.rate_limit,
            switches: self.switches,
            copies: Copies { stream: self.copies, webhook: self.copies },
            seed: self.seed,
            ..Options::default()
        };
        if let (Some(url), Some(secret)) = (&self.webhook_url, &self.webhook_secret) {
            options.webhooks.endpoints.push(WebhookEndpoint {
                previous_key: self.webhook_previous_secret.as_ref().map(SigningKey::new),
                environment: self.webhook_environment,
                ..WebhookEndpoint::new(url.clone(), secret)
            });
        }
        options
    }

    fn target(&self, clock: Clock) -> Result<Target, InvalidSecret> {
        let verifier = self.target_secret.as_ref().map(Verifier::new).transpose()?;
        Ok(Target::new(target::Options { verifier, seed: self.seed, ..target::Options::default() }, clock))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: Arguments,
    }

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Command::try_parse_from(line.split(' ')).map(|command| command.args)
    }

    #[test]
    fn without_options_the_simulator_has_one_key_and_sends_no_webhooks() {
        let options = parse("simulator").unwrap().options();
        assert!(options.webhooks.endpoints.is_empty());
        assert_eq!(options.keys.len(), 1);
    }

    #[test]
    fn webhooks_need_a_secret_and_a_secret_is_never_printed() {
        assert!(parse("simulator --webhook-url http://127.0.0.1:1/").is_err());
        let args = parse("simulator --webhook-url http://127.0.0.1:1/ --webhook-secret hunter2").unwrap();
        assert_eq!(args.options().webhooks.endpoints.len(), 1);
        assert!(!format!("{args:?}").contains("hunter2"));
    }
}
