//! Reports the parts of this process to the other replicas of the store, and carries out their
//! requests.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::parts::Controls;
use crate::config::Settings;
use crate::domain::operator::{BackfillFrom, OperationError, StreamCommand};
use crate::store::cluster::{Asked, Cluster};
use crate::store::operator::OperatorStore;
use crate::store::{AskError, Peers, Store};

/// The time between two reports.
const REPORT: Duration = Duration::from_millis(500);

/// The largest number of requests of other replicas that are carried out at once.
const AT_ONCE: usize = 32;

/// The number of newest answers that are kept.
const REMEMBERED: usize = 64;

/// The members of a report.
const TARGETS: &str = "targets";
const STREAMS: &str = "streams";

/// The members of a request and of its answer.
const RECONNECT: &str = "reconnect";
const BACKFILL_TIME: &str = "backfill_time";
const BACKFILL_AFTER: &str = "backfill_after";
const REFUSED: &str = "refused";
const BUSY: &str = "busy";

/// Returns a digest of the configuration that replicas should have in common: targets, streams and
/// webhooks, without secrets.
pub(super) fn configuration(settings: &Settings) -> String {
    let Settings { targets, streams, webhooks, .. } = settings;
    let digest = Sha256::digest(format!("{targets:?} {streams:?} {webhooks:?}"));
    let first: [u8; 8] = std::array::from_fn(|index| digest[index]);
    format!("{:016x}", u64::from_be_bytes(first))
}

/// The task that reports, shows the parts of others and answers requests.
pub(super) struct Replicas {
    peers: Peers,
    asked: mpsc::Receiver<Asked>,
    operator: OperatorStore,
    controls: watch::Receiver<Arc<Controls>>,
    /// The targets that were paused at the last look.
    paused: Option<Vec<String>>,
    requests: Requests,
    /// The requests that are being carried out. A slow request delays nothing else.
    serving: JoinSet<Served>,
}

/// The requests of other replicas. Each renewal of the leases returns those again that have no
/// stored answer.
#[derive(Debug, Default)]
struct Requests {
    /// The ids of the requests that are being carried out.
    under_way: BTreeSet<String>,
    /// The answers to requests whose effect is not in the store, with the ids of the requests.
    answers: VecDeque<(String, Value)>,
}

/// What to do with a request.
#[derive(Debug, PartialEq)]
enum Begun {
    /// Nothing: the request is being carried out.
    Already,
    /// Store this answer: the request was carried out, but its answer may not have been stored.
    Answered(Value),
    /// Carry the request out.
    New,
}

/// A request that was carried out, with its answer if its effect is not in the store.
#[derive(Debug)]
struct Served(String, Option<Value>);

impl Requests {
    fn begin(&mut self, id: &str) -> Begun {
        if !self.under_way.insert(id.to_owned()) {
            return Begun::Already;
        }
        let answer = self.answers.iter().find(|(known, _)| known == id).map(|(_, answer)| answer.clone());
        answer.map_or(Begun::New, Begun::Answered)
    }

    fn end(&mut self, Served(id, answer): Served) {
        self.under_way.remove(&id);
        if let Some(answer) = answer {
            self.answers.truncate(REMEMBERED - 1);
            self.answers.push_front((id, answer));
        }
    }
}

impl Replicas {
    /// Returns the task for `store`, which reports the parts of `controls`; `None` if the store
    /// belongs to one process.
    pub(super) fn of(
        store: &mut Store,
        controls: watch::Receiver<Arc<Controls>>,
        settings: &Settings,
    ) -> Option<Self> {
        let (peers, asked, operator) = (store.peers()?, store.take_asked()?, store.operator.clone());
        peers.configured(configuration(settings));
        let (paused, requests, serving) = (None, Requests::default(), JoinSet::new());
        Some(Self { peers, asked, operator, controls, paused, requests, serving })
    }

    /// Reports, shows and answers, until `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let (mut cluster, mut ticks) = (self.peers.cluster(), interval(REPORT));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => self.report(),
                Ok(()) = cluster.changed() => {
                    let present = Arc::clone(&cluster.borrow_and_update());
                    self.show(&present);
                }
                Some(asked) = self.asked.recv(), if self.serving.len() < AT_ONCE => self.serve(asked),
                Some(served) = self.serving.join_next() => match served {
                    Ok(served) => self.requests.end(served),
                    // A panic ends this task, as if the request had been carried out in it.
                    Err(error) => if let Ok(panic) = error.try_into_panic() {
                        std::panic::resume_unwind(panic);
                    }
                },
            }
        }
    }

    /// Publishes the state of the parts that run here.
    fn report(&self) {
        let controls = self.controls.borrow();
        let (mut targets, mut streams) = (Map::new(), Map::new());
        for (target, control) in
            controls.targets.iter().filter(|(target, _)| self.peers.holds_target(&target.name))
        {
            targets.insert(target.name.clone(), written(control.status()));
        }
        for (name, control) in controls.streams.iter().filter(|(name, _)| self.peers.holds_stream(name)) {
            streams.insert(name.to_string(), written(control.status()));
        }
        self.peers.report(json!({ TARGETS: targets, STREAMS: streams }));
    }

    /// Shows the state of the parts that run elsewhere, and follows the pauses of others.
    fn show(&mut self, cluster: &Cluster) {
        let controls = Arc::clone(&self.controls.borrow());
        let of_others = cluster.replicas.iter().filter(|replica| !replica.is_self);
        for replica in of_others {
            for (target, control) in &controls.targets {
                let told = &replica.report[TARGETS][&target.name];
                if !self.peers.holds_target(&target.name) && !told.is_null() {
                    control.show(told);
                }
            }
            for (name, control) in &controls.streams {
                let told = &replica.report[STREAMS][&**name];
                if !self.peers.holds_stream(name) && !told.is_null() {
                    control.show(told);
                }
            }
        }
        let before = self.paused.replace(cluster.paused.clone());
        for (target, control) in &controls.targets {
            let is_paused = cluster.paused.contains(&target.name);
            let was_paused = before.as_ref().map(|before| before.contains(&target.name));
            if was_paused != Some(is_paused) {
                control.follow_store(is_paused);
            }
        }
    }

    /// Carries out `asked` once, and writes its answer.
    fn serve(&mut self, asked: Asked) {
        let begun = self.requests.begin(&asked.id);
        if begun == Begun::Already {
            return;
        }
        let (peers, operator, controls) = (self.peers.clone(), self.operator.clone(), self.controls.clone());
        self.serving.spawn(async move {
            let (answer, news) = match begun {
                Begun::Answered(answer) => (answer, false),
                _ if operator.serve(&asked).await => return Served(asked.id, None),
                _ => (carry_out(&controls, &asked), true),
            };
            peers.answer(&asked, &answer).await;
            Served(asked.id, news.then_some(answer))
        });
    }
}

/// Carries out a request to a stream. Returns the answer.
fn carry_out(controls: &watch::Receiver<Arc<Controls>>, asked: &Asked) -> Value {
    let name = asked.lease.strip_prefix("stream/").unwrap_or_default();
    let control = controls.borrow().stream(name);
    let outcome = control.and_then(|control| match command(&asked.body) {
        Some(command) => control.command(command),
        None => {
            Err(OperationError::Refused("another replica has asked for what is not known here".to_owned()))
        }
    });
    match outcome {
        Ok(()) => json!({}),
        Err(OperationError::Busy) => json!({ BUSY: true }),
        Err(error) => json!({ REFUSED: error.to_string() }),
    }
}

/// Sends `command` to the replica that reads the stream `name`.
pub(super) async fn ask_stream(
    peers: &Peers,
    name: &str,
    command: &StreamCommand,
) -> Result<(), OperationError> {
    let body = match command {
        StreamCommand::Reconnect => json!({ RECONNECT: true }),
        StreamCommand::Backfill(BackfillFrom::Time(at)) => json!({ BACKFILL_TIME: at }),
        StreamCommand::Backfill(BackfillFrom::After(id)) => json!({ BACKFILL_AFTER: id.as_str() }),
    };
    let answer = peers.ask_stream(name, body).await.map_err(unanswered)?;
    if answer.get(BUSY).is_some() {
        return Err(OperationError::Busy);
    }
    match answer.get(REFUSED).and_then(Value::as_str) {
        Some(reason) => Err(OperationError::Refused(reason.to_owned())),
        None => Ok(()),
    }
}

/// Reads the command of a request.
fn command(body: &Value) -> Option<StreamCommand> {
    if body.get(RECONNECT).is_some() {
        return Some(StreamCommand::Reconnect);
    }
    let text = |key: &str| body.get(key).and_then(Value::as_str);
    if let Some(at) = text(BACKFILL_TIME) {
        return Some(StreamCommand::Backfill(BackfillFrom::Time(at.parse().ok()?)));
    }
    Some(StreamCommand::Backfill(BackfillFrom::After(text(BACKFILL_AFTER)?.parse().ok()?)))
}

/// Returns a status as JSON. A status can always be serialized.
fn written(status: impl serde::Serialize) -> Value {
    serde_json::to_value(status).unwrap_or_default()
}

#[expect(clippy::needless_pass_by_value, reason = "made for `map_err`")]
fn unanswered(error: AskError) -> OperationError {
    OperationError::Unavailable(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_is_brought_again_is_carried_out_once() {
        let mut requests = Requests::default();
        assert_eq!(requests.begin("a"), Begun::New);
        assert_eq!(requests.begin("b"), Begun::New, "a slow one holds up no other");
        assert_eq!(requests.begin("a"), Begun::Already);
        requests.end(Served("a".to_owned(), Some(json!({ BUSY: true }))));
        // The answer was not stored.
        assert_eq!(requests.begin("a"), Begun::Answered(json!({ BUSY: true })));
        assert_eq!(requests.begin("a"), Begun::Already);
        requests.end(Served("a".to_owned(), None));
        assert_eq!(requests.begin("a"), Begun::Answered(json!({ BUSY: true })));
        // A request whose effect is in the store has its answer there too.
        requests.end(Served("b".to_owned(), None));
        assert_eq!(requests.begin("b"), Begun::New);
    }

    #[test]
    fn the_number_of_remembered_answers_is_bounded() {
        let mut requests = Requests::default();
        for n in 0..=REMEMBERED {
            assert_eq!(requests.begin(&n.to_string()), Begun::New);
            requests.end(Served(n.to_string(), Some(json!({}))));
        }
        assert_eq!(requests.answers.len(), REMEMBERED);
        assert_eq!(requests.begin("0"), Begun::New);
        assert_eq!(requests.begin(&REMEMBERED.to_string()), Begun::Answered(json!({})));
    }
}
