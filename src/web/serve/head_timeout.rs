//! The reading half of a transport, with two limits: one on the wait for the first byte of a request, one
//! on the time from there to the end of its head.
//!
//! hyper has one limit for both together. The first limit must be longer than the time for which a proxy
//! keeps idle connections, and the second must be short.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Sleep;

use super::connection_limit::{Head, Slot};

/// Wraps `stream`. A read fails with [`io::ErrorKind::TimedOut`] once a limit is exceeded.
pub(super) struct HeadTimeout<R> {
    stream: R,
    slot: Arc<Slot>,
    keep_alive: Duration,
    head: Duration,
    /// The timer that runs while a read waits for a request.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<R> HeadTimeout<R> {
    /// Wraps `stream`. The limit for the first byte of a request is `keep_alive`; the limit from there to
    /// the end of its head is `head`.
    pub(super) const fn new(stream: R, slot: Arc<Slot>, keep_alive: Duration, head: Duration) -> Self {
        Self { stream, slot, keep_alive, head, timer: None }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for HeadTimeout<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(cx, buf) {
            if buf.filled().len() > before {
                self.slot.received();
            }
            return Poll::Ready(read);
        }
        let deadline = match self.slot.head() {
            Head::Awaited(since) => since + self.keep_alive,
            Head::Begun(since) => since + self.head,
            Head::Complete => return Poll::Pending,
        };
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        timer.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}
