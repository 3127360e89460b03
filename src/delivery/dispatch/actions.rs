//! What operators do to deliveries of a target, whose dispatcher alone knows what is on
//! the wire.

use std::sync::Arc;

use super::{Asked, Dispatcher};
use crate::store::error::{ActError, RecordError};
use crate::store::outbox::Request;
use crate::store::types::{Act, Acted, Arrived};

/// A request, and what the store has done about it.
pub(super) type Done = (Request, Result<Vec<Acted>, RecordError>);

impl Dispatcher {
    /// Has the store do what an operator asks for, but for what is on the wire.
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

    /// Takes what the store has done, and passes it on.
    pub(super) fn take_acted(&mut self, request: Request, acted: Result<Vec<Acted>, RecordError>) {
        let Request { acts, reply, .. } = request;
        // What had been handed over before it was done is not to be sent as it was then.
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
            Err(_) => acts.iter().for_each(|act| self.work.order.changed(act.sequence, None)),
        }
        self.work.order.restore();
        self.retry_at(self.context.clock.now());
        // An operator who has gone does not need the answer.
        let _ = reply.send(acted);
    }
}
