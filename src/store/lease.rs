//! A lease lets one process at a time deliver to a target, read a stream, or keep house, among the
//! processes that share a store. A store of one process holds all of its leases, always.
//!
//! A process wants a lease as long as it has a [`Lease`] handle. While the lease is held there is a
//! [`Tenure`], under whose term the holder writes. The holder starts nothing after the time until
//! which the lease is trusted. It still writes what it has started, as long as no other process has
//! taken over.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::types::Term;

/// The name of the lease for the work that one process at a time does for the whole store.
const HOUSEKEEPING: &str = "housekeeping";

/// Returns the name of the lease of a target.
pub(super) fn of_target(name: &str) -> Arc<str> {
    format!("target/{name}").into()
}

/// Returns the name of the lease of a stream.
pub(super) fn of_stream(name: &str) -> Arc<str> {
    format!("stream/{name}").into()
}

/// The leases that this process wants and holds. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Leases(Arc<Board>);

#[derive(Debug)]
struct Board {
    /// Whether the store has a single process.
    sole: bool,
    entries: Mutex<BTreeMap<Arc<str>, Entry>>,
    /// Notified when a lease is held, lost or to be given back.
    changed: watch::Sender<()>,
    /// Notified when a lease is wanted anew, or may be given back.
    wishes: Notify,
}

#[derive(Debug)]
struct Entry {
    /// The number of [`Lease`] handles.
    handles: usize,
    holding: Option<Holding>,
    /// Whether there is a [`Tenure`].
    in_use: bool,
    is_held: Arc<AtomicBool>,
}

#[derive(Clone, Copy, Debug)]
struct Holding {
    term: Term,
    /// Until when the lease is trusted.
    until: Instant,
    /// Whether the lease is given back once it is not in use.
    leaving: bool,
}

/// A handle on a lease, which this process wants while the handle exists.
#[derive(Debug)]
pub struct Lease {
    name: Arc<str>,
    leases: Leases,
}

/// The holding of a lease by this process. Ends when it is dropped.
#[derive(Debug)]
pub struct Tenure {
    name: Arc<str>,
    term: Term,
    leases: Leases,
}

/// The leases that the task that keeps them has to take, renew and give back.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Wishes {
    /// The names of the wanted leases.
    pub(super) wanted: Vec<Arc<str>>,
    /// The held leases, with their terms.
    pub(super) held: Vec<(Arc<str>, Term)>,
    /// The held leases that are given back now.
    pub(super) given_back: Vec<(Arc<str>, Term)>,
}

impl Leases {
    /// Returns the leases of a store that has a single process.
    pub(super) fn sole() -> Self {
        Self::new(true)
    }

    /// Returns the leases of a store that several processes share. None is held yet.
    pub(super) fn shared() -> Self {
        Self::new(false)
    }

    fn new(sole: bool) -> Self {
        let (entries, changed) = (Mutex::default(), watch::Sender::new(()));
        Self(Arc::new(Board { sole, entries, changed, wishes: Notify::new() }))
    }

    /// Returns whether other processes may share the store.
    pub(super) fn are_shared(&self) -> bool {
        !self.0.sole
    }

    /// Returns a handle on the lease `name`, which is wanted from now on.
    pub(super) fn want(&self, name: Arc<str>) -> Lease {
        self.entry(&name, |entry| entry.handles += 1);
        self.0.wishes.notify_one();
        Lease { name, leases: self.clone() }
    }

    /// Returns a flag that says at any time whether the lease `name` is held.
    pub(super) fn watched(&self, name: &Arc<str>) -> Arc<AtomicBool> {
        self.entry(name, |entry| Arc::clone(&entry.is_held))
    }

    /// Returns whether the lease `name` is held.
    pub(super) fn holds(&self, name: &Arc<str>) -> bool {
        self.watched(name).load(Relaxed)
    }

    /// Returns the wanted and the held leases.
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

    /// Resolves when [`wishes`](Self::wishes) may have changed. Cancel safe.
    pub(super) async fn wish(&self) {
        self.0.wishes.notified().await;
    }

    /// Notes that the lease `name` is held under `term` and trusted until `until`.
    pub(super) fn hold(&self, name: &Arc<str>, term: Term, until: Instant) {
        self.entry(name, |entry| {
            let leaving = entry.holding.is_some_and(|holding| holding.term == term && holding.leaving);
            entry.holding = Some(Holding { term, until, leaving });
            entry.is_held.store(true, Relaxed);
        });
        self.0.changed.send_replace(());
    }

    /// Notes that the lease `name` is not held any more: another process has it, or may take it.
    pub(super) fn lose(&self, name: &Arc<str>) {
        self.entry(name, |entry| {
            entry.holding = None;
            entry.is_held.store(false, Relaxed);
        });
        self.0.changed.send_replace(());
    }

    /// Notes that the leases are not held any more that are held under an earlier term than their
    /// present one. `terms` has the present terms of all leases.
    pub(super) fn lose_earlier(&self, terms: &BTreeMap<String, Term>) {
        let is_over = |name: &Arc<str>, term: Term| terms.get(&**name).is_none_or(|present| term < *present);
        let over = self.wishes().held.into_iter().filter(|(name, term)| is_over(name, *term));
        for (name, term) in over {
            self.lose_under(&name, term);
        }
    }

    /// Notes that the lease `name` is not held any more, if it is held under `term`.
    fn lose_under(&self, name: &Arc<str>, term: Term) {
        self.entry(name, |entry| {
            if entry.holding.take_if(|holding| holding.term == term).is_some() {
                entry.is_held.store(false, Relaxed);
            }
        });
        self.0.changed.send_replace(());
    }

    /// Ends the tenure of the lease `name` in this process, so that another process can take it.
    /// Returns whether the tenure was not ending already.
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

    /// Returns the holding of the lease `name` under `term`, while it lasts.
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

    /// Each change is one call, so a panic elsewhere leaves no half-done change.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Entry>> {
        self.0.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    /// Resolves once the lease is held and trusted. Its previous tenure has to be dropped before.
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

    /// Returns whether the holder may start an attempt, or a read of a stream, now.
    pub fn is_trusted(&self) -> bool {
        let holding = || self.leases.holding(&self.name, self.term);
        self.leases.0.sole || holding().is_some_and(|holding| Instant::now() < holding.until)
    }

    /// Ends the tenure, since the store has refused a write under its term.
    pub fn lose(&self) {
        self.leases.lose_under(&self.name, self.term);
    }

    /// Returns whether other processes may share the store.
    pub fn is_shared(&self) -> bool {
        self.leases.are_shared()
    }

    /// Resolves once the holder may start nothing any more: the lease is not trusted, or is to be
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

/// Takes the lease for the work that one process at a time does for the whole store.
#[derive(Debug)]
pub struct Housekeeping {
    lease: Lease,
    here: watch::Sender<bool>,
}

impl Housekeeping {
    pub(super) fn new(leases: &Leases) -> Self {
        Self { lease: leases.want(HOUSEKEEPING.into()), here: watch::Sender::new(leases.0.sole) }
    }

    /// Returns whether this process holds the lease, at any time.
    pub fn here(&self) -> watch::Receiver<bool> {
        self.here.subscribe()
    }

    /// Takes the lease whenever it is free, until `stop`.
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
