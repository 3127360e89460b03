//! The removal of old rows.

use std::sync::Mutex;

use super::*;
use crate::domain::delivery::{Next, State};
use crate::domain::event::EventId;
use crate::domain::operator::{Action, Filter, Page};
use crate::store::contract::RETENTION;
use crate::store::error::ActError;
use crate::store::settings::Retention;
use crate::store::types::Batch;

const DAY: Duration = RETENTION.payloads;

/// A store whose time the test moves. Bodies are kept for a day, ids for two.
pub(in super::super) struct Aging {
    pub(in super::super) fixture: Fixture,
    now: Arc<Mutex<UnixMillis>>,
}

fn routes() -> Vec<Route> {
    vec![route("orders", "*", Ordering::PerObject)]
}

impl Aging {
    pub(in super::super) async fn new() -> Self {
        Self::at(UnderTest::new().await, Arc::new(Mutex::new(NOW))).await
    }

    async fn at(backend: UnderTest, now: Arc<Mutex<UnixMillis>>) -> Self {
        let clock = {
            let now = Arc::clone(&now);
            Clock::from_fn(move || *now.lock().unwrap())
        };
        Self { fixture: Fixture::timed(backend, routes(), clock).await, now }
    }

    pub(in super::super) async fn restart(self) -> Self {
        Self::at(self.fixture.close().await, self.now).await
    }

    pub(in super::super) fn pass(&self, time: Duration) {
        let mut now = self.now.lock().unwrap();
        *now = now.plus(time);
    }

    fn now(&self) -> UnixMillis {
        *self.now.lock().unwrap()
    }

    pub(in super::super) async fn sweep(&self) {
        let mut janitor = self.fixture.store.janitor();
        janitor.newest_kept = 0;
        janitor.sweep().await.unwrap();
    }

    pub(in super::super) async fn record(&self, id: &str, object: &str) {
        let received_at = *self.now.lock().unwrap();
        let event = Received { received_at, ..event(id, object) };
        self.fixture.store.inbox.try_record(event).await.unwrap();
    }

    fn count(&self, query: &str) -> i64 {
        self.fixture.backend.number(query)
    }

    /// Returns the ids of the stored events, oldest first, those without a body in brackets.
    fn held(&self) -> Vec<String> {
        let query =
            "SELECT CASE WHEN body IS NULL THEN '(' || id || ')' ELSE id END FROM event ORDER BY sequence";
        self.fixture.backend.texts(query)
    }
}

async fn end(arrivals: &mut JobReceiver, ledger: &DeliveryLog, next: Next) {
    let job = arrived(arrivals).await;
    let mut settlement = job.settlement(NOW, Duration::ZERO, next);
    settlement.answer = b"an answer".to_vec();
    ledger.settle(vec![settlement]).await.unwrap();
}

fn event_id(text: &str) -> EventId {
    text.parse().unwrap()
}

#[tokio::test]
async fn bodies_are_removed_once_every_delivery_has_ended_and_not_before() {
    let mut aging = Aging::new().await;
    let (mut arrivals, ledger) = aging.fixture.outbox();
    for (n, next) in
        [Next::Delivered, Next::Dead, Next::Held, Next::Retrying { due_at: NOW }].into_iter().enumerate()
    {
        aging.record(&format!("evt_{n}"), &n.to_string()).await;
        end(&mut arrivals, &ledger, next).await;
    }
    aging.record("evt_0", "another").await;
    let bodies_of_conflicts = "SELECT count(*) FROM conflict WHERE body IS NOT NULL";
    aging.pass(DAY);
    aging.sweep().await;
    assert_eq!(aging.held(), ["evt_0", "evt_1", "evt_2", "evt_3"], "not before their time");
    assert_eq!(aging.count(bodies_of_conflicts), 1);
    aging.pass(Duration::from_millis(1));
    aging.sweep().await;
    assert_eq!(aging.held(), ["(evt_0)", "evt_1", "evt_2", "evt_3"]);
    assert_eq!(aging.count(bodies_of_conflicts), 0);
    assert_eq!(aging.count("SELECT count(*) FROM attempt"), 3);
    let operator = &aging.fixture.store.operator;
    assert_eq!(operator.body(&event_id("evt_0")).await, Ok(Some(None)));
    assert_eq!(operator.replay("orders", &event_id("evt_0")).await, Err(ActError::PayloadGone));

    // An event that was passed over is found again when its delivery ends, and only then.
    operator.act(Action::Cancel, "orders", &event_id("evt_1")).await.unwrap();
    operator.act(Action::Close, "orders", &event_id("evt_2")).await.unwrap();
    let now = *aging.now.lock().unwrap();
    let job = heads(&ledger, now).await.remove(0);
    ledger.settle(vec![job.settlement(NOW, Duration::ZERO, Next::Delivered)]).await.unwrap();
    assert_eq!(aging.count("SELECT count(DISTINCT sequence) FROM ripe"), 3);
    aging.sweep().await;
    assert_eq!(aging.held(), ["(evt_0)", "(evt_1)", "(evt_2)", "(evt_3)"]);
    assert_eq!(aging.count("SELECT count(*) FROM ripe"), 0);
    assert_eq!(aging.count("SELECT count(*) FROM attempt"), 0);
}

#[tokio::test]
async fn the_body_of_a_conflict_is_kept_for_its_own_time_and_as_long_as_that_of_its_event() {
    let mut aging = Aging::new().await;
    aging.fixture.store.retain(Retention { ids: 100 * DAY, dead: 100 * DAY, ..RETENTION });
    let (mut arrivals, ledger) = aging.fixture.outbox();
    for (id, next) in [("evt_done", Next::Delivered), ("evt_dead", Next::Dead)] {
        aging.record(id, id).await;
        end(&mut arrivals, &ledger, next).await;
    }
    aging.record("evt_dead", "another").await;
    aging.pass(DAY);
    // The body of its event is removed a moment later.
    aging.record("evt_done", "another").await;
    aging.pass(Duration::from_millis(1));
    aging.sweep().await;
    // This body was removed already.
    aging.record("evt_done", "a third").await;
    assert_eq!(aging.held(), ["(evt_done)", "evt_dead"]);
    let bodies = "SELECT count(*) FROM conflict WHERE body IS NOT NULL";
    aging.sweep().await;
    assert_eq!(aging.count(bodies), 3);
    aging.pass(DAY);
    aging.sweep().await;
    assert_eq!(aging.count(bodies), 2, "of the one that arrived a moment earlier");
    aging.pass(Duration::from_millis(1));
    aging.sweep().await;
    assert_eq!(aging.count(bodies), 1, "of the event that waits for an operator");
    let operator = &aging.fixture.store.operator;
    operator.act(Action::Cancel, "orders", &event_id("evt_dead")).await.unwrap();
    aging.sweep().await;
    assert_eq!(aging.count(bodies), 0);
}

#[tokio::test]
async fn events_are_removed_with_all_their_rows_and_their_sequences_are_not_given_again() {
    let mut aging = Aging::new().await;
    let (mut arrivals, ledger) = aging.fixture.outbox();
    for n in 0..250 {
        aging.record(&format!("evt_{n}"), &n.to_string()).await;
        let again = Received { source: Source::Stream, ..event(&format!("evt_{n}"), "x") };
        aging.fixture.store.inbox.try_record(again).await.unwrap();
        end(&mut arrivals, &ledger, if n % 2 == 0 { Next::Delivered } else { Next::Dead }).await;
    }
    let operator = &aging.fixture.store.operator;
    assert_eq!(operator.act_on_all(&work(Action::Cancel, &Filter::default()), 125, |_| {}).await, Ok(125));
    let link = "INSERT INTO order_link (invoice_id, order_id, sequence) VALUES ('an invoice', 'an order', 1)";
    aging.fixture.backend.execute(link);
    aging.pass(2 * DAY + Duration::from_millis(1));
    aging.sweep().await;
    for table in ["event", "delivery", "attempt", "sighting", "conflict", "order_link", "ripe"] {
        assert_eq!(aging.count(&format!("SELECT count(*) FROM {table}")), 0, "{table}");
    }
    let summary = aging.fixture.store.operator.summary().await.unwrap();
    assert_eq!((summary.first_sequence, summary.last_sequence), (251, 250));
    assert_eq!(aging.fixture.store.operator.backlogs().await.unwrap()[0].dead, 0);
    drop((arrivals, ledger));
    let aging = aging.restart().await;
    aging.record("evt_new", "a").await;
    let summary = aging.fixture.store.operator.summary().await.unwrap();
    assert_eq!((summary.first_sequence, summary.last_sequence), (251, 251));
}

#[tokio::test]
async fn an_unfinished_delivery_keeps_its_event_beyond_the_retention_until_it_ends() {
    let mut aging = Aging::new().await;
    let (mut arrivals, ledger) = aging.fixture.outbox();
    for (id, next) in [("evt_0", Next::Held), ("evt_1", Next::Delivered), ("evt_2", Next::Delivered)] {
        aging.record(id, id).await;
        end(&mut arrivals, &ledger, next).await;
    }
    aging.pass(2 * DAY + Duration::from_millis(1));
    aging.record("evt_3", "a").await;
    aging.sweep().await;
    assert_eq!(aging.held(), ["evt_0", "evt_3"]);
    let operator = &aging.fixture.store.operator;
    let summary = operator.summary().await.unwrap();
    assert_eq!((summary.first_sequence, summary.last_sequence), (4, 4), "from there on nothing is missing");
    let listed = operator.events(&Filter::default(), &Page::default()).await.unwrap();
    let ids: Vec<_> = listed.items.iter().map(|event| &*event.event.id).collect();
    assert_eq!((ids, listed.next), (vec!["evt_3", "evt_0"], None));
    assert_eq!(operator.count(&work(Action::Close, &Filter::default())).await, Ok(1));

    operator.act(Action::Close, "orders", &event_id("evt_0")).await.unwrap();
    aging.sweep().await;
    assert_eq!(aging.held(), ["evt_3"]);
    assert_eq!(operator.delivery("orders", &event_id("evt_0")).await, Ok(None));
}

#[tokio::test]
async fn a_dead_delivery_keeps_its_event_until_an_operator_has_decided() {
    let mut aging = Aging::new().await;
    let (mut arrivals, ledger) = aging.fixture.outbox();
    for n in 0..3 {
        aging.record(&format!("evt_{n}"), &n.to_string()).await;
        end(&mut arrivals, &ledger, Next::Dead).await;
    }
    aging.pass(3 * DAY);
    aging.sweep().await;
    assert_eq!(aging.held(), ["evt_0", "evt_1", "evt_2"], "older than ids are kept, and not decided on");
    let operator = &aging.fixture.store.operator;
    assert_eq!(operator.backlogs().await.unwrap()[0].dead, 3);

    operator.act(Action::Cancel, "orders", &event_id("evt_0")).await.unwrap();
    operator.act(Action::Retry, "orders", &event_id("evt_1")).await.unwrap();
    aging.sweep().await;
    assert_eq!(aging.held(), ["evt_1", "evt_2"]);
    let job = heads(&ledger, aging.now()).await.remove(0);
    ledger.settle(vec![job.settlement(NOW, Duration::ZERO, Next::Delivered)]).await.unwrap();
    aging.sweep().await;
    assert_eq!(aging.held(), ["evt_2"]);
}

#[tokio::test]
async fn an_undecided_delivery_is_cancelled_when_its_own_time_is_over() {
    let mut aging = Aging::new().await;
    let (mut arrivals, ledger) = aging.fixture.outbox();
    aging.record("evt_0", "a").await;
    end(&mut arrivals, &ledger, Next::Dead).await;
    // Its time begins when it died, not when it arrived.
    aging.pass(DAY);
    aging.record("evt_1", "b").await;
    let late = arrived(&mut arrivals).await;
    let late = late.settlement(aging.now(), Duration::ZERO, Next::Dead);
    ledger.settle(vec![late]).await.unwrap();
    aging.pass(3 * DAY);
    aging.sweep().await;
    assert_eq!(aging.held(), ["evt_0", "evt_1"]);
    aging.pass(Duration::from_millis(1));
    aging.sweep().await;
    assert_eq!(aging.held(), ["evt_1"]);
    assert_eq!(aging.fixture.store.operator.backlogs().await.unwrap()[0].dead, 1);
    aging.pass(DAY);
    aging.sweep().await;
    assert_eq!(aging.held(), [""; 0]);
    assert_eq!(aging.fixture.store.operator.backlogs().await.unwrap()[0].dead, 0);
}

#[tokio::test]
async fn an_old_dead_delivery_of_the_newest_events_is_cancelled_and_the_id_stays() {
    let mut aging = Aging::new().await;
    let (mut arrivals, ledger) = aging.fixture.outbox();
    for n in 0..250 {
        aging.record(&format!("evt_{n}"), &n.to_string()).await;
        end(&mut arrivals, &ledger, Next::Dead).await;
    }
    aging.pass(RETENTION.dead + Duration::from_millis(1));
    let janitor = aging.fixture.store.janitor();
    janitor.sweep().await.unwrap();
    janitor.sweep().await.unwrap();
    assert_eq!(aging.count("SELECT count(*) FROM event WHERE body IS NULL"), 250);
    assert_eq!(aging.count("SELECT count(*) FROM delivery WHERE state = 'cancelled'"), 250);
    assert_eq!(aging.fixture.store.operator.backlogs().await.unwrap()[0].dead, 0);
}

#[tokio::test]
async fn the_newest_events_stay_however_old_they_are() {
    let aging = Aging::new().await;
    aging.record("evt_0", "a").await;
    aging.fixture.store.operator.act(Action::Cancel, "orders", &event_id("evt_0")).await.unwrap();
    aging.pass(30 * DAY);
    aging.fixture.store.janitor().sweep().await.unwrap();
    assert_eq!(aging.held(), ["(evt_0)"]);
}

#[tokio::test]
async fn one_event_from_the_future_does_not_delay_the_removal_of_others() {
    let mut aging = Aging::new().await;
    let (mut arrivals, ledger) = aging.fixture.outbox();
    let wrong = Received { received_at: NOW.plus(1000 * DAY), ..event("evt_0", "a") };
    aging.fixture.store.inbox.try_record(wrong).await.unwrap();
    end(&mut arrivals, &ledger, Next::Delivered).await;
    aging.record("evt_1", "b").await;
    end(&mut arrivals, &ledger, Next::Delivered).await;
    aging.pass(DAY + Duration::from_millis(1));
    aging.sweep().await;
    assert_eq!(aging.held(), ["(evt_0)", "(evt_1)"]);
}

#[tokio::test]
async fn an_event_of_a_clock_that_was_behind_takes_away_none_before_it() {
    let aging = Aging::new().await;
    aging.record("evt_0", "a").await;
    aging.record("evt_1", "b").await;
    let wrong = Received { received_at: UnixMillis(0), ..event("evt_2", "c") };
    aging.fixture.store.inbox.try_record(wrong).await.unwrap();
    let operator = &aging.fixture.store.operator;
    assert_eq!(operator.act_on_all(&work(Action::Cancel, &Filter::default()), 3, |_| {}).await, Ok(3));
    aging.sweep().await;
    assert_eq!(aging.held(), ["evt_0", "evt_1", "evt_2"]);
    aging.pass(DAY + Duration::from_millis(1));
    aging.sweep().await;
    assert_eq!(aging.held(), ["(evt_0)", "(evt_1)", "(evt_2)"]);
}

#[tokio::test]
async fn many_events_with_a_time_to_come_do_not_hold_up_the_others() {
    const AHEAD: usize = 1234;
    let aging = Aging::new().await;
    let ahead = |n: usize| {
        let received_at = NOW.plus(1000 * DAY);
        Received { received_at, ..event(&format!("evt_{n}"), &n.to_string()) }
    };
    let events = (0..AHEAD).map(ahead).chain([event("evt_last", "a")]).collect();
    aging.fixture.store.inbox.record(Batch { events, cursor: None }).await.unwrap();
    let operator = &aging.fixture.store.operator;
    let all = u64::try_from(AHEAD + 1).unwrap();
    assert_eq!(operator.act_on_all(&work(Action::Cancel, &Filter::default()), all, |_| {}).await, Ok(all));
    let bodies = || aging.count("SELECT count(*) FROM event WHERE body IS NOT NULL");
    aging.pass(DAY);
    aging.sweep().await;
    assert_eq!(bodies(), i64::try_from(AHEAD + 1).unwrap(), "an event behind them has its time left");
    aging.pass(Duration::from_millis(1));
    aging.sweep().await;
    assert_eq!(bodies(), 0);
    aging.pass(DAY);
    aging.sweep().await;
    assert_eq!(aging.count("SELECT count(*) FROM event"), 0);
}

#[tokio::test]
async fn a_delivery_that_waits_in_a_lane_keeps_its_body_and_its_turn() {
    let mut aging = Aging::new().await;
    let (mut arrivals, ledger) = aging.fixture.outbox();
    aging.record("evt_1000-1", "a").await;
    aging.record("evt_2000-1", "a").await;
    let first = arrived(&mut arrivals).await;
    aging.pass(3 * DAY);
    aging.sweep().await;
    assert_eq!(aging.held(), ["evt_1000-1", "evt_2000-1"]);
    ledger.settle(vec![first.settlement(NOW, Duration::ZERO, Next::Delivered)]).await.unwrap();
    aging.sweep().await;
    assert_eq!(aging.held(), ["evt_2000-1"]);
    assert_eq!(id(&arrived(&mut arrivals).await), "evt_2000-1");
    let standing =
        aging.fixture.store.operator.delivery("orders", &event_id("evt_2000-1")).await.unwrap().unwrap();
    assert_eq!((standing.delivery.state, standing.delivery.waits_for), (State::Pending, None));
}
