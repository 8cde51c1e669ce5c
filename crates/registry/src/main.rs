//! The `portolan-registry` program: reads its settings and runs.

use std::process::ExitCode;
use std::sync::Arc;

use clap::{ArgMatches, Command};
use portolan_registry::app;
use portolan_registry::settings::{SETTINGS, Settings};
use portolan_runtime::jobs::Jobs;
use portolan_runtime::logging;
use portolan_runtime::metrics::Metrics;
use portolan_runtime::settings::{self, Loaded};

const ABOUT: &str = "A service registry: collects evidence about running containers, decides, and answers DNS and HTTP.

It keeps services, not images. Sidecars connect to its gRPC listener; clients ask its DNS and HTTP.";

#[tokio::main]
async fn main() -> ExitCode {
    let all = settings::merged(&[SETTINGS, &logging::SETTINGS]);
    let command = Command::new("portolan-registry").version(env!("CARGO_PKG_VERSION")).about(ABOUT);
    match run(&command.args(settings::flags(&all)).get_matches()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            logging::say_failure("portolan-registry", &error);
            ExitCode::FAILURE
        }
    }
}

async fn run(matches: &ArgMatches) -> anyhow::Result<()> {
    let all = settings::merged(&[SETTINGS, &logging::SETTINGS]);
    let loaded: Loaded<Settings> = settings::load(&all, matches, std::env::vars_os())?;
    logging::start(&loaded.settings.log)?;
    loaded.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    let stop = portolan_runtime::jobs::stop_signal();
    let jobs = Jobs::new();
    let metrics = Arc::new(Metrics::new("portolan-registry", env!("CARGO_PKG_VERSION")));
    metrics.register_jobs(&jobs);
    app::start(&jobs, loaded.settings, metrics).await?;
    Ok(jobs.run_until_stopped(stop).await?)
}
