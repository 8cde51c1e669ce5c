//! The command line, and the help that teaches it.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use portolan_runtime::settings::parse_duration;

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
  portolan wait web.prod             until it is up, or why it is not
  portolan drain i-0abc              out of every answer, while open links finish
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
    /// The registry's HTTP address; else the one that the local sidecar uses, else http://127.0.0.1:8500. (To a sidecar
    /// PORTOLAN_REGISTRY is the registry's gRPC address, port 8502)
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
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        name: Option<String>,
        /// Only this cluster
        #[arg(long, value_parser = NonEmptyStringValueParser::new())]
        cluster: Option<String>,
    },
    /// The nodes, and whether their sidecars speak
    #[command(after_help = "Example:
  portolan nodes")]
    Nodes,
    /// The links of this node: virtual addresses, where they lead, how much goes through; or a link off and on
    #[command(
        after_help = "With --off the service's name answers its endpoints' addresses, at once and on all nodes, until --on. Clients that hold
the virtual address still reach it there. `portolan drain` lists what is off.

Examples:
  portolan links
  portolan links elasticsearch
  portolan links elasticsearch --off --reason 'slow since Tuesday'"
    )]
    Links {
        /// SERVICE or SERVICE.CLUSTER
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        service: Option<String>,
        /// Its name answers its endpoints' addresses, on all nodes
        #[arg(long, requires = "service", conflicts_with = "on")]
        off: bool,
        /// Its name answers the virtual address again
        #[arg(long, requires = "service")]
        on: bool,
        /// Why, for those who look
        #[arg(long, requires = "off", value_name = "TEXT")]
        reason: Option<String>,
    },
    /// What a client would get for a name; asks the local sidecar, else the registry, and says which
    #[command(after_help = "Examples:
  portolan resolve elasticsearch                          as a container on this node
  portolan resolve _9200._tcp.elasticsearch.prod          one port
  portolan resolve 198.18.7.9                             which name an address has")]
    Resolve {
        /// Any name of the zone, with or without the zone, or an address
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        name: String,
    },
    /// Why a name answers what it answers: each candidate, each witness, the rule that decided
    #[command(after_help = "Example:
  portolan explain elasticsearch.prod")]
    Explain {
        /// Any name of a service, with or without the zone
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        name: String,
    },
    /// Changes as they happen, until interrupted
    #[command(after_help = "Examples:
  portolan watch
  portolan watch elasticsearch.prod
  portolan watch -o json | jq .to")]
    Watch {
        /// SERVICE or SERVICE.CLUSTER
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        service: Option<String>,
    },
    /// Waits until as many tasks of a service are usable; fails with the reasons of those that stopped
    #[command(
        after_help = "Counted are tasks (without ECS: containers) of any deployment whose every port is usable. It fails
when the time is over, or when ECS calls the service's deployment FAILED, and then prints the tasks that
stopped meanwhile, or else before: why, and with which exit codes.

Examples:
  portolan wait web.prod                        as many as ECS should run
  portolan wait web.prod --usable 3 --timeout 5m
  portolan wait web.prod -o json | jq .stopped

Exit status: 0 as many are usable, 1 not so, 2 usage."
    )]
    Wait(WaitArguments),
    /// Takes a node, a task or a container out of every answer, while open links finish
    #[command(
        after_help = "ECS goes on as before: it may place tasks on a drained node, and they are drained, too. A node stays drained
until it is put back; the drain of a task ends by itself, an hour after the task is gone.

Examples:
  portolan drain                                     what is drained and evicted now
  portolan drain i-0abc --reason 'new kernel'        a node; NODE.CLUSTER where several clusters have it
  portolan drain 0123456789ab                        a task or a container, by 12 characters of its id or more
  portolan drain i-0abc --undo                       puts it back"
    )]
    Drain {
        /// NODE, NODE.CLUSTER, or the id of a task or a container; without one: what is drained and evicted
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        target: Option<String>,
        /// Puts it back
        #[arg(long, requires = "target", conflicts_with = "reason")]
        undo: bool,
        /// Why, for those who look
        #[arg(long, requires = "target", value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Takes a task or a container out of every answer for good, as if it had ended
    #[command(
        after_help = "For what runs and serves what it should not. Links to it are cut from new connections on; ECS is not told.

Examples:
  portolan evict 0123456789ab --reason 'serves old data'
  portolan evict 0123456789ab --undo"
    )]
    Evict {
        /// The id of a task or a container, or 12 characters of it or more
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        id: String,
        /// Why, for those who miss it
        #[arg(long, required_unless_present = "undo", conflicts_with = "undo", value_name = "TEXT")]
        reason: Option<String>,
        /// Takes it back
        #[arg(long)]
        undo: bool,
    },
    /// Services outside ECS and Docker, such as a database: addresses, or DNS names that are followed
    #[command(after_help = "Examples:
  portolan external list
  portolan external set db.prod db.abc.eu-west-1.rds.amazonaws.com:5432 --check
  portolan external delete db.prod")]
    External {
        #[command(subcommand)]
        command: ExternalCommand,
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

/// What to wait for.
#[derive(Debug, Args)]
pub(crate) struct WaitArguments {
    /// SERVICE or SERVICE.CLUSTER; with the cluster it need not be there yet
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(crate) service: String,
    /// How many; else as many as ECS should run, else 1
    #[arg(long, value_name = "N")]
    pub(crate) usable: Option<u32>,
    /// How long to wait at the most: 90s, 10m, 1h
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration)]
    pub(crate) timeout: Duration,
}

/// What to do with a declared service.
#[derive(Debug, Subcommand)]
pub(crate) enum ExternalCommand {
    /// The declared services, or where the endpoints of one are
    #[command(after_help = "Examples:
  portolan external list
  portolan external list db.prod")]
    List {
        /// SERVICE.CLUSTER, or SERVICE where only one cluster has it declared
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        service: Option<String>,
    },
    /// Declares a service, or replaces what was declared
    #[command(
        after_help = "A name is followed by its TTL; while nobody can resolve it its former addresses stay, and that is shown.

Examples:
  portolan external set db.prod 10.0.3.7:5432 10.0.4.7:5432 --check=30s
  portolan external set db.prod db.abc.eu-west-1.rds.amazonaws.com:5432 --check --tag primary --meta owner=data
  portolan external set syslog.prod 10.0.3.9:514/udp
  portolan external set db.prod --file db.json         # as PUT /api/external/prod/db takes it; - is standard input"
    )]
    Set(SetArguments),
    /// Takes a declaration back: its endpoints are gone
    #[command(after_help = "Example:
  portolan external delete db.prod")]
    Delete {
        /// SERVICE.CLUSTER, or SERVICE where only one cluster has it declared
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        service: String,
    },
}

/// What is declared.
#[derive(Debug, Args)]
pub(crate) struct SetArguments {
    /// SERVICE.CLUSTER
    pub(crate) service: String,
    /// HOST:PORT, or HOST:PORT/udp; a host is an IP address or a DNS name
    #[arg(required_unless_present = "file", value_name = "ENDPOINT")]
    pub(crate) endpoints: Vec<String>,
    /// Tries a TCP connection to each, that often
    #[arg(long, value_name = "INTERVAL", num_args = 0..=1, require_equals = true, default_missing_value = "10s")]
    pub(crate) check: Option<String>,
    /// A name for the port
    #[arg(long, value_name = "NAME")]
    pub(crate) port_name: Option<String>,
    /// SRV weight
    #[arg(long, value_name = "0..65535")]
    pub(crate) weight: Option<u16>,
    /// A tag; may be given several times
    #[arg(long = "tag", value_name = "TAG")]
    pub(crate) tags: Vec<String>,
    /// Metadata; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) meta: Vec<String>,
    /// Everything as JSON
    #[arg(long, value_name = "FILE", conflicts_with_all = ["endpoints", "check", "port_name", "weight", "tags", "meta"])]
    pub(crate) file: Option<PathBuf>,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "a number with its unit is needed (s, m, h), such as 10m".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_every_command_has_an_example() {
        let command = Arguments::command();
        command.clone().debug_assert();
        let nested = command.get_subcommands().flat_map(|sub| sub.get_subcommands());
        for sub in command.get_subcommands().chain(nested) {
            let help = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("portolan"), "`{}` has no example", sub.get_name());
        }
    }
}
