//! The loop of one target: takes deliveries as they arrive or fall due, sends
//! as many at a time as the target allows, and sees every outcome written.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::attempt::{Context, Ended, due_again};
use super::breaker::{Breaker, Permit, Role, Tried};
use super::control::Pause;
use super::hand::Hand;
use super::pace::Pace;
use super::places::Places;
use super::underway::UnderWay;
use crate::domain::clock::UnixMillis;
use crate::domain::delivery::Verdict;
use crate::domain::status::{Circuit, TargetError, TargetStatus};
use crate::store::error::RecordError;
use crate::store::outbox::{Arrival, Arrivals};
use crate::store::types::{Due, Job, Kind, PerKind, Search};

/// The longest time between two looks into the store: the safety net below the wake-ups.
const SLOW_POLL: Duration = Duration::from_secs(10);

/// How long to leave a store alone that could not be asked.
const STORE_TROUBLE: Duration = Duration::from_secs(1);

/// Outcomes waiting to be written, at most. A store that cannot write stops the sending.
const UNSETTLED: usize = 1024;

type Attempted = (Role, Kind, Result<Ended, (Job, RecordError)>);
type Settled = Result<Vec<Ended>, Vec<Ended>>;
/// How many of each kind were looked for, and what was found.
type Searched = (PerKind<usize>, Result<Due, RecordError>);
type SearchUnderWay = Pin<Box<dyn Future<Output = Searched> + Send>>;

/// Delivers to one target.
#[derive(Debug)]
pub(super) struct Dispatcher {
    pub(super) context: Arc<Context>,
    pub(super) arrivals: Arrivals,
    pub(super) concurrency: usize,
    pub(super) places: Places,
    pub(super) breaker: Breaker,
    pub(super) pace: Option<Pace>,
    pub(super) pause: Arc<Pause>,
    pub(super) status: watch::Sender<TargetStatus>,
    pub(super) work: Work,
}

/// What a dispatcher has under way.
#[derive(Debug, Default)]
pub(super) struct Work {
    hand: Hand,
    on_the_wire: UnderWay<Attempted>,
    /// Acknowledgements whose rest is read. They count as on the wire, and nobody waits for them.
    reading: UnderWay<()>,
    settling: UnderWay<Settled>,
    /// How many outcomes are being settled.
    unsettled: usize,
    /// Whether to look into the store again once nothing is being settled: of what
    /// an operator had sent again just after it was settled, the hand still knew.
    look_again: bool,
    /// When to look into the store next, for each kind.
    look_at: PerKind<Option<UnixMillis>>,
    /// Whether older first attempts wait in the store than those in hand.
    has_backlog: bool,
}

impl Dispatcher {
    /// Delivers until `stop`, then finishes what is on the wire. `abandon` ends
    /// that too.
    pub(super) async fn run(mut self, stop: CancellationToken, abandon: CancellationToken) {
        tokio::select! {
            () = self.context.recover() => {}
            () = stop.cancelled() => return,
        }
        // A predecessor may have found and delivered what was handed over meanwhile.
        // Whatever is still open is found by the first search.
        self.arrivals.clear();
        let mut search: Option<SearchUnderWay> = None;
        self.look_at_all(self.context.clock.now());
        while !(stop.is_cancelled() && self.is_idle()) {
            let running = !stop.is_cancelled();
            let start_at = if running && !self.pause.is_on() { self.start() } else { None };
            self.show_in_flight();
            if running && search.is_none() {
                search = self.search();
            }
            let wake = self.sleep(start_at, search.is_some());
            tokio::select! {
                // What is found is compared with what was known when the search
                // began, so arrivals wait until it is back.
                arrival = self.arrivals.next(), if running && search.is_none() && self.work.hand.has_room(Kind::New) => {
                    match arrival {
                        Arrival::Job(job) => self.take_arrived(job),
                        Arrival::Overflow => {
                            self.work.look_again |= !self.work.settling.is_empty();
                            self.look_at_all(self.context.clock.now());
                        }
                        // The store has ended before it was told to: whoever watches it stops the bridge.
                        Arrival::Closed => return stop.cancelled().await,
                    }
                }
                found = async { Some(search.as_mut()?.as_mut().await) }, if search.is_some() => {
                    search = None;
                    if let Some(found) = found {
                        self.take_found(found);
                    }
                }
                ended = self.work.on_the_wire.done() => self.take_ended(ended),
                _ = self.work.reading.done() => {}
                settled = self.work.settling.done() => self.take_settled(settled),
                () = self.pause.changed(), if running => {}
                () = tokio::time::sleep(wake), if running => {}
                () = stop.cancelled(), if running => {}
                () = abandon.cancelled() => return,
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.work.on_the_wire.is_empty() && self.work.settling.is_empty()
    }

    fn is_search_due(&self, kind: Kind, now: UnixMillis) -> bool {
        // Further away than the slow poll only if the clock was set back.
        self.work.look_at[kind].is_some_and(|at| at <= now || at > now.plus(SLOW_POLL))
    }

    /// Sends what may be sent. Returns when to try again, if that is a matter of time.
    fn start(&mut self) -> Option<UnixMillis> {
        let now = self.context.clock.now();
        while self.work.on_the_wire.len() + self.work.reading.len() < self.concurrency
            && self.work.unsettled < UNSETTLED
        {
            let has = |kind| self.work.hand.has(kind);
            let (fresh, retries) = (has(Kind::New) || has(Kind::Waiting), has(Kind::Retry));
            // Without one that may have a place there is nothing to ask for.
            let regular = self.places.next(has)?;
            let permit = self.breaker.ask(now, fresh, retries);
            match permit {
                Permit::Yes | Permit::ProbeFresh | Permit::ProbeRetry => {}
                Permit::NotBefore(at) => return Some(at),
                Permit::AfterProbe => return None,
            }
            if let Some(Err(at)) = self.pace.as_mut().map(|pace| pace.ask(now)) {
                return Some(at);
            }
            let job = match permit {
                Permit::ProbeFresh => self.work.hand.probe(true, |subject| self.breaker.has_probed(subject)),
                Permit::ProbeRetry => self.work.hand.probe(false, |subject| self.breaker.has_probed(subject)),
                _ => self.work.hand.next(regular),
            };
            let Some(job) = job else { break };
            if !self.context.ledger.start(&job) {
                // One that comes before it has arrived: it is let out again after that.
                self.work.hand.finish(job.sequence);
                self.look_at_all(now);
                continue;
            }
            let (role, kind, context) =
                (self.breaker.sent(job.subject()), job.kind, Arc::clone(&self.context));
            self.places.take(kind);
            self.work.on_the_wire.push(async move { (role, kind, context.attempt(job).await) });
        }
        None
    }

    /// A search of the store for the kinds that it is time for and that there is room for.
    fn search(&mut self) -> Option<SearchUnderWay> {
        let now = self.context.clock.now();
        let limits =
            PerKind::from_fn(
                |kind| {
                    if self.is_search_due(kind, now) { self.work.hand.appetite(kind) } else { 0 }
                },
            );
        let looked_for = |kind: &Kind| limits[*kind] > 0;
        if !Kind::ALL.iter().any(looked_for) {
            return None;
        }
        for kind in Kind::ALL.into_iter().filter(looked_for) {
            self.work.look_at[kind] = None;
        }
        let search = Search { now, known: self.work.hand.known().clone(), limits };
        let context = Arc::clone(&self.context);
        Some(Box::pin(async move { (limits, context.ledger.due(search).await) }))
    }

    fn take_found(&mut self, (limits, found): Searched) {
        let now = self.context.clock.now();
        let looked_for = Kind::ALL.into_iter().filter(|kind| limits[*kind] > 0);
        match found {
            Ok(due) => {
                for job in due.jobs {
                    self.work.hand.take(job);
                }
                for kind in looked_for {
                    let left = due.left[kind];
                    if kind == Kind::Waiting {
                        self.work.has_backlog = left.more;
                    }
                    self.look_at(kind, if left.more { now } else { now.plus(SLOW_POLL) });
                    if let Some(at) = left.next_due {
                        self.look_at(kind, at);
                    }
                }
                // What was both found and handed over is known by now, and so
                // passed over, as long as what is found was not finished meanwhile.
                while let Some(job) = self.arrivals.take_ready() {
                    self.keep_arrived(job);
                }
            }
            Err(error) => {
                tracing::error!(target = %self.context.target, %error, "what is due cannot be read from the store");
                for kind in looked_for {
                    self.look_at(kind, now.plus(STORE_TROUBLE));
                }
            }
        }
    }

    fn take_arrived(&mut self, job: Job) {
        self.keep_arrived(job);
        while self.work.hand.has_room(Kind::New)
            && let Some(job) = self.arrivals.take_ready()
        {
            self.keep_arrived(job);
        }
    }

    /// Takes what was handed over. What a lane has let out does not go before what
    /// has waited in the store for longer: it is found there in its turn.
    fn keep_arrived(&mut self, job: Job) {
        let stays = match job.kind {
            Kind::New => false,
            Kind::Waiting => self.work.has_backlog || !self.work.hand.has_room(Kind::Waiting),
            Kind::Retry => !self.work.hand.has_room(Kind::Retry),
        };
        if stays {
            self.look_at(job.kind, self.context.clock.now());
        } else {
            self.work.hand.take(job);
        }
    }

    fn take_ended(&mut self, ended: Vec<Attempted>) {
        let now = self.context.clock.now();
        let mut outcomes = Vec::with_capacity(ended.len());
        for (role, kind, ended) in ended {
            self.places.leave(kind);
            match ended {
                Ok(mut ended) => {
                    self.note(role, &ended, now);
                    if let Some(rest) = ended.report.rest.take() {
                        self.work.reading.push(rest.read());
                    }
                    outcomes.push(ended);
                }
                Err((job, error)) => {
                    let event_id = job.event.event.id.as_str();
                    tracing::error!(target = %self.context.target, event_id, %error, "an attempt could not be recorded and was not made");
                    self.breaker.unsent(role);
                    self.context.ledger.not_started(&job);
                    self.work.hand.finish(job.sequence);
                    self.look_at_all(now.plus(STORE_TROUBLE));
                }
            }
        }
        if !outcomes.is_empty() {
            self.show(&outcomes, now);
            self.work.unsettled += outcomes.len();
            let context = Arc::clone(&self.context);
            self.work.settling.push(async move { context.settle(outcomes).await });
        }
    }

    fn take_settled(&mut self, settled: Vec<Settled>) {
        for settled in settled {
            match settled {
                Ok(settled) => settled.iter().for_each(|ended| self.finish(ended)),
                // One of them may be what the store refuses: that must not hold up the others.
                Err(unsettled) => {
                    for ended in unsettled {
                        let context = Arc::clone(&self.context);
                        self.work.settling.push(async move { Ok(vec![context.settle_alone(ended).await]) });
                    }
                }
            }
        }
        if self.work.look_again && self.work.settling.is_empty() {
            self.work.look_again = false;
            self.look_at_all(self.context.clock.now());
        }
    }

    /// Lets go of a delivery whose outcome is written.
    fn finish(&mut self, ended: &Ended) {
        self.work.unsettled -= 1;
        self.work.hand.finish(ended.job.sequence);
        if let Some(at) = due_again(&ended.settlement) {
            self.look_at(Kind::Retry, at);
        }
    }

    /// Draws the conclusions about the target as a whole.
    fn note(&mut self, role: Role, ended: &Ended, now: UnixMillis) {
        let target = &*self.context.target;
        let (job, health) = (&ended.job, ended.report.health);
        let tried = Tried { role, subject: job.subject(), first: job.attempts == 0 };
        let changed = self.breaker.note(tried, health, now, self.context.jitter.next());
        if job.kind == Kind::Retry {
            self.places.note_retry(ended.report.verdict == Verdict::Acknowledged);
        }
        match changed {
            Some(Circuit::Open) => tracing::warn!(target, "target is down: deliveries wait, probes go on"),
            Some(Circuit::Closed) => tracing::info!(target, "target is up"),
            Some(Circuit::HalfOpen) | None => {}
        }
    }

    /// Shows what `outcomes` tell of the target.
    fn show(&self, outcomes: &[Ended], now: UnixMillis) {
        self.status.send_modify(|status| {
            for ended in outcomes {
                if ended.report.verdict == Verdict::Acknowledged {
                    status.last_delivered_at = Some(now);
                }
                if let Some(error) = &ended.report.error {
                    let event_id = ended.job.event.event.id.to_string();
                    status.last_error = Some(TargetError { event_id, error: error.clone(), at: now });
                }
            }
        });
    }

    fn show_in_flight(&self) {
        let (in_flight, circuit) = (self.work.on_the_wire.len(), self.breaker.circuit());
        self.status.send_if_modified(|status| {
            let changed = (status.in_flight, status.circuit) != (in_flight, circuit);
            (status.in_flight, status.circuit) = (in_flight, circuit);
            changed
        });
    }

    /// Makes sure that the store is asked for `kind` at `at` or before.
    fn look_at(&mut self, kind: Kind, at: UnixMillis) {
        let planned = &mut self.work.look_at[kind];
        *planned = Some(planned.map_or(at, |planned| UnixMillis(planned.0.min(at.0))));
    }

    /// The same for every kind.
    fn look_at_all(&mut self, at: UnixMillis) {
        for kind in Kind::ALL {
            self.look_at(kind, at);
        }
    }

    fn sleep(&self, start_at: Option<UnixMillis>, searching: bool) -> Duration {
        let has_appetite = |kind: &Kind| !searching && self.work.hand.appetite(*kind) > 0;
        let look_at = Kind::ALL.into_iter().filter(has_appetite).filter_map(|kind| self.work.look_at[kind]);
        let now = self.context.clock.now();
        let next = look_at.chain(start_at).map(|at| at.since(now)).min();
        next.unwrap_or(SLOW_POLL).min(SLOW_POLL)
    }
}
