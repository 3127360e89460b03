//! Starting, watching and stopping: who is told to stop, who is waited for, and
//! what the process says about it in the end.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::thread;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;

/// The two stops, as the parts of the bridge see them.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// Take nothing new in, finish what is in hand.
    pub soft: CancellationToken,
    /// Abandon what is in hand.
    pub hard: CancellationToken,
}

/// SIGTERM and SIGINT, from the moment this exists.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Listens from now on: first thing, since the first process of a container
    /// loses a signal that nobody listens for.
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

/// Tasks with names, every one of which is waited for.
#[derive(Debug, Default)]
pub struct Tasks {
    running: JoinSet<()>,
    names: HashMap<Id, String>,
}

/// A task that has ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} {}", if *panicked { "has crashed" } else { "has ended by itself" })]
pub struct Ended {
    /// What it is called.
    pub name: String,
    /// Whether it panicked.
    pub panicked: bool,
}

impl Tasks {
    /// Starts `task` under `name`.
    pub fn spawn(&mut self, name: impl Into<String>, task: impl Future<Output = ()> + Send + 'static) {
        let id = self.running.spawn(task).id();
        self.names.insert(id, name.into());
    }

    /// Starts `work`, which blocks, on a thread of its own.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub fn spawn_thread(
        &mut self,
        name: &'static str,
        work: impl FnOnce() + Send + 'static,
    ) -> io::Result<()> {
        let (done, ended) = oneshot::channel();
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            work();
            // Nobody listens any more if the process is on its way out.
            let _ = done.send(());
        })?;
        self.spawn(name, async move {
            if ended.await.is_err() {
                // The panic hook has told what happened on the thread.
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
        let name = self.names.remove(&id).unwrap_or_default();
        Some(Ended { name, panicked })
    }

    /// Whether every task has ended.
    pub fn is_empty(&self) -> bool {
        self.running.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_ended_task_is_named_and_a_crash_told_from_a_return() {
        let mut tasks = Tasks::default();
        tasks.spawn("stream commerce", async {});
        let ended = tasks.next().await.unwrap();
        assert_eq!(ended.to_string(), "stream commerce has ended by itself");
        tasks.spawn("target orders", async { panic!("a test") });
        assert_eq!(tasks.next().await.unwrap().to_string(), "target orders has crashed");
        assert_eq!(tasks.next().await, None);
    }

    #[tokio::test]
    async fn a_thread_is_watched_like_a_task() {
        let mut tasks = Tasks::default();
        tasks.spawn_thread("store writer", || {}).unwrap();
        assert_eq!(tasks.next().await, Some(Ended { name: "store writer".to_owned(), panicked: false }));
        tasks.spawn_thread("store writer", || panic!("a test")).unwrap();
        assert_eq!(tasks.next().await, Some(Ended { name: "store writer".to_owned(), panicked: true }));
    }
}
