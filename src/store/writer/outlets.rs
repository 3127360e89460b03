//! The targets as the writer sees them: what each receives, and who is told.

use std::sync::Arc;

use rusqlite::{Connection, params};

use super::Command;
use super::record::Written;
use crate::domain::event::Received;
use crate::store::commands::Commands;
use crate::store::outbox::{self, Arrivals, Handoff, Outbox};
use crate::store::settings::Route;
use crate::store::turns::Turns;
use crate::store::types::{Job, Kind, TargetId};

/// Every target that was configured since the writer began.
#[derive(Debug, Default)]
pub(in crate::store) struct Outlets(Vec<Outlet>);

/// One target.
#[derive(Debug)]
pub(super) struct Outlet {
    pub(super) target: TargetId,
    pub(super) route: Route,
    /// Whether it receives events that are accepted now. One that is closed stays,
    /// since what it has on the wire still ends.
    open: bool,
    pub(super) handoff: Handoff,
    pub(super) turns: Arc<Turns>,
}

/// What the new outbox of a target is made of.
#[derive(Debug)]
pub(in crate::store) struct Opened {
    target: TargetId,
    arrivals: Arrivals,
    turns: Arc<Turns>,
}

impl Outlet {
    /// Whether it receives events that are accepted now.
    pub(super) const fn is_open(&self) -> bool {
        self.open
    }
}

impl Opened {
    pub(in crate::store) fn into_outbox(self, commands: Commands) -> Outbox {
        Outbox::new(self.target, commands, self.turns, self.arrivals)
    }
}

impl Outlets {
    /// The outlets of `routes`, and what their outboxes are made of, in the same order.
    pub(in crate::store) fn open(
        connection: &mut Connection,
        routes: Vec<Route>,
    ) -> rusqlite::Result<(Self, Vec<Opened>)> {
        let mut outlets = Self::default();
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
        for outlet in &mut self.0 {
            outlet.open &= kept.contains(&outlet.route.target);
        }
        let opened = routes.into_iter().zip(targets).map(|(route, target)| self.open_one(target, route));
        Ok(opened.collect())
    }

    /// What a predecessor has started is in `turns`, which its successor therefore takes over.
    fn open_one(&mut self, target: TargetId, route: Route) -> Opened {
        let (handoff, arrivals) = outbox::handoff();
        let Some(outlet) = self.0.iter_mut().find(|outlet| outlet.target == target) else {
            let turns = Arc::new(Turns::default());
            self.0.push(Outlet { target, route, open: true, handoff, turns: Arc::clone(&turns) });
            return Opened { target, arrivals, turns };
        };
        let before = std::mem::replace(&mut outlet.handoff, handoff);
        (outlet.route, outlet.open) = (route, true);
        Opened { target, arrivals: arrivals.after(before), turns: Arc::clone(&outlet.turns) }
    }

    /// Those that receive what is accepted now, each with its index.
    pub(super) fn open_ones(&self) -> impl Iterator<Item = (usize, &Outlet)> {
        self.0.iter().enumerate().filter(|(_, outlet)| outlet.open)
    }

    /// The one at `index`.
    pub(super) fn at(&self, index: usize) -> &Outlet {
        &self.0[index]
    }

    /// The one of `target`.
    pub(super) fn of(&self, target: TargetId) -> Option<&Outlet> {
        self.0.iter().find(|outlet| outlet.target == target)
    }

    /// Offers a new event to the targets that it can go to at once.
    pub(super) fn hand_over(&self, event: Received, written: Written) {
        if written.ready.is_empty() {
            return;
        }
        let event = Arc::new(event);
        for (outlet, lane) in written.ready {
            let event = Arc::clone(&event);
            self.at(outlet).handoff.offer(Job {
                sequence: written.sequence,
                attempts: 0,
                first_attempt_at: None,
                replays: 0,
                kind: Kind::New,
                event,
                lane,
            });
        }
    }

    /// What no dispatcher can have in hand any more needs no mark that it must not
    /// be started. Said before anything of `group` is done, so that no mark is
    /// lost of a delivery which is still to be handed over.
    pub(super) fn forget_revoked(&self, group: &[Command]) {
        for command in group {
            if let Command::Due { target, search, .. } = command
                && let Some(outlet) = self.of(*target)
                && outlet.handoff.is_empty()
            {
                outlet.turns.keep_revoked(&search.known);
            }
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
