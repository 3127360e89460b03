//! Which events go to which targets, in which lane and rank, and to which dispatcher.

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

/// Every target that was configured since the committer began.
#[derive(Debug)]
pub(super) struct RoutingTable {
    all: Vec<TargetQueue>,
    owners: Owners,
    leases: Leases,
}

/// One target.
#[derive(Debug)]
pub(super) struct TargetQueue {
    pub(super) target: TargetId,
    pub(super) route: Route,
    /// Whether it receives events that are accepted now. One that is closed stays,
    /// since what it has on the wire still ends.
    open: bool,
    pub(super) handoff: JobSender,
}

/// What the new outbox of a target is made of.
#[derive(Debug)]
pub(super) struct NewOutbox {
    pub(super) target: TargetId,
    pub(super) lease: Lease,
    pub(super) arrivals: JobReceiver,
    pub(super) requests: Requests,
}

impl TargetQueue {
    /// Whether it receives events that are accepted now.
    pub(super) const fn is_open(&self) -> bool {
        self.open
    }
}

impl RoutingTable {
    /// A table without any target. `owners` will know the dispatchers, of targets that are
    /// held by `leases`.
    pub(super) fn new(owners: Owners, leases: Leases) -> Self {
        Self { all: Vec::new(), owners, leases }
    }

    /// Leaves the targets in `kept` as they are, opens those of `routes` anew and closes
    /// all others.
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

    /// Those that receive what is accepted now, each with its index.
    pub(super) fn open_ones(&self) -> impl Iterator<Item = (usize, &TargetQueue)> {
        self.all.iter().enumerate().filter(|(_, queue)| queue.open)
    }

    /// The one at `index`.
    pub(super) fn at(&self, index: usize) -> &TargetQueue {
        &self.all[index]
    }

    /// The one of `target`.
    pub(super) fn of(&self, target: TargetId) -> Option<&TargetQueue> {
        self.all.iter().find(|queue| queue.target == target)
    }

    /// The one called `name`, if it receives events.
    pub(super) fn open_one_called(&self, name: &str) -> Option<&TargetQueue> {
        self.all.iter().find(|queue| queue.open && *queue.route.target == *name)
    }

    /// Whether this process decides what becomes of the deliveries of `target`: it is
    /// configured here, or what it has on the wire still ends.
    pub(super) fn answers_for(&self, target: TargetId) -> bool {
        self.of(target).is_some_and(|queue| queue.open || queue.handoff.is_held())
    }

    /// The targets that this process has.
    pub(super) fn held(&self) -> Vec<TargetId> {
        let held = self.all.iter().filter(|queue| queue.handoff.is_held());
        held.map(|queue| queue.target).collect()
    }

    /// Hands over what other processes have stored for the targets of this one.
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

    /// The name of `target`.
    pub(super) fn name(&self, target: TargetId) -> Option<&Arc<str>> {
        self.of(target).map(|queue| &queue.route.target)
    }

    /// Offers a new event to the targets that it goes to.
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

/// The lane of an event towards a target: events of one object share one, or those
/// of one order with its invoice and payments, whose lane is `of_order`.
pub(super) fn lane(ordering: Ordering, event: &Received, of_order: Option<i64>) -> Option<i64> {
    let of_object = || event.event.subject.object.as_deref().map(lane_of_name);
    match ordering {
        Ordering::None => None,
        Ordering::PerObject => of_object(),
        Ordering::PerOrder => of_order.or_else(of_object),
    }
}

/// The order and the invoice that an event names besides its object, by which it is
/// found already. None for an order, which does not belong to its invoice.
pub(super) fn belongs_to(subject: &Subject) -> (Option<&str>, Option<&str>) {
    let Subject { object, order, invoice, .. } = subject;
    if order.is_some() && order == object {
        return (None, None);
    }
    (order.as_deref(), invoice.as_deref().filter(|invoice| object.as_deref() != Some(invoice)))
}

/// The lane of what has this name. A number, because it is indexed; the beginning of
/// a SHA-256, because it has to be the same in every later version. Two objects that
/// met in one lane would wait for each other and lose nothing.
pub(super) fn lane_of_name(name: &str) -> i64 {
    let digest = <[u8; 32]>::from(Sha256::digest(name.as_bytes()));
    digest.first_chunk().copied().map_or(0, i64::from_be_bytes)
}

/// The rank of a held delivery: before all that wait, which it holds back.
pub(super) const FIRST: i64 = 0;

/// The place of an event among those that wait in one lane: Pepay's order of
/// creation where the id carries it, else the time of arrival. Both are
/// milliseconds followed by 20 bits that separate those of one millisecond. Above [`FIRST`].
pub(super) fn rank(id: &EventId, received_at: UnixMillis) -> i64 {
    const BITS: u32 = 20;
    let arrival = u64::try_from(received_at.0).unwrap_or(0);
    let (millis, n) = id.creation_order().unwrap_or((arrival, 0));
    let rank = (millis.min(u64::MAX >> (BITS + 1)) << BITS) | n.min((1 << BITS) - 1);
    i64::try_from(rank).unwrap_or(i64::MAX).max(FIRST + 1)
}
