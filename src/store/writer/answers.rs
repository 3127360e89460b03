//! Answering the callers of a group.
//!
//! They wait on the runtime, and waking one of them from this thread costs a
//! system call. So the runtime is handed all answers of a group at once, and
//! gives them out by itself.

use tokio::runtime::Handle;

use super::Reply;
use crate::store::error::RecordError;

/// What the callers of a group are to hear.
#[derive(Default)]
pub(super) struct Answers(Vec<Box<dyn FnOnce() + Send>>);

impl Answers {
    /// Keeps `answer` for whoever waits for it.
    pub(super) fn keep<T: Send + 'static>(&mut self, reply: Reply<T>, answer: Result<T, RecordError>) {
        // A caller that has gone does not need its answer.
        self.0.push(Box::new(|| drop(reply.send(answer))));
    }

    /// Has `runtime` give them out. It is a task of its own that never waits; a
    /// runtime that is ending drops it, and every caller hears that the store has
    /// stopped.
    pub(super) fn give_out(self, runtime: &Handle) {
        if !self.0.is_empty() {
            runtime.spawn(async { self.0.into_iter().for_each(|answer| answer()) });
        }
    }
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
        let (runtime, mut answers) = (runtime(), Answers::default());
        let (gone, _) = oneshot::channel::<Result<(), RecordError>>();
        answers.keep(gone, Ok(()));
        let (text, told) = oneshot::channel();
        answers.keep(text, Ok("stored"));
        let (number, refused) = oneshot::channel::<Result<u64, RecordError>>();
        answers.keep(number, Err(RecordError::Overloaded));
        answers.give_out(runtime.handle());
        assert_eq!(runtime.block_on(told).unwrap(), Ok("stored"));
        assert_eq!(runtime.block_on(refused).unwrap(), Err(RecordError::Overloaded));
    }

    #[test]
    fn a_runtime_that_has_ended_leaves_nobody_waiting() {
        let (runtime, mut answers) = (runtime(), Answers::default());
        let (reply, mut answer) = oneshot::channel();
        answers.keep(reply, Ok(()));
        let handle = runtime.handle().clone();
        drop(runtime);
        answers.give_out(&handle);
        assert_eq!(answer.try_recv(), Err(oneshot::error::TryRecvError::Closed));
    }
}
