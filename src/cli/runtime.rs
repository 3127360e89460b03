//! The threads that a command runs on. The writer of the store has its own thread.

use std::ffi::OsStr;
use std::num::NonZero;
use std::pin::Pin;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use super::Error;

/// The variable that sets the number of threads. The name is that of tokio.
const WORKERS: &str = "TOKIO_WORKER_THREADS";

/// The largest number of threads. A larger value is taken for a mistake: each thread takes memory, and
/// more threads than processors are of no use.
const MOST: usize = 256;

/// The time for which the end of a command waits for blocking calls, such as the reading of a file or the
/// look-up of a name. These calls have no limit of their own.
const LEFT_BEHIND: Duration = Duration::from_secs(1);

/// The threads of one command.
pub(super) struct Threads(Runtime);

impl Threads {
    /// Runs `work` on this thread, within the context of the runtime.
    pub(super) fn within<T>(&self, work: impl FnOnce() -> T) -> T {
        let _entered = self.0.enter();
        work()
    }

    /// Runs `work` to its end, and then ends the threads.
    ///
    /// The type of `work` is erased: otherwise the runtimes would be compiled once for each command.
    pub(super) fn block_on<T>(self, work: impl Future<Output = T>) -> T {
        let work: Pin<Box<dyn Future<Output = T> + '_>> = Box::pin(work);
        let output = self.0.block_on(work);
        self.0.shutdown_timeout(LEFT_BEHIND);
        output
    }
}

/// Starts the threads: one fewer than there are processors, unless the environment sets the number.
///
/// The writer of the store needs a processor. With two workers beside the writer on two processors, an
/// event cost a tenth more, because of thread wake-ups. With a single worker tokio's current-thread
/// runtime is used, which shares no state between threads. End to end, an event costs a fifth less with
/// it.
pub(super) fn runtime() -> Result<Threads, Error> {
    let mut builder = match workers(std::env::var_os(WORKERS).as_deref())? {
        1 => Builder::new_current_thread(),
        workers => {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(workers);
            builder
        }
    };
    let runtime = builder.enable_all().build();
    runtime.map(Threads).map_err(|error| Error::failure(format!("cannot start threads: {error}")))
}

fn workers(wanted: Option<&OsStr>) -> Result<usize, Error> {
    let Some(wanted) = wanted else {
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        return Ok(processors.saturating_sub(1).max(1));
    };
    let number = wanted.to_str().and_then(|wanted| wanted.parse().ok());
    number.filter(|number| (1..=MOST).contains(number)).ok_or_else(|| {
        let wanted = wanted.display();
        Error::Usage(format!("{WORKERS}: `{wanted}` is no number of threads; allowed: 1 to {MOST}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_threads_is_taken_and_anything_else_refused() {
        for (wanted, number) in [("1", 1), ("3", 3), ("256", 256)] {
            assert_eq!(workers(Some(wanted.as_ref())).unwrap(), number);
        }
        assert!(workers(None).unwrap() >= 1);
        for wrong in ["0", "257", "-1", "two", "", " 2"] {
            let said = workers(Some(wrong.as_ref())).unwrap_err().to_string();
            assert!(said.contains("TOKIO_WORKER_THREADS") && said.contains("1 to 256"), "{said}");
        }
    }
}
