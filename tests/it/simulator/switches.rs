//! Switches: each point that Pepay's documentation leaves open, under all its values.

use std::time::Duration;

use http::header::RETRY_AFTER;
use pepay_bridge::simulator::options::Options;
use pepay_bridge::simulator::switches::{
    Created, ErrorShape, ExpiredToken, ForeignTypes, ListSort, ObjectIds, OldCursor, OrderShape,
    PaymentLinks, Presence, RetryAfterPlace, Switches, UnknownParameters,
};
use serde_json::Value;

use super::harness::{KEY, START, World, event, event_of, id, ids, options, soon, world, world_with};

async fn switched(switches: Switches) -> World {
    world_with(Options { switches, ..options() }).await
}

/// Returns generated events under these switches, with all events of at least one order.
async fn made_up(switches: Switches) -> Vec<Value> {
    let world = switched(switches).await;
    world.simulator.play(60);
    let answer = world.get("/api/v1/events?limit=100").await;
    answer.json()["data"]["data"].as_array().unwrap().clone()
}

fn of<'a>(events: &'a [Value], family: &str) -> Vec<&'a Value> {
    let of_family = |event: &&Value| event["type"].as_str().unwrap().starts_with(family);
    let found: Vec<_> = events.iter().filter(of_family).map(|event| &event["data"]["object"]).collect();
    assert!(!found.is_empty(), "no {family} in {events:?}");
    found
}

#[tokio::test]
async fn orders_have_either_documented_shape_and_name_their_invoice_in_both() {
    for order in of(&made_up(Switches::default()).await, "commerce.order.") {
        assert!(
            order["id"].is_string() && order["invoiceId"].is_string() && order["environment"] == "devnet"
        );
    }
    let snapshots = made_up(Switches { order_shape: OrderShape::Snapshot, ..Switches::default() }).await;
    for order in of(&snapshots, "commerce.order.") {
        assert!(order.get("id").is_none() && order.get("environment").is_none());
        assert!(order["orderId"].is_string() && order["invoiceId"].is_string());
        assert_eq!(order["networkEnvironment"], "devnet");
    }
    let invoices = of(&snapshots, "invoice.");
    for order in of(&snapshots, "commerce.order.") {
        let own = |invoice: &&&Value| invoice["id"] == order["invoiceId"];
        assert!(invoices.iter().filter(own).all(|invoice| invoice["commerce_order_id"] == order["orderId"]));
    }
}

#[tokio::test]
async fn ids_are_text_or_numbers_and_payments_name_their_order_or_not() {
    for payment in of(&made_up(Switches::default()).await, "invoice_payment.") {
        assert!(payment["invoice_id"].is_string() && payment.get("commerce_order_id").is_none());
    }
    let switches =
        Switches { object_ids: ObjectIds::Number, payment_links: PaymentLinks::Order, ..Switches::default() };
    let events = made_up(switches).await;
    for payment in of(&events, "invoice_payment.") {
        assert!(
            payment["id"].is_u64() && payment["invoice_id"].is_u64() && payment["commerce_order_id"].is_u64()
        );
    }
    assert!(of(&events, "commerce.order.").iter().all(|order| order["id"].is_u64()));
}

#[tokio::test]
async fn created_has_any_of_five_forms() {
    let seconds = START / 1000;
    for (form, expected) in [
        (Created::Integer, Some(seconds.into())),
        (Created::Float, Some(Value::from(1_734_780_000.0))),
        (Created::Text, Some(seconds.to_string().into())),
        (Created::Iso, Some("2024-12-21T11:20:00.000Z".into())),
        (Created::Missing, None),
    ] {
        let events = made_up(Switches { created: form, ..Switches::default() }).await;
        assert!(events.iter().all(|event| event.get("created") == expected.as_ref()), "{form:?}: {events:?}");
    }
}

#[tokio::test]
async fn the_list_refuses_or_ignores_what_it_does_not_document() {
    let undocumented =
        ["order_id=o", "customer_id=c", "wallet_network=bsc", "invoice_type=standard", "page=2"];
    for (unknown_parameters, status) in [(UnknownParameters::Refused, 400), (UnknownParameters::Ignored, 200)]
    {
        let world = switched(Switches { unknown_parameters, ..Switches::default() }).await;
        world.publish(&event(1));
        for query in undocumented {
            let answer = world.get(&format!("/api/v1/events?{query}")).await;
            assert_eq!(answer.status, status, "{query}");
            if status == 200 {
                assert_eq!(answer.json()["data"]["data"].as_array().unwrap().len(), 1, "{query}");
            }
        }
        assert_eq!(world.simulator.statistics().list_requests, 5);
    }
}

#[tokio::test]
async fn the_list_is_sorted_by_insertion_or_by_creation() {
    for (list_sort, newest_first) in [(ListSort::Insertion, [1, 3, 2]), (ListSort::Created, [3, 2, 1])] {
        let world = switched(Switches { list_sort, ..Switches::default() }).await;
        for n in [2, 3, 1] {
            world.publish(&event(n));
        }
        assert_eq!(world.page("").await, (ids(newest_first), false));
        let second = world.page(&format!("limit=1&starting_after={}", id(newest_first[0]))).await;
        assert_eq!(second, (ids([newest_first[1]]), true));
    }
}

#[tokio::test]
async fn has_more_and_ws_url_can_be_left_out() {
    let absent = Switches { has_more: Presence::Absent, ws_url: Presence::Absent, ..Switches::default() };
    for (switches, there) in [(Switches::default(), true), (absent, false)] {
        let world = switched(switches).await;
        assert_eq!(world.get("/api/v1/events").await.json()["data"].get("has_more").is_some(), there);
        let minted = world.post("/api/v1/ws/token", r#"{"scope":"commerce"}"#).await.json();
        assert_eq!(minted["data"].get("ws_url").is_some(), there);
    }
}

#[tokio::test]
async fn an_expired_token_ends_its_stream_or_not() {
    let mint = r#"{"scope":"commerce","ttl_seconds":1}"#;
    for expired_token in [ExpiredToken::EndsStream, ExpiredToken::KeepsStream] {
        let world = switched(Switches { expired_token, ..Switches::default() }).await;
        let minted = world.post("/api/v1/ws/token", mint).await.json();
        let token = minted["data"]["token"].as_str().unwrap();
        let path = format!("/ws/commerce/events?token={token}");
        let mut stream = world.try_stream(&path, None).await.unwrap();
        if expired_token == ExpiredToken::EndsStream {
            assert_eq!(stream.close_code().await, 1008);
        } else {
            world.clock.advance(Duration::from_hours(1));
            world.publish(&event(1));
            assert_eq!(stream.ids(1).await, [id(1)]);
        }
    }
}

#[tokio::test]
async fn an_old_cursor_is_answered_with_a_snapshot_a_refusal_or_an_error_frame() {
    let old_cursor = |old_cursor| {
        let switches = Switches { old_cursor, ..Switches::default() };
        Options { replay_retention: 1, snapshot: 1, switches, ..options() }
    };
    let path = format!("/ws/commerce/events?since={}", id(1));
    let world = world_with(old_cursor(OldCursor::Refused)).await;
    (1..=3).for_each(|n| world.publish(&event(n)));
    let refusal = world.refusal(&path).await;
    assert_eq!((refusal.status.as_u16(), &refusal.json()["code"]), (400, &"INVALID_CURSOR".into()));
    world.stream(&format!("/ws/commerce/events?since={}", id(3))).await;

    let world = world_with(old_cursor(OldCursor::Error)).await;
    (1..=3).for_each(|n| world.publish(&event(n)));
    let mut stream = world.stream(&path).await;
    assert_eq!(stream.json().await["object"], "ws_error");
    assert_eq!(stream.close_code().await, 1008);
    assert_eq!(world.simulator.statistics().frames_replayed, 0);
}

#[tokio::test]
async fn types_of_the_other_endpoint_are_left_out_refused_or_sent() {
    let order = event(1);
    let invoice = event_of("invoice.updated", 2, r#""object":"invoice","id":"i1""#);
    let path = "/ws/merchant/events?types=commerce.order.*,invoice.*";
    for (foreign_types, expected) in [
        (ForeignTypes::LeftOut, Some(vec![2])),
        (ForeignTypes::Refused, None),
        (ForeignTypes::Sent, Some(vec![1, 2])),
    ] {
        let world = switched(Switches { foreign_types, ..Switches::default() }).await;
        let Some(expected) = expected else {
            assert_eq!(world.refusal(path).await.status, 400);
            world.stream("/ws/merchant/events?types=*").await;
            world.stream("/ws/commerce/events?types=commerce.order.*,invoice.*").await;
            continue;
        };
        let mut stream = world.stream(path).await;
        world.publish(&order);
        world.publish(&invoice);
        assert_eq!(stream.ids(expected.len()).await, ids(expected), "{foreign_types:?}");
    }
}

#[tokio::test]
async fn errors_have_any_of_three_shapes_and_name_their_wait_in_the_header_or_the_body() {
    for (error_shape, message, code) in [
        (ErrorShape::Nested, "/error/message", "/error/code"),
        (ErrorShape::Flat, "/message", "/error_code"),
        (ErrorShape::Plain, "/error", "/code"),
    ] {
        for (retry_after, in_header) in [(RetryAfterPlace::Header, true), (RetryAfterPlace::Body, false)] {
            let switches = Switches { error_shape, retry_after, ..Switches::default() };
            let limit = 1.try_into().ok();
            let world = world_with(Options { switches, rate_limit: limit, ..options() }).await;
            assert_eq!(world.get("/api/v1/events").await.status, 200);
            let refusal = world.get("/api/v1/events").await;
            assert_eq!(refusal.status, 429);
            let body = refusal.json();
            assert!(body.pointer(message).unwrap().is_string());
            assert_eq!(body.pointer(code).unwrap(), "RATE_LIMIT_EXCEEDED");
            assert_eq!(body["retry_after"], "60 seconds");
            assert_eq!(refusal.headers.contains_key(RETRY_AFTER), in_header);
            world.clock.advance(Duration::from_secs(60));
            assert_eq!(world.get("/api/v1/events").await.status, 200);
        }
    }
}

#[tokio::test]
async fn the_date_of_an_answer_is_the_clocks_or_hours_off() {
    for (date_offset, date) in
        [(0, "Sat, 21 Dec 2024 11:20:00 GMT"), (-7200, "Sat, 21 Dec 2024 09:20:00 GMT")]
    {
        let world = switched(Switches { date_offset, ..Switches::default() }).await;
        assert_eq!(world.get("/api/v1/events").await.headers["date"], date);
    }
}

#[tokio::test]
async fn switches_are_read_and_set_over_the_control_surface() {
    let world = world().await;
    let shown = world.get("/_simulator/switches").await.json();
    assert_eq!((&shown["order_shape"], &shown["date_offset"]), (&"object".into(), &0.into()));
    let set = |body: &'static str| {
        world.send(world.http.put(world.url("/_simulator/switches")).header("x-api-key", KEY).body(body))
    };
    assert_eq!(set(r#"{"order_shape":"snapshot"}"#).await.status, 204);
    assert_eq!(world.simulator.switches().order_shape, OrderShape::Snapshot);
    let mut stream = world.stream("/ws/commerce/events?types=commerce.order.*").await;
    world.simulator.play(20);
    assert!(soon(stream.json()).await["data"]["object"]["orderId"].is_string());
    assert_eq!(set(r#"{"order_shape":"heap"}"#).await.status, 400);
    assert_eq!(set(r#"{"unheard_of":1}"#).await.status, 400);
}
