//! The tasks of the committer. Each carries out its part of a group, and does what follows the
//! commit.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use super::metrics::Meters;
use crate::store::engine::{Engine, EngineError, GroupContext};
use crate::store::error::RecordError;
use crate::store::routing::{NewOutbox, RoutingTable};
use crate::store::settings::Route;
use crate::store::types::{Appended, Batch, Settlement, TargetId, Term};

/// The sender of a task's result.
pub(in crate::store) type Reply<T> = oneshot::Sender<Result<T, RecordError>>;

/// A message to the committer.
#[derive(Debug)]
pub(in crate::store) enum Message {
    /// A task of a group.
    Task(Box<dyn Task>),
    /// A command that changes the committer.
    Control(Control),
}

/// A command that changes the committer. It ends the group before it.
pub(in crate::store) enum Control {
    /// Replaces the routes. The `kept` targets stay as they are, the `opened` ones are opened anew,
    /// and all others are closed.
    Reroute { kept: Vec<Arc<str>>, opened: Vec<Route>, reply: Reply<Vec<NewOutbox>> },
    /// Counts the unfinished deliveries, which other processes change too. The reply says whether
    /// an attempt on the wire is left to another process.
    Recount { reply: Reply<bool> },
    /// Makes the engine's log as short as its readers allow.
    Checkpoint { reply: Reply<()> },
    /// Ends the committer.
    Close { reply: Reply<()> },
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reroute { .. } => "Reroute",
            Self::Recount { .. } => "Recount",
            Self::Checkpoint { .. } => "Checkpoint",
            Self::Close { .. } => "Close",
        })
    }
}

/// A group that is being carried out.
pub(in crate::store) struct Group<'a> {
    pub(in crate::store) engine: &'a mut dyn Engine,
    pub(in crate::store) context: GroupContext<'a>,
}

/// The values that a task uses after the commit.
pub(in crate::store) struct Committed<'a> {
    pub(super) routes: &'a RoutingTable,
    pub(super) meters: &'a Meters,
    pub(super) replies: &'a mut Replies,
    /// The last failure to commit, if it is recent.
    pub(super) recent_failure: Option<&'a str>,
    /// The number of events of the group.
    pub(super) events: &'a mut usize,
}

/// The outcomes of attempts at one target.
pub(in crate::store) struct Outcomes<'a> {
    pub(super) term: Term,
    pub(super) target: TargetId,
    pub(super) settlements: &'a [Settlement],
}

/// A task of a group.
pub(in crate::store) trait Task: fmt::Debug + Send {
    /// Carries out the part of the task that is not done in one call with others. Called again,
    /// with the same effect, if another task of the group has failed.
    fn run(&mut self, _: &mut Group<'_>) -> Result<(), EngineError> {
        Ok(())
    }

    /// Returns the events of the task, if it stores events. They are stored first, together with
    /// those of all tasks of the group.
    fn batch(&self) -> Option<&Batch> {
        None
    }

    /// Returns the outcomes of the task, if it stores outcomes. They are stored together with those
    /// of other tasks.
    fn outcomes(&self) -> Option<Outcomes<'_>> {
        None
    }

    /// Takes the result of storing each of its events.
    fn appended(&mut self, _: Vec<Appended>) {}

    /// Called when the group is durable.
    fn committed(self: Box<Self>, committed: &mut Committed<'_>);

    /// Called when the task was not carried out.
    fn refused(self: Box<Self>, error: RecordError);

    /// Returns the size of its event bodies, in bytes.
    fn bytes(&self) -> usize {
        0
    }

    /// Returns whether the task only reads.
    fn only_reads(&self) -> bool {
        false
    }
}

/// A task that returns the result of `work` and has no other effect.
struct Ask<T, W> {
    work: W,
    done: Option<T>,
    reply: Reply<T>,
    only_reads: bool,
}

impl<T, W> fmt::Debug for Ask<T, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ask")
    }
}

impl<T, W> Task for Ask<T, W>
where
    T: Send + 'static,
    W: FnMut(&mut Group<'_>) -> Result<T, EngineError> + Send,
{
    fn run(&mut self, group: &mut Group<'_>) -> Result<(), EngineError> {
        self.done = Some((self.work)(group)?);
        Ok(())
    }

    fn committed(self: Box<Self>, committed: &mut Committed<'_>) {
        if let Some(done) = self.done {
            committed.replies.push(self.reply, Ok(done));
        }
    }

    fn refused(self: Box<Self>, error: RecordError) {
        // A caller that has gone needs no reply.
        let _ = self.reply.send(Err(error));
    }

    fn only_reads(&self) -> bool {
        self.only_reads
    }
}

/// A task with a small write, which shows whether commits work.
#[derive(Debug)]
struct Probe(Reply<()>);

impl Task for Probe {
    fn run(&mut self, group: &mut Group<'_>) -> Result<(), EngineError> {
        group.engine.beat(group.context.now)
    }

    fn committed(self: Box<Self>, committed: &mut Committed<'_>) {
        let failure = committed.recent_failure.map(|error| RecordError::Unavailable(error.to_owned()));
        committed.replies.push(self.0, failure.map_or(Ok(()), Err));
    }

    fn refused(self: Box<Self>, error: RecordError) {
        let _ = self.0.send(Err(error));
    }
}

/// The replies to the callers of a group. The callers wait on the runtime. Waking one of them from
/// the committer's thread costs a system call, so the runtime gets all replies at once.
#[derive(Default)]
pub(super) struct Replies(Vec<Box<dyn FnOnce() + Send>>);

impl Replies {
    /// Keeps `outcome` for its caller.
    pub(super) fn push<T: Send + 'static>(&mut self, reply: Reply<T>, outcome: Result<T, RecordError>) {
        self.0.push(Box::new(|| drop(reply.send(outcome))));
    }

    /// Sends all replies on `runtime`. A runtime that is ending drops them, and every caller learns
    /// that the store has stopped.
    pub(super) fn send_all(self, runtime: &tokio::runtime::Handle) {
        if !self.0.is_empty() {
            runtime.spawn(async { self.0.into_iter().for_each(|reply| reply()) });
        }
    }
}

/// The sending end of the committer's queue. Cheap to clone.
#[derive(Clone, Debug)]
pub(in crate::store) struct Tasks {
    queue: mpsc::Sender<Message>,
    has_missed: Arc<AtomicBool>,
}

/// The receiving end of the committer's queue.
#[derive(Debug)]
pub(in crate::store) struct Queue {
    messages: mpsc::Receiver<Message>,
    /// Whether a [wake](Tasks::wake) has found no room in the queue.
    has_missed: Arc<AtomicBool>,
}

impl Queue {
    /// Returns the next message; `None` once there can be none. Blocks.
    pub(super) fn wait(&mut self) -> Option<Message> {
        self.messages.blocking_recv()
    }

    /// Returns a waiting message, if there is one.
    pub(super) fn take_ready(&mut self) -> Option<Message> {
        self.messages.try_recv().ok()
    }

    /// Returns whether a wake has found no room in the queue since the last call.
    pub(super) fn take_missed(&self) -> bool {
        self.has_missed.swap(false, Relaxed)
    }

    /// Notes that what a missed wake asks for was not done.
    pub(super) fn miss(&self) {
        self.has_missed.store(true, Relaxed);
    }
}

impl Tasks {
    /// Creates a queue with `room` for waiting messages. Returns it with its receiver.
    pub(in crate::store) fn new(room: usize) -> (Self, Queue) {
        let ((queue, messages), has_missed) = (mpsc::channel(room), Arc::default());
        (Self { queue, has_missed: Arc::clone(&has_missed) }, Queue { messages, has_missed })
    }

    /// Does `work` in a group, and returns its result after the commit. Waits for room in the
    /// queue.
    pub(in crate::store) async fn write<T: Send + 'static>(
        &self,
        work: impl FnMut(&mut Group<'_>) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, RecordError> {
        self.put(|reply| Box::new(Ask { work, done: None, reply, only_reads: false })).await
    }

    /// Like [`write`](Self::write), for work that only reads.
    pub(in crate::store) async fn read<T: Send + 'static>(
        &self,
        work: impl FnMut(&mut Group<'_>) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, RecordError> {
        self.put(|reply| Box::new(Ask { work, done: None, reply, only_reads: true })).await
    }

    /// Has a group read the events of other processes.
    pub(in crate::store) fn wake(&self) {
        let (reply, _) = oneshot::channel::<Result<(), RecordError>>();
        let nothing = |_: &mut Group<'_>| Ok(());
        let reading = Ask { work: nothing, done: None, reply, only_reads: true };
        if self.queue.try_send(Message::Task(Box::new(reading))).is_err() {
            // A full queue means that groups are waiting. They may only write.
            self.has_missed.store(true, Relaxed);
        }
    }

    /// Commits a small write. Also fails if a recent commit has failed.
    pub(in crate::store) async fn probe(&self) -> Result<(), RecordError> {
        self.put(|reply| Box::new(Probe(reply))).await
    }

    /// Hands a task to the committer and returns its result. Waits for room in the queue.
    pub(in crate::store) fn put<T>(
        &self,
        task: impl FnOnce(Reply<T>) -> Box<dyn Task>,
    ) -> impl Future<Output = Result<T, RecordError>> {
        self.ask(|reply| Message::Task(task(reply)))
    }

    /// Like [`put`](Self::put), but fails at once without room in the queue.
    pub(in crate::store) async fn try_put<T>(
        &self,
        task: impl FnOnce(Reply<T>) -> Box<dyn Task>,
    ) -> Result<T, RecordError> {
        self.hand_over(task)?.await.map_err(|_| stopped())?
    }

    /// Hands a task over, or fails at once without room in the queue. Returns the receiver of its
    /// result. Dropping the receiver does not cancel the task.
    pub(in crate::store) fn hand_over<T>(
        &self,
        task: impl FnOnce(Reply<T>) -> Box<dyn Task>,
    ) -> Result<oneshot::Receiver<Result<T, RecordError>>, RecordError> {
        let (reply, outcome) = oneshot::channel();
        self.queue.try_send(Message::Task(task(reply))).map_err(|error| match error {
            TrySendError::Full(_) => RecordError::Overloaded,
            TrySendError::Closed(_) => stopped(),
        })?;
        Ok(outcome)
    }

    /// Sends the committer a command, which is carried out between two groups. Returns its result.
    pub(in crate::store) fn control<T>(
        &self,
        control: impl FnOnce(Reply<T>) -> Control,
    ) -> impl Future<Output = Result<T, RecordError>> {
        self.ask(|reply| Message::Control(control(reply)))
    }

    fn ask<T>(
        &self,
        message: impl FnOnce(Reply<T>) -> Message,
    ) -> impl Future<Output = Result<T, RecordError>> {
        let (reply, outcome) = oneshot::channel();
        self.exchange(message(reply), outcome)
    }

    async fn exchange<T>(
        &self,
        message: Message,
        outcome: oneshot::Receiver<Result<T, RecordError>>,
    ) -> Result<T, RecordError> {
        self.queue.send(message).await.map_err(|_| stopped())?;
        outcome.await.map_err(|_| stopped())?
    }
}

pub(in crate::store) fn stopped() -> RecordError {
    RecordError::Unavailable("it has stopped".to_owned())
}
#[cfg(test)]
mod tests {
    use tokio::runtime::{Builder, Runtime};
    use tokio::sync::oneshot;

    use super::*;

    fn runtime() -> Runtime {
        Builder::new_current_thread().build().unwrap()
    }

    #[test]
    fn each_caller_gets_its_own_answer_also_beside_one_that_has_gone() {
        let (runtime, mut replies) = (runtime(), Replies::default());
        let (gone, _) = oneshot::channel::<Result<(), RecordError>>();
        replies.push(gone, Ok(()));
        let (text, told) = oneshot::channel();
        replies.push(text, Ok("stored"));
        let (number, refused) = oneshot::channel::<Result<u64, RecordError>>();
        replies.push(number, Err(RecordError::Overloaded));
        replies.send_all(runtime.handle());
        assert_eq!(runtime.block_on(told).unwrap(), Ok("stored"));
        assert_eq!(runtime.block_on(refused).unwrap(), Err(RecordError::Overloaded));
    }

    #[test]
    fn a_runtime_that_has_ended_leaves_no_caller_waiting() {
        let (runtime, mut replies) = (runtime(), Replies::default());
        let (reply, mut answer) = oneshot::channel();
        replies.push(reply, Ok(()));
        let handle = runtime.handle().clone();
        drop(runtime);
        replies.send_all(&handle);
        assert_eq!(answer.try_recv(), Err(oneshot::error::TryRecvError::Closed));
    }
}
