//! The `portolan-sidecar` program: reads its settings, waits for its turn on the node, runs.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::{Arg, ArgAction, ArgMatches, Command};
use portolan_runtime::jobs::Jobs;
use portolan_runtime::logging;
use portolan_runtime::metrics::Metrics;
use portolan_runtime::settings::{self, Loaded};
use portolan_sidecar::settings::{SETTINGS, Settings};
use portolan_sidecar::{app, inspect, links, standby};

const ABOUT: &str = "Registers the containers of this node, answers their DNS and links them to services.

Run one per node, on the host's network, with the Docker socket; `portolan-sidecar inspect` shows what it would register.";

#[tokio::main]
async fn main() -> ExitCode {
    let matches = command().get_matches();
    match run(&matches).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            logging::say_failure("portolan-sidecar", &error);
            ExitCode::FAILURE
        }
    }
}

fn command() -> Command {
    let all = settings::merged(&[SETTINGS, &logging::SETTINGS]);
    let output = Arg::new("output").short('o').value_parser(["text", "json"]).default_value("text");
    let inspect = Command::new("inspect")
        .about("Prints what this node would register, and what it refuses and why")
        .arg(output.help("How to print it"));
    Command::new("portolan-sidecar")
        .version(env!("CARGO_PKG_VERSION"))
        .about(ABOUT)
        .args(settings::flags(&all).into_iter().map(|flag| flag.global(true)))
        .arg(
            Arg::new("cleanup")
                .long("cleanup")
                .action(ArgAction::SetTrue)
                .help("Removes every route, rule and program of ours, and ends"),
        )
        .subcommand(inspect)
}

async fn run(matches: &ArgMatches) -> anyhow::Result<()> {
    let matched = matches.subcommand().map_or(matches, |(_, inner)| inner);
    let all = settings::merged(&[SETTINGS, &logging::SETTINGS]);
    let loaded: Loaded<Settings> = settings::load(&all, matched, std::env::vars_os())?;
    let settings = loaded.settings;
    logging::start(&settings.log)?;
    loaded.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    if matches.get_flag("cleanup") {
        let pins = &settings.link.pins;
        let unpinned = links::cleanup_kernel_path(pins);
        let unpinned = unpinned.with_context(|| format!("remove our programs and maps in `{}`", pins.display()));
        return links::cleanup().context("remove our routes and rules").and(unpinned);
    }
    let jobs = Jobs::new();
    if matches.subcommand_name() == Some("inspect") {
        let json = matched.get_one::<String>("output").is_some_and(|output| output == "json");
        return app::inspect(&jobs, &settings, if json { inspect::Format::Json } else { inspect::Format::Text }).await;
    }
    let mut stop = portolan_runtime::jobs::stop_signal();
    let turn = tokio::select! {
        turn = standby::wait_for_turn() => turn.context("wait for this sidecar's turn on the node")?,
        () = &mut stop => return Ok(()),
    };
    let _kept = turn.keep(&jobs);
    let metrics = Arc::new(Metrics::new("portolan-sidecar", env!("CARGO_PKG_VERSION")));
    metrics.register_jobs(&jobs);
    app::start(&jobs, settings, metrics).await?;
    Ok(jobs.run_until_stopped(stop).await?)
}
