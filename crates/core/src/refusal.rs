//! What Portolan refused, and why, in words for the person who wrote the label.

use serde::{Deserialize, Serialize};

/// One refused input: the field a person can change, what was wrong with it.
///
/// Both texts are safe to show anywhere: hostile bytes are escaped and cut by [`shown`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Refusal {
    /// The field, such as ``label `portolan.service` `` or `port 9200/tcp`.
    pub field: String,
    /// Why it was refused and what would be accepted.
    pub reason: String,
}

impl Refusal {
    /// A refusal of `field`. Both texts are escaped, so callers may put labels into them.
    pub fn new(field: impl AsRef<str>, reason: impl AsRef<str>) -> Self {
        Refusal { field: shown(field.as_ref(), 120), reason: shown(reason.as_ref(), 400) }
    }
}

/// `text` with control characters escaped, cut to at most `characters_max` characters: fit for a log or a terminal.
pub fn shown(text: &str, characters_max: usize) -> String {
    let mut out = String::new();
    let mut left = characters_max;
    for c in text.chars() {
        if left == 0 {
            out.push('…');
            break;
        }
        left -= 1;
        if c.is_control() || is_invisible(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// Characters that reorder or hide text on a screen (bidirectional controls, zero-width ones).
pub(crate) fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_hostile_text_harmlessly() {
        assert_eq!(shown("a\u{1b}[31mb", 50), "a\\u{1b}[31mb");
        assert_eq!(shown("abc", 2), "ab…");
        assert_eq!(shown("\u{202e}x", 9), "\\u{202e}x");
    }
}
