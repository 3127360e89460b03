//! Which events are old, although the clock was wrong when some of them arrived. The order of acceptance
//! says how the ages of two events compare. A time that is to come says nothing about an age.

use crate::domain::clock::UnixMillis;

/// Returns how many events, of which these are the times of arrival in their order of acceptance, are old:
/// from before `before`. Takes for wrong the times of as few events as possible.
pub(super) fn old_ones(
    arrivals: impl IntoIterator<Item = UnixMillis>,
    before: UnixMillis,
    now: UnixMillis,
) -> usize {
    let (mut old, mut most, mut excess) = (0, 0, 0);
    for (number, at) in (1..).zip(arrivals) {
        // The excess of old times over young ones up to here.
        excess += if at < before {
            1
        } else if at > now {
            0
        } else {
            -1
        };
        if excess > most {
            (old, most) = (number, excess);
        }
    }
    old
}

/// Finds the end of a run of events whose times are all to come, by looking at single events.
#[derive(Debug)]
pub(super) struct RunEnd {
    /// The last sequence that is known to be in the run.
    inside: i64,
    /// The first sequence that is known to be behind the run.
    behind: Option<i64>,
    /// The distance to the next look while no end is known.
    stride: i64,
}

impl RunEnd {
    /// Begins at `sequence`, which is in the run.
    pub(super) const fn after(sequence: i64) -> Self {
        Self { inside: sequence, behind: None, stride: 1 }
    }

    /// Returns the sequence to look at next, or as an error the first one behind the run.
    pub(super) fn next(&self) -> Result<i64, i64> {
        match self.behind {
            None => Ok(self.inside.saturating_add(self.stride)),
            Some(behind) if behind - self.inside > 1 => Ok(self.inside + (behind - self.inside) / 2),
            Some(behind) => Err(behind),
        }
    }

    /// Notes whether `sequence` is in the run. One that does not exist is not.
    pub(super) fn note(&mut self, sequence: i64, is_inside: bool) {
        if is_inside {
            self.inside = sequence;
            self.stride = self.stride.saturating_mul(2);
        } else {
            self.behind = Some(sequence);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns how many are old of an event for each letter: `o`ld, `y`oung, or `t`o come.
    fn old(times: &str) -> usize {
        let at = |letter| {
            UnixMillis(match letter {
                'o' => 0,
                'y' => 10,
                _ => 20,
            })
        };
        old_ones(times.chars().map(at), UnixMillis(10), UnixMillis(19))
    }

    #[test]
    fn of_times_that_contradict_the_order_the_fewest_are_wrong() {
        for (times, expected) in [
            ("", 0),
            ("ooo", 3),
            ("yyy", 0),
            ("ooyy", 2),
            ("to", 2),
            ("ototto", 6),
            ("tttt", 0),
            ("yyyo", 0),
            ("yooo", 4),
            ("ooyooyyyo", 5),
            ("yo", 0),
        ] {
            assert_eq!(old(times), expected, "{times}");
        }
    }

    #[test]
    fn the_end_of_a_run_of_any_length_is_found_in_few_looks() {
        for length in (1..300).chain([1_000_000]) {
            let (mut end, mut looks) = (RunEnd::after(7), 0);
            let found = loop {
                match end.next() {
                    Ok(sequence) => end.note(sequence, sequence < 7 + length),
                    Err(behind) => break behind,
                }
                looks += 1;
            };
            assert_eq!(found, 7 + length);
            assert!(looks <= 42, "{looks}");
        }
    }
}
