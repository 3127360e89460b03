//! Members of a JSON object by name, each as the text it has in the document.
//!
//! Nothing is trusted but that the text is JSON. Names are compared as bytes and
//! values are not interpreted, so a lone surrogate, a number out of range or a
//! repeated name in a member that nobody asks for does no harm. No tree of values
//! is built.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// What was found under each of `N` names.
pub(super) struct Members<'a, const N: usize> {
    /// The value under each name, the last one where there are several.
    pub(super) values: [Option<&'a RawValue>; N],
    /// Whether a name was there more than once.
    pub(super) repeated: [bool; N],
}

/// Reads the members named `names` of the JSON object in `text`. Returns `None`
/// for a text that is another kind of JSON value.
///
/// # Errors
/// The text is no JSON.
pub(super) fn members<'a, const N: usize>(
    text: &'a str,
    names: &[&str; N],
) -> Result<Option<Members<'a, N>>, serde_json::Error> {
    if !text.trim_ascii_start().starts_with('{') {
        serde_json::from_str::<IgnoredAny>(text)?;
        return Ok(None);
    }
    let mut json = serde_json::Deserializer::from_str(text);
    let found = json.deserialize_map(Object { names })?;
    json.end()?;
    Ok(Some(found))
}

/// The same for a value whose text is known to be JSON.
pub(super) fn of<'a, const N: usize>(
    value: &'a RawValue,
    names: &[&str; N],
) -> Option<[Option<&'a RawValue>; N]> {
    members(value.get(), names).ok().flatten().map(|found| found.values)
}

/// A text. `None` for every other value, and for a text that is not Unicode.
pub(super) fn string(value: &RawValue) -> Option<Cow<'_, str>> {
    let literal = value.get();
    let inner = literal.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') { serde_json::from_str(literal).ok().map(Cow::Owned) } else { Some(inner.into()) }
}

/// A text, or a number as it is written.
pub(super) fn text(value: &RawValue) -> Option<Cow<'_, str>> {
    match value.get().as_bytes().first()? {
        b'-' | b'0'..=b'9' => Some(value.get().into()),
        _ => string(value),
    }
}

struct Object<'n, const N: usize> {
    names: &'n [&'n str; N],
}

impl<'a, const N: usize> Visitor<'a> for Object<'_, N> {
    type Value = Members<'a, N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut object: A) -> Result<Members<'a, N>, A::Error> {
        let mut found = Members { values: [None; N], repeated: [false; N] };
        while let Some(index) = object.next_key_seed(Name { names: self.names })? {
            match index.and_then(|index| found.values.get_mut(index).zip(found.repeated.get_mut(index))) {
                Some((value, repeated)) => {
                    *repeated = value.is_some();
                    *value = Some(object.next_value()?);
                }
                None => drop(object.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }
}

/// Reads a name as its index in `names`; `None` for one that is not there.
struct Name<'n, const N: usize> {
    names: &'n [&'n str; N],
}

impl<'a, const N: usize> DeserializeSeed<'a> for Name<'_, N> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'a>>(self, name: D) -> Result<Option<usize>, D::Error> {
        // As bytes: as a text, a name with a lone surrogate would be an error.
        name.deserialize_bytes(self)
    }
}

impl<const N: usize> Visitor<'_> for Name<'_, N> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_bytes<E>(self, name: &[u8]) -> Result<Option<usize>, E> {
        Ok(self.names.iter().position(|wanted| wanted.as_bytes() == name))
    }
}
