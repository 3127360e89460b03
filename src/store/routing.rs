//! Decides to which targets an event goes, in which lane and rank, and hands it to their
//! dispatchers.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::cluster::LogPage;
use super::handoff::{JobReceiver, JobSender, Owners, Requests, handoff};
use super::lease::{self, Lease, Leases};
use super::settings::Route;
use super::types::{Appended, Job, TargetId};
use crate::domain::clock::UnixMillis;
use crate::domain::delivery::Ordering;
use crate::domain::event::{EventId, Received, Subject};

/// The targets that were configured since the committer began.
#[derive(Debug)]
pub(super) struct RoutingTable {
    all: Vec<TargetQueue>,
    owners: Owners,
    leases: Leases,
}

/// A target of the table.
#[derive(Debug)]
pub(super) struct TargetQueue {
    pub(super) target: TargetId,
    pub(super) route: Route,
    /// Whether the target receives events that are accepted now. A closed target stays in the
    /// table, since its requests on the wire still end.
    open: bool,
    pub(super) handoff: JobSender,
}

/// The parts of a new outbox.
#[derive(Debug)]
pub(super) struct NewOutbox {
    pub(super) target: TargetId,
    pub(super) lease: Lease,
    pub(super) arrivals: JobReceiver,
    pub(super) requests: Requests,
}

impl TargetQueue {
    /// Returns whether the target receives events that are accepted now.
    pub(super) const fn is_open(&self) -> bool {
        self.open
    }
}

impl RoutingTable {
    /// Returns an empty table. `owners` gets the dispatchers of the targets, whose leases are in
    /// `leases`.
    pub(super) fn new(owners: Owners, leases: Leases) -> Self {
        Self { all: Vec::new(), owners, leases }
    }

    /// Keeps the targets in `kept` unchanged, opens those of `routes` anew and closes all others.
    /// Returns the parts of an outbox for each of `routes`.
    pub(super) fn replace(
        &mut self,
        kept: &[Arc<str>],
        routes: impl IntoIterator<Item = (Route, TargetId)>,
    ) -> Vec<NewOutbox> {
        for queue in &mut self.all {
            queue.open &= kept.contains(&queue.route.target);
        }
        routes.into_iter().map(|(route, target)| self.open_one(target, route)).collect()
    }

    fn open_one(&mut self, target: TargetId, route: Route) -> NewOutbox {
        let lease = lease::of_target(&route.target);
        let (handoff, arrivals, requests) = handoff(target, &self.leases.watched(&lease), &self.owners);
        let lease = self.leases.want(lease);
        let Some(queue) = self.all.iter_mut().find(|queue| queue.target == target) else {
            self.all.push(TargetQueue { target, route, open: true, handoff });
            return NewOutbox { target, lease, arrivals, requests };
        };
        let before = std::mem::replace(&mut queue.handoff, handoff);
        (queue.route, queue.open) = (route, true);
        NewOutbox { target, lease, arrivals: arrivals.after(before), requests }
    }

    /// Returns the targets that receive events that are accepted now, each with its index.
    pub(super) fn open_ones(&self) -> impl Iterator<Item = (usize, &TargetQueue)> {
        self.all.iter().enumerate().filter(|(_, queue)| queue.open)
    }

    /// Returns the target at `index`.
    pub(super) fn at(&self, index: usize) -> &TargetQueue {
        &self.all[index]
    }

    /// Returns the entry of `target`.
    pub(super) fn of(&self, target: TargetId) -> Option<&TargetQueue> {
        self.all.iter().find(|queue| queue.target == target)
    }

    /// Returns the target called `name`, if it receives events.
    pub(super) fn open_one_called(&self, name: &str) -> Option<&TargetQueue> {
        self.all.iter().find(|queue| queue.open && *queue.route.target == *name)
    }

    /// Returns whether this process owns the deliveries of `target`: the target is configured here,
    /// or its requests on the wire still end.
    pub(super) fn answers_for(&self, target: TargetId) -> bool {
        self.of(target).is_some_and(|queue| queue.open || queue.handoff.is_held())
    }

    /// Returns the targets whose leases this process holds.
    pub(super) fn held(&self) -> Vec<TargetId> {
        let held = self.all.iter().filter(|queue| queue.handoff.is_held());
        held.map(|queue| queue.target).collect()
    }

    /// Hands over the deliveries that other processes have stored for the targets of this process.
    pub(super) fn hand_over_page(&self, page: LogPage) {
        if page.overflow {
            self.all.iter().for_each(|queue| queue.handoff.miss_some());
        }
        for (target, arrived) in page.deliveries {
            if let Some(queue) = self.of(target) {
                queue.handoff.offer_arrived(arrived);
            }
        }
    }

    /// Returns the name of `target`.
    pub(super) fn name(&self, target: TargetId) -> Option<&Arc<str>> {
        self.of(target).map(|queue| &queue.route.target)
    }

    /// Hands the deliveries of a new event to their dispatchers.
    pub(super) fn hand_over(&self, event: Received, appended: Appended) {
        if appended.queues.is_empty() {
            return;
        }
        let (sequence, rank) = (appended.sequence, rank(&event.event.id, event.received_at));
        let event = Arc::new(event);
        for (queue, lane) in appended.queues {
            let event = Arc::clone(&event);
            let (attempts, first_attempt_at, replays, renewed) = (0, None, 0, false);
            let job = Job { sequence, attempts, first_attempt_at, replays, renewed, event, lane, rank };
            self.at(queue).handoff.offer(job);
        }
    }
}

/// Returns the lane of the event's delivery to a target with this `ordering`. Events of one object
/// share a lane. With `PerOrder`, the events of an order share the lane `of_order` with those of
/// its invoice and payments.
pub(super) fn lane(ordering: Ordering, event: &Received, of_order: Option<i64>) -> Option<i64> {
    let of_object = || event.event.subject.object.as_deref().map(lane_of_name);
    match ordering {
        Ordering::None => None,
        Ordering::PerObject => of_object(),
        Ordering::PerOrder => of_order.or_else(of_object),
    }
}

/// Returns the order and the invoice that an event names besides its object. Neither for an event
/// about an order, since an order does not belong to its invoice.
pub(super) fn belongs_to(subject: &Subject) -> (Option<&str>, Option<&str>) {
    let Subject { object, order, invoice, .. } = subject;
    if order.is_some() && order == object {
        return (None, None);
    }
    (order.as_deref(), invoice.as_deref().filter(|invoice| object.as_deref() != Some(invoice)))
}

/// Returns the lane of the object `name`. A lane is a number, since it is indexed. It is the
/// beginning of a SHA-256, since it has to be the same in every later version. If two objects had
/// the same lane, they would wait for each other and lose nothing.
pub(super) fn lane_of_name(name: &str) -> i64 {
    let digest = <[u8; 32]>::from(Sha256::digest(name.as_bytes()));
    digest.first_chunk().copied().map_or(0, i64::from_be_bytes)
}

/// The rank of a held delivery: lower than all others of its lane, which it holds back.
pub(super) const FIRST: i64 = 0;

/// Returns the rank of an event: Pepay's order of creation if the id carries it, else the time of
/// arrival. Either is a number of milliseconds followed by 20 bits that separate events of one
/// millisecond. A rank is above [`FIRST`].
pub(super) fn rank(id: &EventId, received_at: UnixMillis) -> i64 {
    const BITS: u32 = 20;
    let arrival = u64::try_from(received_at.0).unwrap_or(0);
    let (millis, n) = id.creation_order().unwrap_or((arrival, 0));
    let rank = (millis.min(u64::MAX >> (BITS + 1)) << BITS) | n.min((1 << BITS) - 1);
    i64::try_from(rank).unwrap_or(i64::MAX).max(FIRST + 1)
}
