//! The settings file: TOML whose every key is a setting.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::values::{Given, Text};
use super::{Origin, Setting, SettingsError, nearest};

/// A file that was read: its leaves by their keys with dots.
#[derive(Debug)]
pub(super) struct File {
    path: PathBuf,
    leaves: Vec<(String, Value)>,
}

/// Reads it and refuses what is no setting.
pub(super) fn read(path: &Path, settings: &[Setting]) -> Result<File, SettingsError> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|source| SettingsError::ReadFile { path: path.to_owned(), source })?;
    let table = text.parse::<Table>();
    let table = table.map_err(|source| SettingsError::ParseFile { path: path.to_owned(), source: Box::new(source) })?;
    let mut leaves = Vec::new();
    flatten("", table, &mut leaves);
    let known: Vec<String> = settings.iter().map(|setting| setting.key.to_owned()).collect();
    match leaves.iter().find(|(key, _)| !known.contains(key)) {
        None => Ok(File { path: path.to_owned(), leaves }),
        Some((key, _)) => {
            let (key, nearest) = (key.clone(), nearest(key, &known));
            Err(SettingsError::UnknownKey { path: path.to_owned(), key, nearest })
        }
    }
}

fn flatten(prefix: &str, table: Table, leaves: &mut Vec<(String, Value)>) {
    for (name, value) in table {
        let key = format!("{prefix}{name}");
        match value {
            Value::Table(inner) => flatten(&format!("{key}."), inner, leaves),
            leaf => leaves.push((key, leaf)),
        }
    }
}

impl File {
    /// The value that the file gives a setting.
    pub(super) fn given<'s>(&self, setting: &'s Setting) -> Option<Given<'s>> {
        let (_, value) = self.leaves.iter().find(|(key, _)| key == setting.key)?;
        let text = match value {
            Value::String(text) => Text::Plain(text.clone()),
            other => Text::Typed(other.clone()),
        };
        Some(Given { setting, text, origin: Origin::File(self.path.clone()) })
    }
}
