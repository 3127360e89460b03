//! The targets as the writer sees them: what each receives, and who is told.

use std::sync::Arc;

use rusqlite::{Connection, params};

use super::record::Written;
use crate::domain::event::Received;
use crate::store::Route;
use crate::store::commands::Commands;
use crate::store::lane::rank;
use crate::store::outbox::{self, Arrivals, Handoff, Outbox, Owners, Requests};
use crate::store::types::{Job, TargetId};

/// Every target that was configured since the writer began.
#[derive(Debug, Default)]
pub(in crate::store) struct Outlets {
    all: Vec<Outlet>,
    owners: Owners,
}

/// One target.
#[derive(Debug)]
pub(super) struct Outlet {
    pub(super) target: TargetId,
    pub(super) route: Route,
    /// Whether it receives events that are accepted now. One that is closed stays,
    /// since what it has on the wire still ends.
    open: bool,
    pub(super) handoff: Handoff,
}

/// What the new outbox of a target is made of.
#[derive(Debug)]
pub(in crate::store) struct Opened {
    target: TargetId,
    arrivals: Arrivals,
    requests: Requests,
}

impl Outlet {
    /// Whether it receives events that are accepted now.
    pub(super) const fn is_open(&self) -> bool {
        self.open
    }
}

impl Opened {
    pub(in crate::store) fn into_outbox(self, commands: Commands) -> Outbox {
        Outbox::new(self.target, commands, (self.arrivals, self.requests))
    }
}

impl Outlets {
    /// The outlets of `routes`, and what their outboxes are made of, in the same order.
    pub(in crate::store) fn open(
        connection: &mut Connection,
        routes: Vec<Route>,
        owners: Owners,
    ) -> rusqlite::Result<(Self, Vec<Opened>)> {
        let mut outlets = Self { all: Vec::new(), owners };
        let opened = outlets.replace(connection, &[], routes)?;
        Ok((outlets, opened))
    }

    /// Leaves the targets in `kept` as they are, opens those of `routes` anew and
    /// closes all others. After an error nothing has changed.
    pub(super) fn replace(
        &mut self,
        connection: &mut Connection,
        kept: &[Arc<str>],
        routes: Vec<Route>,
    ) -> rusqlite::Result<Vec<Opened>> {
        let targets = register(connection, &routes)?;
        for outlet in &mut self.all {
            outlet.open &= kept.contains(&outlet.route.target);
        }
        let opened = routes.into_iter().zip(targets).map(|(route, target)| self.open_one(target, route));
        Ok(opened.collect())
    }

    fn open_one(&mut self, target: TargetId, route: Route) -> Opened {
        let (handoff, arrivals, requests) = outbox::handoff(target, &self.owners);
        let Some(outlet) = self.all.iter_mut().find(|outlet| outlet.target == target) else {
            self.all.push(Outlet { target, route, open: true, handoff });
            return Opened { target, arrivals, requests };
        };
        let before = std::mem::replace(&mut outlet.handoff, handoff);
        (outlet.route, outlet.open) = (route, true);
        Opened { target, arrivals: arrivals.after(before), requests }
    }

    /// Those that receive what is accepted now, each with its index.
    pub(super) fn open_ones(&self) -> impl Iterator<Item = (usize, &Outlet)> {
        self.all.iter().enumerate().filter(|(_, outlet)| outlet.open)
    }

    /// The one at `index`.
    pub(super) fn at(&self, index: usize) -> &Outlet {
        &self.all[index]
    }

    /// The one of `target`.
    pub(super) fn of(&self, target: TargetId) -> Option<&Outlet> {
        self.all.iter().find(|outlet| outlet.target == target)
    }

    /// Offers a new event to the targets that it goes to.
    pub(super) fn hand_over(&self, event: Received, written: Written) {
        if written.outlets.is_empty() {
            return;
        }
        let (sequence, rank) = (written.sequence, rank(&event.event.id, event.received_at));
        let event = Arc::new(event);
        for (outlet, lane) in written.outlets {
            let event = Arc::clone(&event);
            let (attempts, first_attempt_at, replays) = (0, None, 0);
            let job = Job { sequence, attempts, first_attempt_at, replays, event, lane, rank };
            self.at(outlet).handoff.offer(job);
        }
    }
}

/// Gives every route's target its number in the store, in the order of the routes.
fn register(connection: &mut Connection, routes: &[Route]) -> rusqlite::Result<Vec<TargetId>> {
    let transaction = connection.transaction()?;
    let numbers = routes.iter().map(|route| {
        let name = params![route.target];
        transaction.execute("INSERT INTO target (name) VALUES (?1) ON CONFLICT DO NOTHING", name)?;
        transaction.query_row("SELECT id FROM target WHERE name = ?1", name, |row| row.get(0).map(TargetId))
    });
    let numbers = numbers.collect::<rusqlite::Result<_>>()?;
    transaction.commit()?;
    Ok(numbers)
}
