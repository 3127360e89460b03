//! The body of a request, which knows whether it has been asked for.
//!
//! HTTP/1 asks for a body only when there is a connection and the head is on its
//! way out. As long as it has not been asked for, the target cannot have the event,
//! however the attempt ends: no connection in time, or a kept one that turned
//! out to be closed.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

/// Whether the body of one attempt was asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Departure(Arc<AtomicBool>);

impl Departure {
    /// Whether the event may have left.
    pub(super) fn has_begun(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// An event's bytes on their way out.
pub(super) struct Body {
    bytes: Option<Bytes>,
    departure: Departure,
}

impl Body {
    /// `bytes`, and where it is noted that they were asked for.
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
