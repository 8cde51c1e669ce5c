//! `portolan dev`: a registry and a sidecar on this machine, in one process. The one place where the two are joined; they
//! speak over the same wire as always.

use std::sync::Arc;

use anyhow::Context;
use clap::{Arg, ArgAction, ArgMatches, Command, FromArgMatches};
use portolan_registry::settings as registry_settings;
use portolan_runtime::jobs::{Jobs, stop_signal};
use portolan_runtime::logging;
use portolan_runtime::metrics::Metrics;
use portolan_runtime::settings::{self, Setting};
use portolan_sidecar::app::Process;
use portolan_sidecar::links;
use portolan_sidecar::settings as sidecar_settings;
use portolan_sidecar::sockets::Sockets;
use portolan_sidecar::standby::{self, Way};

use crate::commands::Verdict;

/// What `dev` takes: the settings of both programs, save where the registry is, for it is here.
#[derive(Debug)]
pub(crate) struct Arguments {
    matches: ArgMatches,
}

impl FromArgMatches for Arguments {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Arguments { matches: matches.clone() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.matches = matches.clone();
        Ok(())
    }
}

impl clap::Args for Arguments {
    fn augment_args(command: Command) -> Command {
        let cleanup = Arg::new("cleanup").long("cleanup").action(ArgAction::SetTrue);
        command
            .args(settings::flags(&all_settings()))
            .arg(cleanup.help("Removes every route and rule of ours, and ends"))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn all_settings() -> Vec<Setting> {
    let lists = [registry_settings::SETTINGS, sidecar_settings::SETTINGS, &logging::SETTINGS];
    settings::merged(&lists).into_iter().filter(|setting| setting.key != "registry").collect()
}

/// Runs both until it is told to end.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<Verdict> {
    let all = all_settings();
    let load_environment = std::env::vars_os;
    let registry = settings::load::<registry_settings::Settings>(&all, &arguments.matches, load_environment())?;
    let sidecar = settings::load::<sidecar_settings::Settings>(&all, &arguments.matches, load_environment())?;
    logging::start(&registry.settings.log)?;
    registry.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    if arguments.matches.get_flag("cleanup") {
        links::cleanup().context("remove our routes and rules")?;
        return Ok(Verdict::Done);
    }
    let jobs = Jobs::new();
    let mut stop = stop_signal();
    let turn = tokio::select! {
        turn = standby::wait_for_turn(Way::Wait) => turn.context("wait for this sidecar's turn on the node")?,
        () = &mut stop => return Ok(Verdict::Done),
    };
    let sockets = Arc::new(Sockets::default());
    let _kept = turn.keep(&jobs, &sockets);
    let metrics = Arc::new(Metrics::new("portolan dev", env!("CARGO_PKG_VERSION")));
    metrics.register_jobs(&jobs);
    let bound = portolan_registry::app::start(&jobs, registry.settings, metrics.clone()).await?;
    let mut sidecar = sidecar.settings;
    sidecar.registry = vec![format!("http://{}", bound.grpc)];
    // Each shows its own figures: the DNS series of both have the same names.
    let own = Arc::new(Metrics::new("portolan dev", env!("CARGO_PKG_VERSION")));
    portolan_sidecar::app::start(Process { jobs: &jobs, connections: &jobs, sockets: &sockets }, sidecar, own).await?;
    jobs.run_until_stopped(stop).await?;
    // Unlike a node's sidecar, which leaves its rules so that links are refused and never vanish into the net.
    if let Err(error) = links::cleanup() {
        tracing::warn!("remove our routes and rules: {:#}", anyhow::Error::from(error));
    }
    Ok(Verdict::Done)
}
