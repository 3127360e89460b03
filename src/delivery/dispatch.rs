//! The loop of one target. It takes deliveries as they arrive or fall due, sends as many at a time as
//! the target allows, and writes every outcome. It owns the order of the target's deliveries, and
//! carries out operators' actions on them.

mod actions;
mod findings;
mod misdated;

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::misdated::Misdated;
use super::attempt::{Context, Ended, due_again};
use super::breaker::{Breaker, Permit, Role};
use super::control::Pause;
use super::future_set::FutureSet;
use super::order::{Order, Timely};
use super::places::Places;
use super::rate_limiter::RateLimiter;
use super::refusals::Refusals;
use crate::domain::clock::UnixMillis;
use crate::domain::delivery::Next;
use crate::domain::status::TargetStatus;
use crate::store::error::RecordError;
use crate::store::lease::Tenure;
use crate::store::outbox::{Arrival, JobReceiver, Requests};
use crate::store::types::{Arrived, Found, Job, Kind, Search};

/// The longest time between two searches of the store: the safety net below the wake-ups.
const SLOW_POLL: Duration = Duration::from_secs(10);

/// The pause before the next search after the store has failed.
const STORE_TROUBLE: Duration = Duration::from_secs(1);

/// The time between two tries to list all lanes that have open deliveries.
const CENSUS: Duration = Duration::from_secs(1);

/// The largest number of unwritten outcomes. Sending stops while the store cannot write.
const UNSETTLED: usize = 1024;

type Attempted = (Role, Kind, Result<Ended, (Job, RecordError)>);
type Settled = Result<Vec<Ended>, Vec<Ended>>;
/// A running call of the store.
type Asked<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type Searched = (Search, Result<Found, RecordError>);

/// Delivers to one target.
#[derive(Debug)]
pub(super) struct Dispatcher {
    pub(super) context: Arc<Context>,
    pub(super) arrivals: JobReceiver,
    pub(super) requests: Requests,
    pub(super) concurrency: usize,
    pub(super) places: Places,
    pub(super) breaker: Breaker,
    pub(super) pace: Option<RateLimiter>,
    pub(super) pause: Arc<Pause>,
    pub(super) status: watch::Sender<TargetStatus>,
    /// Whether a delivery may be repeated after a crash.
    pub(super) repeats: bool,
    pub(super) work: Work,
}

/// The work of a dispatcher during one tenure.
#[derive(Debug)]
pub(super) struct Work {
    order: Order,
    on_the_wire: FutureSet<Attempted>,
    /// Acknowledgements whose rest is being read. Each takes a place; no delivery waits for it.
    reading: FutureSet<()>,
    settling: FutureSet<Settled>,
    /// The number of outcomes that are being written.
    unsettled: usize,
    /// When an outcome was last written, or began to wait; `None` while none waits.
    unsettled_since: Option<Instant>,
    /// The refusals of the target since its last acknowledgement.
    refusals: Refusals,
    /// The end of the target's `Retry-After`.
    retry_after_until: Option<UnixMillis>,
    /// When to search for retries.
    retries_at: UnixMillis,
    misdated: Misdated,
    /// When to list all lanes that have open deliveries.
    census_at: UnixMillis,
    /// The last seen number of missed new deliveries.
    missed: u64,
    /// When the store may be searched again after it has failed.
    store_trouble_until: UnixMillis,
}

impl Work {
    /// Creates the work of a new tenure. With `repeats`, a delivery may be repeated after a crash.
    pub(super) fn new(repeats: bool) -> Self {
        Self {
            order: Order::new(repeats),
            on_the_wire: FutureSet::default(),
            reading: FutureSet::default(),
            settling: FutureSet::default(),
            unsettled: 0,
            unsettled_since: None,
            refusals: Refusals::default(),
            retry_after_until: None,
            retries_at: UnixMillis(0),
            misdated: Misdated::default(),
            census_at: UnixMillis(0),
            missed: 0,
            store_trouble_until: UnixMillis(0),
        }
    }
}

impl Dispatcher {
    /// Delivers until `stop` or the end of `tenure`. Then finishes the requests on the wire, unless
    /// `abandon` ends that too.
    pub(super) async fn run(
        &mut self,
        tenure: &Arc<Tenure>,
        stop: &CancellationToken,
        abandon: &CancellationToken,
    ) {
        self.context = Arc::new(self.context.during(tenure));
        // Earlier arrivals are in the store, and another process may have delivered them.
        self.arrivals.clear();
        self.work.missed = self.arrivals.missed();
        self.deliver(tenure, stop.child_token(), abandon).await;
        // No state of this tenure is used in the next one.
        self.work = Work::new(self.repeats);
        self.requests.clear();
        self.context = Arc::new(self.context.after());
        self.show_present();
    }

    async fn deliver(&mut self, tenure: &Tenure, stop: CancellationToken, abandon: &CancellationToken) {
        let mut over = pin!(tenure.over());
        tokio::select! {
            stored = self.context.recover() => self.restore_retry_after(stored),
            () = &mut over => return,
            () = stop.cancelled() => return,
        }
        let mut search: Option<Asked<Searched>> = None;
        let mut acting: Option<Asked<actions::Done>> = None;
        let mut has_acted = false;
        while !(stop.is_cancelled() && self.is_idle() && acting.is_none()) {
            let running = !stop.is_cancelled();
            if self.pause.take_resumed() {
                self.begin_anew();
            }
            let start_at = if running && !self.pause.is_on() { self.start() } else { None };
            self.show_present();
            if running && search.is_none() && acting.is_none() {
                // Requests and searches take turns, so that neither waits for ever for the other.
                let request = if has_acted { None } else { self.requests.take_ready() };
                has_acted = request.is_some();
                match request {
                    Some(request) => acting = Some(self.act(request)),
                    None => search = self.search(),
                }
            }
            let wake = self.sleep(start_at, search.is_some() || acting.is_some());
            // Neither a search nor an arrival may show deliveries as they were before an action.
            let takes_requests = search.is_none() && acting.is_none();
            tokio::select! {
                arrival = self.arrivals.next(), if acting.is_none() => match arrival {
                    Arrival::New(arrived) => self.take_arrived(arrived),
                    Arrival::Missed => self.note_missed(),
                    // The store has ended before its stop was requested, which stops the bridge.
                    Arrival::Closed => return stop.cancelled().await,
                },
                request = self.requests.next(), if takes_requests => acting = Some(self.act(request)),
                found = async { Some(search.as_mut()?.as_mut().await) }, if search.is_some() => {
                    search = None;
                    if let Some((search, found)) = found {
                        self.take_found(&search, found);
                    }
                }
                done = async { Some(acting.as_mut()?.as_mut().await) }, if acting.is_some() => {
                    acting = None;
                    if let Some((request, acted)) = done {
                        self.take_acted(request, acted);
                    }
                }
                ended = self.work.on_the_wire.done() => self.take_ended(ended),
                _ = self.work.reading.done() => {}
                settled = self.work.settling.done() => self.take_settled(settled),
                () = self.pause.changed(), if running => {}
                () = tokio::time::sleep(wake), if running => {}
                () = &mut over, if running => stop.cancel(),
                () = stop.cancelled(), if running => {}
                () = abandon.cancelled() => return,
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.work.on_the_wire.is_empty() && self.work.settling.is_empty()
    }

    /// Returns whether `at` has come. It is further away than the slow poll only if the clock was set
    /// back.
    fn is_due(at: UnixMillis, now: UnixMillis) -> bool {
        at <= now || at > now.plus(SLOW_POLL)
    }

    /// Starts every attempt that may start. Returns when to try again, if that depends on the time.
    fn start(&mut self) -> Option<UnixMillis> {
        let now = self.context.clock.now();
        if let Some(until) = self.present_retry_after(now) {
            return Some(until);
        }
        while self.work.on_the_wire.len() + self.work.reading.len() < self.concurrency
            && self.work.unsettled < UNSETTLED
            && self.context.may_start(self.work.unsettled_since)
        {
            let has = |kind| self.work.order.has(kind);
            let (fresh, retries) = (has(Kind::New) || has(Kind::Waiting), has(Kind::Retry));
            // Ends here if no kind may have a place.
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
            let order = &mut self.work.order;
            let taken = match permit {
                Permit::ProbeFresh => order.probe(true, |subject| self.breaker.has_probed(subject)),
                Permit::ProbeRetry => order.probe(false, |subject| self.breaker.has_probed(subject)),
                _ => order.next(regular).map(|job| (regular, job)),
            };
            let Some((kind, job)) = taken else { break };
            let (role, context) = (self.breaker.sent(job.subject()), Arc::clone(&self.context));
            self.places.take(kind);
            self.work.on_the_wire.push(async move { (role, kind, context.attempt(job).await) });
        }
        None
    }

    /// Returns a search of the store for deliveries that are missing in memory, if one is due.
    fn search(&mut self) -> Option<Asked<Searched>> {
        let now = self.context.clock.now();
        if !Self::is_due(self.work.store_trouble_until, now) {
            return None;
        }
        let retries = Self::is_due(self.work.retries_at, now);
        let timely = Timely { retries, census: Self::is_due(self.work.census_at, now) };
        let search = self.work.order.search(self.work.misdated.as_of(now), timely)?;
        if search.census.is_some() {
            self.work.census_at = now.plus(CENSUS);
        }
        if search.retries > 0 {
            self.work.retries_at = now.plus(SLOW_POLL);
        }
        let context = Arc::clone(&self.context);
        Some(Box::pin(async move {
            let found = context.log.search(search.clone()).await;
            (search, found)
        }))
    }

    fn take_found(&mut self, search: &Search, found: Result<Found, RecordError>) {
        let now = self.context.clock.now();
        // New deliveries among the found ones are taken first: they must not count as new once
        // delivered.
        self.take_all_arrived();
        match found {
            Ok(found) => {
                let next = if found.more_retries { Some(now) } else { found.next_due };
                if let Some(at) = next {
                    self.retry_at(at);
                }
                let latest = now.plus(self.context.retry.backoff.max() + SLOW_POLL);
                if self.work.misdated.note(search, &found, now, latest) {
                    let target = &*self.context.target;
                    tracing::warn!(
                        target,
                        "retries lie beyond `retry_max`, as after a clock is set back: they are made now"
                    );
                    self.retry_at(now);
                }
                self.work.order.found(found);
            }
            Err(error) => {
                tracing::error!(target = %self.context.target, %error, "what is open cannot be read from the store");
                self.work.order.search_failed(search);
                self.work.store_trouble_until = now.plus(STORE_TROUBLE);
                self.retry_at(self.work.store_trouble_until);
            }
        }
    }

    fn take_arrived(&mut self, arrived: Arrived) {
        self.note_missed();
        self.work.order.arrived(arrived);
        self.take_all_arrived();
    }

    fn take_all_arrived(&mut self) {
        self.note_missed();
        while let Some(arrived) = self.arrivals.take_ready() {
            self.note_missed();
            self.work.order.arrived(arrived);
        }
    }

    /// Tells the order about new deliveries that did not fit into memory.
    fn note_missed(&mut self) {
        let missed = self.arrivals.missed();
        if missed != self.work.missed {
            self.work.missed = missed;
            self.work.order.missed_some();
        }
    }

    fn take_ended(&mut self, ended: Vec<Attempted>) {
        let now = self.context.clock.now();
        let mut outcomes = Vec::with_capacity(ended.len());
        for (role, kind, ended) in ended {
            self.places.leave(kind);
            match ended {
                Ok(mut ended) => {
                    let (sequence, next) = (ended.job.sequence, ended.settlement.next);
                    self.note(role, kind, &ended, now);
                    if next == Next::Delivered {
                        self.work.order.acknowledged(sequence);
                    } else {
                        self.work.order.failed(sequence);
                    }
                    if let Some(rest) = ended.report.rest.take() {
                        self.work.reading.push(rest.read());
                    }
                    outcomes.push(ended);
                }
                Err((job, error)) => {
                    self.context.report_unmade(&job, &error);
                    self.breaker.unsent(role);
                    self.work.order.not_sent(job.sequence);
                    self.work.store_trouble_until = now.plus(STORE_TROUBLE);
                    self.retry_at(self.work.store_trouble_until);
                }
            }
        }
        if !outcomes.is_empty() {
            self.show(&outcomes, now);
            self.work.unsettled += outcomes.len();
            self.work.unsettled_since.get_or_insert_with(Instant::now);
            let context = Arc::clone(&self.context);
            self.work.settling.push(async move { context.settle(outcomes).await });
        }
    }

    fn take_settled(&mut self, settled: Vec<Settled>) {
        for settled in settled {
            match settled {
                Ok(settled) => settled.iter().for_each(|ended| self.finish(ended)),
                // The store may have refused one of them, which must not hold up the others.
                Err(unsettled) => {
                    for ended in unsettled {
                        let context = Arc::clone(&self.context);
                        self.work.settling.push(async move { Ok(vec![context.settle_alone(ended).await]) });
                    }
                }
            }
        }
    }

    /// Removes a delivery whose outcome is written.
    fn finish(&mut self, ended: &Ended) {
        self.work.unsettled -= 1;
        self.work.unsettled_since = (self.work.unsettled > 0).then(Instant::now);
        self.work.order.written(ended.job.sequence, ended.settlement.next);
        if let Some(at) = due_again(&ended.settlement) {
            self.retry_at(at);
        }
    }

    /// Searches for retries at `at` or earlier.
    fn retry_at(&mut self, at: UnixMillis) {
        self.work.retries_at = self.work.retries_at.min(at);
    }

    fn sleep(&self, start_at: Option<UnixMillis>, asking: bool) -> Duration {
        let (now, order) = (self.context.clock.now(), &self.work.order);
        let trouble = self.work.store_trouble_until;
        let retries = (!asking && order.wants_retries()).then_some(self.work.retries_at);
        let search = (!asking && order.wants_search()).then_some(now);
        let census = (!asking && !order.is_complete()).then_some(self.work.census_at);
        let search = [retries, search, census].into_iter().flatten().map(|at| at.max(trouble));
        let next = search.chain(start_at).map(|at| at.since(now)).min();
        next.unwrap_or(SLOW_POLL).min(SLOW_POLL)
    }
}
