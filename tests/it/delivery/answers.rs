//! Answers of every kind: the status decides, whatever follows it.

use crate::delivery::{all_settled, failures, settled, targets};
use crate::support::raw::{Act, OK, RawTarget};
use crate::support::soon;
use crate::support::world::{SHORT, World};

/// The bytes of a huge body: far more than the bridge reads of any answer, and more than sockets buffer.
const HUGE: usize = 32 << 20;

/// More bytes than the sockets between a target and the bridge can buffer.
const IN_BETWEEN: u64 = 16 << 20;

fn empty(status: u16) -> Act {
    Act::Say(format!("HTTP/1.1 {status} Something\r\ncontent-length: 0\r\n\r\n").into_bytes())
}

fn head(status: u16, headers: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} Something\r\n{headers}\r\n").into_bytes()
}

fn huge(status: u16) -> Act {
    let mut answer = head(status, &format!("content-length: {HUGE}\r\n"));
    answer.resize(answer.len() + HUGE, b'x');
    Act::Say(answer)
}

/// Answers whose bodies harm a client that reads them to their end.
fn bodies(status: u16) -> Vec<(&'static str, Act)> {
    let long = "content-length: 100000\r\n";
    vec![
        ("huge", huge(status)),
        ("endless", Act::SayForEver(head(status, "connection: close\r\n"))),
        ("trickling", Act::Trickle(head(status, long))),
        ("cutoff", Act::SayAndClose([&head(status, long)[..], b"the first of them"].concat())),
        ("reset", Act::SayAndReset(head(status, long))),
        (
            "badchunks",
            Act::SayAndClose([&head(status, "transfer-encoding: chunked\r\n")[..], b"zzz"].concat()),
        ),
    ]
}

/// Answers with a correct status line and incorrect headers.
fn heads(status: u16) -> Vec<(&'static str, Act)> {
    let say = |lines: &str| Act::Say(head(status, lines));
    let cut = |lines: &str| format!("HTTP/1.1 {status} Something\r\n{lines}").into_bytes();
    let empty = "content-length: 0\r\n";
    vec![
        ("nocolon", say(&format!("{empty}no header\r\n"))),
        ("noname", say(&format!("{empty}: nothing\r\n"))),
        ("control", say(&format!("{empty}x: a\u{1}b\r\n"))),
        ("named", say(&format!("{empty}x(y): z\r\n"))),
        ("spaced", say("content-length : 0\r\n")),
        ("folded", say(&format!("x: a\r\n b\r\n{empty}"))),
        ("lengths", say("content-length: ten\r\n")),
        ("twolengths", say("content-length: 0\r\ncontent-length: 5\r\n")),
        ("coding", say("transfer-encoding: chunked, surprise\r\n")),
        ("hundred", say(&format!("{}{empty}", "x: y\r\n".repeat(101)))),
        ("thousands", say(&format!("{}{empty}", "x: y\r\n".repeat(5000)))),
        ("endlesshead", Act::SayForEver(cut("x: "))),
        ("halfahead", Act::SayAndReset(cut("content-le"))),
        ("noheads", Act::SayAndClose(cut(""))),
        ("tricklinghead", Act::Trickle(cut("x: "))),
        ("interim", Act::Say([&head(103, "link: a\u{1}b\r\n")[..], &head(status, empty)].concat())),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_line_decides_whatever_headers_follow_it() {
    for status in [200, 503] {
        let mut world = World::new(World::with_duplicates()).await;
        let scripts = heads(status).into_iter().map(|(name, act)| (name.to_owned(), vec![act]));
        let targets = targets(&mut world, scripts).await;
        for name in targets.keys() {
            // A mistaken second attempt would follow at once; an unknown outcome would be held.
            world.set_target(name, "ON_UNCERTAIN", "hold");
            world.set_target(name, "TIMEOUT", &format!("{}ms", SHORT.as_millis()));
        }
        let bridge = world.bridge().await;
        world.simulator.play(1);
        settled(&bridge, "held", 0).await;
        let (_, log) = bridge.stop().await;
        for (name, target) in targets {
            let failures = failures(&log, &name);
            if status == 200 {
                assert_eq!(target.attempts(), [1], "{name}");
                assert!(failures.is_empty(), "{name}: {failures:?}");
            } else {
                assert_eq!(target.attempts(), [1, 2], "{name}");
                assert_eq!((failures.len(), &failures[0]["status"]), (1, &status.into()), "{name}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_and_a_401_say_what_they_ask_for() {
    let mut world = World::new(World::with_duplicates()).await;
    let said = [
        (
            "moved",
            302,
            "location: https://elsewhere.example/new?token=secret\r\n",
            "answered 302 Found, location: https://elsewhere.example/new",
        ),
        ("lost", 307, "", "answered 307 Temporary Redirect"),
        (
            "asking",
            401,
            "www-authenticate: Bearer realm=\"orders\"\r\n",
            "answered 401 Unauthorized, www-authenticate: Bearer realm=\"orders\"",
        ),
        ("created", 500, "location: /x\r\n", "answered 500 Internal Server Error"),
    ];
    let scripts = said.map(|(name, status, lines, _)| {
        (name.to_owned(), vec![Act::Say(head(status, &format!("{lines}content-length: 0\r\n")))])
    });
    let _targets = targets(&mut world, scripts).await;
    let bridge = world.bridge().await;
    world.simulator.play(1);
    all_settled(&bridge).await;
    let (_, log) = bridge.stop().await;
    for (name, _, _, error) in said {
        assert_eq!(failures(&log, name)[0]["error"], error);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_status_but_2xx_is_retried_and_redirects_are_not_followed() {
    const FAILED: [u16; 17] =
        [101, 300, 301, 302, 303, 304, 307, 308, 400, 401, 404, 408, 410, 425, 429, 500, 503];
    let mut world = World::new(World::with_duplicates()).await;
    let elsewhere = RawTarget::scripted([]).await;
    let answer = |status: u16| {
        let location = format!("location: {}/elsewhere\r\ncontent-length: 0\r\n", elsewhere.url);
        (format!("s{status}"), vec![Act::Say(head(status, &location))])
    };
    let failing = targets(&mut world, FAILED.map(answer)).await;
    let succeeding = targets(
        &mut world,
        [
            ("created".to_owned(), vec![empty(201)]),
            ("nocontent".to_owned(), vec![Act::Say(head(204, ""))]),
            ("earlyhints".to_owned(), vec![Act::Say([&head(103, "link: </a>\r\n")[..], OK].concat())]),
            ("odd".to_owned(), vec![empty(299)]),
        ],
    )
    .await;
    let bridge = world.bridge().await;
    world.simulator.play(1);
    all_settled(&bridge).await;
    let (status, log) = bridge.stop().await;
    assert!(status.success());

    for (name, target) in failing {
        assert_eq!(target.attempts(), [1, 2], "{name}");
        let failures = failures(&log, &name);
        assert_eq!(failures.len(), 1, "{name}");
        assert_eq!(failures[0]["status"].as_u64().unwrap().to_string(), name[1..]);
        assert_eq!(failures[0]["event_id"], target.record().requests[0].id);
        assert!(failures[0]["duration_ms"].is_u64() && failures[0]["attempt"] == 1);
    }
    for (name, target) in succeeding {
        assert_eq!(target.attempts(), [1], "{name}");
        assert!(failures(&log, &name).is_empty(), "{name}");
    }
    assert_eq!(elsewhere.record().connections, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_2xx_counts_whatever_becomes_of_its_body() {
    let mut world = World::new(World::with_duplicates()).await;
    let scripts = bodies(200).into_iter().map(|(name, act)| (name.to_owned(), vec![act]));
    let targets = targets(&mut world, scripts).await;
    for name in targets.keys() {
        // A 2xx that is taken for an unknown outcome would be held, and logged as a failure.
        world.set_target(name, "ON_UNCERTAIN", "hold");
    }
    let bridge = world.bridge().await;
    world.simulator.play(1);
    all_settled(&bridge).await;
    // Their connections cannot be used again, and nothing waits for them.
    world.simulator.play(1);
    for (name, target) in &targets {
        target.until(name, |record| record.unique() == 2).await;
    }
    all_settled(&bridge).await;
    let (status, log) = bridge.stop().await;
    assert!(status.success());
    for (name, target) in targets {
        assert_eq!(target.attempts(), [1, 1], "{name}");
        assert!(failures(&log, &name).is_empty(), "{name}");
        let bytes = target.record().endless_bytes;
        assert!(bytes < IN_BETWEEN, "{name}: {bytes} bytes were taken in");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_known_by_its_status_and_only_the_start_of_its_answer_is_kept() {
    let mut world = World::new(World::with_duplicates()).await;
    let scripts = bodies(500).into_iter().map(|(name, act)| (name.to_owned(), vec![act]));
    let targets = targets(&mut world, scripts).await;
    for name in targets.keys() {
        // The status is known, so no outcome is uncertain and held.
        world.set_target(name, "ON_UNCERTAIN", "hold");
    }
    let bridge = world.bridge().await;
    world.simulator.play(1);
    all_settled(&bridge).await;
    let (status, log) = bridge.stop().await;
    assert!(status.success());
    for (name, target) in targets {
        assert_eq!(target.attempts(), [1, 2], "{name}");
        let failures = failures(&log, &name);
        assert_eq!((failures.len(), &failures[0]["status"]), (1, &500.into()), "{name}");
        let bytes = target.record().endless_bytes;
        assert!(bytes < IN_BETWEEN, "{name}: {bytes} bytes were taken in");
    }
    assert_eq!(world.look_up::<i64>("SELECT max(length(answer)) FROM attempt"), 1024);
    assert_eq!(world.look_up::<i64>("SELECT count(*) FROM attempt WHERE status = 200 AND answer IS NULL"), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_2xx_is_recorded_before_the_rest_of_the_answer_is_read() {
    let mut world = World::new(World::with_duplicates()).await;
    let unfinished = Act::SayAndWait(head(200, "content-length: 10\r\n"));
    let targets = targets(&mut world, [("slow".to_owned(), vec![unfinished])]).await;
    world.set_target("slow", "CONCURRENCY", "1");
    let bridge = world.bridge().await;
    world.simulator.play(1);
    let delivered = "SELECT count(*) FROM delivery WHERE state = 'delivered'";
    world.until_found("the record", delivered).await;
    let closed = targets["slow"].record().closed;
    assert_eq!(closed, 0, "the answer is not at its end, and still waited for");

    // The request still counts towards the concurrency of the target.
    world.simulator.play(5);
    soon("the webhooks", world.simulator.webhooks_settled()).await;
    let record = targets["slow"].record();
    assert!(record.requests.len() == 1 || record.closed > 0, "its place is taken");
    targets["slow"].until("the others", |record| record.unique() == 6).await;
    bridge.stop().await;
}
