//! Deliveries that cannot be stored now.

use super::*;

fn assert_unavailable(answer: &Answer, code: &str) {
    assert_eq!((answer.status, &*answer.code()), (StatusCode::SERVICE_UNAVAILABLE, code));
    let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds));
}

#[tokio::test]
async fn a_full_queue_asks_the_sender_to_come_back() {
    let fixture = Fixture::idle(vec![settings()]).await;
    let mut queued = 0;
    let refused = loop {
        // The future is polled once and dropped, so the delivery stays in the queue.
        if let Some(answer) = fixture.send(delivery(&format!("evt_{queued}"))).now_or_never() {
            break answer;
        }
        queued += 1;
    };
    assert!(queued > 100, "{queued}");
    assert_unavailable(&refused, "overloaded");
}

#[tokio::test]
async fn a_store_that_has_stopped_is_unavailable() {
    let mut fixture = Fixture::new().await;
    fixture.close().await;
    assert_unavailable(&fixture.send(delivery("evt_1")).await, "store_unavailable");
}

#[tokio::test]
async fn a_store_that_cannot_commit_is_unavailable_and_tells_the_sender_no_more() {
    let fixture = Fixture::new().await;
    fixture.side_door().execute_batch("ALTER TABLE event RENAME TO elsewhere").unwrap();
    let answer = fixture.send(delivery("evt_1")).await;
    assert_unavailable(&answer, "store_unavailable");
    assert!(!answer.body.contains("table"), "{answer:?}");
    fixture.side_door().execute_batch("ALTER TABLE elsewhere RENAME TO event").unwrap();
    let repeated = fixture.send(delivery("evt_1")).await;
    assert_eq!(repeated.body, r#"{"ok":true,"duplicate":false}"#);
}

#[tokio::test]
async fn a_commit_that_takes_too_long_is_answered_and_its_repeat_is_a_duplicate() {
    let mut fixture = Fixture::idle(vec![settings()]).await;
    let mut endpoint =
        Endpoint::new(settings(), None, fixture.store.inbox.clone(), clock(), BodyMemory::new());
    endpoint.commit_limit = Duration::from_millis(1);
    let impatient = methods(Arc::new(endpoint));
    let answer = Answer::of(impatient.oneshot(delivery("evt_1")).await.unwrap()).await;
    assert_unavailable(&answer, "store_unavailable");
    fixture.run();
    assert_eq!(fixture.send(delivery("evt_1")).await.body, r#"{"ok":true,"duplicate":true}"#);
}

#[tokio::test]
async fn a_large_body_takes_room_until_it_is_answered() {
    let large = |id: &str| {
        let body = event(id) + &" ".repeat(BodyMemory::FREE);
        signed("secret", &NOW.0.to_string(), id, &body).body(Body::from(body)).unwrap()
    };
    let mut fixture = Fixture::idle(Vec::new()).await;
    let (inbox, memory) = (fixture.store.inbox.clone(), BodyMemory::of(2 * BodyMemory::FREE));
    let roomy = Settings { max_body: 2 * BodyMemory::FREE, ..settings() };
    let endpoint = methods(Arc::new(Endpoint::new(roomy, None, inbox, clock(), memory)));
    let send = |request| endpoint.clone().oneshot(request);

    let mut first = Box::pin(send(large("evt_1")));
    assert!((&mut first).now_or_never().is_none(), "answered before anything was committed");
    let refused = Answer::of(send(large("evt_2")).await.unwrap()).await;
    assert_unavailable(&refused, "overloaded");
    let mut small = Box::pin(send(delivery("evt_3")));
    assert!((&mut small).now_or_never().is_none(), "a small one is not refused");
    fixture.run();
    assert_eq!(first.await.unwrap().status(), StatusCode::OK);
    assert_eq!(small.await.unwrap().status(), StatusCode::OK);
    assert_eq!(send(large("evt_2")).await.unwrap().status(), StatusCode::OK);
    assert_eq!(fixture.stored().await, 3);
}
