//! Answers other nodes that ask whether a port is still a container's: yes or no, about what they name by its whole identity.
//!
//! Reads what this node sees of itself and nothing else. A connection carries one question, for two seconds at most, and few
//! are served at once, so nobody gains anything by asking more.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use portolan_core::evidence::Phase;
use portolan_proto::ownership::{OwnedPort, answer_out, question_in};
use portolan_runtime::jobs::Jobs;
use portolan_runtime::published::Reader;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use crate::registration::LocalState;

/// How many connections are served at once on all addresses; more are closed, and who asked asks again.
const SERVED_MAX: usize = 64;
/// How long one connection may take.
const SERVE_WITHIN: Duration = Duration::from_secs(2);
/// How long until an address that cannot be listened on is tried again: another sidecar of this node may be about to end.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// For each address whether it is listened on, or why not.
pub(crate) type Listening = watch::Receiver<Vec<(SocketAddr, Option<String>)>>;

/// Listens on `port` of each of this node's addresses, as soon as that can be done. Port 0: on none.
pub(crate) fn start(jobs: &Jobs, (addresses, port): (&[IpAddr], u16), local: Reader<LocalState>) -> Listening {
    let (status, listening) = watch::channel(Vec::new());
    let room = Arc::new(Semaphore::new(SERVED_MAX));
    for address in addresses.iter().filter(|_| port != 0).map(|ip| SocketAddr::new(*ip, port)) {
        status.send_modify(|all| all.push((address, Some("not yet tried".to_owned()))));
        let serving = Serving { jobs: jobs.clone(), room: room.clone(), local: local.clone(), status: status.clone() };
        jobs.start("owners: answer", serving.run(address));
    }
    listening
}

struct Serving {
    jobs: Jobs,
    room: Arc<Semaphore>,
    local: Reader<LocalState>,
    status: watch::Sender<Vec<(SocketAddr, Option<String>)>>,
}

impl Serving {
    async fn run(self, address: SocketAddr) {
        let listener = self.bound(address).await;
        info!("other nodes may ask on {address} who owns a port");
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    debug!("a question of another node could not be accepted: {error}");
                    sleep(AGAIN_AFTER).await;
                    continue;
                }
            };
            let Ok(permit) = self.room.clone().try_acquire_owned() else { continue };
            let local = self.local.clone();
            self.jobs.start_work("answer a node", async move {
                if let Ok(Err(error)) = timeout(SERVE_WITHIN, serve(stream, &local)).await {
                    debug!("a question of another node: {error}");
                }
                drop(permit);
            });
        }
    }

    /// Tries until it works; says once that it does not.
    async fn bound(&self, address: SocketAddr) -> TcpListener {
        let mut is_told = false;
        loop {
            let problem = match TcpListener::bind(address).await {
                Ok(listener) => {
                    self.note(address, None);
                    return listener;
                }
                Err(error) => error.to_string(),
            };
            if !std::mem::replace(&mut is_told, true) {
                warn!(
                    "listen on {address} for other nodes (setting `sidecar.owners_port`): {problem}; trying on: until then, nodes without a registry use this node's endpoints last"
                );
            }
            self.note(address, Some(problem));
            sleep(AGAIN_AFTER).await;
        }
    }

    fn note(&self, address: SocketAddr, problem: Option<String>) {
        self.status.send_if_modified(|all| {
            let entry = all.iter_mut().find(|(known, _)| *known == address);
            entry.is_some_and(|(_, known)| std::mem::replace(known, problem.clone()) != problem)
        });
    }
}

async fn serve(mut stream: TcpStream, local: &Reader<LocalState>) -> io::Result<()> {
    let question = super::read(&mut stream).await?;
    let question = question_in(&question).map_err(io::Error::other)?;
    let answer = answer(&question, &local.load());
    super::write(&mut stream, &answer_out(answer)).await
}

/// Of each port, whether that very run has it. `None`: this node has not seen all of its containers.
fn answer(question: &[OwnedPort], local: &LocalState) -> Option<Vec<bool>> {
    let lives = local.reports.iter().filter(|report| !matches!(report.phase, Phase::Died(_)) && !report.is_refused);
    let owned: HashSet<OwnedPort> = lives
        .flat_map(|report| {
            report.ports.iter().map(|port| OwnedPort {
                container_id: report.id.clone(),
                run: report.run,
                container_port: port.container_port,
                protocol: port.protocol,
                host_port: port.host_port,
            })
        })
        .collect();
    local.is_complete.then(|| question.iter().map(|port| owned.contains(port)).collect())
}

#[cfg(test)]
mod tests {
    use portolan_core::endpoint::{Protocol, Run};
    use portolan_proto::ownership::question_out;
    use portolan_runtime::published::published;
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::owners::ask;

    fn port(number: u16) -> OwnedPort {
        OwnedPort {
            container_id: "a".repeat(64),
            run: Run(1),
            container_port: 9200,
            protocol: Protocol::Tcp,
            host_port: number,
        }
    }

    /// A listener on a port of the kernel's choice that is free again.
    async fn free_address() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
    }

    async fn started(jobs: &Jobs, local: LocalState) -> SocketAddr {
        let address = free_address().await;
        let (_publisher, local) = published(local);
        let mut listening = start(jobs, (&[address.ip()], address.port()), local);
        listening.wait_for(|all| all.iter().all(|(_, problem)| problem.is_none())).await.unwrap();
        address
    }

    #[tokio::test]
    async fn a_node_that_has_not_seen_its_containers_says_nothing_of_them() {
        let jobs = Jobs::new();
        let unsure = started(&jobs, LocalState::default()).await;
        assert_eq!(ask::ask(unsure, &[port(1)]).await, None);
        let sure = started(&jobs, LocalState { is_complete: true, ..LocalState::default() }).await;
        assert_eq!(ask::ask(sure, &[port(1), port(2)]).await, Some(vec![false, false]));
        jobs.shut_down();
    }

    #[tokio::test]
    async fn an_address_that_is_taken_is_had_when_it_is_free() {
        let (jobs, taken) = (Jobs::new(), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let address = taken.local_addr().unwrap();
        let (_publisher, local) = published(LocalState { is_complete: true, ..LocalState::default() });
        let mut listening = start(&jobs, (&[address.ip()], address.port()), local);
        let has_problem = |all: &Vec<(SocketAddr, Option<String>)>| {
            all.iter().all(|(_, problem)| problem.as_ref().is_some_and(|text| text.contains("in use")))
        };
        listening.wait_for(has_problem).await.unwrap();
        drop(taken);
        listening.wait_for(|all| all.iter().all(|(_, problem)| problem.is_none())).await.unwrap();
        assert_eq!(ask::ask(address, &[port(1)]).await, Some(vec![false]));
        jobs.shut_down();
    }

    #[tokio::test]
    async fn strange_questions_are_hung_up_on_and_nobody_else_suffers() {
        let jobs = Jobs::new();
        let address = started(&jobs, LocalState { is_complete: true, ..LocalState::default() }).await;
        let long = [&u32::MAX.to_be_bytes()[..], &[0; 64]].concat();
        let broken = [&4_u32.to_be_bytes()[..], &[0xff; 4]].concat();
        for strange in [long, broken] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(&strange).await.unwrap();
            super::super::read(&mut stream).await.unwrap_err();
        }
        // As many as are served, who say nothing: one more is hung up on, and served when they are over.
        let mut idle = Vec::new();
        for _ in 0..SERVED_MAX {
            idle.push(TcpStream::connect(address).await.unwrap());
        }
        let mut one_more = TcpStream::connect(address).await.unwrap();
        super::super::write(&mut one_more, &question_out(&[port(1)])).await.ok();
        super::super::read(&mut one_more).await.unwrap_err();
        while ask::ask(address, &[port(1)]).await.is_none() {
            sleep(Duration::from_millis(50)).await;
        }
        drop(idle);
        jobs.shut_down();
    }
}
