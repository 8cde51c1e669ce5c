//! Tidy: the rules of the house that a program can check, each with its reason where it is checked.
//!
//! Every rule is a function from text to findings, so that each has a test with text that breaks it.

pub mod arrows;
pub mod lock;
pub mod manifests;
pub mod map;
pub mod source;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// Folders of the project that hold our source.
const FOLDERS: [&str; 5] = ["bench", "crates", "demo", "fuzz", "tests"];

/// Folders below them that do not: build output, generated bindings, fuzzing corpora.
const SKIPPED: [&str; 4] = ["target", "gen", "corpus", "artifacts"];

/// A source file of ours.
#[derive(Debug, Clone)]
pub struct Source {
    /// Its path from the project's folder, with `/`.
    pub path: String,
    /// What is in it.
    pub text: String,
}

/// The project's folder.
pub fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every Rust file of ours, in the order of their paths.
///
/// # Errors
/// When one cannot be read.
pub fn sources(project: &Path) -> anyhow::Result<Vec<Source>> {
    let mut found = Vec::new();
    for folder in FOLDERS {
        collect(project, &project.join(folder), &mut found)?;
    }
    found.sort_by(|a: &Source, b| a.path.cmp(&b.path));
    Ok(found)
}

fn collect(project: &Path, folder: &Path, found: &mut Vec<Source>) -> anyhow::Result<()> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && !SKIPPED.contains(&name.as_str()) {
            collect(project, &path, found)?;
        } else if name.ends_with(".rs") {
            let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            let path = path.strip_prefix(project)?.to_string_lossy().into_owned();
            found.push(Source { path, text });
        }
    }
    Ok(())
}

/// Whether an item is only there for tests.
fn is_test_only(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        syn::Meta::List(list) => list.path.is_ident("cfg") && list.tokens.to_string() == "test",
        syn::Meta::Path(_) | syn::Meta::NameValue(_) => false,
    })
}
