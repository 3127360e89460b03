//! The limit on the connections of one listener. When it is reached, a new connection
//! replaces the one that has kept the server waiting for the longest, for a request or
//! the rest of one. So slow clients cannot use the limit up, however many they are. A
//! connection whose request is being answered is never closed for another, up to the
//! last byte of the response.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The limit, and the connections that count towards it.
#[derive(Debug)]
pub(super) struct ConnectionLimit {
    most: usize,
    connections: Mutex<Connections>,
    /// Told when a slot may have become free.
    freed: Notify,
}

#[derive(Debug, Default)]
struct Connections {
    /// Grows with every change of which connections wait: the lowest has waited the longest.
    turn: u64,
    open: HashMap<u64, Open>,
}

#[derive(Debug)]
struct Open {
    /// The turn since which the server waits for it; `None` while it is served.
    waiting: Option<u64>,
    close: CancellationToken,
}

/// A connection's share of the limit. Dropping it gives the share back.
#[derive(Debug)]
pub(super) struct Slot {
    limit: Arc<ConnectionLimit>,
    number: u64,
    /// Whether the last of a response has been made, and not yet been sent. Of the
    /// connection's own task alone.
    sending_last: AtomicBool,
    /// Where the connection is between two requests. Of the connection's own task alone.
    head: Mutex<Head>,
    /// Cancelled when the connection has to make place for another.
    pub(super) close: CancellationToken,
}

/// How far the head of the next request has arrived.
#[derive(Clone, Copy, Debug)]
pub(super) enum Head {
    /// None of it, since then.
    Awaited(Instant),
    /// A part of it, since then.
    Begun(Instant),
    /// All of it: the request is being answered.
    Complete,
}

impl ConnectionLimit {
    /// A limit of so many connections at the same time.
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, connections: Mutex::default(), freed: Notify::new() })
    }

    /// Returns a slot, taken from the connection that has been waited for the longest if
    /// there is no other. Waits only while every connection is being served.
    pub(super) async fn admit(self: &Arc<Self>) -> Slot {
        loop {
            // Registered before the look, so that a slot freed in between is not missed.
            let freed = self.freed.notified();
            if let Some(slot) = self.try_admit() {
                return slot;
            }
            freed.await;
        }
    }

    fn try_admit(self: &Arc<Self>) -> Option<Slot> {
        let mut connections = self.connections();
        if connections.open.len() >= self.most {
            let waiting = |(number, open): (&u64, &Open)| Some((open.waiting?, *number));
            let (_, number) = connections.open.iter().filter_map(waiting).min()?;
            connections.open.remove(&number)?.close.cancel();
        }
        connections.turn += 1;
        let (number, close) = (connections.turn, CancellationToken::new());
        connections.open.insert(number, Open { waiting: Some(number), close: close.clone() });
        Some(Slot {
            limit: Arc::clone(self),
            number,
            sending_last: AtomicBool::new(false),
            head: Mutex::new(Head::Awaited(Instant::now())),
            close,
        })
    }

    fn connections(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// How far the head of the next request has arrived.
    pub(super) fn head(&self) -> Head {
        *self.lock_head()
    }

    /// Notes that bytes have arrived.
    pub(super) fn received(&self) {
        let mut head = self.lock_head();
        if matches!(*head, Head::Awaited(_)) {
            *head = Head::Begun(Instant::now());
        }
    }

    /// Notes that a request's head has arrived whole.
    pub(super) fn head_complete(&self) {
        *self.lock_head() = Head::Complete;
    }

    fn lock_head(&self) -> MutexGuard<'_, Head> {
        self.head.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a request has arrived whole: the server does not wait for this
    /// connection any more.
    fn served(&self) {
        // A client that has sent its next request is not idle, although the last of
        // the response before is still to be sent.
        self.sending_last.store(false, Relaxed);
        if let Some(open) = self.limit.connections().open.get_mut(&self.number) {
            open.waiting = None;
        }
    }

    /// Notes that everything made so far has been sent: after the last of a response
    /// the server waits for the client again.
    pub(super) fn sent(&self) {
        if !self.sending_last.swap(false, Relaxed) {
            return;
        }
        *self.lock_head() = Head::Awaited(Instant::now());
        let mut connections = self.limit.connections();
        connections.turn += 1;
        let turn = connections.turn;
        if let Some(open) = connections.open.get_mut(&self.number) {
            open.waiting = Some(turn);
            drop(connections);
            // A new connection may be waiting for this slot.
            self.limit.freed.notify_one();
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.limit.connections().open.remove(&self.number);
        self.limit.freed.notify_one();
    }
}

/// A request's body, which tells its slot when it has arrived whole.
pub(super) struct Arriving {
    body: Incoming,
    slot: Arc<Slot>,
    arrived: bool,
}

impl Arriving {
    pub(super) fn new(body: Incoming, slot: Arc<Slot>) -> Self {
        let mut arriving = Self { body, slot, arrived: false };
        arriving.note(false);
        arriving
    }

    fn note(&mut self, ended: bool) {
        if !self.arrived && (ended || self.body.is_end_stream()) {
            self.arrived = true;
            self.slot.served();
        }
    }
}

impl Body for Arriving {
    type Data = <Incoming as Body>::Data;
    type Error = <Incoming as Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        self.note(frame.is_none());
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A response's body, which tells its slot when it has ended: when it is dropped,
/// since the server has taken the last of it by then.
pub(super) struct Leaving<B> {
    body: B,
    slot: Arc<Slot>,
}

impl<B> Leaving<B> {
    pub(super) const fn new(body: B, slot: Arc<Slot>) -> Self {
        Self { body, slot }
    }
}

impl<B> Drop for Leaving<B> {
    fn drop(&mut self) {
        self.slot.sending_last.store(true, Relaxed);
    }
}

impl<B: Body + Unpin> Body for Leaving<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
