//! Finds the paths that Rust source names. It is no parser: the import rule needs only words, `::`
//! and braces.

/// A path that starts at the crate's root, without the leading `crate`.
#[derive(Debug, PartialEq, Eq)]
pub struct Named {
    pub line: usize,
    pub path: Vec<String>,
}

/// A word or one punctuation mark (`::` counts as one) of production code.
#[derive(Debug)]
pub struct Token {
    pub line: usize,
    pub text: String,
}

/// Returns the tokens of `source` without comments, literals and `#[cfg(test)]` items.
pub fn tokens(source: &str) -> Vec<Token> {
    let code = without_comments_and_literals(source);
    let mut found = Vec::new();
    for (index, line) in code.lines().enumerate() {
        let mut rest = line;
        while let Some(first) = rest.chars().next() {
            let is_word = |c: char| c.is_alphanumeric() || c == '_';
            let length = if is_word(first) {
                rest.find(|c| !is_word(c)).unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            let (text, tail) = rest.split_at(length);
            if !first.is_whitespace() {
                found.push(Token { line: index + 1, text: text.to_owned() });
            }
            rest = tail;
        }
    }
    without_test_items(found)
}

/// Returns the paths in `tokens` that start at the crate's root: `crate::…`, and as many `super::`
/// as lead from a module `depth` levels below the root to the root. A group names each of its
/// members: `crate::a::{b, c::d}` names `a::b` and `a::c::d`. An imported module counts with the
/// items that are named through it: `use crate::a` with `a::b()` names `a::b`.
pub fn paths(tokens: &[Token], depth: usize) -> Vec<Named> {
    let mut found = Vec::new();
    let mut imports = Vec::new();
    let mut rest = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let Some(behind_root) = root(tokens, at, depth) else {
            rest.push(at);
            at += 1;
            continue;
        };
        let mut leaves = Vec::new();
        let imported = at > 0 && tokens[at - 1].text == "use";
        at = spread(tokens, behind_root, &[], &mut leaves);
        if imported {
            imports.extend(leaves);
        } else {
            found.extend(leaves.into_iter().map(|leaf| leaf.named));
        }
    }
    for import in imports {
        let before = found.len();
        for &at in &rest {
            if tokens[at].text == import.name && starts_path(tokens, at) && text(tokens, at + 1) == "::" {
                let mut leaves = Vec::new();
                spread(tokens, at + 2, &import.named.path, &mut leaves);
                found.extend(leaves.into_iter().map(|leaf| leaf.named));
            }
        }
        if found.len() == before {
            found.push(import.named);
        }
    }
    found
}

/// The end of one branch of a path, and the local name of the item.
pub struct Leaf {
    pub named: Named,
    pub name: String,
}

/// Returns the text of the token at `at`; empty after the last one.
pub fn text(tokens: &[Token], at: usize) -> &str {
    tokens.get(at).map_or("", |token| &token.text)
}

/// Returns whether a path can begin at `at`, and does not continue there.
pub fn starts_path(tokens: &[Token], at: usize) -> bool {
    at == 0 || !matches!(text(tokens, at - 1), "::" | ".")
}

/// Returns the index after the `crate::` at `at`, or after as many `super::` as lead to the root.
/// `None` if neither begins there.
fn root(tokens: &[Token], at: usize, depth: usize) -> Option<usize> {
    if !starts_path(tokens, at) {
        return None;
    }
    let mut behind = at;
    let climbs = match text(tokens, at) {
        "crate" | "pepay_bridge" => 1,
        "super" => depth.max(1),
        _ => return None,
    };
    for _ in 0..climbs {
        if text(tokens, behind) != text(tokens, at) || text(tokens, behind + 1) != "::" {
            return None;
        }
        behind += 2;
    }
    Some(behind)
}

/// Follows the branches of a path that continues `prefix` at `at`, adds their ends to `found`, and
/// returns the index after them.
pub fn spread(tokens: &[Token], mut at: usize, prefix: &[String], found: &mut Vec<Leaf>) -> usize {
    let mut path = prefix.to_vec();
    let line = tokens.get(at).map_or(0, |token| token.line);
    loop {
        if text(tokens, at) == "{" {
            at += 1;
            while at < tokens.len() && text(tokens, at) != "}" {
                at = if text(tokens, at) == "," { at + 1 } else { spread(tokens, at, &path, found) };
            }
            return at + 1;
        }
        if text(tokens, at) != "self" {
            path.push(text(tokens, at).to_owned());
        }
        at += 1;
        if text(tokens, at) != "::" || text(tokens, at + 1) == "<" {
            break;
        }
        at += 1;
    }
    let mut name = path.last().cloned().unwrap_or_default();
    if text(tokens, at) == "as" {
        text(tokens, at + 1).clone_into(&mut name);
        at += 2;
    }
    found.push(Leaf { named: Named { line, path }, name });
    at
}

/// Removes every item under `#[cfg(test)]`, up to its closing brace or its semicolon.
fn without_test_items(tokens: Vec<Token>) -> Vec<Token> {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut of_tests = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let marked = tokens[at..].iter().map(|token| token.text.as_str()).take(MARK.len()).eq(MARK);
        if !marked {
            at += 1;
            continue;
        }
        of_tests.extend(at..at + MARK.len());
        let mut open = 0_usize;
        at += MARK.len();
        while at < tokens.len() {
            of_tests.push(at);
            match tokens[at].text.as_str() {
                "{" => open += 1,
                "}" => open -= 1,
                _ => {}
            }
            at += 1;
            if open == 0 && matches!(tokens[at - 1].text.as_str(), "}" | ";") {
                break;
            }
        }
    }
    let mut dropped = of_tests.into_iter().peekable();
    let production = tokens.into_iter().enumerate().filter(|(index, _)| dropped.next_if_eq(index).is_none());
    production.map(|(_, token)| token).collect()
}

/// Returns `source` with spaces in the place of comments and literals. Lines keep their numbers.
fn without_comments_and_literals(source: &str) -> String {
    let chars: Vec<char> = source.chars().collect();
    let mut code = String::with_capacity(source.len());
    let mut at = 0;
    while at < chars.len() {
        let end = literal_or_comment(&chars, at);
        if end == at {
            code.push(chars[at]);
            at += 1;
        } else {
            code.extend(chars[at..end].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    code
}

/// Returns the index after the comment or literal that starts at `at`; `at` itself if none starts there.
fn literal_or_comment(chars: &[char], at: usize) -> usize {
    let char_at = |index: usize| chars.get(index).copied().unwrap_or('\0');
    let starts_word = at == 0 || !(char_at(at - 1).is_alphanumeric() || char_at(at - 1) == '_');
    match (char_at(at), char_at(at + 1)) {
        ('/', '/') => (at..chars.len()).find(|&end| chars[end] == '\n').unwrap_or(chars.len()),
        ('/', '*') => {
            let (mut end, mut open) = (at + 2, 1);
            while end < chars.len() && open > 0 {
                match (char_at(end), char_at(end + 1)) {
                    ('/', '*') => (end, open) = (end + 2, open + 1),
                    ('*', '/') => (end, open) = (end + 2, open - 1),
                    _ => end += 1,
                }
            }
            end.min(chars.len())
        }
        ('"', _) => quoted(chars, at + 1, '"'),
        ('\'', '\\') => quoted(chars, at + 1, '\''),
        // Any other apostrophe belongs to a lifetime.
        ('\'', _) if char_at(at + 2) == '\'' => at + 3,
        ('r', '"' | '#') if starts_word || char_at(at - 1) == 'b' => {
            let hashes = chars[at + 1..].iter().take_while(|&&c| c == '#').count();
            if char_at(at + 1 + hashes) != '"' {
                return at;
            }
            let closes = |end: &usize| {
                chars[*end] == '"'
                    && chars[end + 1..].iter().take(hashes).filter(|&&c| c == '#').count() == hashes
            };
            (at + 2 + hashes..chars.len()).find(closes).map_or(chars.len(), |end| end + 1 + hashes)
        }
        _ => at,
    }
}

/// Returns the index after the quote that closes a literal whose content starts at `at`.
fn quoted(chars: &[char], mut at: usize, quote: char) -> usize {
    while at < chars.len() && chars[at] != quote {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}
