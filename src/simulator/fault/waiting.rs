//! Faults that wait for their request or event.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use http::StatusCode;

use super::list::{Damage, Lie, When};
use super::{Door, Ending, Fault, FaultError, Filling, Frame, LARGEST, RetryAfter, Road};
use crate::simulator::options::Copies;

/// The largest number of waiting faults of one kind: at one door, of the list, of damaged events.
pub(super) const MAX_WAITING: usize = 64;

/// The act of a stream at its place in the order of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::simulator) enum Act {
    Drop(Ending),
    Silence,
    Hold(Duration),
    Error { code: String, message: String },
    Frame(Frame),
}

/// The fault that one request meets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::simulator) enum AtDoor {
    Answer { status: StatusCode, retry_after: Option<RetryAfter>, body: Option<String> },
    Large { status: StatusCode, bytes: usize, filling: Filling },
    Delay(Duration),
    Sever,
}

/// Faults that wait for their request or event.
#[derive(Debug, Default)]
pub(in crate::simulator) struct Faults {
    doors: HashMap<Door, VecDeque<(AtDoor, u32)>>,
    lies: VecDeque<(When, Lie, u32)>,
    spoilt: HashMap<String, Damage>,
    skips: HashMap<Road, u32>,
}

impl Faults {
    /// Adds `fault`. Returns the act of a fault of open streams, for the caller to put into the
    /// journal.
    pub(in crate::simulator) fn add(&mut self, fault: Fault) -> Result<Option<Act>, FaultError> {
        match fault {
            Fault::Answer { door, times, status, retry_after, body } => {
                self.wait_at(door, AtDoor::Answer { status, retry_after, body }, times)?;
            }
            Fault::Large { door, times, status, bytes, filling } => {
                self.wait_at(door, AtDoor::Large { status, bytes: bytes.min(LARGEST), filling }, times)?;
            }
            Fault::Delay { door, times, wait } => self.wait_at(door, AtDoor::Delay(wait), times)?,
            Fault::Sever { door, times } => self.wait_at(door, AtDoor::Sever, times)?,
            Fault::List { when, times, lie } => queue(&mut self.lies, (when, lie, times), times)?,
            Fault::Spoil { id, damage } => {
                if self.spoilt.len() >= MAX_WAITING && !self.spoilt.contains_key(&id) {
                    return Err(FaultError);
                }
                self.spoilt.insert(id, damage);
            }
            Fault::Skip { road, times } => {
                let skips = self.skips.entry(road).or_default();
                *skips = skips.saturating_add(times);
            }
            Fault::Drop { ending } => return Ok(Some(Act::Drop(ending))),
            Fault::Silence => return Ok(Some(Act::Silence)),
            Fault::Hold { wait } => return Ok(Some(Act::Hold(wait))),
            Fault::Error { code, message } => return Ok(Some(Act::Error { code, message })),
            Fault::Frame { frame } => return Ok(Some(Act::Frame(frame))),
        }
        Ok(None)
    }

    fn wait_at(&mut self, door: Door, fault: AtDoor, times: u32) -> Result<(), FaultError> {
        queue(self.doors.entry(door).or_default(), (fault, times), times)
    }

    /// Returns the fault that the present request at `door` meets.
    pub(in crate::simulator) fn meet(&mut self, door: Door) -> Option<AtDoor> {
        let waiting = self.doors.get_mut(&door)?;
        let (fault, times) = waiting.front_mut()?;
        let met = fault.clone();
        *times -= 1;
        if *times == 0 {
            waiting.pop_front();
        }
        Some(met)
    }

    /// Returns the error in the page that `parameters` ask for: the first lie for such requests.
    pub(in crate::simulator) fn lie(&mut self, parameters: &[(String, String)]) -> Option<Lie> {
        let at = self.lies.iter().position(|(when, ..)| when.meets(parameters))?;
        let (_, lie, times) = self.lies.get_mut(at)?;
        let lie = lie.clone();
        *times -= 1;
        if *times == 0 {
            self.lies.remove(at);
        }
        Some(lie)
    }

    /// Returns the damage of the event of this id over REST.
    pub(in crate::simulator) fn damage(&self, id: &str) -> Option<Damage> {
        self.spoilt.get(id).copied()
    }

    /// Returns whether the next event is left out on `road`.
    pub(in crate::simulator) fn skips(&mut self, road: Road) -> bool {
        match self.skips.get_mut(&road) {
            Some(times) if *times > 0 => {
                *times -= 1;
                true
            }
            _ => false,
        }
    }

    /// Returns `copies` without the roads on which the event is left out.
    pub(in crate::simulator) fn applied_to(&mut self, copies: Copies) -> Copies {
        Copies {
            stream: if self.skips(Road::Live) { 0 } else { copies.stream },
            webhook: if self.skips(Road::Webhook) { 0 } else { copies.webhook },
        }
    }
}

/// Appends a fault for `times` requests, if there is room.
fn queue<T>(waiting: &mut VecDeque<T>, fault: T, times: u32) -> Result<(), FaultError> {
    if waiting.len() >= MAX_WAITING {
        return Err(FaultError);
    }
    if times > 0 {
        waiting.push_back(fault);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_of_an_endpoint_happen_in_their_order_and_number() {
        let mut faults = Faults::default();
        faults.add(Fault::Sever { door: Door::Rest, times: 2 }).unwrap();
        faults.add(Fault::Delay { door: Door::Rest, times: 1, wait: Duration::from_secs(1) }).unwrap();
        assert_eq!(faults.meet(Door::Token), None);
        let met: Vec<_> = (0..4).map(|_| faults.meet(Door::Rest)).collect();
        let delay = Some(AtDoor::Delay(Duration::from_secs(1)));
        assert_eq!(met, [Some(AtDoor::Sever), Some(AtDoor::Sever), delay, None]);
    }

    #[test]
    fn a_skip_keeps_one_event_from_one_source() {
        let mut faults = Faults::default();
        faults.add(Fault::Skip { road: Road::Live, times: 1 }).unwrap();
        assert_eq!(faults.applied_to(Copies::ONE), Copies { stream: 0, webhook: 1 });
        assert_eq!(faults.applied_to(Copies::ONE), Copies::ONE);
    }

    #[test]
    fn a_false_page_is_sent_only_for_the_requests_it_is_set_for() {
        let mut faults = Faults::default();
        let lie = |when, lie| Fault::List { when, times: 1, lie };
        faults.add(lie(When::Later, Lie::Repeat)).unwrap();
        faults.add(lie(When::Parameter("type".to_owned()), Lie::Unsorted)).unwrap();
        let asked = |names: &[&str]| -> Vec<(String, String)> {
            names.iter().map(|name| ((*name).to_owned(), "x".to_owned())).collect()
        };
        assert_eq!(faults.lie(&asked(&["limit"])), None);
        assert_eq!(faults.lie(&asked(&["limit", "type"])), Some(Lie::Unsorted));
        assert_eq!(faults.lie(&asked(&["type", "starting_after"])), Some(Lie::Repeat));
        assert_eq!(faults.lie(&asked(&["type", "starting_after"])), None);
    }
}
