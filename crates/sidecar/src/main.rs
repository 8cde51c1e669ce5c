//! The `portolan-sidecar` program: reads its settings and has a worker kept, which waits for its turn on the node, and runs.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::{Arg, ArgAction, ArgMatches, Command};
use portolan_runtime::jobs::Jobs;
use portolan_runtime::logging;
use portolan_runtime::metrics::Metrics;
use portolan_runtime::settings::{self, Loaded};
use portolan_sidecar::app::{self, Process};
use portolan_sidecar::keeper::{self, Keeper};
use portolan_sidecar::settings::{SETTINGS, Settings};
use portolan_sidecar::sockets::Duplicates;
use portolan_sidecar::standby::{self, Way};
use portolan_sidecar::{inspect, links};

/// How long connections may go on in a sidecar that another one has replaced.
const FINISH_MAX: Duration = Duration::from_secs(3_600);

const ABOUT: &str = "Registers the containers of this node, answers their DNS and links them to services.

Run one per node, on the host's network, with the Docker socket; `portolan-sidecar inspect` shows what it would register.";

#[tokio::main]
async fn main() -> ExitCode {
    let matches = command().get_matches();
    match run(&matches).await {
        Ok(code) => code,
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
        .arg(Arg::new("takeover").long("takeover").action(ArgAction::SetTrue).conflicts_with("cleanup").help(
            "Serves this node now: the sidecar that does so hands over its sockets, and finishes its connections",
        ))
        .subcommand(inspect)
}

async fn run(matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let matched = matches.subcommand().map_or(matches, |(_, inner)| inner);
    let all = settings::merged(&[SETTINGS, &logging::SETTINGS]);
    let loaded: Loaded<Settings> = settings::load(&all, matched, std::env::vars_os())?;
    let settings = loaded.settings;
    logging::start(&settings.log)?;
    if matches.get_flag("cleanup") {
        let pins = &settings.link.pins;
        let unpinned = links::cleanup_kernel_path(pins);
        let unpinned = unpinned.with_context(|| format!("remove our programs and maps in `{}`", pins.display()));
        let cleaned = links::cleanup().context("remove our routes and rules").and(unpinned);
        return cleaned.map(|()| ExitCode::SUCCESS);
    }
    let jobs = Jobs::new();
    if matches.subcommand_name() == Some("inspect") {
        let json = matched.get_one::<String>("output").is_some_and(|output| output == "json");
        let format = if json { inspect::Format::Json } else { inspect::Format::Text };
        return app::inspect(&jobs, &settings, format).await.map(|()| ExitCode::SUCCESS);
    }
    let Some((keeper, before)) = keeper::of_this_process().await? else {
        return keeper::run(portolan_runtime::jobs::stop_signal()).await;
    };
    loaded.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    let way = if matches.get_flag("takeover") { Way::TakeOver } else { Way::Wait };
    serve(settings, way, (keeper, before)).await
}

/// Serves the node, once it is this sidecar's turn, until it is to stop or another one takes over.
async fn serve(settings: Settings, way: Way, (keeper, before): (Keeper, Duplicates)) -> anyhow::Result<ExitCode> {
    let (jobs, connections) = (Jobs::new(), Jobs::new());
    let mut stop = portolan_runtime::jobs::stop_signal();
    let mut turn = tokio::select! {
        turn = standby::wait_for_turn(way) => turn.context("wait for this sidecar's turn on the node")?,
        () = &mut stop => return Ok(ExitCode::SUCCESS),
    };
    let sockets = Arc::new(keeper::joined(std::mem::take(&mut turn.left), before));
    jobs.start("keeper", keeper.tell(sockets.watch()));
    let kept = turn.keep(&jobs, &sockets);
    let metrics = Arc::new(Metrics::new("portolan-sidecar", env!("CARGO_PKG_VERSION")));
    metrics.register_jobs(&jobs);
    app::start(Process { jobs: &jobs, connections: &connections, sockets: &sockets }, settings, metrics).await?;
    let (mut was_stopped, mut is_awaited) = (false, false);
    let ended = jobs.run_until_stopped(async {
        tokio::select! {
            () = &mut stop => (was_stopped, is_awaited) = (true, kept.is_awaited()),
            () = kept.taken_over() => is_awaited = true,
        }
    });
    ended.await?;
    drop(kept);
    if is_awaited {
        tracing::info!("another sidecar serves this node: the connections that are open here may finish");
        tokio::select! {
            () = connections.idle() => {}
            () = &mut stop, if !was_stopped => {}
            () = tokio::time::sleep(FINISH_MAX) => tracing::warn!("connections that did not finish are cut"),
        }
    }
    connections.shut_down();
    connections.finished().await?;
    Ok(ExitCode::SUCCESS)
}
