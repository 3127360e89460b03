//! The limit on the connections of one listener.
//!
//! When the limit is reached, a new connection replaces the one for which the server has waited the
//! longest. The server waits for a connection until it has received a whole request. So slow clients
//! cannot use up the limit. A connection whose request is being answered keeps its slot until the last
//! byte of the response is sent.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The limit, and the open connections.
#[derive(Debug)]
pub(super) struct ConnectionLimit {
    most: usize,
    connections: Mutex<Connections>,
    /// Is notified when a slot may have become free.
    freed: Notify,
}

#[derive(Debug, Default)]
struct Connections {
    /// A counter that grows whenever the server begins to wait for a connection. The connection with the
    /// lowest turn is the one for which the server has waited the longest.
    turn: u64,
    open: HashMap<u64, Open>,
}

#[derive(Debug)]
struct Open {
    /// The turn at which the server began to wait for this connection; `None` while a request is being
    /// answered.
    waiting: Option<u64>,
    close: CancellationToken,
}

/// The slot of one connection. Dropping it frees the slot.
#[derive(Debug)]
pub(super) struct Slot {
    limit: Arc<ConnectionLimit>,
    number: u64,
    /// Whether the body of a response has ended and its last bytes are not sent yet. Only the
    /// connection's own task uses this field.
    sending_last: AtomicBool,
    /// How much of the head of the next request has arrived. Only the connection's own task uses this
    /// field.
    head: Mutex<Head>,
    /// Cancelled when another connection takes the slot.
    pub(super) close: CancellationToken,
}

/// How much of the head of the next request has arrived.
#[derive(Clone, Copy, Debug)]
pub(super) enum Head {
    /// Nothing; the server waits since this time.
    Awaited(Instant),
    /// A part; the first byte arrived at this time.
    Begun(Instant),
    /// The whole head; the request is being answered.
    Complete,
}

impl ConnectionLimit {
    /// Creates a limit of `most` connections at the same time.
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, connections: Mutex::default(), freed: Notify::new() })
    }

    /// Returns a slot. If no slot is free, the function takes the slot of the connection for which the
    /// server has waited the longest. It waits only while every connection is being served.
    pub(super) async fn admit(self: &Arc<Self>) -> Slot {
        loop {
            // Registers before the attempt, so that no slot that is freed in between is missed.
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
    /// Returns how much of the head of the next request has arrived.
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

    /// Notes that the whole head of a request has arrived.
    pub(super) fn head_complete(&self) {
        *self.lock_head() = Head::Complete;
    }

    fn lock_head(&self) -> MutexGuard<'_, Head> {
        self.head.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a whole request has arrived. The server no longer waits for this connection.
    fn served(&self) {
        // A client that has sent its next request is not idle, even if the last bytes of the previous
        // response are not sent yet.
        self.sending_last.store(false, Relaxed);
        if let Some(open) = self.limit.connections().open.get_mut(&self.number) {
            open.waiting = None;
        }
    }

    /// Notes that all bytes written so far have been sent. If they end a response, the server waits for
    /// the client again.
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

/// The body of a request. It notifies its slot when it has arrived whole.
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

/// The body of a response. It notifies its slot when it is dropped: hyper has taken its last bytes by
/// then.
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
