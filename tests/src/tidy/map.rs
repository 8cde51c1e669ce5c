//! The map: ARCHITECTURE.md names every top-level module of every crate, so that a stranger finds each by reading.

use super::{Source, is_test_only};

/// Modules of a crate's front page that the map does not name. Fails for nothing but a missing name: what it says there
/// is for people to judge.
pub fn findings(front_page: &Source, map: &str) -> Vec<String> {
    let Ok(file) = syn::parse_file(&front_page.text) else { return Vec::new() };
    let modules = file.items.iter().filter_map(|item| match item {
        syn::Item::Mod(module) if !is_test_only(&module.attrs) => Some(module.ident.to_string()),
        _ => None,
    });
    let unnamed = modules.filter(|module| !names(map, module));
    unnamed.map(|module| format!("ARCHITECTURE.md does not name `{module}` of {}", front_page.path)).collect()
}

fn names(map: &str, module: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    map.split(|c: char| !is_part(c)).any(|word| word == module)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_that_the_map_does_not_name_is_found() {
        let text = "//! X.\npub mod name;\nmod view;\n#[cfg(test)]\nmod tests;\n".to_owned();
        let page = Source { path: "crates/core/src/lib.rs".to_owned(), text };
        assert_eq!(findings(&page, "| `name` | a label |, `view`"), Vec::<String>::new());
        let expected = ["ARCHITECTURE.md does not name `view` of crates/core/src/lib.rs"];
        assert_eq!(findings(&page, "| `name` | a label |, viewed, re_view"), expected);
    }
}
