//! An open stream: first its replay, then the new items of the journal: events, and the acts of faults
//! at their places.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use bytes::Bytes;
use futures_util::SinkExt;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::Subscription;
use crate::domain::clock::UnixMillis;
use crate::simulator::Simulator;
use crate::simulator::fault::{Act, Ending, Frame};
use crate::simulator::journal::{Entry, Item, Opening};
use crate::simulator::selection::Selection;
use crate::simulator::server::Wire;
use crate::simulator::switches::OldCursor;

/// The number of items read from the journal at once, and of frames written before a flush.
const BATCH: usize = 64;
/// How long a client may read no bytes.
const SEND_LIMIT: Duration = Duration::from_secs(10);
/// How long a client may take to answer a close frame.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);
/// Close codes of RFC 6455, section 7.4.1.
const GOING_AWAY: u16 = 1001;
const POLICY: u16 = 1008;

/// The next item to send.
enum Out {
    Event(Arc<Entry>),
    Act(Act),
}

/// How the connection ends, once it is decided.
type Flow = ControlFlow<Ending>;

pub(super) struct Connection {
    simulator: Simulator,
    socket: WebSocket,
    wire: Wire,
    selection: Selection,
    journal_end: watch::Receiver<u64>,
    /// The next position of the journal to read.
    position: u64,
    pending: VecDeque<Out>,
    /// When the stream's token ends it.
    expires_at: Option<UnixMillis>,
    /// Whether the stream neither reads nor sends any more.
    silent: bool,
    /// Until when the stream sends nothing.
    held_until: Option<Instant>,
}

impl Connection {
    pub(super) fn new(
        simulator: Simulator,
        socket: WebSocket,
        wire: Wire,
        subscription: Subscription,
        opening: Opening,
    ) -> Self {
        let journal_end = simulator.0.journal.follow();
        let refused = opening.too_old && simulator.switches().old_cursor == OldCursor::Error;
        let replayed = if refused { 0 } else { opening.replay.len() };
        let mut pending = VecDeque::with_capacity(replayed + 1);
        if refused {
            let (code, message) = ("INVALID_CURSOR".to_owned(), "`since` is unknown or too old".to_owned());
            pending.push_back(Out::Act(Act::Error { code, message }));
        } else if opening.too_old {
            pending.push_back(control(&json!({
                "object": "ws_control", "type": "resync_required", "reason": "cursor_too_old",
                "since": subscription.since.as_ref().map(ToString::to_string), "snapshot": replayed,
            })));
        }
        pending.extend(opening.replay.into_iter().take(replayed).map(Out::Event));
        if subscription.since.is_some() && !opening.too_old {
            pending.push_back(control(&json!({
                "object": "ws_control", "type": "replay_complete", "replayed": replayed,
            })));
        }
        simulator.count(|statistics| {
            statistics.streams_opened += 1;
            statistics.streams_open += 1;
            statistics.snapshots += u64::from(opening.too_old && !refused);
            statistics.frames_replayed += replayed as u64;
        });
        Self {
            simulator,
            socket,
            wire,
            selection: subscription.selection,
            journal_end,
            expires_at: subscription.expires_at,
            position: opening.live_from,
            pending,
            silent: false,
            held_until: None,
        }
    }

    /// Serves the stream until either side ends it.
    pub(super) async fn run(mut self, stop: &CancellationToken) {
        let ending = self.follow(stop).await;
        // It is counted before the client can see the end, so that a client that has seen it finds the
        // count right.
        self.simulator.count(|statistics| statistics.streams_open -= 1);
        self.end(ending).await;
    }

    async fn follow(&mut self, stop: &CancellationToken) -> Ending {
        let options = self.simulator.options();
        let mut pings = options.ping_interval.map(pings);
        let old_at = options.max_stream_age.map(|age| Instant::now() + age);
        let now = self.simulator.0.clock.now();
        let expires = self.expires_at.map(|at| {
            let left = u64::try_from(at.0.saturating_sub(now.0)).unwrap_or(0);
            Instant::now() + Duration::from_millis(left)
        });
        let age_close_code = options.age_close_code;
        loop {
            self.refill();
            let free = self.held_until.is_none();
            let ready = free && !self.pending.is_empty();
            let waiting = free && self.pending.is_empty();
            let flow = tokio::select! {
                biased;
                () = stop.cancelled() => ControlFlow::Break(close(GOING_AWAY, "shutting down")),
                () = at(old_at) => ControlFlow::Break(close(age_close_code, "maximum connection age")),
                () = at(expires) => ControlFlow::Break(close(POLICY, "token expired")),
                received = self.socket.recv(), if !self.silent => self.received(received.as_ref()),
                () = at(self.held_until) => { self.held_until = None; ControlFlow::Continue(()) }
                () = tick(pings.as_mut()), if !self.silent && free => self.ping(stop).await,
                changed = self.journal_end.changed(), if waiting => match changed {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(_) => ControlFlow::Break(close(GOING_AWAY, "shutting down")),
                },
                () = std::future::ready(()), if ready => self.send(stop).await,
            };
            if let ControlFlow::Break(ending) = flow {
                return ending;
            }
        }
    }

    /// Reads new items from the journal, once the earlier ones have been sent.
    fn refill(&mut self) {
        if !self.pending.is_empty() {
            return;
        }
        // It is marked as seen before the read, so that an item in between wakes the task again.
        self.journal_end.borrow_and_update();
        loop {
            let batch = self.simulator.0.journal.read(self.position, BATCH);
            self.position = batch.next;
            if batch.lost > 0 {
                self.pending.push_back(control(&json!({
                    "object": "ws_control", "type": "resync_required", "reason": "client_too_slow",
                })));
            }
            let empty = batch.items.is_empty();
            for item in batch.items {
                match item {
                    Item::Event(entry) if self.selection.matches(&entry.event, &entry.facts) => {
                        let copies = (0..entry.copies.stream).map(|_| Out::Event(Arc::clone(&entry)));
                        self.pending.extend(copies);
                    }
                    Item::Event(_) => {}
                    Item::Act(act) => self.pending.push_back(Out::Act(act)),
                }
            }
            if self.silent {
                self.keep_endings();
            }
            if empty || !self.pending.is_empty() {
                return;
            }
        }
    }

    /// Drops the items that a silent stream does not send.
    fn keep_endings(&mut self) {
        self.pending.retain(|out| matches!(out, Out::Act(Act::Drop(_) | Act::Error { .. })));
    }

    fn received(&self, received: Option<&Result<Message, axum::Error>>) -> Flow {
        match received {
            Some(Ok(Message::Ping(_))) => {
                self.simulator.count(|statistics| statistics.pings_received += 1);
            }
            Some(Ok(Message::Pong(_))) => {
                self.simulator.count(|statistics| statistics.pongs_received += 1);
            }
            // The stream goes one way; frames of the client are ignored.
            Some(Ok(Message::Text(_) | Message::Binary(_))) => {}
            // The library replies to a close frame by itself.
            Some(Ok(Message::Close(_)) | Err(_)) | None => return ControlFlow::Break(Ending::Eof),
        }
        ControlFlow::Continue(())
    }

    async fn ping(&mut self, stop: &CancellationToken) -> Flow {
        limited(self.socket.send(Message::Ping(Bytes::from_static(b"pepay"))), stop).await
    }

    /// Sends a batch of the pending items, up to the first act that is more than a frame.
    async fn send(&mut self, stop: &CancellationToken) -> Flow {
        let mut sent = 0;
        for _ in 0..BATCH {
            let (message, entry) = match self.pending.pop_front() {
                Some(Out::Event(entry)) => match entry.text() {
                    Some(text) => (Message::Text(text), Some(entry)),
                    None => continue,
                },
                Some(Out::Act(Act::Frame(Frame::Text(text)))) => (Message::Text(text.into()), None),
                Some(Out::Act(Act::Frame(Frame::Binary(bytes)))) => (Message::Binary(bytes.into()), None),
                Some(Out::Act(act)) => {
                    limited(self.socket.flush(), stop).await?;
                    self.count_frames(sent);
                    return self.act(act, stop).await;
                }
                None => break,
            };
            limited(self.socket.feed(message), stop).await?;
            if let Some(entry) = entry {
                entry.sent.frames.fetch_add(1, Ordering::Relaxed);
                sent += 1;
            }
        }
        limited(self.socket.flush(), stop).await?;
        self.count_frames(sent);
        ControlFlow::Continue(())
    }

    fn count_frames(&self, sent: u64) {
        if sent > 0 {
            self.simulator.count(|statistics| statistics.frames_sent += sent);
        }
    }

    async fn act(&mut self, act: Act, stop: &CancellationToken) -> Flow {
        match act {
            Act::Drop(ending) => return ControlFlow::Break(ending),
            Act::Silence => {
                self.silent = true;
                self.keep_endings();
            }
            Act::Hold(wait) => self.held_until = Some(Instant::now() + wait),
            Act::Error { code, message } => {
                let frame = json!({"object": "ws_error", "code": code, "message": message});
                limited(self.socket.send(Message::Text(frame.to_string().into())), stop).await?;
                return ControlFlow::Break(close(POLICY, "error"));
            }
            Act::Frame(_) => {}
        }
        ControlFlow::Continue(())
    }

    async fn end(mut self, ending: Ending) {
        match ending {
            Ending::Eof => {}
            Ending::Reset => self.wire.sever(),
            Ending::Close { code, reason } => {
                let frame = CloseFrame { code, reason: reason.into() };
                let closing = async {
                    self.socket.send(Message::Close(Some(frame))).await?;
                    // Unread bytes would turn the close into a reset, which can
                    // overtake the frame.
                    while let Some(received) = self.socket.recv().await {
                        received?;
                    }
                    Ok::<_, axum::Error>(())
                };
                if !matches!(timeout(CLOSE_LIMIT, closing).await, Ok(Ok(()))) {
                    tracing::debug!(code, "a stream did not close cleanly");
                }
            }
        }
    }
}

/// Waits for a write, up to the client's time limit or the stop signal.
async fn limited(write: impl Future<Output = Result<(), axum::Error>>, stop: &CancellationToken) -> Flow {
    tokio::select! {
        biased;
        () = stop.cancelled() => ControlFlow::Break(close(GOING_AWAY, "shutting down")),
        written = timeout(SEND_LIMIT, write) => match written {
            Ok(Ok(())) => ControlFlow::Continue(()),
            Ok(Err(_)) => ControlFlow::Break(Ending::Eof),
            Err(_) => ControlFlow::Break(Ending::Reset),
        },
    }
}

fn control(frame: &serde_json::Value) -> Out {
    Out::Act(Act::Frame(Frame::Text(frame.to_string())))
}

fn close(code: u16, reason: &str) -> Ending {
    Ending::Close { code, reason: reason.to_owned() }
}

fn pings(period: Duration) -> Interval {
    let mut interval = tokio::time::interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// Resolves at the next tick, or never.
async fn tick(interval: Option<&mut Interval>) {
    match interval {
        Some(interval) => _ = interval.tick().await,
        None => std::future::pending().await,
    }
}

/// Resolves at `instant`, or never.
async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
