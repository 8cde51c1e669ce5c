//! Names as people type them: short, relative to the zone, complete, or an address.

use std::net::IpAddr;

use thiserror::Error;

use super::{Meaning, Zone, lookup};
use crate::refusal::shown;

/// RFC 1035 section 2.3.4: 255 octets with the root's and the first length octet, so 253 characters.
const NAME_CHARACTERS_MAX: usize = 253;
/// RFC 1035 section 2.3.4.
const LABEL_OCTETS_MAX: usize = 63;

/// Why a text is no DNS name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TextError {
    /// Nothing was given.
    #[error("the name is empty")]
    Empty,
    /// Longer than a name can be.
    #[error("the name has {0} characters; a DNS name has at most 253")]
    TooLong(usize),
    /// An empty label, or one of more than 63 octets.
    #[error("`{0}` is not a DNS name: each part between dots has 1 to 63 characters")]
    NotAName(String),
}

/// Reads `elasticsearch`, `elasticsearch.prod`, any complete name of the zone, or an address (as its reverse name).
///
/// Without a final dot, what is outside the zone is read below the zone. One label alone is [`Meaning::Bare`].
///
/// # Errors
/// When the text is no DNS name at all. A name that nobody has is none of this function's business.
pub fn parse(text: &str, zone: &Zone) -> Result<Meaning, TextError> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(Meaning::Reverse(address));
    }
    let trimmed = text.strip_suffix('.').unwrap_or(text);
    if trimmed.is_empty() {
        return Err(TextError::Empty);
    }
    if trimmed.len() > NAME_CHARACTERS_MAX {
        return Err(TextError::TooLong(trimmed.len()));
    }
    let mut labels: Vec<&[u8]> = trimmed.split('.').map(str::as_bytes).collect();
    if labels.iter().any(|label| label.is_empty() || label.len() > LABEL_OCTETS_MAX) {
        return Err(TextError::NotAName(shown(text, 80)));
    }
    let meaning = lookup(&labels, zone);
    let is_relative = meaning == Meaning::Outside && trimmed.len() == text.len() && labels.len() > 1;
    if !is_relative {
        return Ok(meaning);
    }
    labels.extend(zone.labels().iter().map(|label| label.as_str().as_bytes()));
    Ok(lookup(&labels, zone))
}
