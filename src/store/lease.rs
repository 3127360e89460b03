//! Leases: of the processes that share a store, one at a time delivers to a target, reads a
//! stream, or keeps house. A store of one process holds all of its leases, always.
//!
//! A [`Lease`] is wanted as long as its handle lives. While it is held there is a
//! [`Tenure`], under whose term the holder writes. Beyond the time for which a lease is
//! trusted nothing is started; what was started is still written, as long as no other
//! process has taken over.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::types::Term;

/// The lease of what one process at a time does for the whole store.
const HOUSEKEEPING: &str = "housekeeping";

/// The name of the lease of a target.
pub(super) fn of_target(name: &str) -> Arc<str> {
    format!("target/{name}").into()
}

/// The name of the lease of a stream.
pub(super) fn of_stream(name: &str) -> Arc<str> {
    format!("stream/{name}").into()
}

/// What this process wants and holds. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Leases(Arc<Board>);

#[derive(Debug)]
struct Board {
    /// Whether the store has a single process.
    sole: bool,
    entries: Mutex<BTreeMap<Arc<str>, Entry>>,
    /// Told when what is held has changed.
    changed: watch::Sender<()>,
    /// Told when something is wanted anew, or may be given back.
    wishes: Notify,
}

#[derive(Debug)]
struct Entry {
    /// How many handles there are.
    handles: usize,
    holding: Option<Holding>,
    /// Whether a tenure has not ended.
    in_use: bool,
    is_held: Arc<AtomicBool>,
}

#[derive(Clone, Copy, Debug)]
struct Holding {
    term: Term,
    /// Until when it is trusted.
    until: Instant,
    /// Whether it is to be given back once it is not in use.
    leaving: bool,
}

/// A lease that this process wants.
#[derive(Debug)]
pub struct Lease {
    name: Arc<str>,
    leases: Leases,
}

/// A lease that this process holds. Ends when it is dropped.
#[derive(Debug)]
pub struct Tenure {
    name: Arc<str>,
    term: Term,
    leases: Leases,
}

/// What to do about the leases, as far as this process is concerned.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Wishes {
    /// Those that are wanted.
    pub(super) wanted: Vec<Arc<str>>,
    /// Those that are held, with their terms.
    pub(super) held: Vec<(Arc<str>, Term)>,
    /// Those among them that are to be given back now.
    pub(super) given_back: Vec<(Arc<str>, Term)>,
}

impl Leases {
    /// Those of a store that has a single process.
    pub(super) fn sole() -> Self {
        Self::new(true)
    }

    /// Those of a store that several processes share. None is held yet.
    pub(super) fn shared() -> Self {
        Self::new(false)
    }

    fn new(sole: bool) -> Self {
        let (entries, changed) = (Mutex::default(), watch::Sender::new(()));
        Self(Arc::new(Board { sole, entries, changed, wishes: Notify::new() }))
    }

    /// Whether other processes may share the store.
    pub(super) fn are_shared(&self) -> bool {
        !self.0.sole
    }

    /// A handle on the lease `name`, which is wanted from now on.
    pub(super) fn want(&self, name: Arc<str>) -> Lease {
        self.entry(&name, |entry| entry.handles += 1);
        self.0.wishes.notify_one();
        Lease { name, leases: self.clone() }
    }

    /// Whether the lease `name` is held, from now on.
    pub(super) fn watched(&self, name: &Arc<str>) -> Arc<AtomicBool> {
        self.entry(name, |entry| Arc::clone(&entry.is_held))
    }

    /// Whether the lease `name` is held.
    pub(super) fn holds(&self, name: &Arc<str>) -> bool {
        self.watched(name).load(Relaxed)
    }

    /// What is wanted and held.
    pub(super) fn wishes(&self) -> Wishes {
        let mut wishes = Wishes::default();
        for (name, entry) in &*self.lock() {
            if entry.handles > 0 {
                wishes.wanted.push(Arc::clone(name));
            }
            if let Some(Holding { term, leaving, .. }) = entry.holding {
                wishes.held.push((Arc::clone(name), term));
                if !entry.in_use && (leaving || entry.handles == 0) {
                    wishes.given_back.push((Arc::clone(name), term));
                }
            }
        }
        wishes
    }

    /// Resolves when [`wishes`](Self::wishes) may have changed. Safe to drop and call again.
    pub(super) async fn wish(&self) {
        self.0.wishes.notified().await;
    }

    /// The lease `name` is held under `term`, and trusted `until` then.
    pub(super) fn hold(&self, name: &Arc<str>, term: Term, until: Instant) {
        self.entry(name, |entry| {
            let leaving = entry.holding.is_some_and(|holding| holding.term == term && holding.leaving);
            entry.holding = Some(Holding { term, until, leaving });
            entry.is_held.store(true, Relaxed);
        });
        self.0.changed.send_replace(());
    }

    /// The lease `name` is not held any more: another process has it, or may take it.
    pub(super) fn lose(&self, name: &Arc<str>) {
        self.entry(name, |entry| {
            entry.holding = None;
            entry.is_held.store(false, Relaxed);
        });
        self.0.changed.send_replace(());
    }

    /// Ends the tenure of `name`'s holder here, so that another process can have it. Returns
    /// whether it was not ending already.
    pub(super) fn leave(&self, name: &Arc<str>) -> bool {
        let is_news = self.entry(name, |entry| {
            entry.holding.as_mut().is_some_and(|holding| !std::mem::replace(&mut holding.leaving, true))
        });
        if is_news {
            self.0.changed.send_replace(());
            self.0.wishes.notify_one();
        }
        is_news
    }

    /// The holding of `name` under `term`, while it lasts.
    fn holding(&self, name: &Arc<str>, term: Term) -> Option<Holding> {
        self.lock().get(name).and_then(|entry| entry.holding).filter(|holding| holding.term == term)
    }

    fn entry<T>(&self, name: &Arc<str>, change: impl FnOnce(&mut Entry) -> T) -> T {
        let mut entries = self.lock();
        let entry = entries.entry(Arc::clone(name)).or_insert_with(|| Entry {
            handles: 0,
            holding: None,
            in_use: false,
            is_held: Arc::new(AtomicBool::new(self.0.sole)),
        });
        change(entry)
    }

    /// Each change is one call: a panic elsewhere leaves nothing half-done.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Entry>> {
        self.0.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    /// Resolves once the lease is held and trusted. There must be no earlier tenure of it.
    pub async fn held(&self) -> Tenure {
        let mut changes = self.leases.0.changed.subscribe();
        loop {
            changes.mark_unchanged();
            if let Some(tenure) = self.begin() {
                return tenure;
            }
            // The sender lives as long as this handle.
            let _ = changes.changed().await;
        }
    }

    fn begin(&self) -> Option<Tenure> {
        let tenure = |term| Tenure { name: Arc::clone(&self.name), term, leases: self.leases.clone() };
        if self.leases.0.sole {
            return Some(tenure(Term::SOLE));
        }
        self.leases.entry(&self.name, |entry| {
            let holding =
                entry.holding.filter(|holding| !holding.leaving && Instant::now() < holding.until)?;
            entry.in_use = true;
            Some(tenure(holding.term))
        })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.leases.entry(&self.name, |entry| entry.handles -= 1);
        self.leases.0.wishes.notify_one();
    }
}

impl Tenure {
    /// The term under which the holder writes.
    pub const fn term(&self) -> Term {
        self.term
    }

    /// Whether something may be started now.
    pub fn is_trusted(&self) -> bool {
        let holding = || self.leases.holding(&self.name, self.term);
        self.leases.0.sole || holding().is_some_and(|holding| Instant::now() < holding.until)
    }

    /// Ends it, since the store has refused a write under its term.
    pub fn lose(&self) {
        let holding = self.leases.holding(&self.name, self.term);
        if holding.is_some() {
            self.leases.lose(&self.name);
        }
    }

    /// Whether there may be other processes.
    pub fn is_shared(&self) -> bool {
        self.leases.are_shared()
    }

    /// Resolves once nothing may be started any more: the lease is not trusted, or is to be
    /// given back.
    pub async fn over(&self) {
        if self.leases.0.sole {
            return std::future::pending().await;
        }
        let mut changes = self.leases.0.changed.subscribe();
        loop {
            changes.mark_unchanged();
            let holding = self.leases.holding(&self.name, self.term).filter(|holding| !holding.leaving);
            let Some(until) = holding.map(|holding| holding.until).filter(|until| Instant::now() < *until)
            else {
                return;
            };
            tokio::select! {
                _ = changes.changed() => {}
                () = sleep_until(until) => {}
            }
        }
    }
}

/// Sees to it that what one process at a time does for the whole store is done by one.
#[derive(Debug)]
pub struct Housekeeping {
    lease: Lease,
    here: watch::Sender<bool>,
}

impl Housekeeping {
    pub(super) fn new(leases: &Leases) -> Self {
        Self { lease: leases.want(HOUSEKEEPING.into()), here: watch::Sender::new(leases.0.sole) }
    }

    /// Whether this process does it.
    pub fn here(&self) -> watch::Receiver<bool> {
        self.here.subscribe()
    }

    /// Takes it whenever it is free, until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let Self { lease, here } = self;
        while let Some(tenure) = stop.run_until_cancelled(lease.held()).await {
            here.send_replace(true);
            let _ = stop.run_until_cancelled(tenure.over()).await;
            here.send_replace(false);
        }
    }
}

impl Drop for Tenure {
    fn drop(&mut self) {
        self.leases.entry(&self.name, |entry| entry.in_use = false);
        self.leases.0.wishes.notify_one();
    }
}

#[cfg(test)]
mod tests;
