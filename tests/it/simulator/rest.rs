//! The list of events: pages, filters, errors.

use pepay_bridge::simulator::options::Options;
use pepay_bridge::simulator::switches::{ListShape, PageOrder, Switches};

use super::harness::{START, World, event, event_of, id, ids, options, world, world_with};

async fn world_of_events(options: Options, count: u32) -> World {
    let world = world_with(options).await;
    for n in 1..=count {
        world.publish(&event(n));
    }
    world
}

fn with(switches: Switches) -> Options {
    Options { switches, ..options() }
}

#[tokio::test]
async fn the_list_is_newest_first_and_ten_long_unless_told_otherwise() {
    let world = world_of_events(options(), 120).await;
    assert_eq!(world.page("").await, (ids((111..=120).rev()), true));
    assert_eq!(world.page("limit=100").await, (ids((21..=120).rev()), true));
    assert_eq!(
        world.page(&format!("limit=100&starting_after={}", id(21))).await,
        (ids((1..=20).rev()), false)
    );
}

#[tokio::test]
async fn an_empty_account_has_an_empty_list() {
    assert_eq!(world().await.page("").await, (vec![], false));
}

#[tokio::test]
async fn ending_before_gives_the_page_next_to_the_cursor_or_the_newest() {
    let query = format!("limit=3&ending_before={}", id(2));
    let world = world_of_events(options(), 9).await;
    assert_eq!(world.page(&query).await, (ids([5, 4, 3]), true));
    let world =
        world_of_events(with(Switches { page_order: PageOrder::Newest, ..Switches::default() }), 9).await;
    assert_eq!(world.page(&query).await, (ids([9, 8, 7]), true));
    assert_eq!(world.page(&format!("ending_before={}", id(9))).await, (vec![], false));
    assert_eq!(world.page(&format!("limit=2&ending_before={}", id(7))).await, (ids([9, 8]), false));
}

#[tokio::test]
async fn the_list_is_wrapped_or_bare_with_the_exact_bytes_in_it() {
    let both =
        format!("[{},{}]", str::from_utf8(&event(2).body).unwrap(), str::from_utf8(&event(1).body).unwrap());
    let list = format!(r#"{{"object":"list","data":{both},"has_more":false}}"#);
    let world = world_of_events(options(), 2).await;
    let wrapped = format!(r#"{{"success":true,"data":{list}}}"#);
    assert_eq!(world.get("/api/v1/events").await.body, wrapped);
    let world =
        world_of_events(with(Switches { list_shape: ListShape::Bare, ..Switches::default() }), 2).await;
    assert_eq!(world.get("/api/v1/events").await.body, list);
    assert_eq!(world.get(&format!("/api/v1/events/{}", id(1))).await.body, event(1).body);
}

#[tokio::test]
async fn the_list_is_narrowed_by_type_time_invoice_and_environment() {
    let world = world().await;
    world.publish(&event_of("invoice.updated", 1, r#""object":"invoice","id":"i1","environment":"devnet""#));
    world.publish(&event_of("invoice_payment.updated", 2, r#""id":"p1","invoice_id":"i1""#));
    world.publish(&event_of("invoice.updated", 3, r#""object":"invoice","id":"i2","environment":"mainnet""#));
    let created = START / 1000;
    let cases: [(String, &[u32]); 6] = [
        ("type=invoice.*".to_owned(), &[3, 1]),
        (format!("created[gte]={}", created + 2), &[3, 2]),
        (format!("created%5Blte%5D={}", created + 2), &[2, 1]),
        ("invoice_id=i1".to_owned(), &[2, 1]),
        ("environment=mainnet".to_owned(), &[3]),
        (format!("type=invoice.*&starting_after={}", id(3)), &[1]),
    ];
    for (query, numbers) in cases {
        assert_eq!(world.page(&query).await, (ids(numbers.iter().copied()), false), "{query}");
    }
}

#[tokio::test]
async fn a_list_query_with_a_wrong_parameter_is_refused() {
    let world = world_of_events(Options { rest_retention: 3, ..options() }, 5).await;
    for query in [
        "limit=0".to_owned(),
        "limit=101".to_owned(),
        "type=".to_owned(),
        "created[gte]=soon".to_owned(),
        "environment=moon".to_owned(),
        "page=2".to_owned(),
        format!("starting_after={}&ending_before={}", id(5), id(4)),
        format!("ending_before={}", id(2)),
        "starting_after=nobody".to_owned(),
    ] {
        let answer = world.get(&format!("/api/v1/events?{query}")).await;
        assert_eq!(answer.status, 400, "{query}");
        assert!(answer.json()["message"].is_string() && answer.json()["error_code"].is_string());
    }
    assert_eq!(world.page(&format!("ending_before={}", id(3))).await, (ids([5, 4]), false));
    assert_eq!(world.send(world.http.get(world.url("/api/v1/events"))).await.status, 401);
}

#[tokio::test]
async fn one_event_is_found_by_its_id_while_it_is_listed() {
    let world = world_of_events(Options { rest_retention: 2, ..options() }, 3).await;
    let answer = world.get(&format!("/api/v1/events/{}", id(2))).await;
    assert_eq!(answer.json()["data"]["id"], *id(2));
    assert_eq!(world.get(&format!("/api/v1/events/{}", id(1))).await.status, 404);
    assert_eq!(world.get("/api/v2/anything").await.status, 404);
}
