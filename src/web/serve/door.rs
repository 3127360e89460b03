//! Who is let in: as many connections as there are places. When all are taken,
//! the one that has kept the server waiting for the longest, for a request or
//! the rest of one, gives up its place: so slow clients cannot hold the door,
//! however many they are, and nobody is cut off whose request is being answered,
//! up to the last byte of the answer.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The places of one listener.
#[derive(Debug)]
pub(super) struct Door {
    places: usize,
    guests: Mutex<Guests>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct Guests {
    /// Grows with every change of who waits: the lowest has waited the longest.
    turn: u64,
    inside: HashMap<u64, Inside>,
}

#[derive(Debug)]
struct Inside {
    /// Since which turn the server waits for it; `None` while it is served.
    waiting: Option<u64>,
    leave: CancellationToken,
}

/// A connection's place. Dropping it gives the place back.
#[derive(Debug)]
pub(super) struct Place {
    door: Arc<Door>,
    number: u64,
    /// Whether the last of an answer has been made, and not yet been sent. Of the
    /// connection's own task alone.
    sending_last: AtomicBool,
    /// Cancelled when the place is needed for somebody else.
    pub(super) leave: CancellationToken,
}

impl Door {
    pub(super) fn new(places: usize) -> Arc<Self> {
        Arc::new(Self { places, guests: Mutex::default(), freed: Notify::new() })
    }

    /// A place, taken from the connection that has been waited for the longest if
    /// there is no other. Waits only while every connection is being served.
    pub(super) async fn admit(self: &Arc<Self>) -> Place {
        loop {
            // Registered before the look, so that a place freed in between is not missed.
            let freed = self.freed.notified();
            if let Some(place) = self.try_admit() {
                return place;
            }
            freed.await;
        }
    }

    fn try_admit(self: &Arc<Self>) -> Option<Place> {
        let mut guests = self.guests();
        if guests.inside.len() >= self.places {
            let longest =
                guests.inside.iter().filter_map(|(number, guest)| Some((guest.waiting?, *number))).min();
            let (_, number) = longest?;
            guests.inside.remove(&number)?.leave.cancel();
        }
        guests.turn += 1;
        let (number, leave) = (guests.turn, CancellationToken::new());
        guests.inside.insert(number, Inside { waiting: Some(number), leave: leave.clone() });
        Some(Place { door: Arc::clone(self), number, sending_last: AtomicBool::new(false), leave })
    }

    fn guests(&self) -> MutexGuard<'_, Guests> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// A request has arrived whole: nobody waits for this connection any more.
    fn served(&self) {
        // What is left of the answer before it makes nobody idle who has asked again.
        self.sending_last.store(false, Relaxed);
        if let Some(guest) = self.door.guests().inside.get_mut(&self.number) {
            guest.waiting = None;
        }
    }

    /// All that was to be sent has been: if that was the last of an answer, the
    /// server waits for the client again from here on.
    pub(super) fn sent(&self) {
        if !self.sending_last.load(Relaxed) {
            return;
        }
        self.sending_last.store(false, Relaxed);
        let mut guests = self.door.guests();
        guests.turn += 1;
        let turn = guests.turn;
        if let Some(guest) = guests.inside.get_mut(&self.number) {
            guest.waiting = Some(turn);
            drop(guests);
            // It may be the one whose place somebody waits for.
            self.door.freed.notify_one();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.door.guests().inside.remove(&self.number);
        self.door.freed.notify_one();
    }
}

/// A request's body, which tells its place when it has arrived whole.
pub(super) struct Arriving {
    body: Incoming,
    place: Arc<Place>,
    arrived: bool,
}

impl Arriving {
    pub(super) fn new(body: Incoming, place: Arc<Place>) -> Self {
        let mut arriving = Self { body, place, arrived: false };
        arriving.note(false);
        arriving
    }

    fn note(&mut self, ended: bool) {
        if !self.arrived && (ended || self.body.is_end_stream()) {
            self.arrived = true;
            self.place.served();
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

/// An answer's body, which tells its place when it has ended: when it is dropped,
/// as the server has taken the last of it by then.
pub(super) struct Leaving<B> {
    body: B,
    place: Arc<Place>,
}

impl<B> Leaving<B> {
    pub(super) const fn new(body: B, place: Arc<Place>) -> Self {
        Self { body, place }
    }
}

impl<B> Drop for Leaving<B> {
    fn drop(&mut self) {
        self.place.sending_last.store(true, Relaxed);
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
