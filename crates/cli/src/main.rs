//! The `portolan` command: what a person types to see what the registry and the sidecar of this machine know.
//!
//! ```text
//! arguments ──> commands ──client──> registry, sidecar
//!                  │
//!                  └──show──> a table for people, or the JSON as it came
//! ```
//!
//! Exit status: 0 done, 1 not so, 2 usage. What a server says is shown with control characters escaped.

mod arguments;
mod client;
mod commands;
mod dev;
mod doctor;
mod locate;
mod show;
mod watch;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;

use crate::arguments::{Arguments, Command};
use crate::commands::{Failure, Verdict};
use crate::show::{Colour, Screen};

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Nothing is left to tell it to when the terminal is gone.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    match run(arguments).await {
        Ok(Verdict::Done) => ExitCode::SUCCESS,
        Ok(Verdict::NotSo) => ExitCode::from(1),
        Err(Failure::Write { source }) if source.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => {
            let code = if matches!(failure, Failure::Usage { .. }) { 2 } else { 1 };
            let _ = writeln!(io::stderr(), "portolan: {}", show::chain(&failure));
            if let Some(hint) = failure.hint() {
                let _ = writeln!(io::stderr(), "          {hint}");
            }
            ExitCode::from(code)
        }
    }
}

async fn run(arguments: Arguments) -> Result<Verdict, Failure> {
    if let Command::Dev(dev) = arguments.command {
        return dev::run(dev).await.map_err(|error| Failure::Dev { source: error.into() });
    }
    let stdout = io::stdout();
    let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) || !stdout.is_terminal();
    let colour = if is_plain { Colour::Never } else { Colour::Always };
    let mut screen = Screen::new(stdout.lock(), colour, jiff::Timestamp::now());
    commands::run(&arguments, &mut screen).await
}
