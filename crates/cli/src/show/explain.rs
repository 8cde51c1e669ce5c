//! Why a name answers what it answers.

use std::io::{self, Write};
use std::net::SocketAddr;

use portolan_registry::http::api::{Candidate, Explanation};

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
    if !why.refused.is_empty() {
        screen.line("")?;
        screen.cells(&[Cell::word("refused")])?;
    }
    for container in &why.refused {
        let whole = if container.is_refused { ": not registered" } else { "" };
        screen.line(&format!("  {} on {}{whole}", container.container, container.node))?;
        for refused in &container.refused {
            screen.line(&format!("    {}: {}", refused.field, refused.reason))?;
        }
    }
    Ok(())
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
        let age = said.age_seconds.map(|age| format!("for {}", seconds(age))).unwrap_or_default();
        let mut row = vec![said.witness.as_str().into(), Cell::plain(&said.word)];
        if !age.is_empty() {
            row.push(age.into());
        }
        table.row(row);
    }
    table.row(vec!["rule".into(), Cell::plain(&candidate.rule_text)]);
    if let Some(named_by) = &candidate.named_by {
        table.row(vec!["name".into(), format!("by {named_by}").into()]);
    }
    screen.table(&table)
}
