//! Values as `PostgreSQL` takes them.

use std::collections::HashMap;

/// `text` with the character U+FFFD for each NUL, which no text of `PostgreSQL` may hold.
pub(super) fn clean(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// `all` in parts that are carried out one after the other: of those with the same key each
/// is in a later part, since one statement changes a row once.
pub(super) fn rounds<T>(all: &[T], key: impl Fn(&T) -> i64) -> Vec<Vec<&T>> {
    let mut rounds: Vec<Vec<&T>> = Vec::new();
    let mut used: HashMap<i64, usize> = HashMap::new();
    for one in all {
        let round = used.entry(key(one)).and_modify(|round| *round += 1).or_insert(0);
        if *round == rounds.len() {
            rounds.push(Vec::new());
        }
        rounds[*round].push(one);
    }
    rounds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_the_same_key_is_done_one_after_the_other() {
        let keys = [1, 2, 1, 3, 1, 2];
        let rounds: Vec<Vec<_>> =
            rounds(&keys, |key| *key).into_iter().map(|round| round.into_iter().copied().collect()).collect();
        assert_eq!(rounds, [vec![1, 2, 3], vec![1, 2], vec![1]]);
    }

    #[test]
    fn a_text_holds_no_nul() {
        assert_eq!(clean("a\0b"), "a\u{fffd}b");
    }
}
