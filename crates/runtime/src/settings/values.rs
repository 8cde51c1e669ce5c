//! One value of one setting: where it was found, and whether it is of the setting's kind.

use std::ffi::OsString;

use clap::ArgMatches;
use clap::parser::ValueSource;
use toml::Value;

use super::{Kind, Origin, Refused, Setting, SettingsError, parse_duration};

/// A value that somebody gave.
#[derive(Debug)]
pub(super) struct Given<'s> {
    pub(super) setting: &'s Setting,
    pub(super) text: Text,
    pub(super) origin: Origin,
}

/// As it was written.
#[derive(Debug)]
pub(super) enum Text {
    /// In a flag, a variable, a default or as a text in the file.
    Plain(String),
    /// As another TOML type in the file.
    Typed(Value),
    /// In a variable, and not UTF-8.
    Unreadable,
}

pub(super) fn from_flag<'s>(setting: &'s Setting, matches: &ArgMatches) -> Option<Given<'s>> {
    let is_given = matches.value_source(setting.key) == Some(ValueSource::CommandLine);
    let text = matches.get_one::<String>(setting.key).filter(|_| is_given)?;
    Some(Given { setting, text: Text::Plain(text.clone()), origin: Origin::Flag(setting.flag()) })
}

pub(super) fn from_variable<'s>(setting: &'s Setting, variables: &[(String, OsString)]) -> Option<Given<'s>> {
    let name = setting.variable();
    let (_, value) = variables.iter().find(|(found, _)| *found == name)?;
    let text = value.to_str().map_or(Text::Unreadable, |text| Text::Plain(text.to_owned()));
    Some(Given { setting, text, origin: Origin::Variable(name) })
}

/// `None`: it has none.
pub(super) fn default(setting: &Setting) -> Option<Given<'_>> {
    let text = Text::Plain(setting.default.to_owned());
    (!setting.default.is_empty()).then_some(Given { setting, text, origin: Origin::Default })
}

impl Given<'_> {
    /// As people may see it.
    pub(super) fn shown(&self) -> String {
        match (&self.text, self.setting.kind) {
            (_, Kind::Secret(_)) => "(hidden)".to_owned(),
            (Text::Plain(text), _) => text.clone(),
            (Text::Typed(value), _) => value.to_string(),
            (Text::Unreadable, _) => "(not UTF-8)".to_owned(),
        }
    }

    /// The value as the setting's kind has it.
    pub(super) fn checked(&self) -> Result<Value, SettingsError> {
        let value = match &self.text {
            Text::Plain(text) => self.parsed(text),
            Text::Typed(value) => self.accepted(value),
            Text::Unreadable => Err("not UTF-8"),
        };
        value.map_err(|why| self.refused(why))
    }

    fn parsed(&self, text: &str) -> Result<Value, &'static str> {
        let value = Value::String(text.to_owned());
        match self.setting.kind {
            Kind::Text(_) | Kind::Secret(_) => Ok(value),
            Kind::Number => text.parse().map(Value::Integer).map_err(|_| "not a whole number"),
            Kind::Switch => text.parse().map(Value::Boolean).map_err(|_| "neither"),
            Kind::Duration => parse_duration(text).map(|_| value).ok_or("no duration"),
            Kind::List(_) => Ok(Value::Array(split(text))),
            Kind::Choice(words) => words.contains(&text).then_some(value).ok_or("none of them"),
        }
    }

    fn accepted(&self, value: &Value) -> Result<Value, &'static str> {
        match (self.setting.kind, value) {
            (Kind::Number, Value::Integer(_)) | (Kind::Switch, Value::Boolean(_)) => Ok(value.clone()),
            (Kind::List(_), Value::Array(items)) if items.iter().all(Value::is_str) => Ok(value.clone()),
            (Kind::Duration, Value::Integer(_)) => Err("no unit"),
            (Kind::Text(_) | Kind::Secret(_) | Kind::Choice(_) | Kind::Duration, _) => Err("not a text in quotes"),
            (Kind::List(_), _) => Err("not a list of texts"),
            (Kind::Number | Kind::Switch, _) => Err("another type"),
        }
    }

    /// The error for this value.
    pub(super) fn refused(&self, why: &str) -> SettingsError {
        // Serde's reasons may quote the value.
        let why = if matches!(self.setting.kind, Kind::Secret(_)) { "it cannot be read" } else { why };
        SettingsError::Refused(Box::new(Refused {
            key: self.setting.key.to_owned(),
            value: self.shown(),
            origin: self.origin.clone(),
            why: why.to_owned(),
            accepts: self.setting.kind.accepts(),
        }))
    }
}

fn split(text: &str) -> Vec<Value> {
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    items.map(|item| Value::String(item.to_owned())).collect()
}
