//! What each command asks, and what comes of it.

mod external;
mod names;
mod orders;
#[cfg(test)]
mod tests;
mod wait;

pub(crate) use names::Key;
pub(crate) use wait::{EndedRun, Outcome, Waited, others};

use std::io::{self, Write};
use std::net::Ipv4Addr;

use portolan_registry::http::api::{Explanation, LinkPort, NodeList, Resolution, Service, ServiceList, Status};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::arguments::{Arguments, Command, Common, Output};
use crate::client::{Answer, Client, ClientError, Question, ServerError, escaped};
use crate::locate::{self, How, Registry};
use crate::show::{self, Screen};
use crate::{doctor, watch};
use orders::Change;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is so: status 0.
    Done,
    /// It was asked and answered, and is not so: status 1.
    NotSo,
}

/// Why a command could not be done.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// The command line is at fault.
    #[error("{text}")]
    Usage {
        /// What is wrong with it.
        text: String,
    },
    /// The registry was asked, and there is no good answer.
    #[error("no answer from the registry")]
    Registry {
        /// How it was found.
        how: &'static str,
        /// What happened.
        #[source]
        source: ClientError,
    },
    /// The sidecar of this machine was asked, and there is no good answer.
    #[error("no answer from the sidecar of this machine")]
    Sidecar {
        /// What happened.
        #[source]
        source: ClientError,
    },
    /// A server answered: no.
    #[error("{text}")]
    Answered {
        /// Its words.
        text: String,
    },
    /// The output cannot be written.
    #[error("write the output")]
    Write {
        /// What happened.
        #[from]
        source: io::Error,
    },
    /// `portolan dev` ended badly.
    #[error("run a registry and a sidecar on this machine")]
    Dev {
        /// What happened.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Failure {
    /// What the person may do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Failure::Registry { how, source: ClientError::NotHttp { .. } } => Some(format!(
                "this address is {how}, and looks like a registry's gRPC address, which is for sidecars (port 8502); this \
                 command needs the HTTP address, such as --registry http://127.0.0.1:8500"
            )),
            Failure::Registry { how, source } if source.is_unreachable() => Some(format!(
                "this address is {how}; `portolan dev` starts a registry here, `portolan doctor` looks closer"
            )),
            Failure::Sidecar { source } if source.is_unreachable() => {
                Some("is it running? `--sidecar URL` names another address, `portolan doctor` looks closer".to_owned())
            }
            Failure::Registry { .. }
            | Failure::Sidecar { .. }
            | Failure::Usage { .. }
            | Failure::Answered { .. }
            | Failure::Write { .. }
            | Failure::Dev { .. } => None,
        }
    }
}

impl From<ServerError> for Failure {
    fn from(error: ServerError) -> Failure {
        Failure::Usage { text: error.to_string() }
    }
}

/// What a sidecar's `/api/links` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct LinkList {
    /// One for each service with a virtual address.
    pub(crate) links: Vec<LinkState>,
}

/// One link of this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LinkState {
    /// The service.
    pub(crate) service: String,
    /// Its cluster.
    pub(crate) cluster: String,
    /// Its virtual address.
    pub(crate) address: Ipv4Addr,
    /// `vip` or `direct`.
    pub(crate) mode: String,
    /// `proxy` or `ebpf`; empty from a sidecar that knows no planes.
    #[serde(default)]
    pub(crate) plane: String,
    /// Why it is not the plane that was asked for.
    #[serde(default)]
    pub(crate) plane_reason: Option<String>,
    /// How many connections the kernel led.
    #[serde(default)]
    pub(crate) led_total: u64,
    /// How many of those failed.
    #[serde(default)]
    pub(crate) led_failures: u64,
    /// Its ports.
    pub(crate) ports: Vec<LinkPort>,
    /// How many endpoints it may lead to now.
    pub(crate) endpoints: u64,
    /// How many connections are open.
    pub(crate) open: u64,
    /// How many the relay took.
    pub(crate) total: u64,
    /// How many reached no endpoint.
    pub(crate) failures: u64,
}

/// Does what the command line says.
///
/// # Errors
/// When it cannot be done; [`Failure`] says what was tried.
pub(crate) async fn run<W: Write>(arguments: &Arguments, screen: &mut Screen<W>) -> Result<Verdict, Failure> {
    let asker = Asker { client: Client::new(), common: &arguments.common };
    match &arguments.command {
        Command::Status => asker.status(screen).await,
        Command::Services { name: None, cluster } => asker.services(cluster.as_deref(), screen).await,
        Command::Services { name: Some(name), cluster } => asker.service(name, cluster.as_deref(), screen).await,
        Command::Nodes => asker.nodes(screen).await,
        Command::Links { service } => asker.links(service.as_deref(), screen).await,
        Command::Resolve { name } => asker.resolve(name, screen).await,
        Command::Explain { name } => asker.explain(name, screen).await,
        Command::Watch { service } => {
            let registry = asker.registry().await?;
            let key = match service {
                Some(name) => Some(asker.key(&registry, name, None).await?),
                None => None,
            };
            let path = watch::path(key.as_ref());
            let watch = watch::Watch { client: &asker.client, registry: &registry, path, output: asker.common.output };
            watch.run(screen).await
        }
        Command::Wait(wait) => asker.wait(wait, screen).await,
        Command::Drain { target: None, .. } => asker.orders(screen).await,
        Command::Drain { target: Some(target), undo, reason } => {
            let change = if *undo { Change::Undo } else { Change::Order(reason.clone()) };
            asker.drain(target, change, screen).await
        }
        Command::Evict { id, reason, undo } => {
            let change = if *undo { Change::Undo } else { Change::Order(reason.clone()) };
            asker.evict(id, change, screen).await
        }
        Command::External { command } => asker.external(command, screen).await,
        Command::Doctor { probe, docker_socket, aws } => {
            let wanted = doctor::Wanted { probe: probe.as_deref(), docker_socket, aws };
            doctor::run(&asker.client, asker.common, &wanted, screen).await
        }
        Command::Dev(_) => Err(Failure::Usage { text: "`dev` takes no other command with it".to_owned() }),
    }
}

/// What the registry's word means: a refusal is an answer, everything else is none.
fn failed(registry: &Registry, source: ClientError) -> Failure {
    match source {
        ClientError::Refused { detail, .. } => {
            Failure::Answered { text: format!("the registry at {} says: {detail}", registry.server) }
        }
        source => Failure::Registry { how: registry.how.text(), source },
    }
}

/// Asks for one command.
pub(crate) struct Asker<'a> {
    client: Client,
    common: &'a Common,
}

impl Asker<'_> {
    async fn registry(&self) -> Result<Registry, Failure> {
        Ok(locate::registry(&self.client, self.common).await?)
    }

    async fn get<T: serde::de::DeserializeOwned>(&self, registry: &Registry, path: &str) -> Result<Answer<T>, Failure> {
        self.ask(registry, Question::get(path)).await
    }

    async fn ask<T: serde::de::DeserializeOwned>(
        &self,
        registry: &Registry,
        question: Question<'_>,
    ) -> Result<Answer<T>, Failure> {
        let answer = self.client.ask(&registry.server, question).await;
        answer.map_err(|source| failed(registry, source))
    }

    fn is_json(&self) -> bool {
        self.common.output == Output::Json
    }

    async fn status<W: Write>(&self, screen: &mut Screen<W>) -> Result<Verdict, Failure> {
        let registry = self.registry().await?;
        let answer: Answer<Status> = self.get(&registry, "/api/status").await?;
        if self.is_json() {
            screen.json(&answer.raw)?;
        } else {
            let sidecar = locate::sidecar_status(&self.client, self.common).await;
            show::status(screen, &answer.value, &registry, sidecar.as_ref())?;
        }
        Ok(if answer.value.readiness == "loading" { Verdict::NotSo } else { Verdict::Done })
    }

    async fn services<W: Write>(&self, cluster: Option<&str>, screen: &mut Screen<W>) -> Result<Verdict, Failure> {
        let registry = self.registry().await?;
        let path = match cluster {
            Some(cluster) => format!("/api/services?cluster={}", escaped(cluster)),
            None => "/api/services".to_owned(),
        };
        let answer: Answer<ServiceList> = self.get(&registry, &path).await?;
        if self.is_json() {
            screen.json(&answer.raw)?
        } else {
            show::services(screen, &answer.value)?
        }
        Ok(Verdict::Done)
    }

    async fn service<W: Write>(
        &self,
        name: &str,
        cluster: Option<&str>,
        screen: &mut Screen<W>,
    ) -> Result<Verdict, Failure> {
        let registry = self.registry().await?;
        let key = self.key(&registry, name, cluster).await?;
        let path = format!("/api/services/{}/{}", escaped(&key.cluster), escaped(&key.service));
        let answer: Answer<Service> = self.get(&registry, &path).await?;
        if self.is_json() {
            screen.json(&answer.raw)?
        } else {
            show::service(screen, &answer.value)?
        }
        Ok(Verdict::Done)
    }

    async fn nodes<W: Write>(&self, screen: &mut Screen<W>) -> Result<Verdict, Failure> {
        let registry = self.registry().await?;
        let answer: Answer<NodeList> = self.get(&registry, "/api/nodes").await?;
        if self.is_json() {
            screen.json(&answer.raw)?
        } else {
            show::nodes(screen, &answer.value)?
        }
        Ok(Verdict::Done)
    }

    async fn links<W: Write>(&self, service: Option<&str>, screen: &mut Screen<W>) -> Result<Verdict, Failure> {
        let sidecar = locate::sidecar(self.common)?;
        let answer: Result<Answer<LinkList>, _> = self.client.get(&sidecar, "/api/links").await;
        let answer = answer.map_err(|source| Failure::Sidecar { source })?;
        let Some(name) = service else {
            if self.is_json() {
                screen.json(&answer.raw)?
            } else {
                show::links(screen, &answer.value)?
            }
            return Ok(Verdict::Done);
        };
        let links: Vec<LinkState> = answer
            .value
            .links
            .into_iter()
            .filter(|link| names::is_called(&link.service, &link.cluster, name))
            .collect();
        if links.is_empty() {
            return Err(Failure::Answered {
                text: format!("the sidecar at {sidecar} has no link for `{}`", show::safe(name)),
            });
        }
        let links = LinkList { links };
        if self.is_json() {
            screen.json(&serde_json::to_vec(&links).map_err(io::Error::other)?)?;
        } else {
            show::links(screen, &links)?;
        }
        Ok(Verdict::Done)
    }

    async fn resolve<W: Write>(&self, name: &str, screen: &mut Screen<W>) -> Result<Verdict, Failure> {
        let path = format!("/api/resolve/{}", escaped(name));
        let (answer, who) = self.resolved(&path).await?;
        if self.is_json() {
            screen.json(&answer.raw)?
        } else {
            show::resolution(screen, &answer.value, &who)?
        }
        let found = &answer.value;
        let has_answer = !(found.addresses.is_empty() && found.srv.is_empty() && found.pointers.is_empty());
        Ok(if found.status == "NOERROR" && has_answer { Verdict::Done } else { Verdict::NotSo })
    }

    /// By the sidecar of this machine, unless a registry was named or none runs here.
    async fn resolved(&self, path: &str) -> Result<(Answer<Resolution>, String), Failure> {
        if self.common.registry.is_none() {
            let sidecar = locate::sidecar(self.common)?;
            match self.client.get(&sidecar, path).await {
                Ok(answer) => return Ok((answer, format!("the sidecar at {sidecar}"))),
                Err(ClientError::Refused { detail, .. }) => {
                    return Err(Failure::Answered { text: format!("the sidecar at {sidecar} says: {detail}") });
                }
                Err(error) if error.is_unreachable() => {}
                Err(source) => return Err(Failure::Sidecar { source }),
            }
        }
        let registry = self.registry().await?;
        let answer = self.get(&registry, path).await?;
        let why = if registry.how == How::Named { "" } else { "; no sidecar answers here" };
        Ok((answer, format!("the registry at {}{why}", registry.server)))
    }

    async fn explain<W: Write>(&self, name: &str, screen: &mut Screen<W>) -> Result<Verdict, Failure> {
        let registry = self.registry().await?;
        let answer: Answer<Explanation> = self.get(&registry, &format!("/api/explain/{}", escaped(name))).await?;
        if self.is_json() {
            screen.json(&answer.raw)?
        } else {
            show::explanation(screen, &answer.value)?
        }
        Ok(Verdict::Done)
    }
}
