//! `portolan doctor`: looks for what is wrong on this machine, and says how to mend it. It changes nothing, save that
//! `--probe` runs a container and removes it.

mod aws;
mod dns;
mod docker;
mod ports;
mod programs;
mod rights;

use std::io::{self, Write};
use std::path::Path;

use portolan_registry::ecs::aws::client as aws_client;
use serde::Serialize;

use crate::arguments::{AwsArguments, Common, Output};
use crate::client::Client;
use crate::commands::{Failure, Verdict};
use crate::show::{Cell, Screen, Table, Tone};

/// What to look at.
pub(crate) struct Wanted<'a> {
    /// The image of a container to ask from.
    pub(crate) probe: Option<&'a str>,
    /// Docker's socket.
    pub(crate) docker_socket: &'a Path,
    /// Which part of AWS.
    pub(crate) aws: &'a AwsArguments,
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    /// As it should be.
    Ok,
    /// Something is lost by it.
    Warning,
    /// It cannot work like this.
    Failed,
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::Warning => "warning",
            Outcome::Failed => "failed",
        }
    }
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Check {
    check: &'static str,
    outcome: Outcome,
    found: String,
    fix: Option<String>,
}

impl Check {
    fn ok(check: &'static str, found: impl Into<String>) -> Check {
        Check { check, outcome: Outcome::Ok, found: found.into(), fix: None }
    }

    fn warning(check: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Check {
        Check { check, outcome: Outcome::Warning, found: found.into(), fix: Some(fix.into()) }
    }

    fn failed(check: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Check {
        Check { check, outcome: Outcome::Failed, found: found.into(), fix: Some(fix.into()) }
    }
}

#[derive(Serialize)]
struct Report<'a> {
    checks: &'a [Check],
}

/// Looks at everything, and says what it found. Not so: something failed.
///
/// # Errors
/// When an address on the command line is none, or the output cannot be written.
pub(crate) async fn run<W: Write>(
    client: &Client,
    common: &Common,
    wanted: &Wanted<'_>,
    screen: &mut Screen<W>,
) -> Result<Verdict, Failure> {
    let programs = programs::look(client, common).await?;
    let mut checks = vec![docker::socket(wanted.docker_socket).await];
    checks.extend(rights::all());
    checks.extend(ports::all(&programs));
    let address = dns::address();
    let has_address = address.outcome == Outcome::Ok;
    checks.push(address);
    checks.extend(programs.checks());
    // Without the address here, the question would leave for the network, and whoever answers would not be ours.
    if has_address {
        checks.push(dns::from_here(&programs.zone).await);
    }
    if let Some(image) = wanted.probe {
        checks.push(docker::probe(image, &programs.zone).await);
    }
    if let Some(cluster) = &wanted.aws.cluster {
        let client = aws_client(wanted.aws.aws_region.clone(), wanted.aws.aws_endpoint.clone());
        checks.extend(aws::actions(client.as_ref(), cluster).await);
    }
    show(&checks, common.output, screen)?;
    let has_failed = checks.iter().any(|check| check.outcome == Outcome::Failed);
    Ok(if has_failed { Verdict::NotSo } else { Verdict::Done })
}

fn show<W: Write>(checks: &[Check], output: Output, screen: &mut Screen<W>) -> io::Result<()> {
    if output == Output::Json {
        return screen.json(&serde_json::to_vec(&Report { checks })?);
    }
    let mut table = Table::indented(0);
    for check in checks {
        table.row(vec![Cell::word(check.outcome.as_str()), check.check.into(), check.found.as_str().into()]);
        if let Some(fix) = &check.fix {
            table.row(vec!["".into(), "".into(), Cell::toned(format!("fix: {fix}"), Tone::Strong)]);
        }
    }
    screen.table(&table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::Colour;

    #[test]
    fn shows_what_was_found_and_the_fix() {
        let checks = [
            Check::ok("docker", "API 1.41"),
            Check::failed("port 8500", "taken by\u{1b}[2J another", "set `http.listen`"),
        ];
        let mut out = Vec::new();
        show(&checks, Output::Text, &mut Screen::new(&mut out, Colour::Never, jiff::Timestamp::UNIX_EPOCH)).unwrap();
        let expected = "ok      docker     API 1.41\nfailed  port 8500  taken by\\u{1b}[2J another\n                   fix: set `http.listen`\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        let mut out = Vec::new();
        show(&checks, Output::Json, &mut Screen::new(&mut out, Colour::Never, jiff::Timestamp::UNIX_EPOCH)).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value["checks"][1]["outcome"], "failed");
        assert_eq!(value["checks"][0]["fix"], serde_json::Value::Null);
    }
}
