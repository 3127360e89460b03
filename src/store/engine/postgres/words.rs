//! Converts values to the form that `PostgreSQL` takes.

use std::collections::HashMap;
use std::sync::Arc;

use crate::store::types::Term;

/// Returns `text` with U+FFFD in place of each NUL, which no text of `PostgreSQL` may contain.
pub(super) fn clean(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// Divides `all` into parts that are carried out one after the other. Values with the same key are
/// in different parts, since one statement changes a row once.
pub(super) fn rounds<T>(all: impl IntoIterator<Item = T>, key: impl Fn(&T) -> i64) -> Vec<Vec<T>> {
    let mut rounds: Vec<Vec<T>> = Vec::new();
    let mut used: HashMap<i64, usize> = HashMap::new();
    for one in all {
        let round = used.entry(key(&one)).and_modify(|round| *round += 1).or_insert(0);
        if *round == rounds.len() {
            rounds.push(Vec::new());
        }
        rounds[*round].push(one);
    }
    rounds
}

/// Returns `values` as an SQL array.
pub(super) fn text_array<T: AsRef<str>>(values: impl Iterator<Item = T>) -> String {
    let values: Vec<_> = values.map(|value| literal(value.as_ref())).collect();
    format!("ARRAY[{}]::text[]", values.join(", "))
}

/// Returns the terms of `held` as an SQL array.
pub(super) fn number_array(held: &[(Arc<str>, Term)]) -> String {
    let terms: Vec<_> = held.iter().map(|(_, term)| term.number().to_string()).collect();
    format!("ARRAY[{}]::bigint[]", terms.join(", "))
}

/// Returns `text` as an SQL literal, whatever a role or a database sets for backslashes in others.
pub(super) fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\0', "").replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_the_same_key_is_done_one_after_the_other() {
        let keys = [1, 2, 1, 3, 1, 2];
        let rounds: Vec<Vec<_>> = rounds(keys, |key| *key);
        assert_eq!(rounds, [vec![1, 2, 3], vec![1, 2], vec![1]]);
    }

    #[test]
    fn a_literal_is_the_text_itself_with_or_without_standard_strings() {
        assert_eq!(literal(r#"{"of":"O'Neill\n\"}"#), r#"E'{"of":"O''Neill\\n\\"}'"#);
    }

    #[test]
    fn a_nul_in_a_text_is_replaced() {
        assert_eq!(clean("a\0b"), "a\u{fffd}b");
    }
}
