//! Settings: flag, then environment (`PORTOLAN_LINK__RANGE`), then `--config FILE.toml`, then default.
//!
//! A program lists its settings as data; flags, variables, file keys, `--help` and error texts all come from that list.
//! The result is deserialised into the program's own struct, which should `deny_unknown_fields`.
//! What cannot be read stops the start with the field, the value, where it came from and what is accepted. Values of
//! [`Kind::Secret`] are never shown.

mod duration;
mod file;
mod values;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches};
use serde::de::DeserializeOwned;
use toml::{Table, Value};

pub use duration::{deserialize as duration, parse as parse_duration};
use values::Given;

/// The flag and, with `PORTOLAN_` before it, the variable that name the file.
const CONFIG: &str = "config";

/// Variables of ours that are not settings: the file's name, and the log filter that everyone tries first.
const OTHER_VARIABLES: [&str; 2] = ["PORTOLAN_CONFIG", "PORTOLAN_LOG"];

/// One setting of a program.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Its key in the file: `link.range`. The flag is `--link-range`, the variable `PORTOLAN_LINK__RANGE`.
    pub key: &'static str,
    /// What its values look like.
    pub kind: Kind,
    /// As one would write it; empty when there is none, and the field is then absent.
    pub default: &'static str,
    /// What it does, as `--help` says it.
    pub help: &'static str,
}

/// What values of a setting look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A text that the field's type parses. The words say what is accepted: `an IPv4 network, such as 198.18.0.0/16`.
    Text(&'static str),
    /// As `Text`, and never shown.
    Secret(&'static str),
    /// A whole number.
    Number,
    /// `true` or `false`; the flag alone is `true`.
    Switch,
    /// A number and its unit, such as `200ms`. The field is read with [`duration`].
    Duration,
    /// Texts, separated by commas, or a list in the file. The words say what each is.
    List(&'static str),
    /// One of these words.
    Choice(&'static [&'static str]),
}

impl Kind {
    fn accepts(self) -> String {
        match self {
            Kind::Text(words) | Kind::Secret(words) => words.to_owned(),
            Kind::Number => "a whole number".to_owned(),
            Kind::Switch => "true or false".to_owned(),
            Kind::Duration => "a number with its unit (ms, s, m, h, d), such as 200ms or 10s".to_owned(),
            Kind::List(words) => format!("{words}; several are separated by commas"),
            Kind::Choice(words) => format!("one of {}", words.join(", ")),
        }
    }

    fn placeholder(self) -> &'static str {
        match self {
            Kind::Text(_) | Kind::Secret(_) => "TEXT",
            Kind::Number => "NUMBER",
            Kind::Switch => "true|false",
            Kind::Duration => "DURATION",
            Kind::List(_) => "A,B",
            Kind::Choice(_) => "WORD",
        }
    }
}

impl Setting {
    /// Its flag, without the two hyphens.
    pub fn flag(&self) -> String {
        self.key.replace(['.', '_'], "-")
    }

    /// Its environment variable.
    pub fn variable(&self) -> String {
        format!("PORTOLAN_{}", self.key.replace('.', "__").to_uppercase())
    }

    fn arg(&self) -> Arg {
        let default = if self.default.is_empty() { String::new() } else { format!(" [default: {}]", self.default) };
        let help = format!("{} Accepts {}.{default} [env: {}]", self.help, self.kind.accepts(), self.variable());
        let arg = Arg::new(self.key).long(self.flag()).value_name(self.kind.placeholder()).help(help);
        let arg = arg.action(ArgAction::Set).help_heading("Settings");
        if self.kind == Kind::Switch { arg.num_args(0..=1).default_missing_value("true") } else { arg }
    }
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// The file, by its path.
    File(PathBuf),
    /// An environment variable.
    Variable(String),
    /// A flag.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("the default"),
            Origin::File(path) => write!(f, "file `{}`", path.display()),
            Origin::Variable(name) => write!(f, "environment variable `{name}`"),
            Origin::Flag(name) => write!(f, "flag `--{name}`"),
        }
    }
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("read settings from `{}`", path.display())]
    ReadFile {
        /// Which file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("parse settings in `{}`", path.display())]
    ParseFile {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// The file has a key that is no setting.
    #[error("unknown setting `{key}` in file `{}`{nearest}", path.display())]
    UnknownKey {
        /// Which file.
        path: PathBuf,
        /// The key, with dots.
        key: String,
        /// `: did you mean ...?`, or nothing.
        nearest: String,
    },
    /// A value is not accepted.
    #[error(transparent)]
    Refused(Box<Refused>),
    /// The program's struct does not fit its own list of settings.
    #[error("the program's settings do not fit their own list: {0}")]
    List(String),
}

/// A value that is not accepted.
#[derive(Debug, thiserror::Error)]
#[error("setting `{key}`: `{value}` from {origin} is not accepted ({why}): give {accepts}")]
pub struct Refused {
    /// Which setting.
    pub key: String,
    /// As it was given, or `(hidden)`.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
    /// What is wrong with it.
    pub why: String,
    /// What would be right.
    pub accepts: String,
}

/// Settings that were read.
#[derive(Debug, Clone)]
pub struct Loaded<T> {
    /// The program's struct.
    pub settings: T,
    /// What a person should know, to be logged once logging works: variables that are no settings.
    pub warnings: Vec<String>,
    /// Every setting that has a value: key, value as shown, origin.
    pub origins: Vec<(String, String, Origin)>,
}

/// Several lists as one; where two have the same key, the first counts.
pub fn merged(lists: &[&[Setting]]) -> Vec<Setting> {
    let mut all: Vec<Setting> = Vec::new();
    for setting in lists.iter().copied().flatten() {
        if !all.iter().any(|known| known.key == setting.key) {
            all.push(*setting);
        }
    }
    all
}

/// The flags of a program: `--config` and one per setting.
pub fn flags(settings: &[Setting]) -> Vec<Arg> {
    let help = "Reads settings from a TOML file. A flag counts before an environment variable, that before the file, \
                that before the default. [env: PORTOLAN_CONFIG]";
    let config = Arg::new(CONFIG).long(CONFIG).value_name("FILE").help(help).help_heading("Settings");
    std::iter::once(config).chain(settings.iter().map(Setting::arg)).collect()
}

/// Reads the settings: `matches` of a command that has [`flags`], `environment` as [`std::env::vars_os`] gives it.
///
/// # Errors
/// The first thing that cannot be used.
pub fn load<T: DeserializeOwned>(
    settings: &[Setting],
    matches: &ArgMatches,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Loaded<T>, SettingsError> {
    let variables: Vec<(String, OsString)> = own_variables(environment);
    let named = matches.get_one::<String>(CONFIG).map(PathBuf::from);
    let by_variable = || variables.iter().find(|(name, _)| name == "PORTOLAN_CONFIG").map(|(_, path)| path.into());
    let file = named.or_else(by_variable).map(|path: PathBuf| file::read(&path, settings)).transpose()?;
    let mut given = Vec::new();
    for setting in settings {
        let in_file = file.as_ref().and_then(|file| file.given(setting));
        let found = values::from_flag(setting, matches);
        let found = found.or_else(|| values::from_variable(setting, &variables)).or(in_file);
        given.extend(found.or_else(|| values::default(setting)));
    }
    let origins =
        given.iter().map(|given| (given.setting.key.to_owned(), given.shown(), given.origin.clone())).collect();
    Ok(Loaded { settings: deserialize(&given)?, warnings: unknown_variables(settings, &variables), origins })
}

fn own_variables(environment: impl IntoIterator<Item = (OsString, OsString)>) -> Vec<(String, OsString)> {
    let named = environment.into_iter().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
    named.filter(|(name, _)| name.starts_with("PORTOLAN_")).collect()
}

fn unknown_variables(settings: &[Setting], variables: &[(String, OsString)]) -> Vec<String> {
    let known: Vec<String> = settings.iter().map(Setting::variable).collect();
    let is_known = |name: &str| OTHER_VARIABLES.contains(&name) || known.iter().any(|variable| variable == name);
    let unknown = variables.iter().map(|(name, _)| name).filter(|name| !is_known(name));
    unknown.map(|name| format!("environment variable `{name}` is no setting{}", nearest(name, &known))).collect()
}

/// `: did you mean ...?` when something known is near enough to be meant.
fn nearest(unknown: &str, known: &[String]) -> String {
    let scored = known.iter().map(|known| (strsim::jaro_winkler(unknown, known), known));
    let best = scored.max_by(|(a, _), (b, _)| a.total_cmp(b));
    best.filter(|(score, _)| *score > 0.8).map(|(_, known)| format!(": did you mean `{known}`?")).unwrap_or_default()
}

fn deserialize<T: DeserializeOwned>(given: &[Given<'_>]) -> Result<T, SettingsError> {
    let mut table = Table::new();
    for value in given {
        insert(&mut table, value.setting.key, value.checked()?);
    }
    let error = match Value::Table(table).try_into::<T>() {
        Ok(settings) => return Ok(settings),
        Err(error) => error,
    };
    // Serde does not say which value it was: try each alone among defaults.
    for suspect in given.iter().filter(|given| given.origin != Origin::Default) {
        let others = given.iter().filter(|other| other.setting.key != suspect.setting.key);
        let mut alone = Table::new();
        others.filter_map(|other| values::default(other.setting)).try_for_each(|default| {
            insert(&mut alone, default.setting.key, default.checked()?);
            Ok::<(), SettingsError>(())
        })?;
        insert(&mut alone, suspect.setting.key, suspect.checked()?);
        if let Err(error) = Value::Table(alone).try_into::<T>() {
            return Err(suspect.refused(&one_line(error.message())));
        }
    }
    Err(SettingsError::List(one_line(&error.to_string())))
}

fn insert(table: &mut Table, key: &str, value: Value) {
    match key.split_once('.') {
        None => drop(table.insert(key.to_owned(), value)),
        Some((first, rest)) => {
            let inner = table.entry(first).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
