//! The further condition of a target on an event: equality on a few paths of its JSON. It is not a
//! language. The text is read with `json`, without a tree of values.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::json;

/// The condition that each of a few members of the event has its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Sorted by path, so that a member above several of them is searched once.
    terms: Vec<(Path, Box<str>)>,
}

/// The names of nested members, the outermost first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path(Vec<Box<str>>);

/// Why these terms are not a condition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCondition {
    /// A text is not a path.
    #[error(
        "`{0}` is no path; allowed are the names of 1 to {most} members separated by dots, such as \
         `data.object.status`, of up to {LONGEST_PATH} bytes",
        most = MOST_NAMES
    )]
    Path(String),
    /// A value is too long.
    #[error("the value of `{0}` is too long; allowed are up to {LONGEST_VALUE} bytes")]
    Value(String),
    /// There are too many terms.
    #[error("has {0} paths; allowed are up to {MOST_TERMS}")]
    Terms(usize),
}

/// The largest number of paths of one condition.
const MOST_TERMS: usize = 8;
/// The largest number of names of one path.
const MOST_NAMES: usize = 8;
/// The largest number of bytes of a path, and of a value.
const LONGEST_PATH: usize = 255;
const LONGEST_VALUE: usize = 255;

impl Condition {
    /// Creates the condition that each path has its value; `None` without any term.
    ///
    /// # Errors
    /// [`InvalidCondition`].
    pub fn new(terms: impl IntoIterator<Item = (String, String)>) -> Result<Option<Self>, InvalidCondition> {
        let mut read = BTreeMap::new();
        for (path, value) in terms {
            if value.len() > LONGEST_VALUE {
                return Err(InvalidCondition::Value(path));
            }
            read.insert(path.parse::<Path>()?, value.into_boxed_str());
        }
        if read.len() > MOST_TERMS {
            return Err(InvalidCondition::Terms(read.len()));
        }
        Ok((!read.is_empty()).then(|| Self { terms: read.into_iter().collect() }))
    }

    /// Returns the paths with their values, sorted.
    pub fn terms(&self) -> impl Iterator<Item = (&Path, &str)> {
        self.terms.iter().map(|(path, value)| (path, &**value))
    }

    /// Returns whether the event of this text fulfils the condition. A text, a number and a boolean are
    /// compared with the value as it is written; two numbers also by their value, so that `1` equals
    /// `1.0`. A path to nothing, to `null`, or to an object or a list equals no value. If a name is
    /// there several times, the last member counts.
    pub fn is_met_by(&self, event: &[u8]) -> bool {
        // The members along the previous path.
        let mut way: Vec<(&str, &[u8])> = Vec::new();
        self.terms.iter().all(|(path, wanted)| {
            let shared = way.iter().zip(&path.0).take_while(|((name, _), next)| *name == &***next).count();
            way.truncate(shared);
            for name in &path.0[shared..] {
                let holder = way.last().map_or(event, |(_, text)| text);
                let Some(json::Named { values: [Some(value)], .. }) = json::named(holder, &[&**name]) else {
                    return false;
                };
                way.push((name, value));
            }
            way.last().is_some_and(|(_, found)| equals(found, wanted))
        })
    }
}

/// Returns whether the JSON value `found` equals `wanted`.
fn equals(found: &[u8], wanted: &str) -> bool {
    let text: Cow<'_, str> = match found {
        b"true" | b"false" => String::from_utf8_lossy(found),
        _ => match json::text_or_number(found) {
            Some(text) => text,
            None => return false,
        },
    };
    *text == *wanted || (!found.starts_with(b"\"") && are_the_same_number(&text, wanted))
}

fn are_the_same_number(one: &str, other: &str) -> bool {
    if let (Ok(one), Ok(other)) = (one.parse::<i128>(), other.parse::<i128>()) {
        return one == other;
    }
    let number = |text: &str| text.parse::<f64>().ok().filter(|number| number.is_finite());
    number(one)
        .zip(number(other))
        .and_then(|(one, other)| one.partial_cmp(&other))
        .is_some_and(Ordering::is_eq)
}

impl FromStr for Path {
    type Err = InvalidCondition;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let names: Vec<Box<str>> = text.split('.').map(Into::into).collect();
        let sound = (1..=LONGEST_PATH).contains(&text.len())
            && names.len() <= MOST_NAMES
            && names.iter().all(|name| !name.is_empty() && !name.contains(char::is_control));
        if sound {
            Ok(Self(names))
        } else {
            Err(InvalidCondition::Path(text.chars().take(LONGEST_PATH).collect()))
        }
    }
}

/// Writes the path as in the configuration.
impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn condition(terms: &[(&str, &str)]) -> Condition {
        let terms = terms.iter().map(|(path, value)| ((*path).to_owned(), (*value).to_owned()));
        Condition::new(terms).unwrap().unwrap()
    }

    fn met(terms: &[(&str, &str)], event: &str) -> bool {
        condition(terms).is_met_by(event.as_bytes())
    }

    const EVENT: &str = r#"{"id":"evt_1","livemode":false,"data":{"object":{"status":"paid","total":100,
        "rate":1.50,"network":"b\u0073c","none":null,"a":{"b":"c"},"list":["paid"],"x.y":1,"big":9007199254740993},
        "previous_attributes":{"status":"unpaid"}}}"#;

    #[test]
    fn texts_numbers_and_booleans_are_compared_plainly() {
        for (path, value) in [
            ("id", "evt_1"),
            ("livemode", "false"),
            ("data.object.status", "paid"),
            ("data.object.total", "100"),
            ("data.object.total", "100.0"),
            ("data.object.rate", "1.5"),
            ("data.object.network", "bsc"),
            ("data.object.a.b", "c"),
            ("data.previous_attributes.status", "unpaid"),
            ("data.object.big", "9007199254740993"),
        ] {
            assert!(met(&[(path, value)], EVENT), "{path} = {value}");
        }
        for (path, value) in [
            ("livemode", "0"),
            ("data.object.status", "Paid"),
            ("data.object.status", "\"paid\""),
            ("data.object.total", "101"),
            ("data.object.none", "null"),
            ("data.object.a", "c"),
            ("data.object.list", "paid"),
            ("data.object.list.0", "paid"),
            ("data.object.missing", "x"),
            ("data.object.status.more", "paid"),
            ("status", "paid"),
            ("data.object.big", "9007199254740992"),
        ] {
            assert!(!met(&[(path, value)], EVENT), "{path} = {value}");
        }
    }

    #[test]
    fn every_term_has_to_hold() {
        let paid = ("data.object.status", "paid");
        assert!(met(&[paid, ("data.object.total", "100"), ("livemode", "false")], EVENT));
        assert!(!met(&[paid, ("data.object.total", "1"), ("livemode", "false")], EVENT));
        assert!(met(&[("data.object.a.b", "c"), ("data.previous_attributes.status", "unpaid"), paid], EVENT));
    }

    #[test]
    fn the_last_of_members_of_one_name_counts() {
        assert!(met(&[("a", "2")], r#"{"a":1,"a":2}"#));
        assert!(!met(&[("a", "1")], r#"{"a":1,"\u0061":2}"#));
    }

    #[test]
    fn every_way_to_write_zero_is_zero() {
        for found in ["0", "-0", "0.0", "-0.0", "0e5"] {
            let event = format!(r#"{{"data":{{"object":{{"total":{found}}}}}}}"#);
            for wanted in ["0", "0.0", "-0.0"] {
                assert!(met(&[("data.object.total", wanted)], &event), "{found} = {wanted}");
            }
            assert!(!met(&[("data.object.total", "false")], &event), "{found}");
        }
    }

    #[test]
    fn paths_and_their_number_are_bounded() {
        let new = |terms: Vec<(String, String)>| Condition::new(terms);
        let one = |path: &str, value: &str| new(vec![(path.to_owned(), value.to_owned())]);
        for path in ["", ".", "a.", ".a", "a..b", "a.b.c.d.e.f.g.h.i", &"x".repeat(256), "a\n"] {
            assert!(matches!(one(path, "x"), Err(InvalidCondition::Path(_))), "{path}");
        }
        assert!(matches!(one("a", &"x".repeat(256)), Err(InvalidCondition::Value(_))));
        let many = |count: usize| new((0..count).map(|n| (format!("a{n}"), "x".to_owned())).collect());
        assert!(many(8).unwrap().is_some());
        assert_eq!(many(9), Err(InvalidCondition::Terms(9)));
        assert_eq!(many(0), Ok(None));
    }

    proptest! {
        #[test]
        fn it_is_met_by_what_a_parser_finds_at_the_path_and_by_nothing_else(
            names in prop::collection::vec("[a-c]", 1..4),
            found in prop_oneof![any::<i32>().prop_map(serde_json::Value::from), "[a-z\"\\\\é]{0,3}".prop_map(Into::into), any::<bool>().prop_map(Into::into)],
            wanted in prop_oneof![any::<i32>().prop_map(|n| n.to_string()), "[a-z]{1,3}", Just("true".to_owned())],
            same in any::<bool>(),
        ) {
            let plain = found.as_str().map_or_else(|| found.to_string(), str::to_owned);
            let wanted = if same && !plain.is_empty() { plain.clone() } else { wanted };
            let event = names.iter().rev().fold(found, |inner, name| serde_json::json!({ "z": 0, name.as_str(): inner }));
            prop_assert_eq!(met(&[(&names.join("."), &wanted)], &event.to_string()), plain == wanted);
        }

        #[test]
        fn any_bytes_give_a_verdict_without_a_panic(event in prop::collection::vec(prop::sample::select(b"{}[]\",:\\ a1\xff".to_vec()), 0..64)) {
            condition(&[("a.a", "1"), ("a", "a")]).is_met_by(&event);
        }
    }
}
