//! Untrusted texts, made safe for a terminal.

/// Returns `text` on one line, with escapes for control characters, invisible characters and characters
/// that change the text direction. Texts of targets are not trusted.
pub(super) fn clean(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\n' | '\t' => shown.push(' '),
            letter if is_unseen(letter) => shown.extend(letter.escape_unicode()),
            letter => shown.push(letter),
        }
    }
    shown
}

/// Applies [`clean`] to each line of `text`.
pub(super) fn clean_lines(text: &str) -> String {
    text.lines().map(clean).collect::<Vec<_>>().join("\n")
}

/// Returns whether `letter` is a control character, has no width or changes the text direction. The page
/// escapes the same characters (`web/page/dom.js`).
fn is_unseen(letter: char) -> bool {
    letter.is_control()
        || matches!(
            letter,
            '\u{ad}'
                | '\u{61c}'
                | '\u{115f}'
                | '\u{1160}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{3164}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e01ef}'
        )
}

/// Returns `id` without its middle part if it has more than `limit` characters. The beginning shows the
/// kind of an id, and ids differ at their end.
pub(super) fn shortened(id: &str, limit: usize) -> String {
    let letters: Vec<char> = id.chars().collect();
    if letters.len() <= limit || limit < 3 {
        return id.to_owned();
    }
    let start = limit / 2;
    let end = letters.len() - (limit - 1 - start);
    letters[..start].iter().chain(['…'].iter()).chain(&letters[end..]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invisible_characters_are_escaped_and_the_rest_stays() {
        for (text, shown) in [
            ("plain, naïve, 日本, 👍🏽", "plain, naïve, 日本, 👍🏽"),
            ("two\nlines\tmore", "two lines more"),
            ("\u{1b}[2J\r\u{9b}", "\\u{1b}[2J\\u{d}\\u{9b}"),
            ("paid\u{202e}yllaer ton\u{2069}", "paid\\u{202e}yllaer ton\\u{2069}"),
            ("or\u{200b}ders\u{feff}\u{ad}\u{e0041}", "or\\u{200b}ders\\u{feff}\\u{ad}\\u{e0041}"),
        ] {
            assert_eq!(clean(text), shown);
        }
        assert_eq!(clean_lines("no\u{9b}\n  a: wrong\u{202e}\n"), "no\\u{9b}\n  a: wrong\\u{202e}");
    }

    #[test]
    fn a_long_id_loses_its_middle_alone() {
        assert_eq!(shortened("evt_1", 5), "evt_1");
        assert_eq!(shortened("evt_123456789", 7), "evt…789");
        assert_eq!(shortened("evt_123456789", 8), "evt_…789");
        assert_eq!(shortened("ééééééééé", 5), "éé…éé");
    }
}
