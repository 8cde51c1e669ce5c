//! A wait: the line that a terminal shows meanwhile, and what came of it.

use std::io::{self, IsTerminal, Write};

use portolan_registry::http::api::StoppedTask;

use super::service::first;
use super::{Cell, Screen, Tone, age, safe, seconds};
use crate::commands::{EndedRun, Outcome, Waited, others};

/// One line of standard error that is written over again and again. Only a terminal gets it.
pub(crate) struct Progress {
    out: Option<io::Stderr>,
}

impl Progress {
    /// A line, if standard error is a terminal.
    pub(crate) fn new() -> Progress {
        let stderr = io::stderr();
        Progress { out: stderr.is_terminal().then_some(stderr) }
    }

    /// Shows `text` in the place of what was shown.
    pub(crate) fn show(&mut self, text: &str) {
        self.write(&safe(text));
    }

    /// Takes the line away.
    pub(crate) fn end(&mut self) {
        self.write("");
    }

    fn write(&mut self, text: &str) {
        if let Some(out) = &mut self.out {
            // Without standard error there is nobody to tell.
            let _ = write!(out, "\r\u{1b}[K{text}").and_then(|()| out.flush());
        }
    }
}

/// How it ended, and of what failed, why.
pub(crate) fn waited<W: Write>(screen: &mut Screen<W>, outcome: &Outcome) -> io::Result<()> {
    let usable = outcome.tasks.get("usable").copied().unwrap_or_default();
    let of = outcome.wanted.map(|wanted| format!(" of {wanted}")).unwrap_or_default();
    let tone = if outcome.outcome == Waited::Usable { Tone::Good } else { Tone::Bad };
    screen.cells(&[
        Cell::toned(format!("{}.{}:", outcome.service, outcome.cluster), Tone::Strong),
        Cell::toned(format!("{usable}{of} usable{}", others(&outcome.tasks)), tone),
        format!("after {}", seconds(outcome.waited_seconds)).into(),
    ])?;
    match (outcome.outcome, &outcome.deployment) {
        (Waited::Usable, _) => return Ok(()),
        (_, Some(deployment)) => {
            let reason = if deployment.reason.is_empty() { "ECS does not say why" } else { &deployment.reason };
            screen.line(&format!("the deployment of {} FAILED: {reason}", deployment.task_definition))?;
        }
        (_, None) if outcome.wanted.is_none() => {
            screen.line("ECS knows no service of that name; `--usable N` waits for one that ECS does not know")?;
        }
        (_, None) => screen.line("the time is over")?,
    }
    outcome.stopped.iter().try_for_each(|task| stopped(screen, task))?;
    outcome.ended.iter().try_for_each(|run| ended(screen, run))
}

/// A task that stopped, with the containers that say something.
pub(super) fn stopped<W: Write>(screen: &mut Screen<W>, task: &StoppedTask) -> io::Result<()> {
    let since = age(Some(&task.at), screen.now);
    let id = first(&task.task_id, 12);
    screen.line(&format!("task {id} stopped {since} ago: {}: {}", task.code, task.reason))?;
    for container in &task.containers {
        let code = container.exit_code.map(|code| format!(" exit code {code}")).unwrap_or_default();
        let reason = container.reason.as_ref().map(|reason| format!(" {reason}")).unwrap_or_default();
        if !(code.is_empty() && reason.is_empty()) {
            screen.line(&format!("    {}:{code}{reason}", container.name))?;
        }
    }
    Ok(())
}

fn ended<W: Write>(screen: &mut Screen<W>, run: &EndedRun) -> io::Result<()> {
    let code = run.exit_code.map_or("exit code not known".to_owned(), |code| format!("exit code {code}"));
    let memory = if run.is_out_of_memory { ", out of memory" } else { "" };
    let since = age(Some(&run.at), screen.now);
    let id = first(&run.container_id, 12);
    screen.line(&format!("container {} ({id}) on {} ended {since} ago: {code}{memory}", run.container, run.node))
}
