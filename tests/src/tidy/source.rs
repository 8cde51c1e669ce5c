//! Rules for one source file: its first line, its name, its length, the length of its functions, and what it must not hold.

use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use super::{Source, is_test_only};

/// Longer files are read by nobody. Tests do not count; a line `// tidy: REASON` at the left edge says why it must be.
const FILE_LINES_MAX: usize = 400;

/// Longer functions do more than one thing. A line `// tidy: REASON` inside says why it must be.
const FUNCTION_LINES_MAX: usize = 70;

/// Names that say nothing, and so collect everything.
const EMPTY_NAMES: [&str; 9] = ["util", "utils", "common", "helper", "helpers", "manager", "misc", "shared", "mod"];

/// What is wrong with a file, one line each.
pub fn findings(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    // A `tests.rs` is for what the file is for that it stands beside.
    if !source.text.starts_with("//!") && !source.path.ends_with("/tests.rs") {
        found.push("the first line must be `//!` and say what the file is for".to_owned());
    }
    let stem = source.path.rsplit('/').next().unwrap_or_default().trim_end_matches(".rs");
    if EMPTY_NAMES.contains(&stem) {
        found.push(format!("`{stem}.rs` says nothing of what is in it"));
    }
    match syn::parse_file(&source.text) {
        Ok(file) => found.extend(inside(source, &file)),
        Err(error) => found.push(format!("cannot be parsed: {error}")),
    }
    found.into_iter().map(|finding| format!("{}: {finding}", source.path)).collect()
}

fn inside(source: &Source, file: &syn::File) -> Vec<String> {
    let mut visitor = Visitor { text: &source.text, test_lines: 0, found: Vec::new() };
    visitor.visit_file(file);
    let lines = source.text.lines().count() - visitor.test_lines;
    let is_test =
        source.path.ends_with("/tests.rs") || source.path.contains("/tests/") && source.path.contains("/src/");
    let is_excused = source.text.lines().any(|line| line.starts_with("// tidy: "));
    if lines > FILE_LINES_MAX && !is_test && !is_excused {
        visitor.found.push(format!("{lines} lines without tests, at most {FILE_LINES_MAX}"));
    }
    visitor.found
}

struct Visitor<'t> {
    text: &'t str,
    test_lines: usize,
    found: Vec<String>,
}

impl Visitor<'_> {
    fn check_function(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let (name, first) = (&signature.ident, signature.fn_token.span.start().line);
        let last = block.brace_token.span.close().end().line;
        let lines = last + 1 - first;
        let mut inside = self.text.lines().skip(first - 1).take(lines);
        if lines > FUNCTION_LINES_MAX && !inside.any(|line| line.trim_start().starts_with("// tidy: ")) {
            self.found.push(format!("line {first}: `{name}` has {lines} lines, at most {FUNCTION_LINES_MAX}"));
        }
    }
}

impl<'ast> Visit<'ast> for Visitor<'_> {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if is_test_only(&item.attrs) && item.content.is_some() {
            self.test_lines += item.span().end().line + 1 - item.span().start().line;
        }
        visit::visit_item_mod(self, item);
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.check_function(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.check_function(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        if attribute.path().is_ident("ignore") {
            let line = attribute.span().start().line;
            self.found.push(format!("line {line}: an ignored test tells nothing: mend it or remove it"));
        }
        visit::visit_attribute(self, attribute);
    }

    fn visit_macro(&mut self, called: &'ast syn::Macro) {
        let name = called.path.segments.last().map(|segment| segment.ident.to_string()).unwrap_or_default();
        if ["todo", "unimplemented"].contains(&name.as_str()) {
            let line = called.span().start().line;
            self.found.push(format!("line {line}: `{name}!` is work that was not done"));
        }
        visit::visit_macro(self, called);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, text: &str) -> Vec<String> {
        findings(&Source { path: path.to_owned(), text: text.to_owned() })
    }

    #[test]
    fn a_tidy_file_has_no_findings() {
        let body = "    let _ = 1;\n".repeat(68);
        let text =
            format!("//! Purpose.\nfn long() {{\n{body}}}\n#[cfg(test)]\nmod tests {{\n{}}}\n", "\n".repeat(500));
        assert_eq!(check("crates/core/src/name.rs", &text), Vec::<String>::new());
    }

    #[test]
    fn each_rule_finds_what_breaks_it() {
        let body = "    let _ = 1;\n".repeat(69);
        let rows = [
            ("src/a.rs", "// A comment.\n".to_owned(), "src/a.rs: the first line"),
            ("src/util.rs", "//! X.\n".to_owned(), "src/util.rs: `util.rs` says nothing"),
            ("src/a/mod.rs", "//! X.\n".to_owned(), "src/a/mod.rs: `mod.rs` says nothing"),
            ("src/a.rs", "//! X.\n".repeat(401), "src/a.rs: 401 lines without tests"),
            ("src/a.rs", format!("//! X.\nfn a() {{\n{body}}}\n"), "src/a.rs: line 2: `a` has 71 lines"),
            (
                "src/a.rs",
                format!("//! X.\nstruct A;\nimpl A {{\nfn a() {{\n{body}}}\n}}\n"),
                "src/a.rs: line 4: `a` has 71",
            ),
            ("src/a.rs", "//! X.\n#[test]\n#[ignore]\nfn a() {}\n".to_owned(), "src/a.rs: line 3: an ignored test"),
            ("src/a.rs", "//! X.\n#[ignore = \"slow\"]\nfn a() {}\n".to_owned(), "src/a.rs: line 2: an ignored test"),
            ("src/a.rs", "//! X.\nfn a() { std::todo!() }\n".to_owned(), "src/a.rs: line 2: `todo!`"),
            ("src/a.rs", "//! X.\nfn a() {\n".to_owned(), "src/a.rs: cannot be parsed"),
        ];
        for (path, text, expected) in rows {
            let found = check(path, &text);
            assert!(found.len() == 1 && found[0].starts_with(expected), "{found:?}, expected {expected}");
        }
    }

    #[test]
    fn a_reason_excuses_length() {
        let body = "    // tidy: one table, read as a whole\n".to_owned() + &"    let _ = 1;\n".repeat(69);
        let text = format!("//! X.\n// tidy: generated from a table\nfn a() {{\n{body}}}\n{}", "\n".repeat(400));
        assert_eq!(check("src/a.rs", &text), Vec::<String>::new());
    }
}
