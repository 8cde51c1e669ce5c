//! Arrows inside a crate: which module must not know which. Data flows one way only if nobody reaches back.

use syn::visit::{self, Visit};

use super::{Source, is_test_only};

/// Modules of a crate that must not know others of it.
#[derive(Debug, Clone, Copy)]
pub struct Absence {
    /// The crate's folder.
    pub krate: &'static str,
    /// These top-level modules, with all below them,
    pub from: &'static [&'static str],
    /// must not name these.
    pub to: &'static [&'static str],
    /// Because of this.
    pub reason: &'static str,
}

/// What a node's own containers do goes up this road, ...
const UP: [&str; 5] = ["docker", "health", "registration", "register", "inspect"];

/// ... and what all others do comes down this one. They meet in `app` alone.
const DOWN: [&str; 4] = ["subscription", "dns", "links", "snapshot"];

/// All of them. Tests may cross.
pub const ABSENCES: [Absence; 5] = [
    Absence {
        krate: "registry",
        from: &["store"],
        to: &["catalog", "http", "grpc", "dns", "intake", "app"],
        reason: "the store keeps and decides nothing",
    },
    Absence {
        krate: "registry",
        from: &["catalog"],
        to: &["http", "grpc", "dns", "intake", "app"],
        reason: "the catalog is built from the store's watch alone",
    },
    Absence {
        krate: "registry",
        from: &["http", "grpc", "dns"],
        to: &["store"],
        reason: "a surface reads the catalog, and writes through the intake",
    },
    Absence { krate: "sidecar", from: &UP, to: &DOWN, reason: "the two roads meet in `app` alone" },
    Absence { krate: "sidecar", from: &DOWN, to: &UP, reason: "the two roads meet in `app` alone" },
];

/// Where a file names a module that it must not know.
pub fn findings(source: &Source, absences: &[Absence]) -> Vec<String> {
    let mut found = Vec::new();
    let Some((krate, module)) = place(&source.path) else { return found };
    let mine = absences.iter().filter(|absence| absence.krate == krate);
    let mine: Vec<_> =
        mine.filter(|absence| module.first().is_some_and(|top| absence.from.contains(&top.as_str()))).collect();
    let (false, Ok(file)) = (mine.is_empty(), syn::parse_file(&source.text)) else { return found };
    let mut names = Names { module, named: Vec::new() };
    names.visit_file(&file);
    for absence in mine {
        let crossing = names.named.iter().filter(|named| absence.to.contains(&named.as_str()));
        found.extend(crossing.map(|named| format!("{}: names `{named}`, but {}", source.path, absence.reason)));
    }
    found.sort();
    found.dedup();
    found
}

/// The crate and the module of a path like `crates/registry/src/store/key.rs`.
fn place(path: &str) -> Option<(&str, Vec<String>)> {
    let (krate, file) = path.strip_prefix("crates/")?.split_once("/src/")?;
    let module: Vec<String> = file.strip_suffix(".rs")?.split('/').map(str::to_owned).collect();
    // Tests may cross.
    (!module.iter().any(|name| name == "tests")).then_some((krate, module))
}

/// Collects the top-level modules that a file names.
struct Names {
    module: Vec<String>,
    named: Vec<String>,
}

impl Names {
    fn add(&mut self, path: &[String]) {
        let supers = path.iter().take_while(|segment| *segment == "super").count();
        let below = self.module.len().saturating_sub(supers);
        let top = match path.first().map(String::as_str) {
            Some("crate") => path.get(1),
            Some("super") if below == 0 => path.get(supers),
            _ => None,
        };
        self.named.extend(top.cloned());
    }

    fn add_tree(&mut self, before: &[String], tree: &syn::UseTree) {
        let with = |ident: &syn::Ident| [before, &[ident.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.add_tree(&with(&path.ident), &path.tree),
            syn::UseTree::Name(name) => self.add(&with(&name.ident)),
            syn::UseTree::Rename(rename) => self.add(&with(&rename.ident)),
            syn::UseTree::Glob(_) => self.add(before),
            syn::UseTree::Group(group) => group.items.iter().for_each(|item| self.add_tree(before, item)),
        }
    }
}

impl<'ast> Visit<'ast> for Names {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if is_test_only(&item.attrs) {
            return;
        }
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.add_tree(&[], &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.add(&segments);
        visit::visit_path(self, path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, text: &str) -> usize {
        findings(&Source { path: path.to_owned(), text: text.to_owned() }, &ABSENCES).len()
    }

    #[test]
    fn every_way_to_name_a_module_is_seen() {
        let store = "crates/registry/src/store.rs";
        let below = "crates/registry/src/store/embedded/writer.rs";
        let rows = [
            (store, "use crate::catalog::Catalog;", 1),
            (store, "use super::catalog::Catalog;", 1),
            (store, "use crate::{catalog::Catalog, clock, http};", 2),
            (store, "fn a() -> crate::grpc::Server { crate::grpc::serve() }", 1),
            (below, "use super::super::super::catalog;", 1),
            (below, "use super::catalog;", 0),
            (below, "mod inner { use super::super::super::super::http::Page; }", 1),
            (store, "use crate::clock::Clock; use portolan_core::catalog::X;", 0),
            (store, "#[cfg(test)] mod tests { use crate::catalog::Catalog; }", 0),
            ("crates/registry/src/store/tests.rs", "use crate::catalog::Catalog;", 0),
            ("crates/registry/src/http/tests/writes.rs", "use crate::store::Key;", 0),
            ("crates/registry/src/app.rs", "use crate::{catalog, store};", 0),
            ("crates/sidecar/src/dns.rs", "use crate::health::Checks;", 1),
            ("crates/sidecar/src/docker/facts.rs", "use crate::links as l;", 1),
        ];
        for (path, text, expected) in rows {
            assert_eq!(check(path, text), expected, "{path}: {text}");
        }
    }
}
