//! Settings that the tests of the stream share.

use super::*;

/// Returns the settings of a commerce stream with short waits.
pub(super) fn settings() -> Settings {
    Settings {
        name: Arc::from("commerce"),
        endpoint: Endpoint::Commerce,
        auth: Auth::Token,
        token_ttl: Duration::from_secs(60),
        types: TypeFilter::any(),
        filters: Filters::default(),
        start_from: StartFrom::Now,
        idle_timeout: Duration::from_secs(60),
        ping_interval: Duration::from_secs(20),
        backoff: Backoff::new(Duration::from_millis(500), Duration::from_secs(10)).unwrap(),
        reconcile_interval: Some(Duration::from_secs(60)),
        reconcile_lookback: Duration::from_secs(300),
        hold_limit: Duration::from_secs(30),
    }
}
