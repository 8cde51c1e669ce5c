//! Configurations as the documentation has them, so that what is read there is what is tested.

use anyhow::Context;

use crate::tidy::project;

/// A block of a page, such as `docs/dns.md`, by the word behind its fence.
///
/// # Errors
/// When the page or the block is not there.
pub fn block(page: &str, word: &str) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(project().join(page)).with_context(|| format!("read {page}"))?;
    let found = text.split_once(&format!("```{word}\n")).and_then(|(_, rest)| rest.split_once("```"));
    found.map(|(block, _)| block.to_owned()).with_context(|| format!("no block {word} in {page}"))
}
