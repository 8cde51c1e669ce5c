//! Why a name answers what it answers.

use std::io::{self, Write};
use std::net::SocketAddr;

use portolan_registry::http::api::{Candidate, EcsService, Explanation, RefusedInput};

use super::wait::stopped;
use super::{Cell, Screen, Table, Tone, seconds};

/// Every candidate, what each witness says, the rule that decided, and what was refused.
pub(crate) fn explanation<W: Write>(screen: &mut Screen<W>, why: &Explanation) -> io::Result<()> {
    screen.cells(&[
        Cell::toned(&why.name, Tone::Strong),
        format!("service {} of cluster {}, index {},", why.service, why.cluster, why.index).into(),
        Cell::word(&why.readiness),
    ])?;
    if let Some(link) = &why.link {
        screen.line(&format!("virtual address {} ({})", link.address, link.mode))?;
    }
    if why.candidates.is_empty() {
        screen.line("no candidates: no container of this service was reported")?;
    }
    for candidate in &why.candidates {
        screen.line("")?;
        one(screen, candidate)?;
    }
    if let Some(ecs) = &why.ecs {
        screen.line("")?;
        rollout(screen, ecs)?;
    }
    if !why.stopped.is_empty() {
        screen.line("")?;
        why.stopped.iter().try_for_each(|task| stopped(screen, task))?;
    }
    if !why.refused.is_empty() {
        screen.line("")?;
        screen.cells(&[Cell::word("refused"), "of the service:".into()])?;
        refused(screen, &why.refused)?;
    }
    Ok(())
}

/// What ECS says of the service: it changes nothing of the answers, and tells much of why they are as they are.
fn rollout<W: Write>(screen: &mut Screen<W>, ecs: &EcsService) -> io::Result<()> {
    let EcsService { name, desired, running, pending, .. } = ecs;
    screen.line(&format!("ECS service {name}: {running} of {desired} tasks running, {pending} pending"))?;
    let mut table = Table::indented(2);
    for deployment in &ecs.deployments {
        let state = if deployment.rollout_state.is_empty() { "-" } else { &deployment.rollout_state };
        table.row(vec![
            deployment.status.as_str().into(),
            deployment.task_definition.as_str().into(),
            Cell::word(state),
            format!("{} of {} running, {} failed", deployment.running, deployment.desired, deployment.failed).into(),
            Some(deployment.reason.as_str()).filter(|reason| !reason.is_empty()).into(),
        ]);
    }
    screen.table(&table)
}

fn refused<W: Write>(screen: &mut Screen<W>, all: &[RefusedInput]) -> io::Result<()> {
    all.iter().try_for_each(|refused| screen.line(&format!("    {}: {}", refused.field, refused.reason)))
}

fn one<W: Write>(screen: &mut Screen<W>, candidate: &Candidate) -> io::Result<()> {
    let id = &candidate.id;
    let place = match candidate.address {
        Some(address) => SocketAddr::new(address, candidate.port).to_string(),
        None => format!("port {}", candidate.port),
    };
    let answered = if candidate.is_answered { "answered" } else { "not answered" };
    screen.cells(&[
        Cell::word(&candidate.state),
        format!("{} on {}, {place} to {}/{},", id.container, id.node, id.container_port, id.protocol).into(),
        answered.into(),
    ])?;
    let mut table = Table::indented(2);
    for said in &candidate.witnesses {
        let age = said.age_seconds.map(|age| format!(", for {}", seconds(age))).unwrap_or_default();
        table.row(vec![said.witness.as_str().into(), format!("{}{age}", said.word).into()]);
    }
    table.row(vec!["rule".into(), Cell::plain(&candidate.rule_text)]);
    table.row(vec!["name".into(), format!("by {}", candidate.named_by).into()]);
    if let Some(ended) = &candidate.ended {
        let code = ended.exit_code.map(|code| format!(", exit code {code}")).unwrap_or_default();
        let memory = if ended.is_out_of_memory { ", out of memory" } else { "" };
        table.row(vec!["ended".into(), format!("{}{code}{memory}", ended.at).into()]);
    }
    screen.table(&table)?;
    if !candidate.refused.is_empty() {
        let whole = if candidate.is_refused { "so it is in no answer:" } else { "and the rest registered:" };
        screen.cells(&[Cell::plain(" "), Cell::word("refused"), whole.into()])?;
    }
    refused(screen, &candidate.refused)
}
