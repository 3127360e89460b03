//! The faults of a configuration, and warnings about it.

use std::fmt;

/// All faults of a configuration. `Display` writes one line per problem. No line contains the value of a
/// secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
pub struct Problems(Vec<Problem>);

/// One fault of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The full path of the key, such as `targets.orders.timeout`. A fault without a key has the option,
    /// file or environment variable here.
    pub key: String,
    /// The fault of the value and what is allowed instead.
    pub message: String,
    /// The environment variable that set the key, if one did.
    pub variable: Option<String>,
}

/// A setting that is valid and probably a mistake. `Display` writes one line without secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The full path of the key, such as `streams.commerce.api_url`. A warning without a key has the file
    /// here.
    pub key: String,
    /// The finding.
    pub found: String,
    /// The advice for the operator.
    pub advice: String,
}

/// The error of a missing or wrong value. Its problem is recorded already, so a caller must not record
/// another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Faulty;

impl Problems {
    /// Returns the problems, in the order in which they were found.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }

    /// Returns whether there is no problem.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Records a problem without an environment variable.
    pub(super) fn push(&mut self, key: impl Into<String>, message: impl Into<String>) -> Faulty {
        self.record(Problem { key: key.into(), message: message.into(), variable: None })
    }

    /// Records `problem`. The same problem is recorded once, such as that of a value that a list has twice.
    pub(super) fn record(&mut self, problem: Problem) -> Faulty {
        let Problem { key, message, variable } = problem;
        let variable = variable.map(|variable| escaped(&variable));
        let problem = Problem { key: escaped(&key), message: escaped(&message), variable };
        if !self.0.contains(&problem) {
            self.0.push(problem);
        }
        Faulty
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, found, advice } = self;
        write!(f, "{key}: {found}; {advice}")
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.message)?;
        match &self.variable {
            Some(variable) => write!(f, " (set by {variable})"),
            None => Ok(()),
        }
    }
}

/// Returns `text` with escaped control characters, so that a terminal or a log may show it.
pub(super) fn escaped(text: &str) -> String {
    let escaped = |character: char| match character {
        control if control.is_control() => control.escape_default().collect::<String>(),
        other => other.to_string(),
    };
    text.chars().map(escaped).collect()
}

/// Returns `text` for a message: in backticks, on one line, and cut off after 80 characters.
pub(super) fn quoted(text: &str) -> String {
    const LONGEST: usize = 80;
    let shown: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    let rest = if text.chars().nth(LONGEST).is_some() { "…" } else { "" };
    format!("`{shown}{rest}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_problem_is_one_line_whatever_the_value_holds() {
        let mut problems = Problems::default();
        problems.push("server.listen", format!("{} is no address", quoted("a\nb")));
        problems.push("log.format", quoted(&"x".repeat(500)));
        let text = problems.to_string();
        problems.push("log.format", quoted(&"x".repeat(500)));
        assert_eq!(problems.to_string(), text, "the same problem is one line");
        assert_eq!(text.lines().count(), 2);
        assert!(text.starts_with("server.listen: `a\\nb` is no address\nlog.format: `xxx"));
        assert!(text.len() < 200);
    }

    #[test]
    fn a_problem_names_the_variable_that_set_it() {
        let problem = Problem {
            key: "log.format".into(),
            message: "bad".into(),
            variable: Some("PEPAY_BRIDGE__LOG__FORMAT".into()),
        };
        assert_eq!(problem.to_string(), "log.format: bad (set by PEPAY_BRIDGE__LOG__FORMAT)");
    }
}
