//! Groups of writes: how long they take.

use super::*;
use crate::store::committer::Group;
use crate::store::engine::EngineError;

/// Longer than a group takes up tasks.
const LONG: Duration = Duration::from_millis(1100);

#[tokio::test]
async fn a_group_that_takes_long_is_committed_and_the_rest_goes_with_the_next_one() {
    let fixture = Fixture::new(vec![route("orders", "*", Ordering::None)]).await;
    let tasks = fixture.store.tasks.clone();
    let (open, gate) = std::sync::mpsc::channel::<()>();
    let (done, first_is_done) = std::sync::mpsc::channel::<()>();
    let missed = |_| EngineError::Rejected("what the test waits for has not come".to_owned());
    let limit = Duration::from_secs(20);
    // While it waits, what follows queues up.
    let before = tasks.write(move |_: &mut Group<'_>| gate.recv_timeout(limit).map_err(missed));
    let long = |_: &mut Group<'_>| {
        std::thread::sleep(LONG);
        Ok(())
    };
    let first = async {
        tasks.write(long).await.unwrap();
        done.send(()).unwrap();
    };
    let last = tasks.write(move |_: &mut Group<'_>| first_is_done.recv_timeout(limit).map_err(missed));
    let ((), before, (), last, recorded) = tokio::join!(
        async { open.send(()).unwrap() },
        before,
        first,
        last,
        fixture.store.inbox.try_record(event("evt_1", "a")),
    );
    before.unwrap();
    last.unwrap();
    recorded.unwrap();
    fixture.close().await;
}
