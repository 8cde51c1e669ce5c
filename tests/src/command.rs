//! `portolan`, the command, as a person runs it on a node: to its end, with what it printed and its exit status.

use std::process::Command;

use anyhow::Context;
use serde_json::Value;

use crate::namespace::Namespace;
use crate::programs;

/// What came of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// Its exit status.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub error: String,
}

impl Ran {
    /// What it printed, when it did what it was asked for.
    ///
    /// # Errors
    /// With everything it said, when its exit status is not 0.
    pub fn done(self) -> anyhow::Result<String> {
        anyhow::ensure!(self.code == Some(0), "exit status {:?}: {}{}", self.code, self.out, self.error);
        Ok(self.out)
    }

    /// As [`Ran::done`], of a command with `-o json`.
    ///
    /// # Errors
    /// As there, and when it is no JSON.
    pub fn json(self) -> anyhow::Result<Value> {
        let out = self.done()?;
        serde_json::from_str(&out).with_context(|| format!("not JSON: {out}"))
    }
}

impl Namespace {
    /// Runs `portolan` inside. It gets no `PORTOLAN_` variable of the caller's, so it finds sidecar and registry by itself.
    ///
    /// # Errors
    /// When it cannot be built or started.
    pub fn portolan(&self, args: &[&str]) -> anyhow::Result<Ran> {
        let output = self.portolan_command(args)?.output().context("run portolan")?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Ran { code: output.status.code(), out: text(&output.stdout), error: text(&output.stderr) })
    }

    /// As [`Namespace::portolan`], not started yet.
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn portolan_command(&self, args: &[&str]) -> anyhow::Result<Command> {
        let mut command = self.command(&programs::path("portolan")?.to_string_lossy());
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PORTOLAN_")) {
            command.env_remove(name);
        }
        command.args(args);
        Ok(command)
    }
}
