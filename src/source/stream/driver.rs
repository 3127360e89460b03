//! Carries out the effects of the [`Machine`]. Only the driver waits.
//!
//! At most one piece of each kind of work is under way, each in its own slot, and the loop waits
//! for whichever ends first. So a slow store never delays the answer to a ping, and a slow list
//! never delays the reading of a frame.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::control::Commands;
use super::plan;
use super::report::Report;
use super::state::{ConnectStep, Effect, Ending, Machine, Moment, Narrowing, Poll};
use super::wire::{self, Incoming, Loss, Socket};
use super::{Auth, Settings, Stream};
use crate::domain::backoff::Jitter;
use crate::domain::clock::Clock;
use crate::domain::event::{Environment, EventId};
use crate::domain::operator::StreamCommand;
use crate::pepay::error::{Failure, FailureKind};
use crate::pepay::frame::{self, Frame};
use crate::pepay::rest::{Page, Rest};
use crate::pepay::token::Identity;
use crate::store::error::ReadError;
use crate::store::inbox::{BatchError, ClaimError, Inbox, SourceIdentity};
use crate::store::types::{Batch, CursorMove, Held, Position, Recorded, Resume, Term};

/// How long a stop waits for a batch that is with the store. A batch that is not committed by then
/// is read again after the next start.
const LAST_COMMIT: Duration = Duration::from_secs(5);

/// The work under way, if there is any.
type Slot<T> = Option<BoxFuture<'static, T>>;
/// The outcome of a try to connect.
pub(super) type Connected = Result<(Socket, Identity), NotConnected>;

/// Why a try to connect has failed.
pub(super) struct NotConnected {
    pub(super) step: ConnectStep,
    pub(super) failure: Failure,
    /// The environment of the token, if one was minted for this stream.
    environment: Option<Environment>,
}

struct Driver {
    settings: Settings,
    rest: Rest,
    inbox: Inbox,
    /// The term under which the cursor is moved.
    term: Term,
    clock: Clock,
    began: Instant,
    machine: Machine,
    report: Report,
    commands: Commands,
    socket: Option<Socket>,
    connecting: Slot<Connected>,
    listing: Slot<Result<Page, Failure>>,
    recording: Slot<Result<Vec<Recorded>, BatchError>>,
    comparing: Slot<Result<Vec<bool>, ReadError>>,
    /// Why no event is taken from this account: the store has the events of another account.
    foreign: Option<Failure>,
}

/// Runs `stream` while this process has its lease, until `stop` is cancelled.
pub(super) async fn run(stream: Stream, stop: CancellationToken) {
    let Stream { settings, rest, inbox, lease, clock, jitter, status, commands } = stream;
    let (mut report, mut commands) = (Report::new(&settings, clock.clone(), status), Some(commands));
    loop {
        let Some(tenure) = stop.run_until_cancelled(lease.held()).await else { break };
        report.began();
        let resume = tokio::select! {
            resume = position(&settings, &inbox, &jitter, &mut report) => resume,
            () = tenure.over() => {
                report.standby();
                continue;
            }
            () = stop.cancelled() => break,
        };
        let Some(received) = commands.take() else { break };
        let mut driver = Driver {
            machine: Machine::new(settings.clone(), resume, jitter.clone()),
            settings: settings.clone(),
            rest: rest.clone(),
            inbox: inbox.clone(),
            term: tenure.term(),
            clock: clock.clone(),
            began: Instant::now(),
            report,
            commands: received,
            socket: None,
            connecting: None,
            listing: None,
            recording: None,
            comparing: None,
            foreign: None,
        };
        tokio::select! {
            () = driver.serve(&stop) => {}
            () = tenure.over() => {}
        }
        let (ended, returned) = driver.end().await;
        report = ended;
        commands = Some(returned);
        if stop.is_cancelled() {
            break;
        }
        report.standby();
    }
    report.stopped();
}

/// Returns the cursor of the stream, as soon as the store can be read.
async fn position(
    settings: &Settings,
    inbox: &Inbox,
    jitter: &Jitter,
    report: &mut Report,
) -> Option<Resume> {
    let mut failures = 0;
    loop {
        match inbox.resume(&settings.name).await {
            Ok(resume) => return resume,
            Err(error) => {
                failures += 1;
                report.position_unknown(&error);
                tokio::time::sleep(settings.backoff.delay(failures, jitter.next())).await;
            }
        }
    }
}

impl Driver {
    async fn serve(&mut self, stop: &CancellationToken) {
        loop {
            let until = self.obey().await;
            self.report.show(&self.machine);
            tokio::select! {
                () = stop.cancelled() => return,
                connected = ready(&mut self.connecting) => self.connected(connected),
                page = ready(&mut self.listing) => self.listed(page),
                recorded = ready(&mut self.recording) => self.recorded(recorded),
                held = ready(&mut self.comparing) => self.compared(held),
                Some(command) = self.commands.recv() => self.commanded(&command),
                incoming = next_frame(self.socket.as_mut()), if self.machine.takes_frames() => {
                    self.received(incoming);
                }
                () = sleep(until.map(|at| self.began + at)) => {}
            }
        }
    }

    /// Carries out the effects of the machine until it waits. Returns until when it waits.
    async fn obey(&mut self) -> Option<Duration> {
        loop {
            if let Some(socket) = &self.socket {
                self.machine.heard(socket.heard().saturating_duration_since(self.began));
            }
            match self.machine.poll(self.now()) {
                Poll::Wait(until) => return until,
                Poll::Do(effect) => self.carry_out(effect).await,
            }
        }
    }

    async fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Connect { since, narrowing } => {
                let (settings, rest) = (self.settings.clone(), self.rest.clone());
                let inbox = Some(self.inbox.clone());
                self.connecting = Some(connect(settings, rest, inbox, since, narrowing).boxed());
            }
            Effect::Disconnect(ending) => {
                self.socket = None;
                self.report.lost(ending, ending.given_up());
            }
            Effect::Ping => {
                if let Some(socket) = &mut self.socket
                    && let Err(loss) = socket.ping().await
                {
                    self.lost(&loss);
                }
            }
            Effect::List { query, narrowing } => {
                let (rest, filters) = (self.rest.clone(), plan::list_filters(&self.settings, narrowing));
                let foreign = self.foreign.clone();
                let list = async move {
                    match foreign {
                        Some(failure) => Err(failure),
                        None => rest.list(&query, &filters).await,
                    }
                };
                self.listing = Some(list.boxed());
            }
            Effect::Compare(listed) => {
                let inbox = self.inbox.clone();
                let compare = async move {
                    Ok(inbox.compare(&listed).await?.into_iter().map(|held| held == Held::Same).collect())
                };
                self.comparing = Some(compare.boxed());
            }
            Effect::Record { events, cursor, history } => {
                let (stream, term) = (self.settings.name.clone(), self.term);
                let cursor = cursor.map(|position: Position| CursorMove { stream, position, history, term });
                let (inbox, batch) = (self.inbox.clone(), Batch { events, cursor });
                self.recording = Some(async move { inbox.record(batch).await }.boxed());
            }
            Effect::Tell(notice) => self.report.tell(notice),
        }
    }

    fn connected(&mut self, outcome: Connected) {
        let now = self.now();
        match outcome {
            Ok((socket, identity)) => {
                self.socket = Some(socket);
                self.foreign = None;
                self.machine.in_environment(identity.environment);
                self.machine.opened(now);
                self.report.opened(self.machine.position());
            }
            Err(NotConnected { step, failure, environment }) => {
                if step == ConnectStep::Identity && failure.kind == FailureKind::Rejected {
                    self.foreign = Some(failure.clone());
                }
                // The list is read without a connection too, and targets may take only the events
                // of one environment.
                if environment.is_some() {
                    self.machine.in_environment(environment);
                }
                let ending = self.machine.connect_failed(now, step, &failure);
                self.report.not_connected(ending, &failure);
            }
        }
    }

    fn listed(&mut self, answer: Result<Page, Failure>) {
        if let Ok(page) = &answer {
            self.report.skipped(page);
        }
        match self.machine.page(self.now(), answer) {
            None => self.report.list_works(),
            Some(failure) => self.report.list_failed(&failure),
        }
    }

    fn recorded(&mut self, answer: Result<Vec<Recorded>, BatchError>) {
        let now = self.now();
        match answer {
            Ok(results) => self.machine.recorded(now, Ok(&results)),
            Err(BatchError { stored, error }) => {
                self.report.not_stored(&error);
                self.machine.recorded(now, Err(&stored));
            }
        }
    }

    fn compared(&mut self, answer: Result<Vec<bool>, ReadError>) {
        let now = self.now();
        match answer {
            Ok(held) => self.machine.held(now, Some(&held)),
            Err(error) => {
                self.report.not_compared(&error);
                self.machine.held(now, None);
            }
        }
    }

    fn received(&mut self, incoming: Result<Incoming, Loss>) {
        let frame = match incoming {
            Ok(Incoming::Text(body)) => frame::parse(body, self.now().wall),
            Ok(Incoming::Binary) => Frame::Unknown("a binary frame".to_owned()),
            Ok(Incoming::Heartbeat) => return,
            Err(loss) => return self.lost(&loss),
        };
        match frame {
            Frame::Event(event) => self.machine.event(self.now(), event),
            Frame::Control { gap, text } => {
                self.report.control(gap, &text);
                if gap {
                    self.machine.hint(self.now());
                }
            }
            Frame::Error { text } => {
                self.report.error_frame();
                self.lost(&Loss { ending: Ending::Error, text: format!("ws_error {text}") });
            }
            Frame::Unknown(problem) => self.report.unknown_frame(&problem),
        }
    }

    fn commanded(&mut self, command: &StreamCommand) {
        match command {
            StreamCommand::Reconnect => self.machine.reconnect(),
            StreamCommand::Backfill(from) => self.machine.backfill(from),
        }
    }

    fn lost(&mut self, loss: &Loss) {
        self.socket = None;
        self.machine.closed(self.now());
        self.report.lost(loss.ending, &loss.text);
    }

    /// Ends the stream. Waits, within a limit, for the batch that is with the store.
    async fn end(mut self) -> (Report, Commands) {
        // The socket is closed first: another replica may connect now, and the store may be slow.
        if let Some(socket) = self.socket.take() {
            socket.close().await;
        }
        if self.recording.is_some()
            && let Ok(answer) = timeout(LAST_COMMIT, ready(&mut self.recording)).await
        {
            self.recorded(answer);
        }
        self.report.show(&self.machine);
        (self.report, self.commands)
    }

    fn now(&self) -> Moment {
        Moment { at: self.began.elapsed(), wall: self.clock.now() }
    }
}

/// Mints a token, if tokens are used, and opens a connection. Every try mints a new token, whose
/// account has to be the one that `inbox` knows.
pub(super) async fn connect(
    settings: Settings,
    rest: Rest,
    inbox: Option<Inbox>,
    since: Option<EventId>,
    narrowing: Narrowing,
) -> Connected {
    let failed = |step, environment| move |failure| NotConnected { step, failure, environment };
    let token = match settings.auth {
        Auth::Header => None,
        Auth::Token => {
            let minted = rest.mint(settings.endpoint.scope(), settings.token_ttl).await;
            Some(minted.map_err(failed(ConnectStep::Token, None))?)
        }
    };
    let identity = token.as_ref().map(|token| token.identity.clone()).unwrap_or_default();
    if let Some(inbox) = inbox
        && token.is_some()
    {
        let identified = identify(&settings, &rest, &inbox, identity.clone()).await;
        identified.map_err(failed(ConnectStep::Identity, None))?;
    }
    let secret = token.as_ref().map(|token| &token.secret);
    let upgrade = plan::upgrade(&settings, since.as_ref(), narrowing, rest.account(), secret, rest.key());
    match wire::connect(&rest, upgrade, settings.idle_timeout).await {
        Ok(socket) => Ok((socket, identity)),
        Err(failure) => Err(failed(ConnectStep::Upgrade, identity.environment)(failure)),
    }
}

/// Compares the account of the token with that of the stored events.
async fn identify(
    settings: &Settings,
    rest: &Rest,
    inbox: &Inbox,
    Identity { environment, account }: Identity,
) -> Result<(), Failure> {
    let api_url = rest.account().base();
    let found = SourceIdentity { source: settings.name.clone(), api_url, environment, account };
    let (kind, text) = match inbox.identify(found).await {
        Ok(()) => return Ok(()),
        Err(error @ ClaimError::Other(_)) => (FailureKind::Rejected, error.to_string()),
        Err(error @ ClaimError::Store(_)) => (FailureKind::Unavailable, error.to_string()),
    };
    Err(Failure { kind, retry_after: None, text })
}

/// Resolves when the work in `slot` ends, and empties the slot. Never resolves for an empty slot.
async fn ready<T>(slot: &mut Slot<T>) -> T {
    let Some(work) = slot else { return std::future::pending().await };
    let outcome = work.await;
    *slot = None;
    outcome
}

async fn next_frame(socket: Option<&mut Socket>) -> Result<Incoming, Loss> {
    match socket {
        Some(socket) => socket.next().await,
        None => std::future::pending().await,
    }
}

async fn sleep(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => std::future::pending().await,
    }
}
