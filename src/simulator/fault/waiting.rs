//! Faults that wait for their request or event.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use http::StatusCode;

use super::list::{Damage, PageFault, When};
use super::{Channel, Ending, Endpoint, Fault, FaultError, Filling, Frame, LARGEST, RetryAfter};
use crate::simulator::options::Copies;

/// The largest number of waiting faults of one kind: at one endpoint, of the list, of corrupt events.
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
pub(in crate::simulator) enum RequestFault {
    Answer { status: StatusCode, retry_after: Option<RetryAfter>, body: Option<String> },
    Large { status: StatusCode, bytes: usize, filling: Filling },
    Delay(Duration),
    Sever,
}

/// Faults that wait for their request or event.
#[derive(Debug, Default)]
pub(in crate::simulator) struct Faults {
    requests: HashMap<Endpoint, VecDeque<(RequestFault, u32)>>,
    pages: VecDeque<(When, PageFault, u32)>,
    corrupt: HashMap<String, Damage>,
    skips: HashMap<Channel, u32>,
}

impl Faults {
    /// Adds `fault`. Returns the act of a fault of open streams, for the caller to put into the
    /// journal.
    pub(in crate::simulator) fn add(&mut self, fault: Fault) -> Result<Option<Act>, FaultError> {
        match fault {
            Fault::Answer { endpoint, times, status, retry_after, body } => {
                self.wait_at(endpoint, RequestFault::Answer { status, retry_after, body }, times)?;
            }
            Fault::Large { endpoint, times, status, bytes, filling } => {
                self.wait_at(
                    endpoint,
                    RequestFault::Large { status, bytes: bytes.min(LARGEST), filling },
                    times,
                )?;
            }
            Fault::Delay { endpoint, times, wait } => {
                self.wait_at(endpoint, RequestFault::Delay(wait), times)?;
            }
            Fault::Sever { endpoint, times } => self.wait_at(endpoint, RequestFault::Sever, times)?,
            Fault::List { when, times, page } => queue(&mut self.pages, (when, page, times), times)?,
            Fault::Corrupt { id, damage } => {
                if self.corrupt.len() >= MAX_WAITING && !self.corrupt.contains_key(&id) {
                    return Err(FaultError);
                }
                self.corrupt.insert(id, damage);
            }
            Fault::Skip { channel, times } => {
                let skips = self.skips.entry(channel).or_default();
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

    fn wait_at(&mut self, endpoint: Endpoint, fault: RequestFault, times: u32) -> Result<(), FaultError> {
        queue(self.requests.entry(endpoint).or_default(), (fault, times), times)
    }

    /// Returns the fault that the present request at `endpoint` meets.
    pub(in crate::simulator) fn meet(&mut self, endpoint: Endpoint) -> Option<RequestFault> {
        let waiting = self.requests.get_mut(&endpoint)?;
        let (fault, times) = waiting.front_mut()?;
        let met = fault.clone();
        *times -= 1;
        if *times == 0 {
            waiting.pop_front();
        }
        Some(met)
    }

    /// Returns the fault of the page that `parameters` ask for: the first that waits for such requests.
    pub(in crate::simulator) fn meet_on_list(
        &mut self,
        parameters: &[(String, String)],
    ) -> Option<PageFault> {
        let at = self.pages.iter().position(|(when, ..)| when.meets(parameters))?;
        let (_, fault, times) = self.pages.get_mut(at)?;
        let met = fault.clone();
        *times -= 1;
        if *times == 0 {
            self.pages.remove(at);
        }
        Some(met)
    }

    /// Returns the damage of the event of this id over REST.
    pub(in crate::simulator) fn damage(&self, id: &str) -> Option<Damage> {
        self.corrupt.get(id).copied()
    }

    /// Returns whether the next event is left out on `channel`.
    pub(in crate::simulator) fn skips(&mut self, channel: Channel) -> bool {
        match self.skips.get_mut(&channel) {
            Some(times) if *times > 0 => {
                *times -= 1;
                true
            }
            _ => false,
        }
    }

    /// Returns `copies` without the channels on which the event is left out.
    pub(in crate::simulator) fn applied_to(&mut self, copies: Copies) -> Copies {
        Copies {
            stream: if self.skips(Channel::Live) { 0 } else { copies.stream },
            webhook: if self.skips(Channel::Webhook) { 0 } else { copies.webhook },
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
        faults.add(Fault::Sever { endpoint: Endpoint::Rest, times: 2 }).unwrap();
        faults
            .add(Fault::Delay { endpoint: Endpoint::Rest, times: 1, wait: Duration::from_secs(1) })
            .unwrap();
        assert_eq!(faults.meet(Endpoint::Token), None);
        let met: Vec<_> = (0..4).map(|_| faults.meet(Endpoint::Rest)).collect();
        let delay = Some(RequestFault::Delay(Duration::from_secs(1)));
        assert_eq!(met, [Some(RequestFault::Sever), Some(RequestFault::Sever), delay, None]);
    }

    #[test]
    fn a_skip_keeps_one_event_from_one_source() {
        let mut faults = Faults::default();
        faults.add(Fault::Skip { channel: Channel::Live, times: 1 }).unwrap();
        assert_eq!(faults.applied_to(Copies::ONE), Copies { stream: 0, webhook: 1 });
        assert_eq!(faults.applied_to(Copies::ONE), Copies::ONE);
    }

    #[test]
    fn a_false_page_is_sent_only_for_the_requests_it_is_set_for() {
        let mut faults = Faults::default();
        let fault = |when, page| Fault::List { when, times: 1, page };
        faults.add(fault(When::Later, PageFault::Repeat)).unwrap();
        faults.add(fault(When::Parameter("type".to_owned()), PageFault::Unsorted)).unwrap();
        let asked = |names: &[&str]| -> Vec<(String, String)> {
            names.iter().map(|name| ((*name).to_owned(), "x".to_owned())).collect()
        };
        assert_eq!(faults.meet_on_list(&asked(&["limit"])), None);
        assert_eq!(faults.meet_on_list(&asked(&["limit", "type"])), Some(PageFault::Unsorted));
        assert_eq!(faults.meet_on_list(&asked(&["type", "starting_after"])), Some(PageFault::Repeat));
        assert_eq!(faults.meet_on_list(&asked(&["type", "starting_after"])), None);
    }
}
