//! Finds the parts of a JSON text by its quotes and brackets alone. It builds no tree of values and
//! does not recurse. A part that is not JSON does not affect the others: `NaN`, a bad byte or a control
//! character in one member leaves the others readable. So does a lone surrogate or a number out of
//! range in a member that is not read. [`check`] tells whether the whole text is JSON.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;

/// The text ends, or has another character, where JSON requires a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken;

/// The members of an object: name without its quotes, and value.
pub(super) struct Members<'a>(Parts<'a>);

/// The items of an array.
pub(super) struct Items<'a>(Parts<'a>);

/// Returns the members of the object in `text`, or `None` if it begins like another value.
pub(super) fn members(text: &[u8]) -> Option<Members<'_>> {
    Parts::of(text, b'{').map(Members)
}

/// Returns the items of the array in `text`, or `None` if it begins like another value.
pub(super) fn items(text: &[u8]) -> Option<Items<'_>> {
    Parts::of(text, b'[').map(Items)
}

/// Returns the value of the first member of this name, of the object in `text`. The members before it
/// have to be whole; those after it need not be.
pub(super) fn member<'a>(text: &'a [u8], name: &str) -> Option<&'a [u8]> {
    members(text)?
        .map_while(Result::ok)
        .find_map(|(found, value)| (found == name.as_bytes()).then_some(value))
}

/// The members of an object under `N` names.
#[derive(Clone, Copy)]
pub(super) struct Named<'a, const N: usize> {
    /// The value under each name; the last one if there are several.
    pub(super) values: [Option<&'a [u8]>; N],
    /// Whether each name was there more than once.
    pub(super) repeated: [bool; N],
}

/// Returns the members `names` of the object in `text`, or `None` if it begins like another value. The
/// members before a broken one are read.
pub(super) fn named<'a, const N: usize>(text: &'a [u8], names: &[&str; N]) -> Option<Named<'a, N>> {
    let mut all = Named::nothing();
    for (name, value) in members(text)?.map_while(Result::ok) {
        all.note(names, &unescaped(name), value);
    }
    Some(all)
}

impl<'a, const N: usize> Named<'a, N> {
    /// Returns the value for an object without any of the names.
    pub(super) const fn nothing() -> Self {
        Self { values: [None; N], repeated: [false; N] }
    }

    /// Adds a member of the object; `names` are the `N` names, and `name` is unescaped.
    pub(super) fn note(&mut self, names: &[&str; N], name: &[u8], value: &'a [u8]) {
        let index = names.iter().position(|wanted| wanted.as_bytes() == name);
        let slot = index.and_then(|index| self.values.get_mut(index).zip(self.repeated.get_mut(index)));
        if let Some((found, repeated)) = slot {
            *repeated |= found.replace(value).is_some();
        }
    }
}

/// Returns a name without its escapes; unchanged, if they cannot be read.
pub(super) fn unescaped(name: &[u8]) -> Cow<'_, [u8]> {
    if !name.contains(&b'\\') {
        return name.into();
    }
    let plain = text(&[b"\"", name, b"\""].concat()).map(|name| name.into_owned().into_bytes());
    plain.map_or(Cow::Borrowed(name), Cow::Owned)
}

/// Checks that `text` is JSON.
///
/// # Errors
/// An error with the place where the text stops being JSON.
pub(super) fn check(text: &str) -> Result<(), serde_json::Error> {
    serde_json::from_str::<IgnoredAny>(text).map(drop)
}

/// Returns the text of a JSON string, or a number as it is written.
pub(super) fn text_or_number(value: &[u8]) -> Option<Cow<'_, str>> {
    match value.first()? {
        b'-' | b'0'..=b'9' => std::str::from_utf8(value).ok().map(Cow::Borrowed),
        _ => text(value),
    }
}

/// Returns the text of a JSON string, if `value` is one that can be read.
pub(super) fn text(value: &[u8]) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    // Most texts need no parser: the bytes between the quotes are the text.
    let inner = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
    let is_plain = |byte: &u8| *byte >= b' ' && !matches!(byte, b'"' | b'\\');
    if let Some(inner) = inner.filter(|inner| inner.iter().all(is_plain)) {
        return std::str::from_utf8(inner).ok().map(Cow::Borrowed);
    }
    serde_json::from_slice::<Text>(value).ok().map(|Text(text)| text)
}

/// Returns every text, number and literal of `text`, at any depth, each with its name if it is a member
/// of an object.
pub(super) fn leaves(text: &[u8]) -> Leaves<'_> {
    Leaves { rest: text, name: None }
}

/// See [`leaves`].
pub(super) struct Leaves<'a> {
    rest: &'a [u8],
    name: Option<&'a [u8]>,
}

impl<'a> Iterator for Leaves<'a> {
    type Item = (Option<&'a [u8]>, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            self.rest = self.rest.trim_ascii_start();
            let first = *self.rest.first()?;
            if b"{}[],:".contains(&first) {
                self.name = self.name.filter(|_| first == b':');
                self.rest = self.rest.get(1..)?;
                continue;
            }
            let (leaf, rest) = self.rest.split_at_checked(end_of_value(self.rest)?)?;
            self.rest = rest;
            if rest.trim_ascii_start().starts_with(b":") {
                self.name = Some(leaf);
            } else {
                return Some((self.name.take(), leaf));
            }
        }
    }
}

/// A member: name without its quotes, and value.
type Member<'a> = (&'a [u8], &'a [u8]);

impl<'a> Members<'a> {
    /// Returns the next member. `end` gets its name and the text from its value on, and returns the
    /// length of the value.
    pub(super) fn next_by(
        &mut self,
        end: impl FnOnce(&'a [u8], &'a [u8]) -> Option<usize>,
    ) -> Option<Result<Member<'a>, Broken>> {
        self.0.next(|parts| {
            let name = parts.value()?;
            let name = name.strip_prefix(b"\"").and_then(|name| name.strip_suffix(b"\"")).ok_or(Broken)?;
            parts.expect(b':')?;
            Ok((name, parts.value_by(|text| end(name, text))?))
        })
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = Result<Member<'a>, Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_by(|_, text| end_of_value(text))
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Result<&'a [u8], Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next(Parts::value)
    }
}

/// The parts between two brackets, one after another.
struct Parts<'a> {
    rest: &'a [u8],
    closing: u8,
    began: bool,
    over: bool,
}

impl<'a> Parts<'a> {
    fn of(text: &'a [u8], opening: u8) -> Option<Self> {
        let rest = text.trim_ascii_start().strip_prefix(&[opening])?;
        // In ASCII a closing bracket is two after its opening one.
        Some(Self { rest, closing: opening + 2, began: false, over: false })
    }

    /// Returns the next part, read by `read`; none after the last one, or after a broken one.
    fn next<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Broken>) -> Option<Result<T, Broken>> {
        if self.over {
            return None;
        }
        self.rest = self.rest.trim_ascii_start();
        if let Some(rest) = self.rest.strip_prefix(&[self.closing]) {
            self.over = true;
            return if rest.trim_ascii_start().is_empty() { None } else { Some(Err(Broken)) };
        }
        let separated = if std::mem::replace(&mut self.began, true) { self.expect(b',') } else { Ok(()) };
        let part = separated.and_then(|()| read(self));
        self.over = part.is_err();
        Some(part)
    }

    fn expect(&mut self, byte: u8) -> Result<(), Broken> {
        self.rest = self.rest.trim_ascii_start().strip_prefix(&[byte]).ok_or(Broken)?;
        Ok(())
    }

    fn value(&mut self) -> Result<&'a [u8], Broken> {
        self.value_by(end_of_value)
    }

    fn value_by(&mut self, end: impl FnOnce(&'a [u8]) -> Option<usize>) -> Result<&'a [u8], Broken> {
        let text = self.rest.trim_ascii_start();
        let (value, rest) = text.split_at_checked(end(text).ok_or(Broken)?).ok_or(Broken)?;
        self.rest = rest;
        Ok(value)
    }
}

/// Returns where the value at the beginning of `text` ends.
pub(super) fn end_of_value(text: &[u8]) -> Option<usize> {
    match text.first()? {
        b'"' => end_of_string(text, 0),
        b'{' | b'[' => end_of_brackets(text),
        _ => {
            let end = text.iter().position(|byte| b",:]}[{\"".contains(byte) || byte.is_ascii_whitespace());
            Some(end.unwrap_or(text.len())).filter(|end| *end > 0)
        }
    }
}

fn end_of_brackets(text: &[u8]) -> Option<usize> {
    let (mut depth, mut at) = (0_usize, 0);
    loop {
        match text.get(at)? {
            b'"' => {
                at = end_of_string(text, at)?;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
        at += 1;
    }
}

/// Returns where the string that begins at `start` ends.
pub(super) fn end_of_string(text: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    loop {
        let rest = text.get(at..)?;
        let special = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
        match rest.get(special)? {
            b'"' => return Some(at + special + 1),
            _ => at += special + 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Read<'a> = Vec<Result<(&'a str, &'a str), Broken>>;

    fn str(bytes: &[u8]) -> &str {
        std::str::from_utf8(bytes).unwrap()
    }

    fn read(text: &str) -> Read<'_> {
        members(text.as_bytes())
            .unwrap()
            .map(|part| part.map(|(name, value)| (str(name), str(value))))
            .collect()
    }

    #[test]
    fn members_come_with_their_exact_values() {
        let read = read(r#" { "a" : "x\"}," , "b":[1,{"c":"]"}],"d":NaN , "e":-1e999} "#);
        let expected =
            [("a", r#""x\"},""#), ("b", r#"[1,{"c":"]"}]"#), ("d", "NaN"), ("e", "-1e999")].map(Ok);
        assert_eq!(read, expected);
        assert_eq!(member(b"{\"a\":1,\"b\":\"\xff\"", "b"), Some(b"\"\xff\"".as_slice()));
    }

    #[test]
    fn a_malformed_part_ends_the_iteration_after_the_parts_before_it() {
        for text in [
            r#"{"a":1,"b"#,
            r#"{"a":1,"b":}"#,
            r#"{"a":1 "b":2}"#,
            r#"{"a":1,}"#,
            r#"{"a":1,b:2}"#,
            r#"{"a":1,"b":[1"#,
            r#"{"a":1"#,
            r#"{"a":1} {"#,
            r#"{"a":1,"b":"\"#,
        ] {
            assert_eq!(read(text), [Ok(("a", "1")), Err(Broken)], "{text}");
        }
    }

    #[test]
    fn another_kind_of_value_has_no_parts() {
        for text in ["", "[]", "null", "7", "\"{}\"", "<html>"] {
            assert!(members(text.as_bytes()).is_none(), "{text}");
        }
        assert!(items(b"{}").is_none());
        assert_eq!(items(b" [ ] ").unwrap().count(), 0);
    }

    #[test]
    fn only_a_readable_string_is_a_text() {
        assert_eq!(text(br#""a\u00e9\n""#).as_deref(), Some("aé\n"));
        for value in [b"7".as_slice(), b"\"\xff\"", br#""\ud800""#, b"null", b"\"a"] {
            assert_eq!(text(value), None);
        }
    }

    #[test]
    fn a_name_is_known_in_any_spelling_and_its_last_value_counts() {
        let object = br#"{"b":1,"\u0061":2,"c":{"a":9},"\ud800":3,"a":4}"#;
        let found = named(object, &["a", "b", "d"]).unwrap();
        assert_eq!(found.values, [Some(b"4".as_slice()), Some(b"1"), None]);
        assert_eq!(found.repeated, [true, false, false]);
        assert!(named(b"[]", &["a"]).is_none());
    }

    #[test]
    fn leaves_come_with_the_names_of_their_own() {
        let found: Vec<_> = leaves(br#"{"a":[1,{"b":"x:"}],"c": true, "d":{}} "e"#).collect();
        let named = |name: &'static str, leaf: &'static str| (Some(name.as_bytes()), leaf.as_bytes());
        assert_eq!(found, [(None, b"1".as_slice()), named("\"b\"", "\"x:\""), named("\"c\"", "true")]);
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            ".*".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                prop::collection::hash_map(".*", inner, 0..6)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_items_of_any_array_are_those_a_parser_sees(values in prop::collection::vec(json(), 0..6)) {
            let text = serde_json::to_string(&values).unwrap();
            let found: Vec<serde_json::Value> =
                items(text.as_bytes()).unwrap().map(|item| serde_json::from_slice(item.unwrap()).unwrap()).collect();
            prop_assert_eq!(found, values);
        }

        #[test]
        fn the_members_of_any_object_are_those_a_parser_sees(object in prop::collection::hash_map("[a-c\\\\\"é]{0,2}", json(), 0..6)) {
            let text = serde_json::to_string(&object).unwrap();
            prop_assert!(check(&text).is_ok());
            for (name, value) in object {
                let [found] = named(text.as_bytes(), &[&name]).unwrap().values;
                prop_assert_eq!(serde_json::from_slice::<serde_json::Value>(found.unwrap()).unwrap(), value);
            }
        }

        #[test]
        fn any_bytes_are_read_to_an_end(bytes in prop::collection::vec(prop::sample::select(b"{}[]\",:\\ a1\xff".to_vec()), 0..64)) {
            let count = items(&bytes).map_or(0, Iterator::count) + members(&bytes).map_or(0, Iterator::count);
            prop_assert!(count <= bytes.len());
        }
    }
}
