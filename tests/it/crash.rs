//! Stops and crashes of the real process, under load from both sources. A ledger compares the
//! store with all requests that failing targets have received.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use http::StatusCode;
use pepay_bridge::domain::event::EventId;
use pepay_bridge::simulator::target::{Delivery, Reaction, Target};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::Value;

use crate::support::bridge::{Bridge, command, message, refused, signal};
use crate::support::soon;
use crate::support::world::{World, assert_each_once, listen};

const ROUNDS: usize = 6;
const EVENTS: usize = 60;
/// The number of requests that may be in flight to each target.
const CONCURRENCY: usize = 4;

/// The targets: the name, the share of requests that fail, and how they fail.
const TARGETS: [(&str, f64, Reaction); 4] = [
    ("slow", 0.0, Reaction::Reset),
    ("failing", 0.2, Reaction::Answer(StatusCode::BAD_GATEWAY, None)),
    ("hanging", 0.03, Reaction::Hang),
    ("dropping", 0.1, Reaction::Reset),
];

/// The requests that the targets have received over many runs of the bridge, and the events that it
/// had recorded as delivered at the end of each run.
struct Ledger {
    world: World,
    targets: Vec<Target>,
    random: StdRng,
    ids: Vec<EventId>,
    /// For each run and target: the events recorded as delivered, each with its number of requests.
    recorded: Vec<BTreeMap<String, usize>>,
    /// The number of acknowledged events not recorded as delivered at the end of a run, over all runs.
    unrecorded: usize,
}

impl Ledger {
    /// Starts the targets. Random numbers come from `SEED`, which is printed if the test fails.
    #[expect(clippy::print_stderr, reason = "kept by the test runner until a test fails")]
    async fn new(on_uncertain: &str) -> Self {
        let seed = std::env::var("SEED").map_or_else(|_| rand::rng().random(), |seed| seed.parse().unwrap());
        eprintln!("SEED={seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let mut world = World::new(World::with_duplicates()).await;
        let mut targets = Vec::new();
        for (name, share, reaction) in TARGETS {
            let target = world.target(name).await;
            target.delay(Duration::from_millis(random.random_range(0..20)));
            target.fail_ratio(share, reaction.clone());
            world.set_target(name, "CONCURRENCY", &CONCURRENCY.to_string());
            world.set_target(name, "TIMEOUT", if reaction == Reaction::Hang { "1s" } else { "10s" });
            world.set_target(name, "ON_UNCERTAIN", on_uncertain);
            targets.push(target);
        }
        Self { world, targets, random, ids: Vec::new(), recorded: Vec::new(), unrecorded: 0 }
    }

    /// Plays events and waits for some of their requests.
    async fn play(&mut self) {
        self.ids.extend(self.world.simulator.play(EVENTS));
        let target = &self.targets[self.random.random_range(0..self.targets.len())];
        let some = target.totals().received + self.random.random_range(1..EVENTS as u64 / 6);
        soon("some deliveries", target.until(|totals| totals.received >= some)).await;
    }

    /// Kills the bridge at random points, again and again.
    async fn crash(&mut self) {
        for _ in 0..ROUNDS {
            let bridge = self.world.bridge().await;
            self.play().await;
            bridge.kill().await;
            self.compare();
        }
    }

    /// Stops and starts the bridge again and again.
    async fn restart(&mut self) {
        for round in 0..ROUNDS {
            let bridge = self.world.bridge().await;
            self.play().await;
            let (status, log) = bridge.stop().await;
            assert!(status.success(), "round {round}: {status}");
            assert!(cut_off(&log).is_empty(), "a clean stop leaves nothing unknown");
            self.compare();
            assert_eq!(self.unrecorded, 0, "a clean stop records every answer");
        }
    }

    /// Compares the records of the bridge, which does not run, with those of the targets.
    fn compare(&mut self) {
        for ((name, ..), target) in TARGETS.iter().zip(&self.targets) {
            let delivered = self.world.delivered(name);
            let requests = requests(target);
            let mut recorded = BTreeMap::new();
            for (id, all) in &requests {
                if delivered.contains(id) {
                    recorded.insert(id.clone(), all.len());
                } else {
                    self.unrecorded += usize::from(all.iter().any(Delivery::acknowledged));
                }
            }
            assert_eq!(recorded.len(), delivered.len(), "{name} knows of all that is recorded as delivered");
            self.recorded.push(recorded);
        }
    }

    /// Ends the faults of the targets and waits until no delivery is open. Returns the status.
    async fn settle(&mut self) -> Value {
        self.targets.iter().for_each(Target::heal);
        let bridge = self.world.bridge().await;
        soon("the webhooks", self.world.simulator.webhooks_settled()).await;
        let status = bridge.until("an empty backlog", |status| {
            status["targets"].as_array().unwrap().iter().all(|target| target["backlog"] == 0)
                && status["store"]["last_sequence"] == self.ids.len()
        });
        let status = status.await;
        assert!(bridge.stop().await.0.success());
        status
    }

    /// Fails if an event was sent again after it was recorded as delivered.
    fn assert_recorded_is_never_sent_again(&self) {
        let now: Vec<_> = self.targets.iter().map(requests).collect();
        for (recorded, requests) in self.recorded.iter().zip(now.iter().cycle()) {
            for (id, before) in recorded {
                assert_eq!(requests[id].len(), *before, "{id} was sent again");
            }
        }
    }

    /// Returns the number of acknowledged requests beyond the first of each event.
    fn repeats(&self) -> usize {
        self.targets.iter().map(|target| usize::try_from(target.totals().repeated).unwrap()).sum()
    }
}

/// Returns the requests to `target`, by event.
fn requests(target: &Target) -> BTreeMap<String, Vec<Delivery>> {
    let mut requests = BTreeMap::<_, Vec<_>>::new();
    for delivery in target.deliveries() {
        requests.entry(delivery.id.to_string()).or_default().push(delivery);
    }
    requests
}

/// Returns the lines of a log about attempts that the end of the last process cut off.
fn cut_off(log: &[Value]) -> Vec<&Value> {
    log.iter().filter(|line| message(line).starts_with("cut off by the end of the last process")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_minus_nine_loses_nothing_and_repeats_no_more_than_was_unrecorded() {
    let mut ledger = Ledger::new("retry").await;
    ledger.crash().await;
    ledger.settle().await;
    let all: BTreeSet<_> = ledger.ids.iter().map(ToString::to_string).collect();
    for target in &ledger.targets {
        let seen: BTreeSet<_> = requests(target).into_keys().collect();
        assert_eq!(seen, all, "nothing lost, nothing invented");
        assert_eq!(target.totals().unique, all.len() as u64);
    }
    ledger.assert_recorded_is_never_sent_again();
    // A target may have taken requests that were in flight when the bridge was killed.
    let unknown = ledger.unrecorded + ROUNDS * CONCURRENCY * TARGETS.len();
    assert!(ledger.repeats() <= unknown, "{} repeats for {unknown}", ledger.repeats());
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_minus_nine_repeats_no_request_where_repeats_are_ruled_out() {
    let mut ledger = Ledger::new("hold").await;
    for (name, ..) in TARGETS {
        // Without an order, no delivery waits behind a held one.
        ledger.world.set_target(name, "ORDERING", "none");
    }
    ledger.crash().await;
    let status = ledger.settle().await;
    ledger.assert_recorded_is_never_sent_again();
    for target in &ledger.targets {
        assert_unanswered_is_never_repeated(target);
    }
    for ((name, ..), target) in TARGETS.iter().zip(&ledger.targets) {
        let shown =
            status["targets"].as_array().unwrap().iter().find(|shown| shown["name"] == *name).unwrap();
        // A held delivery counts whether or not its event has arrived.
        let accounted = target.totals().unique + shown["held"].as_u64().unwrap();
        assert!(
            accounted >= ledger.ids.len() as u64,
            "{name}: delivered, or waiting for an operator: {shown}"
        );
    }
    assert_eq!(ledger.repeats(), 0);
}

/// Fails if a request without an answer, or with a 2xx, was followed by another of its event.
fn assert_unanswered_is_never_repeated(target: &Target) {
    for (id, all) in requests(target) {
        let earlier = &all[..all.len() - 1];
        let refused = |one: &Delivery| one.answer.is_some_and(|status| !status.is_success());
        assert!(earlier.iter().all(refused), "{id}: {all:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clean_restarts_repeat_nothing() {
    let mut ledger = Ledger::new("retry").await;
    ledger.restart().await;
    ledger.settle().await;
    for target in &ledger.targets {
        assert_each_once(target, &ledger.ids);
    }
    ledger.assert_recorded_is_never_sent_again();
}

#[tokio::test(flavor = "multi_thread")]
async fn clean_restarts_repeat_nothing_where_repeats_are_ruled_out() {
    let mut ledger = Ledger::new("hold").await;
    ledger.restart().await;
    for target in &ledger.targets {
        assert_unanswered_is_never_repeated(target);
    }
    ledger.assert_recorded_is_never_sent_again();
    let held: i64 = ledger.world.look_up("SELECT count(*) FROM delivery WHERE state = 'held'");
    let unknown = |all: &Vec<Delivery>| all.iter().any(|one| one.answer.is_none());
    let unanswered: usize = ledger
        .targets
        .iter()
        .map(|target| requests(target).values().filter(|all| unknown(all)).count())
        .sum();
    assert_eq!(held, i64::try_from(unanswered).unwrap(), "held is what had no answer, and nothing else");
}

/// Starts a bridge whose only request is in flight for so long that its attempt is recorded.
async fn with_a_recorded_attempt(world: &World, target: &Target) -> Bridge {
    target.next(1, Reaction::Hang);
    let bridge = world.bridge().await;
    world.simulator.play(1);
    soon("the request", target.until(|totals| totals.received == 1)).await;
    let sending = "SELECT count(*) FROM delivery WHERE state = 'sending'";
    world.until_found("the record of the attempt", sending).await;
    soon("the webhooks", world.simulator.webhooks_settled()).await;
    bridge
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_a_request_that_was_out_for_long_has_the_next_number() {
    let mut world = World::new(World::with_duplicates()).await;
    let target = world.target("orders").await;
    world.set_target("orders", "TIMEOUT", "10m");
    with_a_recorded_attempt(&world, &target).await.kill().await;
    let bridge = world.bridge().await;
    soon("the delivery", target.until(|totals| totals.unique == 1)).await;
    let (_, log) = bridge.stop().await;
    let attempts: Vec<_> = target.deliveries().iter().map(|delivery| delivery.attempt).collect();
    assert_eq!(attempts, [Some(1), Some(2)]);
    let cut_off = cut_off(&log);
    assert_eq!(cut_off.len(), 1);
    assert_eq!(cut_off[0]["event_id"], &*target.deliveries()[0].id);
    assert_eq!((&cut_off[0]["target"], &cut_off[0]["attempt"]), (&"orders".into(), &1.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_a_request_whose_outcome_is_unknown_is_held_where_that_is_configured() {
    let mut world = World::new(World::with_duplicates()).await;
    let target = world.target("orders").await;
    world.set_target("orders", "TIMEOUT", "10m");
    world.set_target("orders", "ON_UNCERTAIN", "hold");
    with_a_recorded_attempt(&world, &target).await.kill().await;
    let bridge = world.bridge().await;
    bridge.until("the held delivery", |status| status["targets"][0]["held"] == 1).await;
    bridge.until_metric("pepay_bridge_deliveries_total{target=\"orders\",outcome=\"held\"}", 1.0).await;
    let (_, log) = bridge.stop().await;
    assert_eq!(target.totals().received, 1);
    assert!(message(cut_off(&log)[0]).ends_with("held: its outcome is unknown"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_abandons_what_is_in_flight() {
    let mut world = World::new(World::with_duplicates()).await;
    let target = world.target("orders").await;
    world.set("TARGETS__ORDERS__TIMEOUT", "10m");
    target.fail_ratio(1.0, Reaction::Hang);
    let mut bridge = world.bridge().await;
    let ids = world.simulator.play(1);
    soon("the request", target.until(|totals| totals.in_flight == 1)).await;
    soon("the webhooks", world.simulator.webhooks_settled()).await;
    bridge.terminate();
    bridge.logged("what is in hand is finished").await;
    let (status, _) = bridge.stop().await;
    assert!(status.success(), "{status}");
    target.heal();
    let bridge = world.bridge().await;
    soon("the delivery", target.until(|totals| totals.unique == 1)).await;
    bridge.stop().await;
    assert_each_once(&target, &ids);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_on_the_same_database_is_refused() {
    let mut world = World::new(World::with_duplicates()).await;
    world.target("orders").await;
    let bridge = world.bridge().await;
    let (code, said) = refused(&world.configuration).await;
    assert_eq!(code, Some(1));
    assert!(said.contains("in use by another pepay-bridge process"), "{said}");
    assert_eq!(bridge.admin("/healthz").await.status(), 200);
    bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_in_use_is_named_with_its_key() {
    let mut world = World::new(World::with_duplicates()).await;
    world.target("orders").await;
    let (listener, url) = listen().await;
    world.set("SERVER__LISTEN", url.strip_prefix("http://").unwrap());
    let (code, said) = refused(&world.configuration).await;
    assert_eq!(code, Some(1));
    assert!(said.contains("server.listen") && said.contains("cannot be listened on"), "{said}");
    drop(listener);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_while_the_database_does_not_answer_ends_the_start() {
    let mut world = World::new(World::with_duplicates()).await;
    world.target("orders").await;
    let (server, url) = listen().await;
    world.set("STORE__URL", &format!("{}/bridge", url.replace("http://", "postgres://bridge:secret@")));
    let mut child = command(&world.configuration).spawn().unwrap();
    let (_unanswered, _) = soon("the connection", server.accept()).await.unwrap();
    signal(&child, "-TERM");
    let status = soon("the end", child.wait()).await.unwrap();
    assert!(status.success(), "{status}");
}
