//! Reports on a stream: log lines, metrics and its status. A failure is logged only here.

mod gap;

use std::sync::Arc;

use metrics::counter;
use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::Settings;
use super::state::{Ending, Machine, Narrowing, Notice, Progress};
use crate::domain::clock::{Clock, UnixMillis};
use crate::domain::event::EventId;
use crate::domain::status::{GapStatus, SeenEvent, StreamPhase, StreamStatus};
use crate::pepay::error::{Failure, FailureKind};
use crate::pepay::rest::{Page, Skipped};
use crate::store::error::{ReadError, RecordError};
use crate::store::types::Position;
use crate::telemetry::names;
use gap::is_hole;

pub(super) struct Report {
    name: Arc<str>,
    clock: Clock,
    status: watch::Sender<StreamStatus>,
    /// The last hole that was found. It stays in the status: closing the gap does not restore the
    /// events in it.
    hole: Option<GapStatus>,
    no_connection: Option<String>,
    no_list: Option<String>,
    no_store: Option<String>,
    behind: bool,
    /// Whether the open gap has been counted as unproven.
    hole_counted: bool,
    /// The number of invalid frames since the connection was opened.
    unknown_frames: u64,
    /// The number of control frames since then.
    control_frames: u64,
    /// The number of frames since then whose events are older than the stream.
    early_frames: u64,
}

impl Report {
    pub(super) fn new(settings: &Settings, clock: Clock, status: watch::Sender<StreamStatus>) -> Self {
        let name = Arc::clone(&settings.name);
        // A series that begins with its first event would hide that event from `increase()`.
        for reason in Ending::ALL {
            counter!(names::STREAM_RECONNECTS, "stream" => name.to_string(), "reason" => reason.as_str())
                .absolute(0);
        }
        for outcome in ["closed", "unproven"] {
            counter!(names::STREAM_GAPS, "stream" => name.to_string(), "outcome" => outcome).absolute(0);
        }
        for kind in ["control", "early", "error", "invalid", "untold"] {
            counter!(names::STREAM_FRAMES, "stream" => name.to_string(), "kind" => kind).absolute(0);
        }
        let hole = status.borrow().gap.clone();
        Self {
            name,
            clock,
            status,
            hole: Some(hole).filter(is_hole),
            no_connection: None,
            no_list: None,
            no_store: None,
            behind: false,
            hole_counted: false,
            unknown_frames: 0,
            control_frames: 0,
            early_frames: 0,
        }
    }

    /// Shows the state of `machine`.
    pub(super) fn show(&self, machine: &Machine) {
        let problem = [&self.no_connection, &self.no_list, &self.no_store].into_iter().flatten().next();
        let behind =
            || self.behind.then(|| "sweeps keep finding events that the stream should bring".to_owned());
        let problem = problem.cloned().or_else(behind);
        let cursor = machine.position().and_then(|position| position.event.as_ref()).map(EventId::as_str);
        self.status.send_if_modified(|status| {
            let changed = status.phase != machine.phase()
                || status.cursor.as_deref() != cursor
                || status.problem != problem;
            let advanced = machine.progress().is_some_and(|progress| advance(status, progress));
            if changed {
                status.phase = machine.phase();
                status.cursor = cursor.map(str::to_owned);
                status.problem = problem;
            }
            changed || advanced
        });
    }

    pub(super) fn tell(&mut self, notice: Notice) {
        let stream = &*self.name;
        match notice {
            Notice::GapOpened => {
                self.status.send_modify(|status| status.gap = GapStatus::Open { passed_since: None });
            }
            Notice::GapClosed { filled, proven } => {
                info!(stream, filled, proven, "gap closed");
                if proven {
                    self.count_gap("closed");
                } else if !self.hole_counted {
                    self.count_gap("unproven");
                }
                self.hole_counted = false;
                let gap = self.hole.clone().unwrap_or(GapStatus::Closed);
                self.status.send_modify(|status| status.gap = gap);
            }
            Notice::Unproven(hole) => self.unproven(&hole),
            Notice::HoldEnded { frames, after } => self.hold_ended(frames, after),
            Notice::ListEmpty => {
                warn!(
                    stream,
                    "the list shows no event, although the stream has brought some: it is not believed"
                );
                self.no_list =
                    Some("the list of events shows none, although there have been some".to_owned());
            }
            Notice::ClockOff { offset_ms } => {
                let seconds = offset_ms / 1000;
                warn!(
                    stream,
                    ahead_seconds = seconds,
                    "Pepay's clock and this machine's are far apart; sweeps go by Pepay's"
                );
            }
            Notice::Untold => self.count_frames("untold", 1),
            Notice::Early { id, created } => self.early_frame(&id, created),
            Notice::Narrowed { what, narrowing } => self.narrowed(what, narrowing),
            Notice::ThrownOut { times } => self.thrown_out(times),
            Notice::Steady => {
                self.no_connection = None;
                self.status.send_if_modified(|status| status.unsteady_since.take().is_some());
            }
            Notice::CursorRefused => {
                warn!(
                    stream,
                    "connections that resume after the cursor end at once: the next one leaves it out"
                );
            }
            Notice::HoldOverflowed { frames } => {
                info!(stream, frames, "more frames than can be held during a backfill; REST will bring them");
            }
            Notice::Stored { newest } => {
                self.no_store = None;
                if let Some(newest) = newest {
                    debug!(stream, event_id = %newest, "stored");
                    let seen = SeenEvent { id: newest.to_string(), at: self.clock.now() };
                    self.status.send_modify(|status| status.last_event = Some(seen));
                }
            }
            Notice::Swept { found, cut_short, behind, compared } => {
                if behind {
                    warn!(stream, found, "the stream is behind: sweeps keep finding its events");
                } else if found > 0 {
                    warn!(stream, found, "a sweep took in events that no source had brought");
                }
                if cut_short {
                    warn!(stream, "a sweep found more missing events than it can hold: the next one goes on");
                }
                self.behind = behind;
                let compared_until = compared.map(|seconds| UnixMillis(seconds.saturating_mul(1000)));
                self.status.send_if_modified(|status| {
                    let news = (status.behind, status.compared_until) != (behind, compared_until);
                    (status.behind, status.compared_until) = (behind, compared_until);
                    news
                });
            }
            Notice::BackfillEnded(progress) => self.backfill_ended(&progress),
        }
    }

    fn backfill_ended(&self, progress: &Progress) {
        let Progress { read, recorded, trouble } = progress;
        let stream = &*self.name;
        match trouble {
            None => info!(stream, read, recorded, "the backfill that was asked for is done"),
            Some(error) => {
                warn!(stream, read, recorded, error, "the backfill that was asked for is not complete");
            }
        }
        self.status.send_modify(|status| {
            advance(status, progress);
            self.end_backfill(status);
        });
    }

    fn end_backfill(&self, status: &mut StreamStatus) {
        if let Some(backfill) = &mut status.backfill {
            backfill.running = false;
            backfill.ended_at = Some(self.clock.now());
        }
    }

    fn thrown_out(&mut self, times: u32) {
        let last = self.status.borrow().last_disconnect.clone().unwrap_or_default();
        let problem = format!("{times} connections in a row ended soon after they were opened: {last}");
        warn!(stream = &*self.name, times, "connections end soon after they were opened");
        self.no_connection = Some(problem);
        let now = self.clock.now();
        self.status.send_modify(|status| {
            status.unsteady_since.get_or_insert(now);
        });
    }

    pub(super) fn opened(&mut self, position: Option<&Position>) {
        let since = position.and_then(|position| position.event.as_ref()).map(EventId::as_str);
        info!(stream = &*self.name, since, "connected");
        (self.unknown_frames, self.control_frames, self.early_frames) = (0, 0, 0);
        self.connected(true);
        self.status.send_modify(|status| {
            status.ever_connected = true;
            if !matches!(status.gap, GapStatus::Open { .. }) {
                status.gap = GapStatus::Open { passed_since: None };
            }
        });
    }

    /// Reports that a connection has ended.
    pub(super) fn lost(&mut self, ending: Ending, text: &str) {
        let reason = ending.as_str();
        info!(stream = &*self.name, reason, "disconnected: {text}");
        self.ended(reason, text);
        self.connected(false);
        self.status.send_modify(|status| status.reconnects += 1);
    }

    /// Reports that a try to connect has failed.
    pub(super) fn not_connected(&mut self, ending: Ending, failure: &Failure) {
        let reason = ending.as_str();
        warn!(stream = &*self.name, reason, "no connection: {failure}");
        self.ended(reason, &failure.text);
        self.no_connection = Some(match failure.kind {
            FailureKind::Refused => format!("Pepay refuses the API key: {failure}"),
            FailureKind::Rejected | FailureKind::Missing => {
                format!("Pepay refuses the subscription: {failure}")
            }
            _ => format!("no connection: {failure}"),
        });
    }

    fn ended(&self, reason: &'static str, text: &str) {
        counter!(names::STREAM_RECONNECTS, "stream" => self.name.to_string(), "reason" => reason)
            .increment(1);
        self.status.send_modify(|status| status.last_disconnect = Some(format!("{reason}: {text}")));
    }

    fn connected(&self, connected: bool) {
        let now = self.clock.now();
        self.status.send_modify(|status| {
            if status.connected != connected {
                status.since = now;
            }
            status.connected = connected;
        });
    }

    pub(super) fn list_works(&mut self) {
        self.no_list = None;
    }

    pub(super) fn list_failed(&mut self, failure: &Failure) {
        warn!(stream = &*self.name, "the list of events was not read: {failure}");
        self.no_list = Some(match failure.kind {
            FailureKind::Refused => format!("Pepay refuses the API key for the list of events: {failure}"),
            _ => format!("the list of events cannot be read: {failure}"),
        });
    }

    /// Reports the entries of a page that are no events.
    pub(super) fn skipped(&self, page: &Page) {
        if let Some(Skipped { count, first }) = &page.skipped {
            warn!(stream = &*self.name, count, "entries of the list are no events and are skipped: {first}");
            self.count_frames("invalid", u64::try_from(*count).unwrap_or(u64::MAX));
        }
    }

    pub(super) fn not_stored(&mut self, error: &RecordError) {
        warn!(stream = &*self.name, "events wait for the store: {error}");
        self.no_store = Some(format!("events wait for the store: {error}"));
    }

    pub(super) fn not_compared(&self, error: &ReadError) {
        warn!(stream = &*self.name, "a sweep ended early: {error}");
    }

    pub(super) fn position_unknown(&mut self, error: &ReadError) {
        warn!(stream = &*self.name, "the cursor is not known: {error}");
        self.status.send_modify(|status| status.problem = Some(format!("the cursor is not known: {error}")));
    }

    /// Reports a control frame. Only the counts 1, 2, 4, 8 and so on are logged, so that a flood of
    /// frames is no flood of lines.
    pub(super) fn control(&mut self, gap: bool, text: &str) {
        self.count_frames("control", 1);
        self.control_frames += 1;
        if self.control_frames.is_power_of_two() {
            info!(stream = &*self.name, gap, so_far = self.control_frames, "ws_control: {text}");
        }
    }

    pub(super) fn error_frame(&self) {
        self.count_frames("error", 1);
    }

    /// Reports an invalid frame. Only the counts 1, 2, 4, 8 and so on are logged.
    pub(super) fn unknown_frame(&mut self, problem: &str) {
        self.count_frames("invalid", 1);
        self.unknown_frames += 1;
        if self.unknown_frames.is_power_of_two() {
            warn!(stream = &*self.name, so_far = self.unknown_frames, "a frame is skipped: {problem}");
        }
    }

    /// Reports a frame that is left out. Only the counts 1, 2, 4, 8 and so on are logged.
    fn early_frame(&mut self, id: &EventId, created: i64) {
        self.count_frames("early", 1);
        self.early_frames += 1;
        if self.early_frames.is_power_of_two() {
            let (stream, so_far) = (&*self.name, self.early_frames);
            warn!(stream, event_id = %id, created, so_far, "a frame is left out: its event is older than the stream");
        }
    }

    fn narrowed(&self, what: &'static str, narrowing: Narrowing) {
        let still = match narrowing {
            Narrowing::Full | Narrowing::Types => "the types alone are asked for",
            Narrowing::Bare => "neither types nor filters are asked for",
        };
        warn!(
            stream = &*self.name,
            "Pepay refuses the {what}: {still}, and the rest is filtered on this side"
        );
    }

    fn count_frames(&self, kind: &'static str, count: u64) {
        counter!(names::STREAM_FRAMES, "stream" => self.name.to_string(), "kind" => kind).increment(count);
    }

    /// Reports that this process reads the stream from here on. The connection and the backfill of
    /// another process are over; a hole stays.
    pub(super) fn began(&mut self) {
        self.stopped();
        self.hole = Some(self.status.borrow().gap.clone()).filter(is_hole);
        self.status.send_modify(|status| status.phase = StreamPhase::Connecting);
    }

    /// Reports that another process may read the stream from here on.
    pub(super) fn standby(&mut self) {
        self.stopped();
        self.status.send_modify(|status| (status.phase, status.problem) = (StreamPhase::Standby, None));
    }

    pub(super) fn stopped(&self) {
        self.connected(false);
        self.status.send_modify(|status| {
            status.phase = StreamPhase::Stopped;
            if let Some(backfill) = status.backfill.as_mut().filter(|backfill| backfill.running) {
                backfill.error = Some("the stream was stopped".to_owned());
                self.end_backfill(status);
            }
        });
    }
}

/// Shows the progress of a backfill. Returns whether it has changed.
fn advance(status: &mut StreamStatus, progress: &Progress) -> bool {
    let Some(backfill) = &mut status.backfill else { return false };
    let Progress { read, recorded, trouble } = progress;
    let news = (backfill.read, backfill.recorded, &backfill.error) != (*read, *recorded, trouble);
    if news {
        (backfill.read, backfill.recorded) = (*read, *recorded);
        backfill.error.clone_from(trouble);
    }
    news
}
