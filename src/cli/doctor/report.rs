//! The report of the checks, as text and as JSON.

use std::fmt;

use serde::Serialize;
use serde_json::json;

use crate::cli::text::clean;

/// The outcome of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    Ok,
    /// The part works, and an operator should look at it.
    Warning,
    Failed,
}

/// One check.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Check {
    name: String,
    verdict: Verdict,
    /// The finding, without secrets.
    found: String,
    /// The advice for the operator; `None` if there is nothing to do.
    advice: Option<String>,
}

/// All checks, in the order in which they are printed.
pub(super) struct Report(pub(super) Vec<Check>);

impl Check {
    pub(super) fn ok(name: impl Into<String>, found: impl Into<String>) -> Self {
        Self { name: name.into(), verdict: Verdict::Ok, found: found.into(), advice: None }
    }

    pub(super) fn warning(
        name: impl Into<String>,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self { verdict: Verdict::Warning, advice: Some(advice.into()), ..Self::ok(name, found) }
    }

    pub(super) fn failed(
        name: impl Into<String>,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self { verdict: Verdict::Failed, ..Self::warning(name, found, advice) }
    }
}

impl Report {
    /// Returns the number of failed checks.
    pub(super) fn failed(&self) -> usize {
        self.0.iter().filter(|check| check.verdict == Verdict::Failed).count()
    }

    /// Returns the report as a JSON object: `ok` if no check failed, and `checks`.
    pub(super) fn json(&self) -> String {
        format!("{}\n", json!({ "ok": self.failed() == 0, "checks": self.0 }))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.0.iter().map(|check| check.name.len()).max().unwrap_or(0);
        for Check { name, verdict, found, advice } in &self.0 {
            let verdict = match verdict {
                Verdict::Ok => "ok",
                Verdict::Warning => "warning",
                Verdict::Failed => "FAILED",
            };
            // The text may contain messages of Pepay or of a target.
            write!(f, "{verdict:<7}  {name:<width$}  {}", clean(found))?;
            match advice {
                Some(advice) => writeln!(f, "; {}", clean(advice))?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_is_one_line_without_control_characters() {
        let report = Report(vec![Check::failed("target a", "it said \u{1b}[2J\nno\u{202e}", "mend it")]);
        assert_eq!(report.to_string(), "FAILED   target a  it said \\u{1b}[2J no\\u{202e}; mend it\n");
    }
}
