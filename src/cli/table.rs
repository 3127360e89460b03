//! Columns that `awk` and `cut` can read: no borders, no
//! wrapping, at least two spaces between.

use comfy_table::presets::NOTHING;
use comfy_table::{ColumnConstraint, Width};

/// What stands where there is nothing.
const NOTHING_THERE: &str = "-";

/// Between two columns.
const GAP: u16 = 2;

/// A table that may be printed part by part, each as wide as the one before.
pub(super) struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
    /// Of every column so far.
    widths: Vec<u16>,
}

impl Table {
    pub(super) fn new(header: &[&str]) -> Self {
        let header = header.iter().map(|&name| name.to_owned()).collect();
        Self { header, rows: Vec::new(), widths: Vec::new() }
    }

    /// Adds a row, with a cell for every column.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cell = |cell: String| if cell.is_empty() { NOTHING_THERE.to_owned() } else { clean(&cell) };
        self.rows.push(cells.into_iter().map(cell).collect());
    }

    /// The rows that were added since the last time, below the header the first
    /// time; nothing if there are none.
    pub(super) fn take(&mut self) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let mut table = comfy_table::Table::new();
        table.load_style(NOTHING);
        if self.widths.is_empty() {
            table.set_header(&self.header);
        }
        table.add_rows(self.rows.drain(..));
        let contents = table.column_max_content_widths();
        self.widths.resize(contents.len(), 0);
        for ((column, content), width) in table.column_iter_mut().zip(contents).zip(&mut self.widths) {
            *width = (*width).max(content);
            column.set_padding((0, GAP));
            column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(*width + GAP)));
        }
        table.trim_fmt() + "\n"
    }
}

/// `text` on one line, without what would make a terminal do something or show it
/// in another order: a target's words are not trusted.
pub(super) fn clean(text: &str) -> String {
    let shown = |letter: char| match letter {
        '\n' | '\t' => ' ',
        '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' => char::REPLACEMENT_CHARACTER,
        letter if letter.is_control() => char::REPLACEMENT_CHARACTER,
        letter => letter,
    };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: [&str; 3]) -> Vec<String> {
        cells.map(str::to_owned).into()
    }

    #[test]
    fn columns_are_aligned_over_all_parts_and_the_header_comes_once() {
        let mut table = Table::new(&["A", "NUMBER", "TEXT"]);
        assert_eq!(table.take(), "");
        table.row(row(["a long cell", "1", "some words"]));
        table.row(row(["b", "", "x"]));
        assert_eq!(
            table.take(),
            "A            NUMBER  TEXT\na long cell  1       some words\nb            -       x\n"
        );
        table.row(row(["c", "23", "y"]));
        assert_eq!(table.take(), "c            23      y\n");
        assert_eq!(table.take(), "");
    }

    #[test]
    fn a_long_text_stays_on_its_line_and_commands_no_terminal() {
        let mut table = Table::new(&["A", "B", "C"]);
        table.row(row(["a", "b", &format!("{}\nred \u{1b}[31m\u{202E}end", "x".repeat(300))]));
        let shown = table.take();
        assert_eq!(shown.lines().count(), 2);
        assert!(shown.ends_with("x red \u{FFFD}[31m\u{FFFD}end\n"), "{shown}");
    }
}
