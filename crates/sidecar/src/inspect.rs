//! What this node would register, and what it refuses and why, for a person or a program.

use std::fmt::Write;

use portolan_core::evidence::{ContainerReport, Health, Phase, PortReport};

use crate::registration::{Connection, LocalState};

/// How the answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For a person.
    Text,
    /// For a program: [`LocalState`] as JSON.
    Json,
}

/// Writes `state` for a person or a program. Every text from labels was made harmless where it was refused or parsed.
pub fn render(state: &LocalState, format: Format) -> String {
    match format {
        Format::Text => text(state),
        Format::Json => {
            serde_json::to_string_pretty(state).expect("a tree of strings, numbers and lists is always JSON") + "\n"
        }
    }
}

fn text(state: &LocalState) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    write_state(&mut out, state).ok();
    out
}

fn write_state(out: &mut String, state: &LocalState) -> std::fmt::Result {
    match &state.docker.connection {
        Connection::Connecting => writeln!(out, "Docker: no answer yet")?,
        Connection::Up { api_version } => writeln!(out, "Docker: up, API {api_version}")?,
        Connection::Down { reason } => writeln!(out, "Docker: out of reach: {reason}")?,
    }
    for notice in &state.docker.notices {
        writeln!(out, "note: {notice}")?;
    }
    if !state.is_complete {
        writeln!(out, "note: not everything was seen yet; what is missing below may well run")?;
    }
    for report in &state.reports {
        writeln!(out)?;
        write_container(out, report)?;
    }
    if !state.left_out.is_empty() {
        writeln!(out, "\nleft out")?;
    }
    for left_out in &state.left_out {
        writeln!(out, "  {} {}: {}", short(&left_out.id), left_out.name, left_out.reason)?;
    }
    if state.reports.is_empty() && state.left_out.is_empty() {
        writeln!(out, "no containers")?;
    }
    Ok(())
}

fn write_container(out: &mut String, report: &ContainerReport) -> std::fmt::Result {
    let verdict = if report.is_refused { "REFUSED" } else { phase(&report.phase) };
    let names = &report.candidates;
    let service = [&names.label, &names.registrator, &names.compose, &names.family, &names.container];
    let service = service.into_iter().flatten().next().map_or("?", |name| name.as_str());
    writeln!(out, "{service}.{}  {verdict}", report.cluster)?;
    writeln!(out, "  container {} {}", short(&report.id), report.name)?;
    if let Some(task) = &report.task_id {
        writeln!(out, "  task {task}; the ECS service's name, once known, comes before the family's")?;
    }
    if report.ports.is_empty() {
        writeln!(out, "  no port to register")?;
    }
    for port in &report.ports {
        write_port(out, port)?;
    }
    if !report.tags.is_empty() {
        writeln!(out, "  tags {}", report.tags.join(", "))?;
    }
    for (key, value) in &report.meta {
        writeln!(out, "  meta {key}={value}")?;
    }
    for refusal in &report.refusals {
        writeln!(out, "  refused {}: {}", refusal.field, refusal.reason)?;
    }
    Ok(())
}

fn write_port(out: &mut String, port: &PortReport) -> std::fmt::Result {
    let (number, protocol) = (port.container_port, port.protocol);
    write!(out, "  port {number}/{protocol}")?;
    if let Some(name) = port.registrator_name.as_ref().or(port.name.as_ref()) {
        write!(out, " {name}")?;
    }
    let addresses: Vec<String> =
        port.addresses.iter().map(|address| std::net::SocketAddr::new(*address, port.host_port).to_string()).collect();
    let chosen = if port.is_dynamic { ", chosen by Docker" } else { "" };
    let health = match port.health {
        Health::Starting => "starting",
        Health::Passing => "passing",
        Health::Failing => "failing",
    };
    writeln!(out, " at {}{chosen}, {health}", addresses.join(" "))
}

fn phase(phase: &Phase) -> &'static str {
    match phase {
        Phase::Running => "running",
        Phase::Paused => "paused",
        Phase::Stopping => "stopping",
        Phase::Died(_) => "died",
    }
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

#[cfg(test)]
mod tests;
