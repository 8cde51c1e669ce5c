//! Any labels and environment: never a panic; what is declared is bounded, and what is refused is fit to show.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portolan_core::labels::parse;

// Each line is a label `KEY=VALUE`; after an empty line they are environment variables.
fuzz_target!(|input: &[u8]| {
    let text = String::from_utf8_lossy(input);
    let (labels, environment) = text.split_once("\n\n").unwrap_or((&text, ""));
    let labels = labels.lines().map(|line| line.split_once('=').unwrap_or((line, "")));
    let declaration = parse(labels, environment.lines());
    assert!(declaration.tags.len() <= 64 && declaration.meta.len() <= 64 && declaration.refusals.len() <= 33);
    for refusal in &declaration.refusals {
        let shown = format!("{}{}", refusal.field, refusal.reason);
        assert!(!shown.chars().any(char::is_control), "control characters are escaped");
        assert!(shown.len() <= 8_192, "a refusal is bounded");
    }
});
