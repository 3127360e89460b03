//! The bulk calls in progress, and their progress.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use super::params::NoQuery;
use super::schema::BulkName;
use crate::store::view::BulkProgress;

/// A bulk call in progress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct BulkCall {
    /// Its number among all bulk calls.
    #[serde(skip)]
    number: u64,
    #[schema(value_type = BulkName)]
    action: &'static str,
    /// The number of deliveries that it applies to.
    matching: u64,
    /// The number of deliveries that it has processed.
    gone_through: u64,
    /// The number of deliveries that it has changed.
    changed: u64,
}

/// Every bulk call in progress, the oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BulkCalls {
    calls: Vec<BulkCall>,
}

/// Bulk calls in progress, and how far each has come
#[utoipa::path(get, path = "/api/v1/bulk", tag = "deliveries", operation_id = "listBulkCalls",
    responses((status = 200, description = "The calls, the oldest first", body = BulkCalls)))]
pub(super) async fn list(State(api): State<Arc<Api>>, _: NoQuery) -> Json<BulkCalls> {
    Json(BulkCalls { calls: api.under_way.calls() })
}

/// The calls in progress.
#[derive(Debug, Default)]
pub(super) struct UnderWay(Mutex<Calls>);

#[derive(Debug, Default)]
struct Calls {
    listed: Vec<BulkCall>,
    /// The number of calls since the start.
    begun: u64,
}

/// A call that is listed until this is dropped.
#[derive(Debug)]
pub(super) struct Listed<'a> {
    under_way: &'a UnderWay,
    number: u64,
}

impl UnderWay {
    /// Lists a call for `matching` deliveries.
    pub(super) fn enter(&self, action: &'static str, matching: u64) -> Listed<'_> {
        let mut calls = self.lock();
        calls.begun += 1;
        let number = calls.begun;
        let call = BulkCall { number, action, matching, gone_through: 0, changed: 0 };
        calls.listed.push(call);
        Listed { under_way: self, number }
    }

    fn calls(&self) -> Vec<BulkCall> {
        self.lock().listed.clone()
    }

    /// Each change is one step, so a panic elsewhere leaves no half-done change.
    fn lock(&self) -> MutexGuard<'_, Calls> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listed<'_> {
    /// Notes the progress of the call.
    pub(super) fn went(&self, so_far: BulkProgress) {
        let mut calls = self.under_way.lock();
        if let Some(call) = calls.listed.iter_mut().find(|call| call.number == self.number) {
            (call.gone_through, call.changed) = (so_far.gone_through, so_far.changed);
        }
    }
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        self.under_way.lock().listed.retain(|call| call.number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_listed_with_how_far_it_is_until_it_ends() {
        let under_way = UnderWay::default();
        let first = under_way.enter("retry", 500);
        let second = under_way.enter("retry", 500);
        second.went(BulkProgress { gone_through: 200, changed: 199 });
        let far = |call: &BulkCall| (call.matching, call.gone_through, call.changed);
        assert_eq!(under_way.calls().iter().map(far).collect::<Vec<_>>(), [(500, 0, 0), (500, 200, 199)]);
        drop(first);
        assert_eq!(under_way.calls().iter().map(far).collect::<Vec<_>>(), [(500, 200, 199)]);
        drop(second);
        assert_eq!(under_way.calls(), []);
    }
}
