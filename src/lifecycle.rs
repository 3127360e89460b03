//! Starts, watches and stops tasks, and gives the outcome of the process.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::thread;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;

/// The two stops, as the parts of the bridge see them.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// Take in nothing new, finish the work that has begun.
    pub soft: CancellationToken,
    /// Abandon the work that has begun.
    pub hard: CancellationToken,
}

/// Listens for SIGTERM and SIGINT from its creation on.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Listens from now on. Has to be called before anything else: in the first process of a
    /// container, a signal without a handler is lost.
    ///
    /// # Errors
    /// If the process may not listen for signals.
    pub fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Turns the first signal into a soft stop, and a second one into a hard one.
    /// Never resolves.
    pub async fn obey(mut self, stop: Stop) -> Infallible {
        let first = self.next().await;
        tracing::info!(signal = first, "stopping: nothing new is taken in, what is in hand is finished");
        stop.soft.cancel();
        let second = self.next().await;
        tracing::warn!(signal = second, "stopping at once: what is in hand is abandoned");
        stop.hard.cancel();
        std::future::pending().await
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Listens for SIGHUP from its creation on; before that, SIGHUP ends the process.
#[derive(Debug)]
pub struct HangUps(Signal);

impl HangUps {
    /// Listens from now on.
    ///
    /// # Errors
    /// If the process may not listen for signals.
    pub fn listen() -> io::Result<Self> {
        signal(SignalKind::hangup()).map(Self)
    }

    /// Resolves at the next SIGHUP.
    pub async fn next(&mut self) {
        // The stream of signals has no end.
        let _ = self.0.recv().await;
    }
}

/// Tasks with names. The process waits for the end of each.
#[derive(Debug, Default)]
pub struct Tasks {
    running: JoinSet<()>,
    known: HashMap<Id, Known>,
}

#[derive(Debug, Default)]
struct Known {
    name: String,
    /// The task's stop signal.
    stop: CancellationToken,
}

/// A task that has ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} {}", if *panicked { "has crashed" } else { "has ended by itself" })]
pub struct Ended {
    /// Its name.
    pub name: String,
    /// Whether it panicked.
    pub panicked: bool,
    /// Whether its stop had been requested.
    pub stop_requested: bool,
}

impl Ended {
    /// Returns whether the task ended in any other way than by returning after its stop was
    /// requested.
    pub const fn is_crash(&self) -> bool {
        self.panicked || !self.stop_requested
    }
}

impl Tasks {
    /// Starts `task` under `name`. `stop` is its stop signal.
    ///
    /// The type of `task` is erased: otherwise the runtimes would be compiled once for each task.
    pub fn spawn(
        &mut self,
        name: impl Into<String>,
        stop: CancellationToken,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let task: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(task);
        let id = self.running.spawn(task).id();
        self.known.insert(id, Known { name: name.into(), stop });
    }

    /// Starts `work`, which blocks, on a thread of its own. It may end after `stop`.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub fn spawn_thread(
        &mut self,
        name: &'static str,
        stop: CancellationToken,
        work: impl FnOnce() + Send + 'static,
    ) -> io::Result<()> {
        let (done, ended) = oneshot::channel();
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            work();
            // The receiver is gone if the process is ending.
            let _ = done.send(());
        })?;
        self.spawn(name, stop, async move {
            if ended.await.is_err() {
                // The panic hook has logged the panic on the thread.
                std::panic::resume_unwind(Box::new(name));
            }
        });
        Ok(())
    }

    /// Waits for the next task to end; `None` once there is none.
    pub async fn next(&mut self) -> Option<Ended> {
        let ended = self.running.join_next_with_id().await?;
        let (id, panicked) = match ended {
            Ok((id, ())) => (id, false),
            Err(error) => (error.id(), error.is_panic()),
        };
        let Known { name, stop } = self.known.remove(&id).unwrap_or_default();
        Some(Ended { name, panicked, stop_requested: stop.is_cancelled() })
    }

    /// Returns whether every task has ended.
    pub fn is_empty(&self) -> bool {
        self.running.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_ended_task_is_named_and_a_crash_told_from_a_return() {
        let (mut tasks, stop) = (Tasks::default(), CancellationToken::new());
        tasks.spawn("stream commerce", stop.clone(), async {});
        let ended = tasks.next().await.unwrap();
        assert_eq!(ended.to_string(), "stream commerce has ended by itself");
        assert!(ended.is_crash());
        tasks.spawn("target orders", stop, async { panic!("a test") });
        let ended = tasks.next().await.unwrap();
        assert_eq!(ended.to_string(), "target orders has crashed");
        assert!(ended.is_crash());
        assert_eq!(tasks.next().await, None);
    }

    #[tokio::test]
    async fn a_task_that_was_told_to_end_has_not_crashed_unless_it_panicked() {
        let (mut tasks, stop) = (Tasks::default(), CancellationToken::new());
        stop.cancel();
        tasks.spawn("stream commerce", stop.clone(), async {});
        assert!(!tasks.next().await.unwrap().is_crash());
        tasks.spawn("stream commerce", stop, async { panic!("a test") });
        assert!(tasks.next().await.unwrap().is_crash());
    }

    #[tokio::test]
    async fn a_thread_is_watched_like_a_task() {
        let (mut tasks, stop) = (Tasks::default(), CancellationToken::new());
        let ended =
            |panicked| Some(Ended { name: "store writer".to_owned(), panicked, stop_requested: false });
        tasks.spawn_thread("store writer", stop.clone(), || {}).unwrap();
        assert_eq!(tasks.next().await, ended(false));
        tasks.spawn_thread("store writer", stop, || panic!("a test")).unwrap();
        assert_eq!(tasks.next().await, ended(true));
    }
}
