//! The digest of what an event says, by which a repeat is told from another event
//! under the same id.
//!
//! `type`, `created` and `data` count, since Pepay may write the rest differently
//! by road. Of `data` counts what it means: white space, the order of members,
//! escapes in texts and the notation of numbers do not. The digest is stored, so
//! it has to be the same in every later version.

use std::ops::Range;

use sha2::{Digest as _, Sha256};

use crate::domain::event::Digest;

/// In `data` longer than this, in bytes, the order of members, escapes and the
/// notation of numbers count as well: only white space does not.
const LONGEST_SORTED: usize = 64 * 1024;

/// The digest of an event. `created` is in Unix seconds, if the event names a time;
/// `data` is JSON.
pub(super) fn of(kind: &str, created: Option<i64>, data: Option<&[u8]>) -> Digest {
    let mut hash = Sha256::new();
    hash.update(kind.as_bytes());
    // No time that an event names is zero.
    hash.update([0]);
    hash.update(created.unwrap_or(0).to_be_bytes());
    match data {
        Some(data) if data.len() <= LONGEST_SORTED => {
            let mut meaning = Meaning { text: data, at: 0, out: Vec::with_capacity(data.len() * 5 / 4) };
            meaning.value();
            hash.update(&meaning.out);
        }
        Some(data) => tokens(data, |run| hash.update(run)),
        None => {}
    }
    let digest: [u8; 32] = hash.finalize().into();
    let mut first = [0; Digest::LENGTH];
    first.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    Digest(first)
}

/// Calls `take` with the runs of `json` between white space, texts included.
fn tokens(json: &[u8], mut take: impl FnMut(&[u8])) {
    let (mut start, mut in_text, mut escaped) = (0, false, false);
    for (at, byte) in json.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b' ' | b'\t' | b'\n' | b'\r' if !in_text => {
                take(json.get(start..at).unwrap_or_default());
                start = at + 1;
            }
            _ => {}
        }
    }
    take(json.get(start..).unwrap_or_default());
}

/// Writes a JSON value in a form that is the same for the same meaning. Recursion
/// is bounded by the depth of an event.
struct Meaning<'a> {
    text: &'a [u8],
    at: usize,
    out: Vec<u8>,
}

impl Meaning<'_> {
    fn value(&mut self) {
        match self.next() {
            Some(b'{') => self.object(),
            Some(b'[') => self.array(),
            Some(b'"') => self.string(),
            Some(_) => self.word(),
            None => {}
        }
    }

    /// The next byte that is no white space, comma or colon; the text is known to be
    /// JSON, so these say nothing further.
    fn next(&mut self) -> Option<u8> {
        while let Some(byte) = self.text.get(self.at) {
            match byte {
                b' ' | b'\t' | b'\n' | b'\r' | b',' | b':' => self.at += 1,
                byte => return Some(*byte),
            }
        }
        None
    }

    fn object(&mut self) {
        self.at += 1;
        self.out.push(b'{');
        let first = self.out.len();
        let mut members: Vec<Range<usize>> = Vec::new();
        while self.next() == Some(b'"') {
            let start = self.out.len();
            self.string();
            self.value();
            members.push(start..self.out.len());
        }
        self.at += 1;
        if !members.is_sorted_by_key(|member| self.out.get(member.clone())) {
            members.sort_by(|one, other| self.out.get(one.clone()).cmp(&self.out.get(other.clone())));
            let sorted: Vec<u8> =
                members.iter().filter_map(|member| self.out.get(member.clone())).flatten().copied().collect();
            self.out.truncate(first);
            self.out.extend_from_slice(&sorted);
        }
        self.out.push(b'}');
    }

    fn array(&mut self) {
        self.at += 1;
        self.out.push(b'[');
        while self.next().is_some_and(|byte| byte != b']') {
            self.value();
        }
        self.at += 1;
        self.out.push(b']');
    }

    /// A text, after its length. One that is not Unicode is written as it stands.
    fn string(&mut self) {
        let (start, mut escapes) = (self.at + 1, false);
        self.at = start;
        while let Some(byte) = self.text.get(self.at) {
            match byte {
                b'"' => break,
                b'\\' => {
                    escapes = true;
                    self.at += 2;
                }
                _ => self.at += 1,
            }
        }
        let inner = self.text.get(start..self.at).unwrap_or_default();
        self.at += 1;
        let literal = self.text.get(start - 1..self.at).unwrap_or_default();
        match escapes.then(|| serde_json::from_slice::<String>(literal)) {
            None => self.counted(b'"', inner),
            Some(Ok(text)) => self.counted(b'"', text.as_bytes()),
            Some(Err(_)) => self.counted(b'\\', inner),
        }
    }

    fn counted(&mut self, tag: u8, text: &[u8]) {
        self.out.push(tag);
        self.out.extend_from_slice(&(text.len() as u64).to_be_bytes());
        self.out.extend_from_slice(text);
    }

    /// A number, `true`, `false` or `null`.
    fn word(&mut self) {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let ends = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b',' | b']' | b'}');
        // At least one byte, so that this ends whatever the text is.
        let length = rest.iter().position(ends).unwrap_or(rest.len()).max(1);
        let word = rest.get(..length).unwrap_or_default();
        self.at += length;
        if !word.first().is_some_and(|first| matches!(first, b'-' | b'0'..=b'9')) || !self.number(word) {
            self.out.extend_from_slice(word);
        }
        self.out.push(b',');
    }

    /// Writes a number as its sign, its digits without zeros at either end, and the
    /// power of ten; `false` if that is beyond reason.
    fn number(&mut self, word: &[u8]) -> bool {
        let (mantissa, power) = match word.iter().position(|byte| matches!(byte, b'e' | b'E')) {
            Some(at) => (word.get(..at), word.get(at + 1..)),
            None => (Some(word), None),
        };
        let power = power.map_or(Some(0), |power| std::str::from_utf8(power).ok()?.parse::<i32>().ok());
        let (Some(mut power), Some(mantissa)) = (power.map(i64::from), mantissa) else { return false };
        let start = self.out.len();
        self.out.push(if mantissa.starts_with(b"-") { b'-' } else { b'+' });
        let digits = self.out.len();
        let mut in_fraction = false;
        for byte in mantissa {
            match byte {
                b'.' => in_fraction = true,
                b'-' => {}
                b'0' if self.out.len() == digits => power -= i64::from(in_fraction),
                digit => {
                    self.out.push(*digit);
                    power -= i64::from(in_fraction);
                }
            }
        }
        while self.out.len() > digits && self.out.last() == Some(&b'0') {
            self.out.pop();
            power += 1;
        }
        if self.out.len() == digits {
            self.out.truncate(start);
            self.out.push(b'0');
        } else {
            self.out.extend_from_slice(format!("e{power}").as_bytes());
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(data: &str) -> Digest {
        of("t", Some(1), Some(data.as_bytes()))
    }

    #[test]
    fn the_same_meaning_has_the_same_digest() {
        let one = r#"{"object":{"id":"é/","n":[1,10.50,-0.0,true,null],"a":{"x":1,"y":{}}},"z":1e3}"#;
        for other in [
            r#"{ "z" : 1000, "object" : { "a":{"y":{ },"x":1e0}, "n":[1.0, 105e-1, 0, true, null],
               "id":"\u00e9\/" } }"#,
            r#"{"z":1.000E+3,"object":{"id":"é/","n":[0.1e1,10.5,0e7,true,null],"a":{"x":1,"y":{}}}}"#,
        ] {
            assert_eq!(digest(one), digest(other), "{other}");
        }
    }

    #[test]
    fn another_meaning_has_another_digest() {
        let different = [
            "1",
            "10",
            "0.1",
            "-1",
            "\"1\"",
            "[1]",
            "[[1]]",
            "[]",
            "{}",
            "null",
            "true",
            "false",
            "\"null\"",
            "[1,2]",
            "[2,1]",
            "[12]",
            "[\"1\",\"2\"]",
            "[\"1,2\"]",
            r#"{"a":1}"#,
            r#"{"a":"1"}"#,
            r#"{"a":{"b":1}}"#,
            r#"{"a":{},"b":1}"#,
            r#"{"b":1}"#,
            r#"{"a":1,"a":1}"#,
            r#""\ud800""#,
            r#""\ud801""#,
            r#""\\ud800""#,
            "1e99999999999",
            "100000000000000000000000000001",
            "100000000000000000000000000002",
            "\"a b\"",
            "\"ab\"",
        ];
        for (index, one) in different.iter().enumerate() {
            for other in &different[index + 1..] {
                assert_ne!(digest(one), digest(other), "{one} and {other}");
            }
        }
        assert_ne!(of("t", Some(1), Some(b"{}")), of("u", Some(1), Some(b"{}")));
        assert_ne!(of("t", Some(1), Some(b"{}")), of("t", Some(2), Some(b"{}")));
        assert_ne!(of("t", None, Some(b"{}")), of("t", Some(2), Some(b"{}")));
        assert_ne!(of("t", None, Some(b"{}")), of("t", None, None));
    }

    #[test]
    fn in_long_data_white_space_still_does_not_count() {
        let text = "x\\\" y".repeat(20_000);
        let one = format!(r#"{{"text":"{text}","n":[1,2]}}"#);
        let spaced = format!("{{ \"text\" : \"{text}\" ,\r\n\t\"n\" : [ 1 , 2 ] }}");
        assert_eq!(digest(&one), digest(&spaced));
        assert_ne!(digest(&one), digest(&one.replace(" y", "  y")));
    }

    #[test]
    fn a_stored_digest_stays_readable() {
        // Pinned: databases hold digests that were made like this.
        let digest = digest(r#"{"b":[1.50,"x"],"a":null}"#);
        assert_eq!(digest.to_string(), "da688d88e94a48bfa8b947349819ecc9");
    }
}
