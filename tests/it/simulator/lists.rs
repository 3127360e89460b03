//! A list that is wrong: completely, on some pages, or in one event.

use http::StatusCode;
use pepay_bridge::simulator::fault::list::{Damage, PageFault, When};
use pepay_bridge::simulator::fault::{Endpoint, Fault, Filling};

use super::harness::{World, event, id, ids, world};

async fn with_events(count: u32) -> World {
    let world = world().await;
    (1..=count).for_each(|n| world.publish(&event(n)));
    world
}

fn inject(world: &World, when: When, times: u32, page: PageFault) {
    world.simulator.inject(Fault::List { when, times, page }).unwrap();
}

#[tokio::test]
async fn a_list_may_be_empty_once_and_still_have_more() {
    let world = with_events(3).await;
    for has_more in [false, true] {
        inject(&world, When::Any, 1, PageFault::Empty { has_more });
        assert_eq!(world.page("").await, (vec![], has_more));
        assert_eq!(world.page("").await, (ids([3, 2, 1]), false));
    }
}

#[tokio::test]
async fn pages_may_repeat_one_another_or_run_in_a_circle() {
    let world = with_events(4).await;
    inject(&world, When::Later, 1, PageFault::Repeat);
    assert_eq!(world.page("limit=2").await, (ids([4, 3]), true));
    assert_eq!(world.page(&format!("limit=2&starting_after={}", id(3))).await, (ids([4, 3]), true));
    inject(&world, When::Any, 3, PageFault::Circle);
    for (query, numbers) in [
        ("limit=2".to_owned(), [4, 3]),
        (format!("limit=2&starting_after={}", id(3)), [2, 1]),
        (format!("limit=2&starting_after={}", id(1)), [4, 3]),
    ] {
        assert_eq!(world.page(&query).await, (ids(numbers), true), "{query}");
    }
}

#[tokio::test]
async fn a_page_may_be_unsorted_or_have_an_old_entry_on_top() {
    let world = with_events(5).await;
    inject(&world, When::Any, 1, PageFault::Unsorted);
    assert_eq!(world.page("limit=4").await, (ids([3, 2, 5, 4]), true));
    inject(&world, When::First, 1, PageFault::OldestOnTop);
    assert_eq!(world.page("limit=3").await, (ids([1, 5, 4]), true));
    assert_eq!(world.page("limit=3").await, (ids([5, 4, 3]), true));
}

#[tokio::test]
async fn the_second_page_or_one_parameter_may_be_refused() {
    let world = with_events(3).await;
    let answer = |status, body: Option<&str>| PageFault::Answer {
        status,
        retry_after: None,
        body: body.map(str::to_owned),
    };
    inject(&world, When::Later, 1, answer(StatusCode::NOT_FOUND, None));
    inject(&world, When::Parameter("type".to_owned()), 1, answer(StatusCode::BAD_REQUEST, None));
    inject(&world, When::First, 1, answer(StatusCode::OK, Some("<html><body>Sign in</body></html>")));
    assert_eq!(world.get("/api/v1/events?limit=1&type=*").await.status, 400);
    let page = world.get("/api/v1/events").await;
    assert_eq!(
        (page.status.as_u16(), page.headers["content-type"].as_bytes()),
        (200, &b"text/html; charset=utf-8"[..])
    );
    assert_eq!(world.page("").await.0, ids([3, 2, 1]));
    let later = format!("/api/v1/events?starting_after={}", id(3));
    assert_eq!(world.get(&later).await.status, 404);
    assert_eq!(world.get(&later).await.status, 200);
    assert_eq!(
        (world.simulator.statistics().refused[&404], world.simulator.statistics().refused[&400]),
        (1, 1)
    );
}

#[tokio::test]
async fn a_damaged_event_stays_so_in_every_page_until_the_faults_are_cleared() {
    let whole = event(2).body;
    for (damage, sign) in [
        (Damage::Nan, &b"NaN"[..]),
        (Damage::Control, b"\x01"),
        (Damage::Encoding, b"\xff"),
        (Damage::Surrogate, br"\ud800"),
        (Damage::Overflow, b"1e999"),
        (Damage::Shape, br#"["not""#),
        (Damage::Id, br#""id":7"#),
    ] {
        let world = with_events(3).await;
        let mut stream = world.stream(&format!("/ws/commerce/events?since={}", id(1))).await;
        assert_eq!(stream.text().await.as_bytes(), whole, "{damage:?}");
        world.simulator.inject(Fault::Corrupt { id: id(2), damage }).unwrap();
        for path in ["/api/v1/events".to_owned(), format!("/api/v1/events/{}", id(2))] {
            let body = world.get(&path).await.body;
            assert!(body.windows(sign.len()).any(|bytes| bytes == sign), "{damage:?} in {body:?}");
        }
        let first = format!("/api/v1/events?limit=1&ending_before={}", id(2));
        assert_eq!(world.get(&first).await.json()["data"]["data"][0]["id"], *id(3));
        world.simulator.clear_faults();
        assert_eq!(world.page("").await.0, ids([3, 2, 1]));
    }
}

#[tokio::test]
async fn an_answer_may_be_large_and_well_formed() {
    let world = with_events(1).await;
    for filling in [Filling::Text, Filling::Values, Filling::Entries] {
        let (status, bytes) = (StatusCode::BAD_REQUEST, 100_000);
        world
            .simulator
            .inject(Fault::Large { endpoint: Endpoint::Rest, times: 1, status, bytes, filling })
            .unwrap();
        let answer = world.get("/api/v1/events").await;
        assert!(answer.status == 400 && answer.json().is_object());
        assert!((99_990..=100_000).contains(&answer.body.len()), "{}", answer.body.len());
    }
}
