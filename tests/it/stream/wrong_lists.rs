//! A list that is wrong: once, for a long time, or in one event.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use http::StatusCode;
use pepay_bridge::domain::event::EventId;
use pepay_bridge::simulator::fault::list::{Damage, PageFault, When};
use pepay_bridge::simulator::fault::{Ending, Endpoint, Fault, RetryAfter};
use pepay_bridge::simulator::options::Options;
use pepay_bridge::simulator::target::Target;
use serde_json::Value;

use super::{caught_up, counted, delivered, gaps_counted, interrupt, live, without_webhooks};
use crate::support::bridge::{Bridge, message};
use crate::support::pepay::{Act, Asked, RawPepay, Request, event, now, page};
use crate::support::soon;
use crate::support::world::{World, assert_each_once};

/// Returns options of a Pepay that replays few events, so that gaps are closed by the list.
fn forgetful() -> Options {
    Options { replay_retention: 10, snapshot: 5, ..without_webhooks() }
}

fn answer(status: u16, body: Option<&str>) -> PageFault {
    let status = StatusCode::from_u16(status).unwrap();
    PageFault::Answer { status, retry_after: None, body: body.map(str::to_owned) }
}

/// Fails unless the events of each object were delivered in their order.
fn assert_in_order(target: &Target, ids: &[EventId], what: &str) {
    let place: HashMap<_, _> = ids.iter().enumerate().map(|(at, id)| (id.as_str(), at)).collect();
    let mut last = HashMap::new();
    for delivery in target.deliveries() {
        let at = place[&*delivery.id];
        let before = last.insert(delivery.object_id.clone(), at);
        assert!(before.is_none_or(|before| before < at), "{what}: {} came too late", delivery.id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_wrong_once_loses_and_reorders_no_event() {
    let denied = r#"{"success":false,"message":"maintenance"}"#;
    let faults = [
        (When::First, PageFault::Empty { has_more: false }),
        (When::Later, PageFault::Empty { has_more: false }),
        (When::First, PageFault::Empty { has_more: true }),
        (When::Later, PageFault::Repeat),
        (When::Later, PageFault::Circle),
        (When::First, PageFault::Unsorted),
        (When::Later, PageFault::Unsorted),
        (When::First, PageFault::OldestOnTop),
        (When::Later, answer(404, None)),
        (When::Later, answer(400, None)),
        (When::First, answer(403, None)),
        (When::First, answer(200, Some(denied))),
        (When::First, answer(502, Some("<html>Bad Gateway</html>"))),
        (When::First, answer(200, Some(r#"{"data":[{"id":"evt_1""#))),
    ];
    let tell = async |(when, page): (When, PageFault)| {
        let what = format!("{when:?} {page:?}");
        let mut world = World::new(forgetful()).await;
        let target = world.target("orders").await;
        let bridge = world.bridge().await;
        let mut ids = world.simulator.play(5);
        caught_up(&bridge, ids.last().unwrap()).await;
        world.simulator.inject(Fault::List { when, times: 1, page }).unwrap();
        interrupt(&world, Ending::Eof);
        ids.extend(world.simulator.play(230));
        soon(&what, target.until(|totals| totals.unique >= ids.len() as u64)).await;
        bridge.until(&what, |status| status["streams"][0]["gap"]["state"] == "closed").await;
        assert!(bridge.stop().await.0.success());
        assert_each_once(&target, &ids);
        assert_in_order(&target, &ids, &what);
    };
    join_all(faults.into_iter().map(tell)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_stays_wrong_holds_no_live_event_for_long_and_closes_the_gap_once_it_is_right() {
    let hour = PageFault::Answer {
        status: StatusCode::TOO_MANY_REQUESTS,
        retry_after: Some(RetryAfter::Seconds(3600)),
        body: None,
    };
    let faults = [
        (When::Any, PageFault::Empty { has_more: false }, true),
        (When::Any, PageFault::Empty { has_more: true }, true),
        (When::Later, PageFault::Repeat, true),
        (When::Any, answer(403, None), true),
        (When::Later, answer(404, None), true),
        (When::Any, answer(200, Some(r#"{"success":false,"message":"maintenance"}"#)), true),
        (When::Any, answer(200, Some("<html>blocked</html>")), true),
        // The bridge waits for the whole hour, so the gap does not close during the test.
        (When::Any, hour, false),
    ];
    let tell = async |(when, page, heals): (When, PageFault, bool)| {
        let what = format!("{when:?} {page:?}");
        let mut world = World::new(forgetful()).await;
        let target = world.target("orders").await;
        world.set("STREAMS__COMMERCE__HOLD_LIMIT", "1s");
        let bridge = world.bridge().await;
        let mut ids = world.simulator.play(5);
        caught_up(&bridge, ids.last().unwrap()).await;
        world.simulator.inject(Fault::List { when, times: u32::MAX, page }).unwrap();
        let (began, asked) = (Instant::now(), world.simulator.statistics().list_requests);
        interrupt(&world, Ending::Eof);
        ids.extend(world.simulator.play(150));
        let up = |status: &Value| status["streams"][0]["phase"] == "backfilling";
        bridge.until(&what, up).await;
        ids.extend(world.simulator.play(3));
        let last = ids.last().unwrap().to_string();
        soon(&what, async {
            while !target.deliveries().iter().any(|delivery| *delivery.id == *last) {
                bridge.status().await;
            }
        })
        .await;
        let requests = u128::from(world.simulator.statistics().list_requests - asked);
        let most = 25 + began.elapsed().as_millis() / 90;
        assert!(requests <= most, "{what}: {requests} requests in {:?}", began.elapsed());
        let status = bridge.status().await;
        let gap = &status["streams"][0]["gap"];
        assert!(gap["state"] == "open" && gap["passed_since"].is_string(), "{what}: {status}");
        assert_eq!(counted(&bridge, &gaps_counted("unproven")).await, "1", "{what}");
        if heals {
            world.simulator.clear_faults();
            soon(&what, target.until(|totals| totals.unique >= ids.len() as u64)).await;
            bridge.until(&what, |status| status["streams"][0]["gap"]["state"] == "closed").await;
            bridge.until(&what, |status| status["streams"][0]["problem"].is_null()).await;
            assert_each_once(&target, &ids);
        }
        assert!(bridge.stop().await.0.success());
    };
    join_all(faults.into_iter().map(tell)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_hangs_or_asks_for_an_hour_of_waiting_holds_no_live_event_for_long() {
    let mut world = World::new(forgetful()).await;
    let target = world.target("orders").await;
    world.set("STREAMS__COMMERCE__HOLD_LIMIT", "1s");
    let hang = Fault::Delay { endpoint: Endpoint::Rest, times: 1, wait: Duration::from_hours(1) };
    let hour = Fault::Answer {
        endpoint: Endpoint::Rest,
        times: 1,
        status: StatusCode::TOO_MANY_REQUESTS,
        retry_after: Some(RetryAfter::Seconds(3600)),
        body: None,
    };
    // Each start is the first one of its database.
    let mut ids = Vec::new();
    for (name, fault) in [("hang", hang), ("hour", hour)] {
        let database = world.folder.path().join(name);
        world.set("STORE__URL", &format!("sqlite://{}", database.display()));
        world.simulator.inject(fault).unwrap();
        let opened = world.simulator.statistics().streams_opened;
        let bridge = Bridge::start(&world.configuration).await;
        soon(name, world.simulator.until(|seen| seen.streams_opened > opened)).await;
        ids.extend(world.simulator.play(4));
        delivered(&target, ids.len()).await;
        assert!(bridge.stop().await.0.success());
    }
    assert_each_once(&target, &ids);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_entry_is_reported_and_its_neighbours_are_stored() {
    let damages = [
        (Damage::Nan, false),
        (Damage::Control, false),
        (Damage::Encoding, false),
        (Damage::Shape, false),
        (Damage::Id, false),
        // These are valid JSON, in a field that the bridge does not read.
        (Damage::Surrogate, true),
        (Damage::Overflow, true),
    ];
    let corrupt = async |(damage, is_event): (Damage, bool)| {
        let mut world = World::new(forgetful()).await;
        let target = world.target("orders").await;
        let bridge = world.bridge().await;
        let mut ids = world.simulator.play(5);
        caught_up(&bridge, ids.last().unwrap()).await;
        assert!(bridge.stop().await.0.success());
        ids.extend(world.simulator.play(130));
        world.simulator.inject(Fault::Corrupt { id: ids[70].to_string(), damage }).unwrap();
        let bridge = world.bridge().await;
        let corrupt_id = ids[70].clone();
        if !is_event {
            ids.remove(70);
        }
        delivered(&target, ids.len()).await;
        bridge.until("the end of the gap", |status| status["streams"][0]["gap"]["state"] == "closed").await;
        let unproven = if is_event { "0" } else { "1" };
        assert_eq!(counted(&bridge, &gaps_counted("unproven")).await, unproven, "{damage:?}");
        let (exit, log) = bridge.stop().await;
        assert!(exit.success());
        assert_each_once(&target, &ids);
        assert_in_order(&target, &ids, "a damaged entry");
        let skipped: Vec<_> = log.iter().map(message).filter(|text| text.contains("are skipped")).collect();
        assert_eq!(skipped.is_empty(), is_event, "{damage:?}: {skipped:?}");
        let has_id = !matches!(damage, Damage::Shape | Damage::Id);
        assert!(is_event || !has_id || skipped[0].contains(corrupt_id.as_str()), "{damage:?}: {skipped:?}");
    };
    join_all(damages.into_iter().map(corrupt)).await;
}

/// Returns a page of the ten events after the one that is asked for. The first follow the last.
fn in_a_circle(events: &[String], request: &Request) -> Act {
    let after = request.parameter("starting_after").map(|id| format!("\"{id}\""));
    let begin = after.map_or(0, |id| 1 + events.iter().position(|event| event.contains(&id)).unwrap());
    let shown: Vec<_> = events.iter().cycle().skip(begin).take(10).cloned().collect();
    Act::Say("HTTP/1.1 200 OK\r\ncontent-type: application/json", page(&shown, true))
}

#[tokio::test(flavor = "multi_thread")]
async fn circular_pages_end_the_walk_and_a_correct_list_closes_the_gap_later() {
    let mut world = World::new(without_webhooks()).await;
    let target = world.target("orders").await;
    world.set("STREAMS__COMMERCE__HOLD_LIMIT", "1s");
    let pepay = RawPepay::of(&mut world, |_| Act::Usual).await;
    let began = now();
    pepay.publish(event(began, 0));
    let bridge = Bridge::start(&world.configuration).await;
    live(&bridge).await;
    assert!(bridge.stop().await.0.success());
    let missed: Vec<_> = (1..=30).map(|n| event(began, n)).collect();
    for event in &missed {
        pepay.publish(event.clone());
    }
    let circle: Vec<_> = missed.into_iter().rev().collect();
    pepay.change(move |request| match request.asked {
        Asked::List => in_a_circle(&circle, request),
        _ => Act::Usual,
    });
    let (asked, since) = (pepay.record().of(Asked::List).count(), Instant::now());
    let bridge = Bridge::start(&world.configuration).await;
    pepay.until("the stream", |record| record.open == 1).await;
    pepay.publish(event(began, 31));
    delivered(&target, 1).await;
    let requests = (pepay.record().of(Asked::List).count() - asked) as u128;
    assert!(requests <= 25 + since.elapsed().as_millis() / 90, "{requests} in {:?}", since.elapsed());
    assert_eq!(target.deliveries()[0].object_id.as_deref(), Some("order-31"));
    pepay.change(|_| Act::Usual);
    delivered(&target, 31).await;
    bridge.until("the end of the gap", |status| status["streams"][0]["gap"]["state"] == "closed").await;
    assert!(bridge.stop().await.0.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_page_is_requested_in_halves_down_to_the_unreadable_entry() {
    let mut world = World::new(without_webhooks()).await;
    let target = world.target("orders").await;
    let pepay = RawPepay::of(&mut world, |_| Act::Usual).await;
    let began = now();
    pepay.publish(event(began, 0));
    let bridge = Bridge::start(&world.configuration).await;
    live(&bridge).await;
    assert!(bridge.stop().await.0.success());
    let before = pepay.record().of(Asked::List).count();
    for n in 1..80 {
        let event = event(began, n);
        // A quotation mark ends the text too early, so the page cannot be parsed.
        pepay.publish(if n == 40 { event.replace("placed", "pla\"ced") } else { event });
    }
    let mut bridge = Bridge::start(&world.configuration).await;
    delivered(&target, 78).await;
    bridge.logged(&format!("evt_{began}000-40: ")).await;
    bridge.until("the end of the gap", |status| status["streams"][0]["gap"]["state"] == "closed").await;
    assert_eq!(counted(&bridge, &gaps_counted("unproven")).await, "1");
    let record = pepay.record();
    let limits: Vec<u32> = record
        .of(Asked::List)
        .skip(before)
        .map(|request| request.parameter("limit").unwrap().parse().unwrap())
        .collect();
    assert!(limits.contains(&1) && limits.len() < 30, "{limits:?}");
    assert!(bridge.stop().await.0.success());
    let ids: Vec<EventId> =
        (1..80).filter(|n| *n != 40).map(|n| format!("evt_{began}000-{n}").parse().unwrap()).collect();
    assert_each_once(&target, &ids);
}
