//! Arrows between crates: which may know which, and what the core may use. Read from the manifests.

use anyhow::Context;
use toml::{Table, Value};

/// Our crates and which others of ours each may know. Nobody knows `portolan-tests`.
pub const MAY_KNOW: [(&str, &[&str]); 8] = [
    ("core", &[]),
    ("dns", &["core", "runtime"]),
    ("runtime", &[]),
    ("proto", &["core"]),
    ("registry", &["core", "dns", "proto", "runtime"]),
    ("sidecar", &["core", "dns", "proto", "runtime"]),
    ("cli", &["core", "dns", "proto", "registry", "runtime", "sidecar"]),
    ("tests", &["cli", "core", "dns", "proto", "registry", "runtime", "sidecar"]),
];

/// Everything that the core is built from: no runtime, no sockets, no clock, no wire format.
const CORE_MAY_USE: [&str; 6] = ["imbl", "ipnet", "serde", "siphasher", "strsim", "thiserror"];

/// What is wrong with the manifest of a crate.
///
/// # Errors
/// When it is no manifest.
pub fn findings(name: &str, manifest: &str) -> anyhow::Result<Vec<String>> {
    let manifest: Table = manifest.parse().with_context(|| format!("read the manifest of {name}"))?;
    let mut found = Vec::new();
    let Some((_, may_know)) = MAY_KNOW.iter().find(|(known, _)| *known == name) else {
        return Ok(vec![format!("{name}: a new crate needs its place in tidy's graph and in ARCHITECTURE.md")]);
    };
    for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
        for dependency in manifest.get(section).and_then(Value::as_table).into_iter().flat_map(Table::keys) {
            match dependency.strip_prefix("portolan-") {
                Some(ours) if !may_know.contains(&ours) => found.push(format!("{name}: must not know {dependency}")),
                None if name == "core" && section == "dependencies" && !CORE_MAY_USE.contains(&dependency.as_str()) => {
                    found.push(format!("core: must not use {dependency}: it is pure"));
                }
                _ => {}
            }
        }
    }
    let lints = manifest.get("lints").and_then(|lints| lints.get("workspace"));
    if lints != Some(&Value::Boolean(true)) {
        found.push(format!("{name}: must take the lints of the workspace"));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_arrow_a_core_with_sockets_and_missing_lints_are_found() {
        let lints = "[lints]\nworkspace = true\n";
        let rows = [
            ("dns", "[dependencies]\nportolan-core.workspace = true\n", ""),
            ("dns", "[dependencies]\nportolan-proto.workspace = true\n", "dns: must not know portolan-proto"),
            ("sidecar", "[dev-dependencies]\nportolan-registry = {}\n", "sidecar: must not know portolan-registry"),
            ("core", "[dependencies]\ntokio = '1'\n", "core: must not use tokio: it is pure"),
            ("core", "[dev-dependencies]\nproptest = '1'\n", ""),
            ("shared", "", "shared: a new crate needs its place in tidy's graph and in ARCHITECTURE.md"),
        ];
        for (name, text, expected) in rows {
            assert_eq!(findings(name, &format!("{text}{lints}")).unwrap().join(";"), expected, "{name}: {text}");
        }
        assert_eq!(findings("core", "").unwrap(), ["core: must take the lints of the workspace"]);
    }
}
