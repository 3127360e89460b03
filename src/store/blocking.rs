//! Runs calls that block apart from the runtime. A runtime of one thread would serve nothing else
//! meanwhile: no health check, and no signal.

/// Runs `work` on a thread for blocking calls, and returns its result. If the future is dropped, `work`
/// goes on, and its result is dropped.
pub(in crate::store) async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is ending.
            Err(_) => std::future::pending().await,
        },
    }
}
