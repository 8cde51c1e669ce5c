//! Tables with aligned columns. A cell is made harmless when it is made.

use super::{Colour, Tone, painted, safe, tone};

/// One cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// Text.
    pub(crate) fn plain(text: impl AsRef<str>) -> Cell {
        Cell::toned(text, Tone::Plain)
    }

    /// A word that is coloured by what it says.
    pub(crate) fn word(text: impl AsRef<str>) -> Cell {
        let tone = tone(text.as_ref());
        Cell::toned(text, tone)
    }

    /// Text, meant like this.
    pub(crate) fn toned(text: impl AsRef<str>, tone: Tone) -> Cell {
        Cell { text: safe(text.as_ref()), tone }
    }

    /// The text, harmless.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// How it is meant.
    pub(crate) fn tone(&self) -> Tone {
        self.tone
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Cell {
        Cell::plain(text)
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Cell {
        Cell::plain(text)
    }
}

impl From<Option<&str>> for Cell {
    fn from(text: Option<&str>) -> Cell {
        Cell::plain(text.unwrap_or("-"))
    }
}

/// Rows under headings.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    rows: Vec<Vec<Cell>>,
    indent: usize,
}

impl Table {
    /// A table with these headings.
    pub(crate) fn new(headings: &[&str]) -> Table {
        let head = headings.iter().map(|heading| Cell::toned(heading, Tone::Strong)).collect();
        Table { rows: vec![head], indent: 0 }
    }

    /// Rows without headings, `indent` spaces from the left.
    pub(crate) fn indented(indent: usize) -> Table {
        Table { rows: Vec::new(), indent }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// As text: two spaces between columns, none at the end of a line.
    pub(crate) fn render(&self, colour: Colour) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.text.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut out = String::new();
        for row in &self.rows {
            out.push_str(&" ".repeat(self.indent));
            for (column, cell) in row.iter().enumerate() {
                out.push_str(&painted(&cell.text, cell.tone, colour));
                if column + 1 < row.len() {
                    let padding = widths[column] - cell.text.chars().count();
                    out.push_str(&" ".repeat(padding + 2));
                }
            }
            out.push('\n');
        }
        out
    }
}
