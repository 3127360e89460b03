//! `pepay-bridge devnet`.

mod follow;

use std::time::Duration;

use clap::Subcommand;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde_json::json;
use tokio::time::Instant;

use self::follow::{Event, Events, Follow};
use super::admin::{Admin, Reach};
use super::text::clean;
use super::{Error, print, runtime};
use crate::config::{self, Input, Settings};
use crate::domain::clock::Clock;
use crate::pepay::devnet::{Order, OrderId, Simulation, Tracking, Transition};
use crate::pepay::rest::Rest;

/// The type of the event that every transition emits.
const KIND: &str = "commerce.order.updated";

/// The interval between two queries to the bridge.
const PACE: Duration = Duration::from_millis(100);

/// Try the whole way from Pepay to your services on devnet
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Simulate(Simulate),
}

/// Move an order on Pepay's devnet and follow its event to every target
///
/// Asks Pepay's devnet simulator for the transition, then watches the running
/// bridge of this configuration until the event has come by the stream and by
/// webhook, as far as each is configured, and every matching target has
/// acknowledged it. Exits 0 only then.
#[derive(Debug, clap::Args)]
struct Simulate {
    /// The order's id
    #[arg(value_name = "ORDER")]
    order: OrderId,

    /// The state to move it to
    #[arg(long, value_name = "STATE", value_parser = transition())]
    to: Transition,

    /// The network of the paying wallet, such as bsc
    #[arg(long, value_name = "NAME")]
    wallet_network: Option<String>,

    /// The address of the paying wallet
    #[arg(long, value_name = "ADDRESS")]
    wallet_address: Option<String>,

    /// What to send as `tracking`: a JSON object, such as {"carrier":"dhl","number":"00340"}
    #[arg(long, value_name = "JSON")]
    tracking: Option<Tracking>,

    /// How long to wait for the event's whole way
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = humantime::parse_duration)]
    timeout: Duration,

    #[command(flatten)]
    reach: Reach,

    /// Print how it ended as JSON, and nothing before
    #[arg(long)]
    json: bool,
}

fn transition() -> impl TypedValueParser<Value = Transition> {
    PossibleValuesParser::new(Transition::ALL.map(Transition::as_str)).try_map(|name| {
        let named = Transition::ALL.into_iter().find(|transition| transition.as_str() == name);
        named.ok_or("is no state of an order")
    })
}

/// Runs the subcommand.
pub(super) fn devnet(arguments: Arguments, input: &Input) -> Result<(), Error> {
    let settings = config::load(input)?.settings;
    let Command::Simulate(simulate) = arguments.command;
    runtime()?.block_on(run(simulate, &settings))
}

/// Moves the order and follows its event.
async fn run(simulate: Simulate, settings: &Settings) -> Result<(), Error> {
    let Simulate { order, to, wallet_network, wallet_address, tracking, timeout, reach, json } = simulate;
    if settings.pepay.api_key.is_none() {
        return Err(Error::failure(
            "`pepay.api_key` is not set, and this asks with the account of `[pepay]`",
        ));
    }
    let bridge = Admin::new(&settings.web, &reach)?;
    let rest = Rest::new(&settings.pepay, Clock::system()).map_err(Error::failure)?;
    // This query comes first. It shows that the bridge runs, and finds the newest known event of the
    // order.
    let newest = newest(&bridge, &order).await?;

    let began = Instant::now();
    let screen = Screen { began, quiet: json };
    let simulation = Simulation { transition_to: to, wallet_network, wallet_address, tracking };
    let moved = rest.simulate(&order, &simulation).await.map_err(Error::failure)?;
    screen.show("Pepay", &order_state(&moved))?;

    let mut follow = Follow::new(expected(settings));
    let mut last = None;
    let way = watch(&bridge, &order, newest, &mut follow, &mut last, &screen);
    let in_time = match tokio::time::timeout(timeout, way).await {
        Ok(watched) => watched.map(|()| true)?,
        Err(_) => false,
    };
    let mut missing = match &last {
        Some(event) => follow.missing(event),
        None => vec!["the bridge has not got its event by any source".to_owned()],
    };
    if json {
        let ended = json!({
            "order": order.as_str(), "to": to, "complete": missing.is_empty(), "missing": missing,
            "seconds": began.elapsed().as_secs_f64(), "event": last,
        });
        print(&format!("{ended}\n"))?;
    }
    if let (Some(event), true) = (&last, missing.is_empty()) {
        return screen.show("done", &event.summary());
    }
    if !in_time {
        missing.push(format!("waited {}", humantime::format_duration(timeout)));
    }
    Err(Error::failure(missing.join("; ")))
}

/// Returns the configured sources that bring the event.
fn expected(settings: &Settings) -> Vec<&'static str> {
    let by_stream = settings.streams.iter().any(|stream| stream.settings.types.matches(KIND));
    let by_webhook = !settings.webhooks.is_empty();
    [by_stream.then_some("stream"), by_webhook.then_some("webhook")].into_iter().flatten().collect()
}

fn order_state(order: &Order) -> String {
    let words = [&order.status, &order.substatus, &order.network_environment];
    let words: Vec<_> = words.into_iter().flatten().map(String::as_str).collect();
    if words.is_empty() {
        "has moved the order".to_owned()
    } else {
        format!("the order is {}", words.join(", "))
    }
}

/// Queries the bridge until no further step of the event will happen. `last` is the event at the last
/// query.
async fn watch(
    bridge: &Admin,
    order: &OrderId,
    newest: i64,
    follow: &mut Follow,
    last: &mut Option<Event>,
    screen: &Screen,
) -> Result<(), Error> {
    let mut ticks = tokio::time::interval(PACE);
    let id = loop {
        ticks.tick().await;
        if let Some(id) = first_after(bridge, order, newest).await? {
            break id;
        }
    };
    loop {
        let event: Event = bridge.get(&["events", &id], &[("body", "false")]).await?.read()?;
        for (who, what) in follow.news(&event) {
            screen.show(&who, &what)?;
        }
        let over = follow.is_over(&event);
        *last = Some(event);
        if over {
            return Ok(());
        }
        ticks.tick().await;
    }
}

/// Returns the sequence of the newest event of `order` in the bridge; 0 if there is none.
async fn newest(bridge: &Admin, order: &OrderId) -> Result<i64, Error> {
    let listed = list(bridge, order).await?;
    Ok(listed.iter().map(|(sequence, _)| *sequence).max().unwrap_or(0))
}

/// Returns the id of the first event of `order` after `sequence`.
async fn first_after(bridge: &Admin, order: &OrderId, sequence: i64) -> Result<Option<String>, Error> {
    let listed = list(bridge, order).await?;
    let later = listed.into_iter().filter(|(of_event, _)| *of_event > sequence);
    Ok(later.min().map(|(_, id)| id))
}

/// Returns the newest events of `order`, each with its sequence and id. An empty page may have a next
/// page.
async fn list(bridge: &Admin, order: &OrderId) -> Result<Vec<(i64, String)>, Error> {
    let mut cursor = None;
    loop {
        let mut query = vec![("object_id", order.as_str()), ("type", KIND)];
        query.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
        let page: Events = bridge.get(&["events"], &query).await?.read()?;
        if !page.events.is_empty() || page.next_cursor.is_none() {
            return Ok(page.events.into_iter().map(|event| (event.sequence, event.id)).collect());
        }
        cursor = page.next_cursor;
    }
}

/// Prints each step with the time since the start.
struct Screen {
    began: Instant,
    quiet: bool,
}

impl Screen {
    fn show(&self, who: &str, what: &str) -> Result<(), Error> {
        if self.quiet {
            return Ok(());
        }
        // The texts may contain messages of Pepay or of a target.
        let (who, what) = (clean(who), clean(what));
        print(&format!("{:>6.1} s  {who:<16}  {what}\n", self.began.elapsed().as_secs_f64()))
    }
}
