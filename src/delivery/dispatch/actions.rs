//! Carries out operators' actions on the deliveries of a target. Its dispatcher alone knows which of
//! them are on the wire.

use std::sync::Arc;

use super::{Asked, Dispatcher};
use crate::store::error::{ActError, RecordError};
use crate::store::outbox::Request;
use crate::store::types::{Act, Acted, Arrived};

/// A request, and the store's results.
pub(super) type Done = (Request, Result<Vec<Acted>, RecordError>);

impl Dispatcher {
    /// Has the store carry out the actions of a request, except on deliveries that are on the wire.
    pub(super) fn act(&mut self, request: Request) -> Asked<Done> {
        let (out, acts): (Vec<_>, Vec<_>) =
            request.acts.iter().cloned().partition(|act| self.work.order.is_out(act.sequence));
        for act in &acts {
            self.work.order.withdraw(act.sequence);
        }
        let on_the_wire =
            |act: Act| Acted { sequence: act.sequence, lane: None, result: Err(ActError::OnTheWire) };
        let refused: Vec<_> = out.into_iter().map(on_the_wire).collect();
        let context = Arc::clone(&self.context);
        Box::pin(async move {
            let acted = context.log.act(acts, refused, request.answers.clone()).await;
            (request, acted)
        })
    }

    /// Applies the store's results to the order, and passes them on to the operator.
    pub(super) fn take_acted(&mut self, request: Request, acted: Result<Vec<Acted>, RecordError>) {
        let Request { acts, reply, .. } = request;
        // A delivery that was handed over before the action must not be sent in its former state.
        self.note_missed();
        while let Some(arrived) = self.arrivals.take_ready() {
            self.note_missed();
            let was_changed = acts.iter().any(|act| act.sequence == arrived.sequence);
            let arrived = if was_changed { Arrived { job: None, ..arrived } } else { arrived };
            self.work.order.arrived(arrived);
        }
        match &acted {
            Ok(acted) => {
                for one in acted.iter().filter(|one| one.result != Err(ActError::OnTheWire)) {
                    self.work.order.changed(one.sequence, one.lane);
                }
            }
            // The store may have carried some out: the answer to a commit can be lost.
            Err(_) => self.work.order.missed_some(),
        }
        self.work.order.restore();
        self.retry_at(self.context.clock.now());
        // The operator may have hung up.
        let _ = reply.send(acted);
    }
}
