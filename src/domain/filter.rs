//! The event types that a stream subscribes to or a target receives.

use std::fmt;
use std::str::FromStr;

/// A list of type patterns. An event passes if one of them matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeFilter(Vec<Pattern>);

/// `*`, an exact type, or a prefix written `invoice.*`.
///
/// The prefix ends at the dot, as on Pepay's side: `invoice.*` matches
/// `invoice.updated` and not `invoice_payment.updated`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Matches every type.
    Any,
    /// Matches the types that begin with this text, which ends in a dot.
    Prefix(Box<str>),
    /// Matches this type alone.
    Exact(Box<str>),
}

/// Why a text is not a type pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no event type pattern; allowed are `*`, a type such as `invoice.updated`, or a prefix such as `invoice.*`"
)]
pub struct InvalidPattern(pub String);

impl TypeFilter {
    /// Returns the filter that matches every type.
    pub fn any() -> Self {
        Self(vec![Pattern::Any])
    }

    /// Creates a filter of these patterns.
    pub fn new(patterns: Vec<Pattern>) -> Self {
        Self(patterns)
    }

    /// Returns whether an event of type `kind` passes.
    pub fn matches(&self, kind: &str) -> bool {
        self.0.iter().any(|pattern| pattern.matches(kind))
    }

    /// Returns whether every event passes.
    pub fn is_any(&self) -> bool {
        self.0.contains(&Pattern::Any)
    }

    /// Returns whether a type can pass both this filter and `other`.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.0.iter().any(|one| other.0.iter().any(|other| one.overlaps(other)))
    }

    /// Returns the patterns, in the order in which they were written.
    pub fn patterns(&self) -> &[Pattern] {
        &self.0
    }
}

/// Parses patterns that are separated by commas; at least one.
impl FromStr for TypeFilter {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.split(',').map(|pattern| pattern.trim().parse()).collect::<Result<_, _>>().map(Self)
    }
}

/// Writes the patterns with commas between them, as in Pepay's query parameters.
impl fmt::Display for TypeFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, pattern) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            pattern.fmt(f)?;
        }
        Ok(())
    }
}

impl Pattern {
    fn matches(&self, kind: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Prefix(prefix) => kind.starts_with(&**prefix),
            Self::Exact(exact) => kind == &**exact,
        }
    }

    fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(kind), other) | (other, Self::Exact(kind)) => other.matches(kind),
            (Self::Any, _) | (_, Self::Any) => true,
            (Self::Prefix(one), Self::Prefix(other)) => {
                one.starts_with(&**other) || other.starts_with(&**one)
            }
        }
    }
}

impl FromStr for Pattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let well_formed = |kind: &str| {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            !kind.is_empty() && kind.len() <= 255 && kind.bytes().all(allowed)
        };
        match text {
            "*" => Ok(Self::Any),
            _ => match text.strip_suffix('*') {
                Some(prefix) if prefix.ends_with('.') && prefix.len() > 1 && well_formed(prefix) => {
                    Ok(Self::Prefix(prefix.into()))
                }
                None if well_formed(text) => Ok(Self::Exact(text.into())),
                _ => Err(InvalidPattern(text.to_owned())),
            },
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
            Self::Exact(exact) => f.write_str(exact),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(patterns: &[&str]) -> TypeFilter {
        TypeFilter::new(patterns.iter().map(|text| text.parse().unwrap()).collect())
    }

    #[test]
    fn a_prefix_ends_at_its_dot() {
        let filter = filter(&["invoice.*"]);
        assert!(filter.matches("invoice.updated"));
        assert!(!filter.matches("invoice_payment.updated"));
        assert!(!filter.matches("invoice"));
    }

    #[test]
    fn one_matching_pattern_is_enough() {
        let filter = filter(&["commerce.order.*", "test.ping"]);
        assert!(filter.matches("test.ping"));
        assert!(filter.matches("commerce.order.created"));
        assert!(!filter.matches("test.pong"));
        assert!(TypeFilter::any().matches("anything"));
    }

    #[test]
    fn patterns_print_the_way_they_were_written() {
        assert_eq!(
            filter(&["commerce.order.*", "invoice.updated", "*"]).to_string(),
            "commerce.order.*,invoice.updated,*"
        );
    }

    #[test]
    fn misplaced_wildcards_are_refused_by_name() {
        for text in ["", "invoice*", "*.updated", "inv*ice.updated", ".*", "a b", "invoice.**"] {
            assert_eq!(text.parse::<Pattern>(), Err(InvalidPattern(text.to_owned())));
        }
    }
}
