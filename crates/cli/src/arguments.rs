//! The command line, and the help that teaches it.

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::dev;

/// Finds the ports of containers: what is registered, what names answer, and why.
#[derive(Debug, Parser)]
#[command(
    name = "portolan",
    version,
    arg_required_else_help = true,
    after_help = "Examples:
  portolan dev                       a registry and a sidecar on this machine
  portolan services                  what is registered
  portolan resolve elasticsearch     what a client would get
  portolan explain elasticsearch     why
  portolan doctor                    what is wrong here

Exit status: 0 done, 1 not so, 2 usage."
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Whom to ask, and how to show it.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// The registry's HTTP address; else the one that the local sidecar uses, else http://127.0.0.1:8500
    #[arg(long, global = true, env = "PORTOLAN_REGISTRY", value_name = "URL")]
    pub(crate) registry: Option<String>,
    /// The local sidecar's admin address
    #[arg(
        long,
        global = true,
        env = "PORTOLAN_SIDECAR__ADMIN",
        value_name = "URL",
        default_value = "http://127.0.0.1:8510"
    )]
    pub(crate) sidecar: String,
    /// How to show it: tables for people, or the JSON of the API as it came
    #[arg(short, long, global = true, value_name = "FORMAT", default_value = "text")]
    pub(crate) output: Output,
}

/// A form of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Tables for people.
    Text,
    /// The JSON of the API.
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The registry about itself: is it ready, how much does it know
    #[command(after_help = "Example:
  portolan status -o json")]
    Status,
    /// The services, or the endpoints of one
    #[command(after_help = "Examples:
  portolan services                        every service
  portolan services --cluster prod         those of one cluster
  portolan services elasticsearch          the endpoints of one, when only one cluster has it
  portolan services elasticsearch.prod     the same, of cluster `prod`")]
    Services {
        /// SERVICE or SERVICE.CLUSTER
        name: Option<String>,
        /// Only this cluster
        #[arg(long)]
        cluster: Option<String>,
    },
    /// The nodes, and whether their sidecars speak
    #[command(after_help = "Example:
  portolan nodes")]
    Nodes,
    /// The links of this node: virtual addresses, where they lead, how much goes through
    #[command(after_help = "Examples:
  portolan links
  portolan links elasticsearch")]
    Links {
        /// SERVICE or SERVICE.CLUSTER
        service: Option<String>,
    },
    /// What a client would get for a name; asks the local sidecar, else the registry, and says which
    #[command(after_help = "Examples:
  portolan resolve elasticsearch                          as a container on this node
  portolan resolve _9200._tcp.elasticsearch.prod          one port
  portolan resolve 198.18.7.9                             which name an address has")]
    Resolve {
        /// Any name of the zone, with or without the zone, or an address
        name: String,
    },
    /// Why a name answers what it answers: each candidate, each witness, the rule that decided
    #[command(after_help = "Example:
  portolan explain elasticsearch.prod")]
    Explain {
        /// Any name of a service, with or without the zone
        name: String,
    },
    /// Changes as they happen, until interrupted
    #[command(after_help = "Examples:
  portolan watch
  portolan watch elasticsearch.prod
  portolan watch -o json | jq .to")]
    Watch {
        /// SERVICE or SERVICE.CLUSTER
        service: Option<String>,
    },
    /// What is wrong on this machine, and the fix: Docker socket, rights, ports, routes, DNS, IAM actions
    #[command(after_help = "Examples:
  portolan doctor
  portolan doctor --probe busybox      also asks from within a container, of an image that has nslookup
  portolan doctor --cluster prod       also tries each IAM action, with the credentials found here")]
    Doctor {
        /// Also resolve from within a container of this local image
        #[arg(long, value_name = "IMAGE")]
        probe: Option<String>,
        /// Docker's socket
        #[arg(long, value_name = "PATH", env = "PORTOLAN_DOCKER__SOCKET", default_value = "/var/run/docker.sock")]
        docker_socket: std::path::PathBuf,
        #[command(flatten)]
        aws: AwsArguments,
    },
    /// A registry and a sidecar on this machine: embedded store, local Docker
    #[command(after_help = "Example:
  sudo portolan dev")]
    Dev(dev::Arguments),
}

/// Which part of AWS `doctor` tries.
#[derive(Debug, Args)]
pub(crate) struct AwsArguments {
    /// Also try each IAM action that the registry reads this ECS cluster by
    #[arg(long, value_name = "NAME")]
    pub(crate) cluster: Option<String>,
    /// The cluster's region, if not the one that AWS programs find here
    #[arg(long, value_name = "REGION", env = "PORTOLAN_AWS__REGION")]
    pub(crate) aws_region: Option<String>,
    /// Asked instead of AWS, such as a double
    #[arg(long, value_name = "URL", env = "PORTOLAN_AWS__ENDPOINT")]
    pub(crate) aws_endpoint: Option<String>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_every_command_has_an_example() {
        let command = Arguments::command();
        command.clone().debug_assert();
        for sub in command.get_subcommands() {
            let help = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("portolan"), "`{}` has no example", sub.get_name());
        }
    }
}
