//! Faults of the simulator: answers, delays, ends of streams, wrong frames, missing events.

use std::time::Duration;

use pepay_bridge::simulator::fault::{Channel, Ending, Endpoint, Fault, Frame, RetryAfter};
use pepay_bridge::simulator::options::Options;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::harness::{KEY, World, event, id, ids, options, soon, world, world_with};

fn answer(endpoint: Endpoint, status: u16, retry_after: Option<RetryAfter>) -> Fault {
    Fault::Answer { endpoint, times: 1, status: status.try_into().unwrap(), retry_after, body: None }
}

fn inject(world: &World, fault: Fault) {
    world.simulator.inject(fault).unwrap();
}

#[tokio::test]
async fn the_next_requests_at_a_door_are_answered_as_asked() {
    let world = world().await;
    inject(&world, answer(Endpoint::Token, 401, None));
    inject(&world, answer(Endpoint::Rest, 429, Some(RetryAfter::Seconds(3))));
    inject(&world, answer(Endpoint::Rest, 503, Some(RetryAfter::Date(30))));
    inject(&world, answer(Endpoint::Upgrade, 500, None));
    inject(&world, answer(Endpoint::Devnet, 500, Some(RetryAfter::Literal("soon".to_owned()))));

    let mint = r#"{"scope":"commerce","ttl_seconds":60}"#;
    assert_eq!(world.post("/api/v1/ws/token", mint).await.status, 401);
    assert_eq!(world.post("/api/v1/ws/token", mint).await.status, 200);

    let limited = world.get("/api/v1/events").await;
    assert_eq!((limited.status.as_u16(), limited.headers["retry-after"].as_bytes()), (429, &b"3"[..]));
    assert_eq!(limited.json()["error_code"], "RATE_LIMIT_EXCEEDED");
    assert_eq!(limited.json()["retry_after"], "15 minutes");
    let unavailable = world.get("/api/v1/events").await;
    assert_eq!(unavailable.headers["retry-after"], "Sat, 21 Dec 2024 11:20:30 GMT");
    assert_eq!(world.get("/api/v1/events").await.status, 200);

    assert_eq!(world.refusal("/ws/commerce/events").await.status, 500);
    world.stream("/ws/commerce/events").await;
    let devnet = world.post("/api/commerce/devnet/orders/o/simulate", "{}").await;
    assert_eq!(devnet.headers["retry-after"], "soon");
}

#[tokio::test]
async fn an_answer_may_be_nonsense() {
    let world = world().await;
    let body = Some("<html>".to_owned());
    let status = 200.try_into().unwrap();
    inject(&world, Fault::Answer { endpoint: Endpoint::Rest, times: 1, status, retry_after: None, body });
    assert_eq!(world.get("/api/v1/events").await.body, "<html>");
}

#[tokio::test]
async fn a_severed_request_is_never_answered() {
    let world = world().await;
    inject(&world, Fault::Sever { endpoint: Endpoint::Rest, times: 1 });
    let request = world.http.get(world.url("/api/v1/events")).header("x-api-key", KEY);
    assert!(soon(request.send()).await.unwrap_err().is_request());
    assert_eq!(world.simulator.statistics().severed, 1);
    assert_eq!(world.get("/api/v1/events").await.status, 200);
}

#[tokio::test]
async fn a_delayed_request_keeps_neither_others_nor_the_end_waiting() {
    let mut world = world().await;
    inject(&world, Fault::Delay { endpoint: Endpoint::Rest, times: 1, wait: Duration::from_hours(1) });
    let delayed = world.http.get(world.url("/api/v1/events")).header("x-api-key", KEY).send();
    let mut delayed = std::pin::pin!(delayed);
    let other = async {
        world.simulator.until(|now| now.delayed == 1).await;
        world.get("/api/v1/events").await.status
    };
    tokio::select! {
        answer = &mut delayed => panic!("{answer:?}"),
        status = soon(other) => assert_eq!(status, 200),
    }
    let (answer, ()) = tokio::join!(soon(delayed), world.shut_down());
    assert!(answer.is_err());
}

#[tokio::test]
async fn removed_faults_meet_no_request() {
    let world = world().await;
    inject(&world, answer(Endpoint::Rest, 500, None));
    world.simulator.clear_faults();
    assert_eq!(world.get("/api/v1/events").await.status, 200);
}

#[tokio::test]
async fn streams_end_as_asked_and_in_the_order_of_events() {
    let world = world().await;
    for (ending, expected) in [
        (Ending::Close { code: 1012, reason: "restart".to_owned() }, "close 1012"),
        (Ending::Eof, "end of file"),
        (Ending::Reset, "reset"),
    ] {
        let published = u32::try_from(world.simulator.statistics().published).unwrap();
        let mut stream = world.stream("/ws/commerce/events").await;
        world.publish(&event(published + 1));
        inject(&world, Fault::Drop { ending });
        world.publish(&event(published + 2));
        assert_eq!(stream.ids(1).await, [id(published + 1)]);
        let end = match stream.next().await {
            Some(Ok(Message::Close(Some(frame)))) => format!("close {}", u16::from(frame.code)),
            Some(Err(Error::Io(error))) if error.kind() == std::io::ErrorKind::ConnectionReset => {
                "reset".to_owned()
            }
            Some(Err(Error::Protocol(_))) | None => "end of file".to_owned(),
            other => panic!("{other:?}"),
        };
        assert_eq!(end, expected);
        soon(world.simulator.until(|now| now.streams_open == 0)).await;
    }
}

#[tokio::test]
async fn a_silent_stream_stays_open_and_says_nothing() {
    let world = world().await;
    let mut silent = world.stream("/ws/commerce/events").await;
    inject(&world, Fault::Silence);
    let mut other = world.stream("/ws/commerce/events").await;
    silent.send(Message::Ping("anyone?".into())).await;
    world.publish(&event(1));
    assert_eq!(other.ids(1).await, [id(1)]);
    assert_eq!(world.simulator.statistics().streams_open, 2);
    // The first thing that arrives is the reset: neither a pong nor the event came before it.
    inject(&world, Fault::Drop { ending: Ending::Reset });
    assert!(matches!(silent.next().await, Some(Err(Error::Io(_)))));
    assert_eq!(world.simulator.statistics().pings_received, 0);
}

#[tokio::test]
async fn an_error_frame_ends_the_stream() {
    let world = world().await;
    let mut stream = world.stream("/ws/commerce/events").await;
    inject(&world, Fault::Error { code: "SCOPE_REVOKED".to_owned(), message: "gone".to_owned() });
    let frame = stream.json().await;
    assert_eq!((&frame["object"], &frame["code"]), (&"ws_error".into(), &"SCOPE_REVOKED".into()));
    assert_eq!(stream.close_code().await, 1008);
}

#[tokio::test]
async fn any_frame_can_be_sent_between_two_events() {
    let world = world().await;
    let mut stream = world.stream("/ws/commerce/events").await;
    world.publish(&event(1));
    inject(&world, Fault::Frame { frame: Frame::Text("{not json".to_owned()) });
    inject(&world, Fault::Frame { frame: Frame::Binary(vec![0, 255]) });
    world.publish(&event(2));
    assert_eq!(stream.ids(1).await, [id(1)]);
    assert_eq!(stream.text().await, "{not json");
    assert_eq!(stream.next().await.unwrap().unwrap(), Message::Binary(vec![0, 255].into()));
    assert_eq!(stream.ids(1).await, [id(2)]);
}

#[tokio::test]
async fn live_frames_and_replays_can_leave_out_events_that_the_list_has() {
    let world = world().await;
    let mut stream = world.stream("/ws/commerce/events").await;
    world.publish(&event(1));
    inject(&world, Fault::Skip { channel: Channel::Live, times: 2 });
    (2..=4).for_each(|n| world.publish(&event(n)));
    assert_eq!(stream.ids(2).await, ids([1, 4]));
    inject(&world, Fault::Skip { channel: Channel::Replay, times: 1 });
    let mut replay = world.stream(&format!("/ws/commerce/events?since={}", id(1))).await;
    assert_eq!(replay.ids(2).await, ids([3, 4]));
    assert_eq!(world.page("").await.0, ids([4, 3, 2, 1]));
}

#[tokio::test]
async fn events_held_back_by_a_fault_are_sent_later_and_none_is_lost() {
    let world = world().await;
    let mut stream = world.stream("/ws/commerce/events").await;
    inject(&world, Fault::Hold { wait: Duration::from_millis(20) });
    (1..=3).for_each(|n| world.publish(&event(n)));
    stream.send(Message::Ping("still there?".into())).await;
    assert!(matches!(stream.next().await, Some(Ok(Message::Pong(_)))));
    assert_eq!(stream.ids(3).await, ids(1..=3));
}

#[tokio::test]
async fn a_stream_that_is_behind_the_journal_gets_a_control_frame() {
    let world = world_with(Options { replay_retention: 1, rest_retention: 1, ..options() }).await;
    let mut stream = world.stream("/ws/commerce/events").await;
    inject(&world, Fault::Hold { wait: Duration::from_millis(20) });
    (1..=2000).for_each(|n| world.publish(&event(n)));
    let (mut received, mut told) = (0, false);
    loop {
        let frame = stream.json().await;
        if frame["object"] == "ws_control" {
            assert_eq!(
                (&frame["type"], &frame["reason"]),
                (&"resync_required".into(), &"client_too_slow".into())
            );
            told = true;
            continue;
        }
        received += 1;
        if frame["id"] == *id(2000) {
            break;
        }
    }
    assert!(told && received < 2000);
}

#[tokio::test]
async fn the_control_surface_drives_the_same_account() {
    let world = world().await;
    let mut stream = world.stream("/ws/commerce/events").await;
    let body = String::from_utf8(event(1).body.to_vec()).unwrap();
    let published = world.post("/_simulator/events?stream=2&webhook=0", &body).await;
    assert_eq!((published.status.as_u16(), &published.json()["id"]), (200, &(*id(1)).into()));
    assert_eq!(world.post("/_simulator/events", &body).await.status, 409);
    assert_eq!(world.post("/_simulator/events", "{}").await.status, 400);
    assert_eq!(stream.ids(2).await, ids([1, 1]));

    let played = world.post("/_simulator/play", r#"{"count":3}"#).await.json();
    let played: Vec<_> = played["ids"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
    assert_eq!(stream.ids(3).await, played);

    let fault = r#"{"fault":"answer","endpoint":"rest","status":429,"retry_after":{"seconds":1}}"#;
    assert_eq!(world.post("/_simulator/faults", fault).await.status, 204);
    assert_eq!(world.get("/api/v1/events").await.status, 429);
    assert_eq!(world.post("/_simulator/faults", r#"{"fault":"unheard of"}"#).await.status, 400);

    soon(world.simulator.until(|now| now.frames_sent == 5)).await;
    let statistics = world.get("/_simulator/statistics").await.json();
    assert_eq!((&statistics["published"], &statistics["refused"]["429"]), (&4.into(), &1.into()));
    let ledger = world.get(&format!("/_simulator/ledger?after={}", played[0])).await.json();
    let rows: Vec<_> = ledger.as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap()).collect();
    assert_eq!(rows, played[1..]);
    assert_eq!(world.get("/_simulator/ledger?limit=1").await.json()[0]["frames"], 2);
}
