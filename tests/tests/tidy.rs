//! Tidy over the whole project. What each rule is for stands where it is checked, in `portolan_tests::tidy`.

use std::fs;

use portolan_tests::tidy::{arrows, lock, manifests, map, project, source, sources};

/// Fails with every finding at once, so that one run shows all there is to do.
fn report(findings: &[String]) {
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
}

#[test]
fn every_source_file_keeps_the_rules() -> anyhow::Result<()> {
    let sources = sources(&project())?;
    assert!(sources.len() > 30, "only {} files were found", sources.len());
    report(&sources.iter().flat_map(source::findings).collect::<Vec<_>>());
    Ok(())
}

#[test]
fn modules_know_only_what_they_may() -> anyhow::Result<()> {
    let sources = sources(&project())?;
    let found = sources.iter().flat_map(|source| arrows::findings(source, &arrows::ABSENCES));
    report(&found.collect::<Vec<_>>());
    Ok(())
}

#[test]
fn crates_know_only_what_they_may() -> anyhow::Result<()> {
    let mut found = Vec::new();
    let mut folders = vec![project().join("tests")];
    folders.extend(fs::read_dir(project().join("crates"))?.filter_map(|entry| entry.ok().map(|entry| entry.path())));
    for folder in folders {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        found.extend(manifests::findings(&name, &fs::read_to_string(folder.join("Cargo.toml"))?)?);
    }
    report(&found);
    Ok(())
}

#[test]
fn the_map_names_every_module() -> anyhow::Result<()> {
    let map = fs::read_to_string(project().join("ARCHITECTURE.md"))?;
    let sources = sources(&project())?;
    let front_pages = sources.iter().filter(|source| source.path.ends_with("/src/lib.rs"));
    let front_pages = front_pages.filter(|source| source.path.starts_with("crates/"));
    report(&front_pages.flat_map(|page| map::findings(page, &map)).collect::<Vec<_>>());
    Ok(())
}

#[test]
fn dependencies_have_one_version_and_one_source() -> anyhow::Result<()> {
    let read = |name: &str| fs::read_to_string(project().join(name));
    report(&lock::findings(&read("Cargo.lock")?, &read("deny.toml")?)?);
    Ok(())
}
