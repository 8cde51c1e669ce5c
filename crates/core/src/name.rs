//! Names: what may stand in one DNS label, and the keys made of such labels.
//!
//! A [`Label`] is valid by construction, so nothing behind the door has to check again (DESIGN section 3).

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::hash;

/// RFC 1035 section 2.3.4: a label has at most 63 octets.
const LABEL_OCTETS_MAX: usize = 63;
/// How much of a long name is kept before the hyphen and the eight digits of its hash.
const LONG_NAME_KEPT: usize = 54;
/// Longer than any name an orchestrator allows; what exceeds it is hostile rather than long.
const RAW_OCTETS_MAX: usize = 255;

/// One lower-case DNS label of letters, digits and hyphens, 1 to 63 octets, no hyphen at an end.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Label(Arc<str>);

/// Why a text cannot be a name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NameError {
    /// Nothing but characters that a name cannot hold.
    #[error("holds no letter or digit")]
    Empty,
    /// Over [`RAW_OCTETS_MAX`] octets.
    #[error("is {0} octets long; at most 255 can be made into a name")]
    TooLong(usize),
    /// Control characters, quotes, angle brackets or broken UTF-8.
    #[error("holds the character {0}, which no name has; use letters, digits and hyphens")]
    Hostile(String),
    /// A name with a meaning of its own (DESIGN section 3).
    #[error("`{0}` is reserved; choose another name")]
    Reserved(String),
    /// Not a label as it stands.
    #[error("is not a DNS label: lower-case letters, digits and inner hyphens, at most 63")]
    NotALabel,
}

impl Label {
    /// Makes a name of what people write: lower case, other characters to hyphens, long names cut and hashed.
    ///
    /// # Errors
    /// When nothing is left, or the text is one that nobody means as a name (control characters, quotes, mark-up).
    pub fn sanitise(raw: &str) -> Result<Label, NameError> {
        if raw.len() > RAW_OCTETS_MAX {
            return Err(NameError::TooLong(raw.len()));
        }
        if let Some(c) = raw.chars().find(|c| is_hostile(*c)) {
            let shown = if c.is_ascii_graphic() { format!("`{c}`") } else { c.escape_unicode().to_string() };
            return Err(NameError::Hostile(shown));
        }
        let lowered: String =
            raw.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
        let trimmed = lowered.trim_matches('-');
        if trimmed.is_empty() {
            return Err(NameError::Empty);
        }
        if trimmed.len() <= LABEL_OCTETS_MAX {
            return Ok(Label(trimmed.into()));
        }
        let digest = hash::stable(&[trimmed.as_bytes()]) as u32;
        Ok(Label(format!("{}-{digest:08x}", &trimmed[..LONG_NAME_KEPT]).into()))
    }

    /// Takes a label as it stands, ignoring case, as a DNS question carries it.
    ///
    /// # Errors
    /// [`NameError::NotALabel`] when `sanitise` would change more than the case.
    pub fn parse(text: &str) -> Result<Label, NameError> {
        let valid = (1..=LABEL_OCTETS_MAX).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !text.starts_with('-')
            && !text.ends_with('-');
        if valid { Ok(Label(text.to_ascii_lowercase().into())) } else { Err(NameError::NotALabel) }
    }

    /// A label known at compile time.
    ///
    /// # Panics
    /// When `text` is not a label: a mistake in the program, never in its input.
    pub fn fixed(text: &'static str) -> Label {
        Label::parse(text).expect("a constant in our own source is a valid label")
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Quotes, mark-up, control characters and U+FFFD (what decoders make of broken UTF-8): no one means these as a name.
fn is_hostile(c: char) -> bool {
    c.is_control() || matches!(c, '<' | '>' | '"' | '\'' | '`' | '\u{fffd}')
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Label {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Label::parse(&text)
    }
}

impl From<Label> for String {
    fn from(label: Label) -> String {
        label.as_str().to_owned()
    }
}

/// A service: its cluster and its name. Displayed as `service.cluster`, as in DNS.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ServiceKey {
    /// The cluster.
    pub cluster: Label,
    /// The service within it.
    pub service: Label,
}

/// A node: its cluster and its name there (EC2 or `mi-` id, setting `node`, or a hash of the machine id).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeKey {
    /// The cluster of the node itself; a container on it may belong to another.
    pub cluster: Label,
    /// The node within it.
    pub node: Label,
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.service, self.cluster)
    }
}

impl fmt::Display for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.node, self.cluster)
    }
}

/// A service name, sanitised, that is not reserved.
///
/// # Errors
/// As [`Label::sanitise`]; `node` is the zone's own branch, `localhost` and `wpad` have a meaning on every client.
pub fn service_label(raw: &str) -> Result<Label, NameError> {
    not_reserved(Label::sanitise(raw)?, &["node", "localhost", "wpad"])
}

/// A cluster name, sanitised, that is not reserved. An ARN counts by what follows its last slash.
///
/// # Errors
/// As [`Label::sanitise`]; `addr` and `node` are the zone's own branches.
pub fn cluster_label(raw: &str) -> Result<Label, NameError> {
    let short = if raw.starts_with("arn:") { raw.rsplit('/').next().unwrap_or(raw) } else { raw };
    not_reserved(Label::sanitise(short)?, &["addr", "node"])
}

/// A container name, sanitised, that is not reserved.
///
/// # Errors
/// As [`Label::sanitise`]; `direct` asks for the addresses behind a virtual one.
pub fn container_label(raw: &str) -> Result<Label, NameError> {
    not_reserved(Label::sanitise(raw)?, &["direct"])
}

fn not_reserved(label: Label, reserved: &[&str]) -> Result<Label, NameError> {
    if reserved.contains(&label.as_str()) { Err(NameError::Reserved(label.to_string())) } else { Ok(label) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sanitises_as_the_contract_says() {
        let check = |raw: &str, expected: &str| assert_eq!(Label::sanitise(raw).unwrap().as_str(), expected, "{raw}");
        check("Elastic_Search", "elastic-search");
        check("--a..b--", "a--b");
        check("größe", "gr--e");
        let long = "x".repeat(100);
        let made = Label::sanitise(&long).unwrap();
        assert_eq!(made.as_str().len(), 63);
        assert!(made.as_str().starts_with(&"x".repeat(54)));
        assert_ne!(made, Label::sanitise(&"x".repeat(101)).unwrap());
    }

    #[test]
    fn refuses_what_cannot_be_a_name() {
        for raw in ["", "..", "---", "a\nb", "<script>", "\"x\"", "a\u{fffd}", &"y".repeat(65536)] {
            assert!(Label::sanitise(raw).is_err(), "{}", &raw[..raw.len().min(20)]);
        }
        assert_eq!(service_label("Node"), Err(NameError::Reserved("node".into())));
        assert!(cluster_label("addr").is_err() && container_label("direct").is_err());
    }

    #[test]
    fn takes_a_cluster_from_its_arn() {
        let label = cluster_label("arn:aws:ecs:eu-west-1:123456789012:cluster/Prod").unwrap();
        assert_eq!(label.as_str(), "prod");
    }
}
