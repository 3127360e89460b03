//! The digest of the content of an event, which distinguishes a repeat from another event under the
//! same id.
//!
//! `type`, `created` and `data` count, since Pepay may write the other members differently by source.
//! `data` counts by its meaning: white space, the order of members, escapes in texts and the notation
//! of numbers do not count. The digest is stored, so it has to be the same in every later version.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::io::Write as _;
use std::ops::Range;

use sha2::{Digest as _, Sha256};

use super::json::{self, Named};
use crate::domain::event::Digest;

/// In `data` longer than this number of bytes, only white space does not count: the order of members,
/// escapes and the notation of numbers do.
const LONGEST_SORTED: usize = 64 * 1024;

/// The `data` of an event, read once.
pub(super) struct Data<'a, const N: usize> {
    /// The number of its bytes.
    pub(super) length: usize,
    /// The members of its `object` under the requested names.
    pub(super) object: Named<'a, N>,
    meaning: Meaning<'a>,
}

/// The part of `data` that counts.
enum Meaning<'a> {
    /// Its canonical form.
    Canonical(Vec<u8>),
    /// All but the white space of this text, which is too long for a canonical form.
    Text(&'a [u8]),
}

impl<'a, const N: usize> Data<'a, N> {
    /// Reads the JSON value at the beginning of `text`. `names` are the members of `object` to find.
    pub(super) fn read(text: &'a [u8], names: &[&str; N]) -> Option<Self> {
        let mut text = text;
        if text.len() > LONGEST_SORTED {
            text = text.get(..json::end_of_value(text)?)?;
        }
        if text.len() > LONGEST_SORTED {
            let object = object_of(text, names);
            return Some(Self { length: text.len(), object, meaning: Meaning::Text(text) });
        }
        let mut walk = Walk {
            text,
            at: 0,
            out: Vec::with_capacity(text.len() * 3 / 2),
            members: Vec::with_capacity(MEMBERS),
            sorted: Vec::with_capacity(text.len() * 3 / 2),
            names,
            object: Named::nothing(),
        };
        walk.value(Place::Data);
        Some(Self { length: walk.at, object: walk.object, meaning: Meaning::Canonical(walk.out) })
    }
}

/// Returns the members of the `object` of `data` under `names`.
fn object_of<'a, const N: usize>(data: &'a [u8], names: &[&str; N]) -> Named<'a, N> {
    let object = json::named(data, &["object"]).and_then(|data| data.values[0]);
    object.and_then(|object| json::named(object, names)).unwrap_or(Named::nothing())
}

/// The initial capacity for members of nested objects, enough for most events.
const MEMBERS: usize = 64;

/// Returns the digest of an event. `created` is in Unix seconds, if the event names a time.
pub(super) fn of<const N: usize>(kind: &str, created: Option<i64>, data: Option<&Data<'_, N>>) -> Digest {
    let mut hash = Sha256::new();
    hash.update(kind.as_bytes());
    // An event never names the time zero.
    hash.update([0]);
    hash.update(created.unwrap_or(0).to_be_bytes());
    match data.map(|data| &data.meaning) {
        Some(Meaning::Canonical(canonical)) => hash.update(canonical),
        Some(Meaning::Text(text)) => tokens(text, |run| hash.update(run)),
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

/// Writes a JSON value in a form that is the same for the same meaning, and notes the members of its
/// `object`. Recursion is bounded by the depth of an event.
struct Walk<'a, 'n, const N: usize> {
    text: &'a [u8],
    at: usize,
    out: Vec<u8>,
    /// The places in `out` of the members of the present objects.
    members: Vec<Range<usize>>,
    /// The buffer in which the members of an object are sorted.
    sorted: Vec<u8>,
    names: &'n [&'n str; N],
    object: Named<'a, N>,
}

/// The place of a value in `data`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The value is `data`.
    Data,
    /// The value is its `object`.
    Object,
    /// The value is at another place.
    Elsewhere,
}

impl<const N: usize> Walk<'_, '_, N> {
    fn value(&mut self, place: Place) {
        match self.next() {
            Some(b'{') => self.object(place),
            Some(b'[') => self.array(),
            Some(b'"') => {
                self.string();
            }
            Some(_) => self.word(),
            None => {}
        }
    }

    /// Returns the next byte that is not white space, comma or colon. The text is known to be JSON, so
    /// these have no further meaning.
    fn next(&mut self) -> Option<u8> {
        let rest = self.text.get(self.at..)?;
        let passed = rest.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b',' | b':'));
        self.at += passed.unwrap_or(rest.len());
        self.text.get(self.at).copied()
    }

    fn object(&mut self, place: Place) {
        self.at += 1;
        self.out.push(b'{');
        let first = self.out.len();
        let outer = self.members.len();
        while self.next() == Some(b'"') {
            let start = self.out.len();
            self.member(place);
            self.members.push(start..self.out.len());
        }
        self.at += 1;
        let (out, members) = (&mut self.out, self.members.get_mut(outer..).unwrap_or_default());
        if !members.is_sorted_by_key(|member| out.get(member.clone())) {
            members.sort_by(|one, other| out.get(one.clone()).cmp(&out.get(other.clone())));
            self.sorted.clear();
            for member in members {
                self.sorted.extend_from_slice(out.get(member.clone()).unwrap_or_default());
            }
            out.truncate(first);
            out.extend_from_slice(&self.sorted);
        }
        self.members.truncate(outer);
        self.out.push(b'}');
    }

    /// Writes a member of the object at `place`.
    fn member(&mut self, place: Place) {
        let text = self.text;
        let start = self.at + 1;
        let is_plain = self.string();
        let name = text.get(start..self.at - 1).unwrap_or_default();
        let name = if is_plain { Cow::Borrowed(name) } else { json::unescaped(name) };
        match place {
            Place::Data if *name == *b"object" => {
                // If there are several, the last one counts.
                self.object = Named::nothing();
                self.value(Place::Object);
            }
            Place::Object => {
                self.next();
                let value = self.at;
                self.value(Place::Elsewhere);
                self.object.note(self.names, &name, text.get(value..self.at).unwrap_or_default());
            }
            Place::Data | Place::Elsewhere => self.value(Place::Elsewhere),
        }
    }

    fn array(&mut self) {
        self.at += 1;
        self.out.push(b'[');
        while self.next().is_some_and(|byte| byte != b']') {
            self.value(Place::Elsewhere);
        }
        self.at += 1;
        self.out.push(b']');
    }

    /// Writes a text, after its length. A text that is not Unicode is written unchanged. Returns
    /// whether the text has no escapes.
    fn string(&mut self) -> bool {
        let rest = self.text.get(self.at + 1..).unwrap_or_default();
        let plain = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'));
        if let Some((inner, [b'"', ..])) = plain.and_then(|end| rest.split_at_checked(end)) {
            self.at += inner.len() + 2;
            self.counted(b'"', inner);
            return true;
        }
        let rest = self.text.get(self.at..).unwrap_or_default();
        let literal = rest.get(..json::end_of_string(rest, 0).unwrap_or(rest.len())).unwrap_or_default();
        self.at += literal.len();
        match serde_json::from_slice::<String>(literal) {
            Ok(text) => self.counted(b'"', text.as_bytes()),
            Err(_) => self.counted(b'\\', literal.get(1..literal.len() - 1).unwrap_or_default()),
        }
        false
    }

    fn counted(&mut self, tag: u8, text: &[u8]) {
        self.out.reserve(text.len() + 9);
        self.out.push(tag);
        self.out.extend_from_slice(&(text.len() as u64).to_be_bytes());
        self.out.extend_from_slice(text);
    }

    /// Writes a number, `true`, `false` or `null`.
    fn word(&mut self) {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let ends = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b',' | b']' | b'}');
        // At least one byte, so that the walk ends for every text.
        let length = rest.iter().position(ends).unwrap_or(rest.len()).max(1);
        let word = rest.get(..length).unwrap_or_default();
        self.at += length;
        if !word.first().is_some_and(|first| matches!(first, b'-' | b'0'..=b'9')) || !self.number(word) {
            self.out.extend_from_slice(word);
        }
        self.out.push(b',');
    }

    /// Writes a number as its sign, its digits without zeros at either end, and the power of ten;
    /// returns `false` if the power is beyond its bound.
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
            // A write to a vector does not fail.
            let _ = write!(self.out, "e{power}");
        }
        true
    }
}
