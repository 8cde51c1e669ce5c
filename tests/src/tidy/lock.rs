//! What we depend on: one version of each crate, but for those that `deny.toml` excuses with a reason, and crates.io alone.

use std::collections::BTreeMap;

use anyhow::Context;
use toml::{Table, Value};

const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// What is wrong with `Cargo.lock`, by the excuses of `deny.toml`. An excuse that is no longer needed is wrong too.
///
/// # Errors
/// When one of them is no TOML.
pub fn findings(lock: &str, deny: &str) -> anyhow::Result<Vec<String>> {
    let lock: Table = lock.parse().context("read Cargo.lock")?;
    let deny: Table = deny.parse().context("read deny.toml")?;
    let text = |table: &Value, key: &str| table.get(key).and_then(Value::as_str).map(str::to_owned);
    let (mut versions, mut found) = (BTreeMap::<String, Vec<String>>::new(), Vec::new());
    for package in lock.get("package").and_then(Value::as_array).into_iter().flatten() {
        let name = text(package, "name").unwrap_or_default();
        if let Some(source) = text(package, "source").filter(|source| source != CRATES_IO) {
            found.push(format!("{name} comes from {source}"));
        }
        versions.entry(name).or_default().push(text(package, "version").unwrap_or_default());
    }
    let skips = deny.get("bans").and_then(|bans| bans.get("skip")).and_then(Value::as_array).into_iter().flatten();
    for skip in skips.filter_map(|skip| text(skip, "crate")) {
        let (name, version) = skip.split_once('@').unwrap_or((&skip, ""));
        let known = versions.get_mut(name).filter(|known| known.len() > 1);
        let excused = known.and_then(|known| {
            let place = known.iter().position(|found| *found == version || found.starts_with(&format!("{version}.")));
            place.map(|place| known.remove(place))
        });
        if excused.is_none() {
            found.push(format!("deny.toml excuses {skip}, which is not needed"));
        }
    }
    let several = versions.into_iter().filter(|(_, versions)| versions.len() > 1);
    found.extend(several.map(|(name, versions)| format!("{name} is there as {}", versions.join(" and "))));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_versions_other_sources_and_old_excuses_are_found() {
        let package = |name: &str, version: &str, source: &str| {
            format!("[[package]]\nname = \"{name}\"\nversion = \"{version}\"\nsource = \"{source}\"\n")
        };
        let lock = [("a", "1.0.0"), ("a", "2.1.0"), ("b", "0.1.5"), ("b", "0.10.0"), ("c", "1.0.0")];
        let mut lock: String = lock.iter().map(|(name, version)| package(name, version, CRATES_IO)).collect();
        lock += &package("d", "1.0.0", "git+https://example.org/d");
        let deny = "[bans]\nskip = [{ crate = 'b@0.1', reason = 'x' }, { crate = 'c@1', reason = 'x' }]\n";
        let expected = [
            "d comes from git+https://example.org/d",
            "deny.toml excuses c@1, which is not needed",
            "a is there as 1.0.0 and 2.1.0",
        ];
        assert_eq!(findings(&lock, deny).unwrap(), expected);
    }
}
