//! Commands for targets, streams and the configuration of a running bridge.

use http::StatusCode;
use pepay_bridge::simulator::fault::{Channel, Ending, Endpoint, Fault};
use pepay_bridge::simulator::options::{Copies, Options};
use serde_json::{Value, json};

use super::{Shell, cells};
use crate::support::soon;
use crate::support::world::{World, assert_each_once};

#[tokio::test(flavor = "multi_thread")]
async fn a_target_is_stopped_and_goes_on() {
    let mut world = World::new(World::with_duplicates()).await;
    let target = world.target("orders").await;
    let bridge = world.bridge().await;
    let shell = Shell::beside(&bridge, &world.configuration);
    assert_eq!(shell.done("targets pause orders").await, "target orders is paused, backlog: 0\n");
    let ids = world.simulator.play(3);
    shell.until("targets list", |listed| listed["targets"][0]["backlog"] == 3).await;
    let printed = shell.done("targets list").await;
    let header = "TARGET | STATE | WAITS FOR | BACKLOG | OLDEST | HELD | DEAD | SENDING | P50 | P99 | DELIVERED | LAST ERROR";
    let resumed = "a resume; paused by an operator";
    assert_eq!(cells(&printed, header)[0][..4], ["orders", "paused", resumed, "3"], "{printed}");
    assert_eq!(target.totals().received, 0);
    let audited = shell.done("audit list --action pause").await;
    let header = "AT | WHO | PEER | BY | ACTION | TARGET | STREAM | EVENT | COUNT | OUTCOME | FILTER";
    let entry = &cells(&audited, header)[0];
    let told = ["-", "cli", "pause", "orders", "-", "-", "1", "done", "-"];
    assert_eq!([&entry[1..2], &entry[3..]].concat(), told, "{audited}");

    assert_eq!(shell.json("targets resume orders").await["paused"], false);
    shell.until_all_are("delivered", 3).await;
    assert_each_once(&target, &ids);
    assert!(shell.done("targets list").await.lines().nth(1).unwrap().starts_with("orders  ok "));
    let tested = shell.done("targets test orders").await;
    assert!(tested.starts_with("target orders: answered 200 after "), "{tested}");
    for verb in ["pause", "resume", "test"] {
        let refused = shell.failed(&format!("targets {verb} nobody"), 1).await;
        assert_eq!(refused, "pepay-bridge: no target \"nobody\"; there are: orders\n");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_connects_anew_and_reads_again_until_it_has_read_all() {
    let mut world = World::new(World::with_duplicates()).await;
    let _target = world.target("orders").await;
    let bridge = world.bridge().await;
    let shell = Shell::beside(&bridge, &world.configuration);
    let ids = world.simulator.play(10);
    bridge.until("all events", |status| status["store"]["events"] == 10).await;

    let opened = world.simulator.statistics().streams_opened;
    assert_eq!(shell.done("streams reconnect commerce").await, "stream commerce connects anew\n");
    soon("the new connection", world.simulator.until(|statistics| statistics.streams_opened > opened)).await;
    shell.until("streams list", |listed| listed["streams"][0]["phase"] == "live").await;

    let ended = shell.done(&format!("streams backfill commerce --after {} --wait", ids[2])).await;
    assert!(ended.starts_with(&format!("ended, from {}: ", ids[2])), "{ended}");
    assert!(ended.ends_with(" read, 0 new\n"), "{ended}");
    let stream = shell.json("streams backfill commerce --from 1h --wait").await;
    assert_eq!(
        (&stream["name"], &stream["backfill"]["running"], &stream["backfill"]["error"]),
        (&json!("commerce"), &json!(false), &json!(null))
    );
    let begun = shell.done("streams backfill commerce --from 2h").await;
    assert!(begun.contains("streams list"), "{begun}");
    let over = |listed: &Value| listed["streams"][0]["backfill"]["running"] == false;
    shell.until("streams list", over).await;
    let printed = shell.done("streams list").await;
    let header = "STREAM | PHASE | SINCE | LAST EVENT | RECONNECTS | GAP | BACKFILL | PROBLEM";
    let row = &cells(&printed, header)[0];
    assert_eq!((&*row[0], &*row[1], &*row[7]), ("commerce", "live", "-"), "{printed}");
    assert!(row[6].starts_with("ended, from "), "{printed}");

    let future = shell.failed("streams backfill commerce --from 2999-01-01T00:00:00Z", 1).await;
    assert!(future.contains("cannot begin in the future"), "{future}");
    for wrong in ["", " --wait", " --from 1h --after evt_1", " --from soon"] {
        assert!(!shell.failed(&format!("streams backfill commerce{wrong}"), 2).await.is_empty());
    }
    for wrong in ["reconnect nobody", "backfill nobody --from 1h"] {
        let refused = shell.failed(&format!("streams {wrong}"), 1).await;
        assert_eq!(refused, "pepay-bridge: no stream \"nobody\"; there are: commerce\n");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_takes_in_what_is_newer_than_the_cursor_or_names_it() {
    let mut world =
        World::new(Options { copies: Copies { stream: 1, webhook: 0 }, ..Options::default() }).await;
    let target = world.target("orders").await;
    world.set("STREAMS__COMMERCE__RECONCILE_INTERVAL", "0s");
    let bridge = world.bridge().await;
    let shell = Shell::beside(&bridge, &world.configuration);
    let first = world.simulator.play(5);
    soon("all deliveries", target.until(|totals| totals.unique == 5)).await;
    let cursor = |listed: &Value| listed["streams"][0]["cursor"] == first[4].as_str();
    shell.until("streams list", cursor).await;
    // The stream loses three events without notice, and no event has come since.
    world.simulator.inject(Fault::Skip { channel: Channel::Live, times: 3 }).unwrap();
    let lost = world.simulator.play(3);
    let ended = shell.done("streams backfill commerce --from 1h --wait").await;
    assert!(ended.ends_with(" read, 3 new\n"), "{ended}");
    soon("the lost ones", target.until(|totals| totals.unique == 8)).await;

    let refused = Fault::Answer {
        endpoint: Endpoint::Upgrade,
        times: 1000,
        status: StatusCode::BAD_GATEWAY,
        retry_after: None,
        body: None,
    };
    world.simulator.inject(refused).unwrap();
    world.simulator.inject(Fault::Drop { ending: Ending::Eof }).unwrap();
    bridge.until("the loss", |status| status["streams"][0]["connected"] == false).await;
    world.simulator.play(2);
    let ended = shell.run("streams backfill commerce --from 1h --wait").await;
    assert_eq!(ended.code, Some(1), "{}", ended.printed());
    let said = format!("5 events from {} on are newer than the cursor: they wait for the open gap", lost[0]);
    assert!(ended.stdout.contains(&said), "{}", ended.printed());
    assert!(ended.stderr.contains("has not brought everything"), "{}", ended.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_says_what_is_in_effect_and_every_fault() {
    let mut world = World::new(World::with_duplicates()).await;
    let _target = world.target("orders").await;
    let bridge = world.bridge_on_file().await;
    let shell = Shell::beside(&bridge, &world.configuration);
    let file = world.save();
    let file = file.display();
    assert_eq!(shell.done("reload").await, format!("nothing has changed\nread               {file}\n"));

    world.set("TARGETS__ORDERS__CONCURRENCY", "3");
    world.set("LOG__FORMAT", "text");
    world.save();
    let told = shell.done("reload").await;
    let changes = "in effect          targets.orders changed\nwaits for restart  log.format\n";
    assert_eq!(told, format!("{changes}read               {file}, changed\n"));

    world.set("TARGETS__ORDERS__CONCURRENCY", "none");
    world.set("TARGETS__ORDERS__TIMEOUT", "soon");
    world.save();
    let told = shell.failed("reload", 1).await;
    for fault in ["nothing was changed", "targets.orders.concurrency", "targets.orders.timeout"] {
        assert!(told.contains(fault), "{fault} is not in {told}");
    }
}
