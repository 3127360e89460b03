//! The body of a request, which notes whether the HTTP library has asked for it.
//!
//! hyper asks for a body only when there is a connection and the head of the request is being written.
//! Until then the target cannot have the event, however the attempt ends: without a connection in time,
//! or on a kept connection that turned out to be closed.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

/// Notes whether the body of an attempt was asked for. Clones share the note.
#[derive(Clone, Debug, Default)]
pub(super) struct Departure(Arc<AtomicBool>);

impl Departure {
    /// Returns whether the event may have been sent.
    pub(super) fn has_begun(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// The bytes of an event as the body of a request.
pub(super) struct Body {
    bytes: Option<Bytes>,
    departure: Departure,
}

impl Body {
    /// Creates the body of `bytes`, which notes in `departure` that it was asked for.
    pub(super) const fn new(bytes: Bytes, departure: Departure) -> Self {
        Self { bytes: Some(bytes), departure }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.departure.0.store(true, Relaxed);
        Poll::Ready(self.bytes.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}
