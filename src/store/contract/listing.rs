//! The lists of an operator.

use super::*;
use crate::domain::delivery::{Next, State};
use crate::domain::operator::{Action, Filter, Page};
use crate::store::error::ActError;
use crate::store::view::{DeliverySummary, EventSummary};

fn routes() -> Vec<Route> {
    vec![route("orders", "commerce.*", Ordering::PerObject), route("all", "*", Ordering::None)]
}

/// Returns an event that arrived this many seconds after [`NOW`].
fn at(seconds: u64, id: &str, object: &str) -> Received {
    Received { received_at: NOW.plus(Duration::from_secs(seconds)), ..event(id, object) }
}

async fn all_events(fixture: &Fixture, filter: &Filter, limit: u32) -> Vec<EventSummary> {
    let (mut items, mut page) = (Vec::new(), Page { limit, cursor: None });
    loop {
        let part = fixture.store.operator.events(filter, &page).await.unwrap();
        assert!(part.items.len() <= limit as usize);
        items.extend(part.items);
        page.cursor = part.next;
        if page.cursor.is_none() {
            return items;
        }
    }
}

async fn all_deliveries(fixture: &Fixture, filter: &Filter, limit: u32) -> Vec<DeliverySummary> {
    let (mut items, mut page) = (Vec::new(), Page { limit, cursor: None });
    loop {
        let part = fixture.store.operator.deliveries(filter, &page).await.unwrap();
        assert!(part.items.len() <= limit as usize);
        items.extend(part.items);
        page.cursor = part.next;
        if page.cursor.is_none() {
            return items;
        }
    }
}

fn ids(events: &[EventSummary]) -> Vec<&str> {
    events.iter().map(|event| &*event.event.id).collect()
}

/// Returns a store with seven events of three objects, one a minute. Of the deliveries to `orders`, the
/// first is dead and the second held.
async fn filled() -> Fixture {
    let mut fixture = Fixture::new(routes()).await;
    let (mut arrivals, ledger) = fixture.outbox();
    for (n, object) in (1..).zip(["a", "b", "c", "a", "b", "c", "a"]) {
        let received = at(n * 60, &format!("evt_{n}"), object);
        fixture.store.inbox.try_record(received).await.unwrap();
    }
    for next in [Next::Dead, Next::Held] {
        let job = arrived(&mut arrivals).await;
        let mut settlement = job.settlement(NOW, Duration::from_millis(7), next);
        (settlement.status, settlement.error) = (Some(500), Some("500 Internal".to_owned()));
        settlement.answer = b"oops \xff".to_vec();
        ledger.settle(vec![settlement]).await.unwrap();
    }
    fixture
}

#[tokio::test]
async fn pages_of_any_size_add_up_to_the_whole_list_newest_first() {
    let fixture = filled().await;
    for limit in [1, 2, 3, 7, 50] {
        let events = all_events(&fixture, &Filter::default(), limit).await;
        assert_eq!(ids(&events), ["evt_7", "evt_6", "evt_5", "evt_4", "evt_3", "evt_2", "evt_1"]);
        let deliveries = all_deliveries(&fixture, &Filter::default(), limit).await;
        let shown: Vec<_> = deliveries.iter().map(|one| (one.sequence, &*one.target)).collect();
        let expected: Vec<_> = (1..=7).rev().flat_map(|n| [(n, "orders"), (n, "all")]).collect();
        assert_eq!(shown, expected, "in pages of {limit}");
    }
}

#[tokio::test]
async fn a_text_is_found_in_bodies_byte_for_byte_in_calls_that_are_bounded() {
    let fixture = filled().await;
    let found = async |text: &str, limit| {
        let filter = Filter { text: Some(text.to_owned()), ..Filter::default() };
        ids(&all_events(&fixture, &filter, limit).await).join(" ")
    };
    for limit in [1, 2, 50] {
        assert_eq!(found(r#""id":"b"}"#, limit).await, "evt_5 evt_2");
    }
    assert_eq!(found("\"é\"", 2).await.split(' ').count(), 7);
    for text in ["É", "100%", "_", "'", r#""id":"B"}"#] {
        assert_eq!(found(text, 50).await.is_empty(), text != "_", "{text}: no pattern, no case");
    }
    fixture.close().await;
}

#[tokio::test]
async fn a_text_with_a_nul_is_looked_for_like_any_other() {
    let fixture = Fixture::new(routes()).await;
    fixture.store.inbox.try_record(event("evt_1", "a\\u0000b")).await.unwrap();
    let about = |object: &str| Filter { object_id: Some(object.to_owned()), ..Filter::default() };
    assert_eq!(ids(&all_events(&fixture, &about("a\0b"), 50).await), ["evt_1"]);
    assert_eq!(ids(&all_events(&fixture, &about("a\0c"), 50).await), [""; 0]);
    let (operator, id) = (&fixture.store.operator, "evt_1".parse().unwrap());
    assert_eq!(operator.delivery("or\0ders", &id).await, Ok(None));
    assert_eq!(operator.replay("or\0ders", &id).await, Err(ActError::NoSuchTarget));
}

#[tokio::test]
async fn a_time_is_found_among_events_that_were_accepted_hours_after_they_arrived() {
    const HOUR: u64 = 3600;
    let mut fixture = Fixture::new(routes()).await;
    let record = async |fixture: &Fixture, seconds: u64, ids: std::ops::Range<u32>| {
        for n in ids {
            let received = at(seconds + u64::from(n), &format!("evt_{n}"), "a");
            fixture.store.inbox.try_record(received).await.unwrap();
        }
    };
    let between = |from: u64, to: u64| {
        let [from, to] = [from, to].map(|seconds| Some(NOW.plus(Duration::from_secs(seconds))));
        Filter { from, to, ..Filter::default() }
    };
    let count =
        async |fixture: &Fixture, from: u64, to: u64| all_events(fixture, &between(from, to), 7).await.len();
    // The middle, where a search begins, has the events that came late.
    record(&fixture, 6 * HOUR, 0..20).await;
    record(&fixture, 0, 20..40).await;
    record(&fixture, 6 * HOUR, 40..42).await;
    assert_eq!(count(&fixture, 0, HOUR).await, 20);
    assert_eq!(count(&fixture, 5 * HOUR, 7 * HOUR).await, 22);

    // After a restart the store still knows how late they were and when the newest arrived.
    fixture = fixture.restart(routes()).await;
    assert_eq!(count(&fixture, 0, HOUR).await, 20);
    let later = Filter { source: Some(Source::Webhook), ..between(5 * HOUR, 7 * HOUR) };
    assert_eq!(fixture.store.operator.count(&work(Action::Cancel, &later)).await.unwrap(), 2 * 22);
    fixture = fixture.restart(routes()).await;
    record(&fixture, 2 * HOUR, 50..55).await;
    assert_eq!(count(&fixture, 2 * HOUR, 3 * HOUR).await, 5);
    let kept = fixture.backend.number("SELECT most FROM lateness");
    assert_eq!(kept, 6 * 3_600_000, "the most there has been, in whole minutes");
}

/// An event of `kind` whose `data.object` is `object`.
fn of_kind(id: &str, kind: &str, object: &str) -> Received {
    let body = format!(r#"{{"id":"{id}","type":"{kind}","data":{{"object":{object}}}}}"#);
    Received { event: envelope::parse(body.into(), NOW).unwrap(), ..event(id, "x") }
}

#[tokio::test]
async fn an_order_is_found_with_its_invoices_and_an_invoice_with_its_payments() {
    let fixture = Fixture::new(vec![route("all", "*", Ordering::None)]).await;
    let mut recorded = 0;
    let mut record = async |kind: &str, object: &str| {
        recorded += 1;
        let received = of_kind(&format!("evt_{recorded}"), kind, object);
        fixture.store.inbox.try_record(received).await.unwrap();
    };
    record("commerce.order.created", r#"{"orderId":"o","invoiceId":"i"}"#).await;
    record("invoice.created", r#"{"id":"i","commerce_order_id":"o"}"#).await;
    record("invoice_payment.created", r#"{"id":"p","invoice_id":"i"}"#).await;
    record("commerce.order.created", r#"{"id":"o2","invoice_id":"i2"}"#).await;
    record("invoice_payment.created", r#"{"invoice_id":"i"}"#).await;
    // These are in blocks of the indexes far from the others, and in one that is not full.
    for n in 0..1_100 {
        record("commerce.order.updated", &format!(r#"{{"id":"other_{n}"}}"#)).await;
    }
    record("invoice.updated", r#"{"invoiceId":"i","orderId":"o"}"#).await;

    let none = Filter::default();
    let cases: Vec<(Filter, &[&str])> = vec![
        (Filter { order_id: Some("o".into()), ..none.clone() }, &["evt_1106", "evt_2", "evt_1"]),
        (Filter { invoice_id: Some("i".into()), ..none.clone() }, &["evt_1106", "evt_5", "evt_3", "evt_2"]),
        (Filter { invoice_id: Some("i2".into()), ..none.clone() }, &[]),
        (Filter { object_id: Some("o".into()), ..none.clone() }, &["evt_1"]),
        (Filter { object_id: Some("i".into()), ..none.clone() }, &["evt_1106", "evt_2"]),
        (Filter { order_id: Some("i".into()), invoice_id: Some("o".into()), ..none.clone() }, &[]),
        (
            Filter { order_id: Some("o".into()), types: Some("invoice.*".parse().unwrap()), ..none.clone() },
            &["evt_1106", "evt_2"],
        ),
        (Filter { order_id: Some("p".into()), ..none.clone() }, &["evt_3"]),
    ];
    for (filter, expected) in cases {
        for limit in [1, 2, 50] {
            let found = all_events(&fixture, &filter, limit).await;
            assert_eq!(ids(&found), expected, "{filter:?} in pages of {limit}");
            let deliveries = all_deliveries(&fixture, &filter, limit).await;
            let found: Vec<_> = deliveries.iter().map(|one| &*one.event_id).collect();
            assert_eq!(found, expected, "{filter:?} in pages of {limit}");
        }
        let matching = fixture.store.operator.count(&work(Action::Cancel, &filter)).await.unwrap();
        assert_eq!(matching, u64::try_from(expected.len()).unwrap(), "{filter:?}");
    }
    // After events were removed, not every block has some.
    fixture.backend.execute("UPDATE retention SET payload_through = 1105, events_through = 1105");
    let filter = Filter { order_id: Some("o".into()), ..none };
    assert_eq!(ids(&all_events(&fixture, &filter, 1).await), ["evt_1106", "evt_2", "evt_1"]);
}

#[tokio::test]
async fn where_orders_have_lanes_an_order_is_found_with_the_payments_of_its_invoice() {
    let fixture = Fixture::new(vec![route("all", "*", Ordering::PerOrder)]).await;
    for (n, kind, object) in [
        (1, "invoice_payment.created", r#"{"id":"p0","invoice_id":"i"}"#),
        (2, "commerce.order.created", r#"{"orderId":"o","invoiceId":"i"}"#),
        (3, "invoice_payment.created", r#"{"id":"p1","invoice_id":"i"}"#),
        (4, "invoice.updated", r#"{"id":"i"}"#),
        (5, "invoice_payment.created", r#"{"id":"p2","invoice_id":"i2"}"#),
        (6, "invoice_payment.created", r#"{"id":"p3","invoice_id":"i","order_id":"o2"}"#),
    ] {
        let received = of_kind(&format!("evt_{n}"), kind, object);
        fixture.store.inbox.try_record(received).await.unwrap();
    }
    let none = Filter::default();
    let cases: [(Filter, &[&str]); 4] = [
        (Filter { order_id: Some("o".into()), ..none.clone() }, &["evt_4", "evt_3", "evt_2"]),
        (Filter { order_id: Some("o2".into()), ..none.clone() }, &["evt_6"]),
        (Filter { invoice_id: Some("i".into()), ..none.clone() }, &["evt_6", "evt_4", "evt_3", "evt_1"]),
        (Filter { invoice_id: Some("i2".into()), ..none }, &["evt_5"]),
    ];
    for (filter, expected) in cases {
        assert_eq!(ids(&all_events(&fixture, &filter, 2).await), expected, "{filter:?}");
    }
}

#[tokio::test]
async fn each_filter_selects_its_own_events() {
    let fixture = filled().await;
    let none = Filter::default();
    let minute = |n: u64| Some(NOW.plus(Duration::from_secs(n * 60)));
    let cases: Vec<(Filter, &[&str])> = vec![
        (Filter { object_id: Some("b".into()), ..none.clone() }, &["evt_5", "evt_2"]),
        (Filter { id_prefix: Some("evt_3".into()), ..none.clone() }, &["evt_3"]),
        (Filter { id_prefix: Some("evt-".into()), ..none.clone() }, &[]),
        (Filter { from: minute(3), to: minute(5), ..none.clone() }, &["evt_4", "evt_3"]),
        (Filter { state: Some(State::Dead), ..none.clone() }, &["evt_1"]),
        (Filter { state: Some(State::Dead), target: Some("all".into()), ..none.clone() }, &[]),
        (Filter { state: Some(State::Held), object_id: Some("b".into()), ..none.clone() }, &["evt_2"]),
        (Filter { state: Some(State::Delivered), ..none.clone() }, &[]),
        (
            Filter {
                types: Some("invoice.*,commerce.order.*".parse().unwrap()),
                from: minute(7),
                ..none.clone()
            },
            &["evt_7"],
        ),
        (Filter { types: Some("invoice.*".parse().unwrap()), ..none.clone() }, &[]),
        (Filter { source: Some(Source::Stream), ..none.clone() }, &[]),
        (Filter { source: Some(Source::Webhook), from: minute(6), ..none.clone() }, &["evt_7", "evt_6"]),
    ];
    for (filter, expected) in cases {
        assert_eq!(ids(&all_events(&fixture, &filter, 50).await), expected, "{filter:?}");
        let mut deliveries: Vec<_> =
            all_deliveries(&fixture, &filter, 50).await.into_iter().map(|one| one.event_id).collect();
        deliveries.dedup();
        assert_eq!(deliveries, expected, "{filter:?}");
    }
}

#[tokio::test]
async fn an_event_is_shown_with_its_bytes_deliveries_and_attempts() {
    let fixture = filled().await;
    let operator = &fixture.store.operator;
    let shown = operator.event(&"evt_1".parse().unwrap()).await.unwrap().unwrap();
    let sent = event("evt_1", "a").event.body;
    assert_eq!(shown.body.as_deref().map(str::as_bytes), Some(&sent[..]));
    assert_eq!(shown.event.size, Some(sent.len() as u64));
    assert_eq!(operator.body(&"evt_1".parse().unwrap()).await, Ok(Some(Some(sent))));
    assert_eq!(shown.body_sha256.map(|digest| digest.len()), Some(64));
    let orders = shown.deliveries.iter().find(|one| &*one.delivery.target == "orders").unwrap();
    assert_eq!((orders.delivery.state, orders.delivery.last_status), (State::Dead, Some(500)));
    let attempt = &orders.attempt_log[0];
    assert_eq!(
        (attempt.number, attempt.duration_ms, attempt.answer.as_deref()),
        (1, 7, Some("oops \u{fffd}"))
    );
    let json = serde_json::to_value(&shown.event).unwrap();
    assert_eq!(json["created"], "2024-12-21T11:20:00.000Z");
    assert_eq!(
        (&json["type"], &json["environment"]),
        (&"commerce.order.updated".into(), &serde_json::Value::Null)
    );

    assert_eq!(operator.event(&"evt_9".parse().unwrap()).await, Ok(None));
    assert_eq!(operator.body(&"evt_9".parse().unwrap()).await, Ok(None));
    assert_eq!(operator.delivery("elsewhere", &"evt_1".parse().unwrap()).await, Ok(None));
}

#[tokio::test]
async fn a_waiting_delivery_names_the_one_before_it() {
    let fixture = filled().await;
    let filter = Filter { target: Some("orders".into()), ..Filter::default() };
    let deliveries = all_deliveries(&fixture, &filter, 50).await;
    let waits: Vec<_> = deliveries.iter().map(|one| (&*one.event_id, one.waits_for.as_deref())).collect();
    let expected = [
        ("evt_7", Some("evt_4")),
        ("evt_6", Some("evt_3")),
        ("evt_5", Some("evt_2")),
        ("evt_4", None),
        ("evt_3", None),
        ("evt_2", None),
        ("evt_1", None),
    ];
    assert_eq!(waits, expected);
}

#[tokio::test]
async fn a_row_that_cannot_be_read_does_not_hide_the_others() {
    let fixture = filled().await;
    for written_by_a_later_version in [
        "UPDATE event SET source = 'pigeon' WHERE sequence = 2",
        "UPDATE event SET environment = 'moon' WHERE sequence = 3",
        "UPDATE event SET created = 9223372036854775807 WHERE sequence = 4",
        "UPDATE delivery SET state = 'lost' WHERE sequence = 5",
    ] {
        fixture.backend.execute_unchecked(written_by_a_later_version);
    }
    let events = all_events(&fixture, &Filter::default(), 50).await;
    assert_eq!(ids(&events), ["evt_7", "evt_6", "evt_5", "evt_4", "evt_1"]);
    assert!(events[2].deliveries.is_empty());
    assert!(serde_json::to_string(&events).is_ok(), "a time beyond all years is still written");
    let deliveries = all_deliveries(&fixture, &Filter::default(), 50).await;
    assert_eq!(deliveries.len(), 12);
    assert!(fixture.store.operator.event(&"evt_2".parse().unwrap()).await.is_err());
}

#[tokio::test]
async fn one_call_looks_at_a_bounded_number_of_rows_and_can_be_gone_on_from() {
    let fixture = Fixture::new(vec![]).await;
    fixture.backend.execute(
        "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 45000)
         INSERT INTO event (sequence, id, type, created, source, origin, received_at)
         SELECT n, 'evt_' || n, CASE n WHEN 1 THEN 'a.b' ELSE 'c.d' END, 0, 'stream', 'x', n FROM n",
    );
    let filter = Filter { types: Some("a.b".parse().unwrap()), ..Filter::default() };
    let (mut page, mut above, mut found) = (Page::default(), 45_001, Vec::new());
    loop {
        let part = fixture.store.operator.events(&filter, &page).await.unwrap();
        found.extend(part.items);
        page.cursor = part.next;
        let Some(cursor) = page.cursor else {
            assert!(above <= 20_001, "the last call looked at what is below {above}");
            assert_eq!(ids(&found), ["evt_1"]);
            break;
        };
        // A slow call may return a cursor below the last row.
        assert!(found.is_empty() || cursor.sequence <= 1);
        let looked_at = above - cursor.sequence;
        // There are fewer in slow calls.
        assert!((1..=20_000).contains(&looked_at), "{looked_at} rows below {above}");
        above = cursor.sequence;
    }
}

#[tokio::test]
async fn an_object_is_found_however_far_back_a_bounded_piece_at_a_time() {
    const FAR: i64 = 5_000_000;
    let fixture = filled().await;
    // The sequences are as if five million events of other objects had come in between.
    let moved = format!("UPDATE event SET sequence = sequence + {FAR} WHERE id IN ('evt_5', 'evt_6')");
    fixture.backend.execute_unchecked(&moved);
    let of_b = Filter { object_id: Some("b".into()), ..Filter::default() };
    let first = fixture.store.operator.events(&of_b, &Page { limit: 50, cursor: None }).await.unwrap();
    assert_eq!(ids(&first.items), ["evt_5"]);
    assert!(first.next.is_some_and(|cursor| cursor.sequence > FAR / 2), "{:?}", first.next);
    for limit in [1, 2, 50] {
        assert_eq!(ids(&all_events(&fixture, &of_b, limit).await), ["evt_5", "evt_2"]);
    }
    let early = Filter { to: Some(NOW.plus(Duration::from_secs(150))), ..of_b.clone() };
    assert_eq!(ids(&all_events(&fixture, &early, 50).await), ["evt_2"]);
    let held = Filter { state: Some(State::Held), ..of_b };
    assert_eq!(fixture.store.operator.count(&work(Action::Close, &held)).await, Ok(1));
    assert_eq!(all_deliveries(&fixture, &held, 50).await[0].event_id, "evt_2");
}
