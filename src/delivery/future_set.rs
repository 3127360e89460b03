//! The futures that a dispatcher waits for at the same time. They run within the dispatcher's own task:
//! a task for each request would cost more than its work, since the connections have tasks of their
//! own.

use std::fmt;
use std::future::{Future, poll_fn};
use std::task::Poll;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;

/// Futures that run as long as [`done`](Self::done) is waited for.
pub(super) struct FutureSet<T>(FuturesUnordered<BoxFuture<'static, T>>);

impl<T> FutureSet<T> {
    pub(super) fn push(&self, future: impl Future<Output = T> + Send + 'static) {
        self.0.push(Box::pin(future));
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the results of all ended futures, at least one. Never resolves while there are none.
    /// Cancel safe.
    pub(super) async fn done(&mut self) -> Vec<T> {
        poll_fn(|cx| {
            let mut done = Vec::new();
            while let Poll::Ready(Some(one)) = self.0.poll_next_unpin(cx) {
                done.push(one);
            }
            if done.is_empty() { Poll::Pending } else { Poll::Ready(done) }
        })
        .await
    }
}

impl<T> Default for FutureSet<T> {
    fn default() -> Self {
        Self(FuturesUnordered::new())
    }
}

impl<T> fmt::Debug for FutureSet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FutureSet").field(&self.len()).finish()
    }
}
