//! What a test says of itself. The test runner captures it and shows it when the test fails.

use std::path::Path;

/// How much of a log is shown.
const TAIL_BYTES: usize = 16 * 1024;

/// Says one line.
#[expect(clippy::print_stdout, reason = "standard output is what the test runner captures")]
pub fn say(line: &str) {
    println!("{line}");
}

/// Shows the end of a log file under a title.
pub fn show_log(title: &str, path: &Path) {
    let log = std::fs::read(path).unwrap_or_default();
    let tail = &log[log.len().saturating_sub(TAIL_BYTES)..];
    say(&format!("--- {title} ({})\n{}\n---", path.display(), String::from_utf8_lossy(tail)));
}
