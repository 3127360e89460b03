//! Counts refusals and bounds their log lines.

use metrics::Counter;

use super::answer::Code;
use crate::domain::clock::UnixMillis;
use crate::domain::log_limit::LogLimit;
use crate::telemetry::names;

/// The refusals of one endpoint, by code.
#[derive(Debug)]
pub(super) struct Rejections([Tally; Code::ALL.len()]);

#[derive(Debug)]
struct Tally {
    /// The handle is looked up once: it costs an increment, and a lookup by label a hash and a lock.
    counter: Counter,
    lines: LogLimit,
}

impl Rejections {
    pub(super) fn new() -> Self {
        Self(Code::ALL.map(|code| Tally {
            counter: metrics::counter!(names::WEBHOOKS_REJECTED, "reason" => code.as_str()),
            lines: LogLimit::default(),
        }))
    }

    /// Counts a refusal. If a log line is due, returns the number of refusals with this code since the
    /// last line.
    pub(super) fn count(&self, code: Code, now: UnixMillis) -> Option<u64> {
        let tally = &self.0[code as usize];
        tally.counter.increment(1);
        tally.lines.note(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_refusals_with_one_code_hide_no_other_code() {
        let (rejections, now) = (Rejections::new(), UnixMillis(1_734_780_000_000));
        assert_eq!(rejections.count(Code::InvalidSignature, now), Some(0));
        assert_eq!(rejections.count(Code::InvalidSignature, now), None);
        assert_eq!(rejections.count(Code::MalformedPayload, now), Some(0));
    }
}
