//! Lists of events and deliveries, and the page of one event.

use serde_json::Value;

use super::{Shell, cells};
use crate::support::soon;
use crate::support::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn events_are_listed_in_columns_by_every_filter_and_page_by_page() {
    let mut world = World::new(World::with_duplicates()).await;
    let _target = world.target("orders").await;
    let bridge = world.bridge().await;
    let ids = world.simulator.play(20);
    let shell = Shell::beside(&bridge, &world.configuration);
    shell.until_all_are("delivered", 20).await;
    soon("the webhooks", world.simulator.webhooks_settled()).await;

    let printed = shell.done("events list").await;
    let rows = cells(&printed, "AGE | ID | TYPE | OBJECT | SOURCE | DELIVERIES");
    assert_eq!(rows.len(), 20, "{printed}");
    assert!(printed.lines().all(|line| line.trim_end() == line), "{printed}");
    let known = |id: &str| ids.iter().any(|known| known.as_str() == id);
    assert!(rows.iter().all(|row| known(&row[1]) && row[5] == "orders=delivered"), "{printed}");

    let some = shell.json("events list --limit 1").await["events"][0].clone();
    let text = |name: &str| some[name].as_str().unwrap().to_owned();
    for (filter, kept) in [
        (format!("--id-prefix {}", text("id")), None),
        (format!("--object-id {} --type {}", text("object_id"), text("type")), None),
        (format!("--source {} --state delivered --target orders", text("source")), None),
        (format!("--from {}", text("received_at")), None),
        ("--from 1h --to 0s".to_owned(), Some(20)),
        ("--to 1h".to_owned(), Some(0)),
        ("--state dead".to_owned(), Some(0)),
        ("--target nobody".to_owned(), Some(0)),
        (format!("--text {}", text("id")), None),
        ("--text nowhere-in-a-body".to_owned(), Some(0)),
    ] {
        let events = shell.json(&format!("events list {filter}")).await["events"].clone();
        let events = events.as_array().unwrap();
        match kept {
            Some(kept) => assert_eq!(events.len(), kept, "{filter}"),
            None => assert!(events.contains(&some), "{filter}"),
        }
    }

    // An order is found with the invoice that names it.
    let invoice = shell.json("events list --type invoice.* --limit 1").await["events"][0].clone();
    let invoice = invoice["id"].as_str().unwrap();
    let body = shell.json(&format!("events show {invoice}")).await["body"].as_str().unwrap().to_owned();
    let body: Value = serde_json::from_str(&body).unwrap();
    let order = body["data"]["object"]["commerce_order_id"].as_str().unwrap();
    let listed = async |filter: String| {
        let events = shell.json(&format!("events list {filter}")).await["events"].clone();
        events.as_array().unwrap().iter().any(|event| event["id"] == invoice)
    };
    assert!(listed(format!("--order-id {order}")).await, "{order}");
    assert!(!listed(format!("--object-id {order}")).await, "{order}");
    assert!(listed(format!("--invoice-id {}", body["data"]["object"]["id"].as_str().unwrap())).await);

    // Page by page: standard error of each page names the cursor of the next.
    let (mut listed, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = shell.run(&format!("events list --limit 7{cursor}")).await;
        assert_eq!(page.code, Some(0), "{}", page.stderr);
        let rows = cells(&page.stdout, "AGE | ID | TYPE | OBJECT | SOURCE | DELIVERIES");
        listed.extend(rows.into_iter().map(|row| row[1].clone()));
        let Some((_, next)) = page.stderr.split_once("--cursor ") else { break };
        cursor = format!(" --cursor {}", next.split(',').next().unwrap());
    }
    assert_eq!(listed, rows.iter().map(|row| row[1].clone()).collect::<Vec<_>>());
    let pages = shell.done("deliveries list --all --json").await;
    let pages = pages.lines().map(|page| serde_json::from_str::<Value>(page).unwrap());
    let deliveries: usize = pages.map(|page| page["deliveries"].as_array().unwrap().len()).sum();
    assert_eq!(deliveries, 20);

    let nothing = shell.run("events list --state dead").await;
    assert_eq!((&*nothing.stdout, &*nothing.stderr), ("", "there is none\n"));
    for wrong in [
        "events list --state broken",
        "events list --source post",
        "events list --from yesterday",
        "events list --limit 0",
        "events list --limit 3 --all",
        "events show",
        "events show ..",
        "events",
        "events list --admin-url ftp://x",
    ] {
        assert!(!shell.failed(wrong, 2).await.is_empty());
    }
    let refused = shell.failed("events list --cursor nonsense --type ?", 1).await;
    assert!(
        refused.contains("\n  cursor: = `nonsense`: this is no cursor") && refused.contains("`type` = `?`"),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_shown_with_its_history_and_its_body_byte_for_byte() {
    let mut world = World::new(World::with_duplicates()).await;
    let target = world.target("orders").await;
    let bridge = world.bridge().await;
    let ids = world.simulator.play(1);
    let (id, truth) = (ids[0].as_str(), world.truth(&ids).await);
    let shell = Shell::beside(&bridge, &world.configuration);
    soon("the webhooks", world.simulator.webhooks_settled()).await;
    bridge.until_metric("pepay_bridge_events_received_total{source=\"stream\"}", 1.0).await;
    shell.until_all_are("delivered", 1).await;

    let told = shell.done(&format!("events show {id}")).await;
    let event = shell.json(&format!("events show {id}")).await;
    let received = event["received_at"].as_str().unwrap();
    let length = truth[id].len();
    for said in [
        format!("id            {id}\n"),
        format!("received      {received} ("),
        format!("body          {length} bytes\n"),
        "\nsightings\n  SOURCE ".to_owned(),
        "\n  stream ".to_owned(),
        "\n  webhook ".to_owned(),
        "delivery to orders: delivered at ".to_owned(),
        "\n  1        ".to_owned(),
        format!("body\n  {}", String::from_utf8(truth[id].clone()).unwrap()),
    ] {
        assert!(told.contains(&said), "{said:?} is not in\n{told}");
    }
    assert_eq!(event["body"].as_str().unwrap().as_bytes(), truth[id]);
    assert_eq!(shell.done(&format!("events show {id} --body")).await.as_bytes(), truth[id]);

    let missing = shell.failed("events show evt_none", 1).await;
    assert_eq!(missing, "pepay-bridge: there is no event `evt_none`\n");
    assert_eq!(shell.failed("events show evt_none --body", 1).await, missing);

    let replayed = shell.done(&format!("events replay {id} --target orders")).await;
    assert!(replayed.starts_with(&format!("replay 1 of {id} to orders is ")), "{replayed}");
    soon("the replay", target.until(|totals| totals.received == 2)).await;
    assert_eq!(target.deliveries()[1].headers["pepay-bridge-replay"], "1");
    let refused = shell.failed(&format!("events replay {id} --target nobody"), 1).await;
    assert_eq!(refused, "pepay-bridge: no target \"nobody\"; there are: orders\n");
}
