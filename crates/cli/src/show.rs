//! The screen: aligned tables and coloured words for people, JSON for programs. Everything that a server said passes
//! through [`safe`] here, so that no label moves the cursor.

mod aws;
mod explain;
mod links;
mod orders;
mod resolve;
mod service;
mod table;
mod wait;

use std::error::Error;
use std::io::{self, Write};

use jiff::Timestamp;
use portolan_core::refusal::shown;

pub(crate) use explain::explanation;
pub(crate) use links::{link, links};
pub(crate) use orders::{external, externals, ordered, orders, undone};
pub(crate) use resolve::resolution;
pub(crate) use service::{nodes, service, services, status};
pub(crate) use table::{Cell, Table};
pub(crate) use wait::{Progress, waited};

/// Longer than any name, shorter than a screen.
const TEXT_CHARACTERS_MAX: usize = 400;

/// Whether words are coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colour {
    /// Standard output is a terminal, and nobody asked for plain text.
    Always,
    /// Plain text.
    Never,
}

/// How a word is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// As it should be.
    Good,
    /// Worth a look.
    Doubtful,
    /// Broken.
    Bad,
    /// Beside the point.
    Faint,
    /// A heading.
    Strong,
    /// Text.
    Plain,
}

/// Where a command writes.
pub(crate) struct Screen<W> {
    out: W,
    colour: Colour,
    /// The present, for ages.
    pub(crate) now: Timestamp,
}

impl<W: Write> Screen<W> {
    /// A screen.
    pub(crate) fn new(out: W, colour: Colour, now: Timestamp) -> Self {
        Screen { out, colour, now }
    }

    /// Writes a line, made harmless.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn line(&mut self, text: &str) -> io::Result<()> {
        self.cells(&[Cell::plain(text)])
    }

    /// Writes cells in one line, a space between them.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn cells(&mut self, cells: &[Cell]) -> io::Result<()> {
        let words: Vec<String> = cells.iter().map(|cell| painted(cell.text(), cell.tone(), self.colour)).collect();
        writeln!(self.out, "{}", words.join(" "))
    }

    /// Writes a table.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn table(&mut self, table: &Table) -> io::Result<()> {
        self.out.write_all(table.render(self.colour).as_bytes())
    }

    /// Writes JSON as it came, but for characters that would act on a terminal: they are escaped, which JSON reads back.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn json(&mut self, raw: &[u8]) -> io::Result<()> {
        writeln!(self.out, "{}", harmless_json(&String::from_utf8_lossy(raw)))
    }

    /// Sends what was written on its way.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// `text` as it may stand on a terminal.
pub(crate) fn safe(text: &str) -> String {
    shown(text, TEXT_CHARACTERS_MAX)
}

/// An error and its causes, made harmless.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.ends_with(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    shown(&text, 4 * TEXT_CHARACTERS_MAX)
}

/// How the word of a state is meant.
pub(crate) fn tone(word: &str) -> Tone {
    match word {
        "usable" | "current" | "speaking" | "ok" | "NOERROR" | "COMPLETED" => Tone::Good,
        "unverified" | "draining" | "starting" | "stale" | "loading" | "warning" => Tone::Doubtful,
        "unusable" | "silent" | "failed" | "FAILED" | "refused" | "NXDOMAIN" | "SERVFAIL" | "REFUSED" => Tone::Bad,
        "gone" => Tone::Faint,
        _ => Tone::Plain,
    }
}

/// How long ago `since` was, in its two largest units; as it stands when it is no time.
pub(crate) fn age(since: Option<&str>, now: Timestamp) -> String {
    let Some(since) = since else { return "-".to_owned() };
    match since.parse::<Timestamp>() {
        Ok(then) => seconds(now.as_second().saturating_sub(then.as_second()).max(0).unsigned_abs()),
        Err(_) => since.to_owned(),
    }
}

/// A number of seconds in its two largest units.
pub(crate) fn seconds(seconds: u64) -> String {
    let parts = [(seconds / 86400, "d"), (seconds / 3600 % 24, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    let first = parts.iter().position(|(number, _)| *number > 0).unwrap_or(3);
    let two: Vec<String> = parts[first..].iter().take(2).map(|(number, unit)| format!("{number}{unit}")).collect();
    two.concat()
}

fn painted(text: &str, tone: Tone, colour: Colour) -> String {
    let code = match (colour, tone) {
        (Colour::Never, _) | (_, Tone::Plain) => return text.to_owned(),
        (Colour::Always, Tone::Good) => "32",
        (Colour::Always, Tone::Doubtful) => "33",
        (Colour::Always, Tone::Bad) => "31",
        (Colour::Always, Tone::Faint) => "2",
        (Colour::Always, Tone::Strong) => "1",
    };
    format!("\u{1b}[{code}m{text}\u{1b}[0m")
}

fn harmless_json(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    let mut text = [0; 4];
    for c in raw.trim_end().chars() {
        let is_layout = matches!(c, '\n' | '\r' | '\t');
        if is_layout || c.is_ascii_graphic() || c == ' ' || shown(c.encode_utf8(&mut text), 1).starts_with(c) {
            out.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_keeps_its_meaning_and_loses_its_power() {
        let value = serde_json::json!({"a": "x\u{9b}31m\u{202e}y\u{1b}[2J", "b": "größe \u{1f600}"});
        let shown = harmless_json(&value.to_string());
        assert!(!shown.chars().any(|c| c.is_control() || c == '\u{202e}'), "{shown}");
        assert!(shown.contains("größe"));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
    }

    #[test]
    fn ages_have_two_units() {
        let now: Timestamp = "2026-01-02T00:00:10Z".parse().unwrap();
        let check = |since: &str, expected: &str| assert_eq!(age(Some(since), now), expected, "{since}");
        check("2026-01-02T00:00:07.5Z", "3s");
        check("2026-01-01T23:58:00Z", "2m10s");
        check("2025-12-30T23:00:00Z", "2d1h");
        check("2026-01-03T00:00:00Z", "0s");
        check("yesterday", "yesterday");
        assert_eq!(age(None, now), "-");
    }
}
