//! Logging: lines on standard error, as text for people or JSON for machines. Colour only on a terminal.
//!
//! `PORTOLAN_LOG` counts before the setting `log.level`, because it is what a person tries first. Control characters are
//! escaped, so no text from elsewhere can forge a line.

use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;

use serde::Deserialize;
use tracing::info;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::settings::{Kind, Setting};

/// The variable that counts before `log.level`.
const VARIABLE: &str = "PORTOLAN_LOG";

/// The settings of this module, for a program's list.
pub const SETTINGS: [Setting; 2] = [
    Setting {
        key: "log.format",
        kind: Kind::Choice(&["text", "json"]),
        default: "text",
        help: "How log lines look: text for people, json for machines.",
    },
    Setting {
        key: "log.level",
        kind: Kind::Text("error, warn, info, debug, trace, or per module: info,portolan_dns=debug"),
        default: "info",
        help: "What is logged. The variable PORTOLAN_LOG counts before it.",
    },
];

/// The field `log` of a program's settings.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogSettings {
    /// `log.format`.
    pub format: Format,
    /// `log.level`.
    pub level: Level,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// What is logged: directives that were parsed once, so they are known to be good.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Level(String);

impl TryFrom<String> for Level {
    type Error = String;

    fn try_from(directives: String) -> Result<Self, String> {
        EnvFilter::builder().parse(&directives).map_err(|error| error.to_string())?;
        Ok(Level(directives))
    }
}

/// Why logging did not start.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The variable is no filter.
    #[error("environment variable `{VARIABLE}` is no log filter: give a level, or module=level with commas between")]
    Variable(#[source] tracing_subscriber::filter::ParseError),
    /// It was started before.
    #[error("start logging")]
    Start(#[source] TryInitError),
}

/// Starts logging, once per process.
///
/// # Errors
/// When `PORTOLAN_LOG` is no filter, or logging was started before.
pub fn start(settings: &LogSettings) -> Result<(), LoggingError> {
    let directives = std::env::var(VARIABLE).ok().filter(|directives| !directives.is_empty());
    let directives = directives.unwrap_or_else(|| settings.level.0.clone());
    let filter = EnvFilter::builder().parse(directives).map_err(LoggingError::Variable)?;
    let has_colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || OneLine { inner: io::stderr(), has_colour });
    match settings.format {
        Format::Text => lines.with_ansi(has_colour).finish().try_init(),
        Format::Json => lines.json().flatten_event(true).finish().try_init(),
    }
    .map_err(LoggingError::Start)
}

/// Keeps each event on the one line that it is, and control characters out of it: the formatter hands it over whole, its
/// end last, and escapes only some of what is in it.
struct OneLine<W> {
    inner: W,
    /// Whether the formatter itself writes escape sequences.
    has_colour: bool,
}

impl<W> OneLine<W> {
    fn is_hostile(&self, byte: u8) -> bool {
        byte.is_ascii_control() && byte != b'\t' && !(byte == b'\x1b' && self.has_colour)
    }
}

impl<W: Write> Write for OneLine<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let (text, end) = event.split_at(event.len() - usize::from(event.ends_with(b"\n")));
        if text.iter().any(|byte| self.is_hostile(*byte)) {
            let mut line = Vec::with_capacity(2 * event.len());
            for byte in text {
                if self.is_hostile(*byte) {
                    line.extend(byte.escape_ascii());
                } else {
                    line.push(*byte);
                }
            }
            line.extend_from_slice(end);
            self.inner.write_all(&line)?;
        } else {
            self.inner.write_all(event)?;
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Says where something listens, in the one form that people and tests look for. Every listener says it, once bound.
pub fn announce(listener: &str, addr: SocketAddr) {
    info!(%listener, %addr, "listening for {listener} on {addr}");
}

/// Says on standard error why a program ends: one line, the causes joined. For `main`, whether or not logging works.
#[expect(clippy::print_stderr, reason = "the last word of a program goes to the person who started it")]
pub fn say_failure(program: &str, error: &anyhow::Error) {
    eprintln!("{program}: {error:#}");
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn no_text_forges_a_line() {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || OneLine { inner: writer.clone(), has_colour: false });
        tracing::subscriber::with_default(subscriber.finish(), || {
            let hostile = "x\r\n2026-01-01T00:00:00Z ERROR all is lost\u{1b}[31m";
            tracing::warn!(field = %hostile, "a peer says {hostile}");
            tracing::info!("the next line");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains("x\\r\\n2026") && !text.contains('\r') && !text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn levels_are_checked_when_they_are_read() {
        for good in ["info", "info,portolan_dns=debug", "off"] {
            assert!(Level::try_from(good.to_owned()).is_ok(), "{good}");
        }
        for bad in ["portolan=loud", "info,=debug,a=b=c"] {
            assert!(Level::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
