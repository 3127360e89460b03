//! A stand-in for the running parts, which accepts actions.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use bytes::Bytes;
use futures_util::future::{BoxFuture, ready};

use crate::domain::alert::AlertOutcome;
use crate::domain::event::{Environment, EventId};
use crate::domain::operator::{
    Agreement, BackfillFrom, Mismatch, OperationError, Routing, TargetInfo, TestOutcome, Verification,
};
use crate::domain::reload::{Changes, ReloadError};
use crate::web::Operations;

/// The stand-in, with one target `orders` and one stream `commerce`. The stream is busy after its first
/// backfill. The first reload succeeds, the second finds a wrong configuration, and later ones find a
/// store that fails.
#[derive(Default)]
pub(in crate::web) struct Obedient {
    backfilling: AtomicBool,
    reloads: AtomicU32,
}

fn known(name: &str, known: &str) -> Result<(), OperationError> {
    if name == known { Ok(()) } else { Err(OperationError::Unknown) }
}

impl Operations for Obedient {
    fn pause(&self, target: &str, _paused: bool) -> BoxFuture<'_, Result<(), OperationError>> {
        Box::pin(ready(known(target, "orders")))
    }

    fn test_alerts(&self) -> BoxFuture<'_, Result<AlertOutcome, OperationError>> {
        let refused = OperationError::Refused("no alerts are configured".to_owned());
        Box::pin(ready(Err(refused)))
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

    fn reconnect(&self, stream: &str) -> BoxFuture<'_, Result<(), OperationError>> {
        let known = known(stream, "commerce");
        Box::pin(async { known })
    }

    fn backfill(&self, stream: &str, _from: BackfillFrom) -> BoxFuture<'_, Result<(), OperationError>> {
        let known = known(stream, "commerce");
        Box::pin(async {
            known?;
            if self.backfilling.swap(true, Ordering::Relaxed) { Err(OperationError::Busy) } else { Ok(()) }
        })
    }

    fn verify(
        &self,
        id: EventId,
        stream: Option<&str>,
        _held: Bytes,
    ) -> BoxFuture<'_, Result<Verification, OperationError>> {
        let asked_as = stream.map_or_else(|| "pepay".to_owned(), |name| format!("streams.{name}"));
        let (event_id, outcome) = (id.to_string(), Agreement::Equal);
        Box::pin(ready(Ok(Verification { event_id, outcome, differs: Vec::new(), asked_as })))
    }

    fn reload(&self) -> BoxFuture<'_, Result<Changes, ReloadError>> {
        let problems = ["streams.commerce.endpoint: wrong", "targets.orders.url: missing"];
        let outcome = match self.reloads.fetch_add(1, Ordering::Relaxed) {
            0 => Ok(Changes {
                applied: vec!["targets.orders changed".to_owned()],
                restart_needed: vec!["server.listen".to_owned()],
                files: Vec::new(),
                removed_targets: Vec::new(),
            }),
            1 => Err(ReloadError::Invalid(problems.map(str::to_owned).into())),
            _ => Err(ReloadError::Unavailable("the disk is gone".to_owned())),
        };
        Box::pin(ready(outcome))
    }

    fn routing(&self, kind: &str, _environment: Option<Environment>, _body: &[u8]) -> Vec<Routing> {
        let mismatch = (kind != "commerce.order.updated").then_some(Mismatch::Types);
        vec![Routing { target: "orders".to_owned(), mismatch }]
    }

    fn targets(&self) -> Vec<TargetInfo> {
        vec![TargetInfo {
            signed: false,
            headers: Vec::new(),
            name: "orders".to_owned(),
            url: "http://127.0.0.1:8000/events".to_owned(),
            types: vec!["*".to_owned()],
            environment: None,
            condition: BTreeMap::new(),
            ordering: "none",
            concurrency: 16,
        }]
    }
}
