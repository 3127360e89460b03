//! The time limits of a connection, which hyper does not have.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Sleep;

use super::connection_limit::{Head, Slot};

/// The reading half of a transport, with two limits: one on the wait for the first byte of a request, one
/// on the time from there to the end of its head. A read fails with [`io::ErrorKind::TimedOut`] once a
/// limit is exceeded.
///
/// hyper has one limit for both together. The first limit must be longer than the time for which a proxy
/// keeps idle connections, and the second must be short.
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

/// A transport that limits the time in which a write makes no progress. A write fails with
/// [`io::ErrorKind::TimedOut`] after `limit` without progress. The transport also reports when all written
/// bytes have been sent.
///
/// hyper does not limit the time of a response. A client that sends requests and never reads could keep
/// its connection for ever.
pub(super) struct WriteTimeout<I> {
    inner: I,
    limit: Duration,
    /// Is notified when all written bytes have been sent.
    slot: Arc<Slot>,
    /// The timer that runs while a write waits for the peer.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<I> WriteTimeout<I> {
    pub(super) const fn new(inner: I, limit: Duration, slot: Arc<Slot>) -> Self {
        Self { inner, limit, slot, stalled: None }
    }

    /// Returns `progress`, or the error if writes have been pending for longer than the limit.
    fn bounded<T>(&mut self, cx: &mut Context<'_>, progress: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if progress.is_ready() {
            self.stalled = None;
            return progress;
        }
        let limit = self.limit;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        stalled.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<I: Read + Unpin> Read for WriteTimeout<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<I: Write + Unpin> Write for WriteTimeout<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.bounded(cx, progress)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.inner).poll_flush(cx));
        // hyper flushes when it has written everything that it has.
        self.slot.sent();
        Poll::Ready(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.bounded(cx, progress)
    }
}
