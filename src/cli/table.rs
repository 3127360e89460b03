//! Tables that `awk` and `cut` can read: no borders, no wrapped lines, at least two spaces between
//! columns.

use std::io::{self, IsTerminal as _};

use comfy_table::presets::NOTHING;
use comfy_table::{ColumnConstraint, Width};
use rustix::termios::tcgetwinsize;

use super::text::{clean, shortened};

/// The text of an empty cell.
const NOTHING_THERE: &str = "-";

/// The number of spaces between two columns.
const GAP: u16 = 2;

/// The columns that contain ids.
const OF_IDS: [&str; 3] = ["ID", "EVENT", "OBJECT"];

/// The least number of characters of a shortened id.
const SHORTEST_ID: usize = 16;

/// The width that counts for the last column, which is often a sentence, when ids are shortened.
const OF_LAST: usize = 24;

/// A table that may be printed in parts. A column of a later part is at least as wide as in earlier
/// parts.
pub(super) struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
    /// The width of each column so far.
    widths: Vec<u16>,
    /// The width of the terminal in characters; `None` if the output is not a terminal.
    terminal: Option<usize>,
}

impl Table {
    /// Creates a table for standard output. Ids are shortened only if that is a terminal and a line would
    /// be too long for it.
    pub(super) fn new(header: &[&str]) -> Self {
        Self::of_width(header, terminal_width())
    }

    fn of_width(header: &[&str], terminal: Option<usize>) -> Self {
        let header = header.iter().map(|&name| name.to_owned()).collect();
        Self { header, rows: Vec::new(), widths: Vec::new(), terminal }
    }

    /// Adds a row with one cell per column.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cell = |cell: String| if cell.is_empty() { NOTHING_THERE.to_owned() } else { clean(&cell) };
        self.rows.push(cells.into_iter().map(cell).collect());
    }

    /// Returns the rows that were added since the last call, as text. The first text with rows begins
    /// with the header. Without new rows the text is empty.
    pub(super) fn take(&mut self) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        self.shorten_ids();
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

    /// Shortens ids until the lines fit the terminal.
    fn shorten_ids(&mut self) {
        let Some(terminal) = self.terminal else { return };
        let is_id = |column: &usize| OF_IDS.contains(&&*self.header[*column]);
        let ids: Vec<usize> = (0..self.header.len()).filter(is_id).collect();
        let longest = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            let cells = cells.chain(self.header.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let mut widths: Vec<usize> = (0..self.header.len()).map(longest).collect();
        if let Some(last) = widths.last_mut() {
            *last = (*last).min(OF_LAST);
        }
        let mut excess = (widths.iter().sum::<usize>() + usize::from(GAP) * widths.len().saturating_sub(1))
            .saturating_sub(terminal);
        // The longest id is shortened first, so that a short one stays whole.
        while let Some(column) = ids.iter().copied().max_by_key(|column| widths[*column])
            && excess > 0
            && widths[column] > SHORTEST_ID
        {
            widths[column] -= 1;
            excess -= 1;
        }
        for column in ids {
            for cell in self.rows.iter_mut().filter_map(|row| row.get_mut(column)) {
                *cell = shortened(cell, widths[column]);
            }
        }
    }
}

/// Returns the width of standard output in characters, if it is a terminal.
fn terminal_width() -> Option<usize> {
    /// The width of a terminal that does not report its width.
    const USUAL: u16 = 80;
    let stdout = io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    let columns = tcgetwinsize(&stdout).map_or(0, |size| size.ws_col);
    Some(usize::from(if columns == 0 { USUAL } else { columns }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: [&str; 3]) -> Vec<String> {
        cells.map(str::to_owned).into()
    }

    #[test]
    fn columns_are_aligned_over_all_parts_and_the_header_comes_once() {
        let mut table = Table::of_width(&["A", "NUMBER", "TEXT"], None);
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
    fn a_long_text_stays_on_its_line_without_control_characters() {
        let mut table = Table::of_width(&["A", "B", "C"], None);
        table.row(row(["a", "b", &format!("{}\nred \u{1b}[31m\u{202E}end", "x".repeat(300))]));
        let shown = table.take();
        assert_eq!(shown.lines().count(), 2);
        assert!(shown.ends_with("x red \\u{1b}[31m\\u{202e}end\n"), "{shown}");
    }

    #[test]
    fn ids_are_shortened_in_the_middle_where_a_terminal_has_no_room_for_them() {
        let (id, object) = ("evt_1734780000000-123456789", "3c90c3cc-0d44-4b50-8888-8dd25736052a");
        let printed = |width| {
            let mut table = Table::of_width(&["ID", "OBJECT", "LAST ERROR"], width);
            table.row(row([id, object, "answered 503 Service Unavailable, twice"]));
            table.take()
        };
        for whole in [None, Some(500), Some(95)] {
            assert!(printed(whole).contains(id) && printed(whole).contains(object), "{whole:?}");
        }
        let some = printed(Some(84));
        assert!(some.contains(id) && !some.contains(object), "the longest gives way first: {some}");
        let narrow = printed(Some(60));
        let [start, end] = ["3c90c3cc", "736052a"];
        assert!(narrow.contains('…') && narrow.contains(start) && narrow.contains(end), "{narrow}");
        assert!(printed(Some(1)).contains("evt_1734…3456789"), "{}", printed(Some(1)));
        assert!(printed(Some(1)).contains("answered 503 Service Unavailable, twice"));
    }
}
