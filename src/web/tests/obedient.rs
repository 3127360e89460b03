//! Running parts that do what they are told, and forget it.

use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::{BoxFuture, ready};

use crate::domain::operator::{BackfillFrom, OperationError, TargetInfo, TestOutcome};
use crate::domain::reload::Changes;
use crate::web::Operations;

/// One target `orders` and one stream `commerce`, which is busy after its first
/// backfill. Its configuration is wrong once it has been reloaded.
#[derive(Default)]
pub(in crate::web) struct Obedient {
    backfilling: AtomicBool,
    reloaded: AtomicBool,
}

fn known(name: &str, known: &str) -> Result<(), OperationError> {
    if name == known { Ok(()) } else { Err(OperationError::Unknown) }
}

impl Operations for Obedient {
    fn pause(&self, target: &str, _paused: bool) -> BoxFuture<'_, Result<(), OperationError>> {
        Box::pin(ready(known(target, "orders")))
    }

    fn test(&self, target: &str) -> BoxFuture<'_, Result<TestOutcome, OperationError>> {
        let outcome = TestOutcome {
            event_id: "evt_test_1".to_owned(),
            acknowledged: false,
            status: Some(500),
            duration_ms: 7,
            error: Some("it answered 500".to_owned()),
        };
        Box::pin(ready(known(target, "orders").map(|()| outcome)))
    }

    fn reconnect(&self, stream: &str) -> Result<(), OperationError> {
        known(stream, "commerce")
    }

    fn backfill(&self, stream: &str, _from: BackfillFrom) -> Result<(), OperationError> {
        known(stream, "commerce")?;
        if self.backfilling.swap(true, Ordering::Relaxed) { Err(OperationError::Busy) } else { Ok(()) }
    }

    fn reload(&self) -> BoxFuture<'_, Result<Changes, Vec<String>>> {
        let outcome = if self.reloaded.swap(true, Ordering::Relaxed) {
            Err(vec!["streams.commerce.endpoint: wrong".to_owned(), "targets.orders.url: missing".to_owned()])
        } else {
            let applied = vec!["targets.orders changed".to_owned()];
            Ok(Changes { applied, restart_needed: vec!["server.listen".to_owned()] })
        };
        Box::pin(ready(outcome))
    }

    fn targets(&self) -> Vec<TargetInfo> {
        vec![TargetInfo {
            name: "orders".to_owned(),
            url: "http://127.0.0.1:8000/events".to_owned(),
            types: vec!["*".to_owned()],
            ordering: "none",
            concurrency: 16,
        }]
    }
}
