//! What is wrong with a configuration, all of it at once.

use std::fmt;

/// Everything that is wrong with a configuration. Displays one line per
/// problem; no line ever holds a secret's value.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
pub struct Problems(Vec<Problem>);

/// One problem: where it is, what it is, and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The full path of the key, such as `targets.orders.timeout`; for what has
    /// no key, the option, file or environment variable.
    pub key: String,
    /// The fault of the value and what is allowed instead.
    pub message: String,
    /// The environment variable that set the key, if one did.
    pub variable: Option<String>,
}

/// What is allowed and probably not meant. Displays one line, which holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The full path of the key, such as `streams.commerce.api_url`; for what has no key,
    /// the file.
    pub key: String,
    /// What is set.
    pub found: String,
    /// What to do about it.
    pub advice: String,
}

/// A value is missing or faulty. The problem has been recorded: a caller records no
/// further one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Faulty;

impl Problems {
    /// The problems, in the order they were found.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Records a problem that no variable is known for.
    pub(super) fn push(&mut self, key: impl Into<String>, message: impl Into<String>) -> Faulty {
        self.record(Problem { key: key.into(), message: message.into(), variable: None })
    }

    /// Records `problem`.
    pub(super) fn record(&mut self, problem: Problem) -> Faulty {
        let Problem { key, message, variable } = problem;
        let variable = variable.map(|variable| escaped(&variable));
        self.0.push(Problem { key: escaped(&key), message: escaped(&message), variable });
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

/// `text` with its control characters escaped: a terminal or a log may show it.
pub(super) fn escaped(text: &str) -> String {
    let escaped = |character: char| match character {
        control if control.is_control() => control.escape_default().collect::<String>(),
        other => other.to_string(),
    };
    text.chars().map(escaped).collect()
}

/// `text` as it appears in a message: in backticks, on one line, of bounded length.
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
