//! A node made of thin air: registers services over the real wire, so that figures need no thousand containers.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use portolan_core::endpoint::{Protocol, Run};
use portolan_core::evidence::{ContainerReport, Health, LinkWish, NameCandidates, NodeReport, Phase, PortReport};
use portolan_core::name::{Label, NodeKey};
use portolan_core::neighbours::Met;
use portolan_proto::node_report;
use portolan_proto::probe::{self, Probe, ProbeResult};
use portolan_proto::wire::registry_client::RegistryClient;
use portolan_proto::wire::{self, register_request, register_response};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// A registered node. Its stream ends when it is dropped.
#[derive(Debug)]
pub struct SyntheticNode {
    up: mpsc::Sender<wire::RegisterRequest>,
    down: tonic::Streaming<wire::RegisterResponse>,
    report: NodeReport,
}

impl SyntheticNode {
    /// Connects to the registry at `registry` (`http://address:port`) as `node` of cluster `local`, at `address`.
    pub async fn connect(registry: &str, node: &str, address: IpAddr) -> Result<SyntheticNode> {
        let mut client = RegistryClient::connect(registry.to_owned()).await.context("connect to the registry")?;
        let (up, requests) = mpsc::channel(16);
        let peer = wire::Peer {
            cluster: "local".into(),
            node: node.into(),
            boot_id: node.into(),
            version: "synthetic".into(),
            features: vec![probe::FEATURE.into()],
        };
        let hello = wire::RegisterHello { peer: Some(peer), bindings: vec![] };
        up.send(request(register_request::Kind::Hello(hello))).await?;
        let down = client.register(ReceiverStream::new(requests)).await?.into_inner();
        let key = NodeKey { cluster: Label::fixed("local"), node: Label::parse(node)? };
        let report = NodeReport {
            node: key,
            boot_id: node.into(),
            session: 0,
            generation: 0,
            host_name: None,
            addresses: vec![address],
            az: None,
            version: "synthetic".into(),
            containers: Vec::new(),
        };
        let mut connected = SyntheticNode { up, down, report };
        connected.report.session = connected.welcome().await?;
        Ok(connected)
    }

    /// Registers `containers` in place of those before; returns when the registry has acknowledged them.
    pub async fn register(&mut self, containers: Vec<ContainerReport>) -> Result<()> {
        self.report.containers = containers;
        self.report.generation += 1;
        let bytes = node_report::encode(&self.report);
        self.up.send(request(register_request::Kind::Report(bytes.into()))).await?;
        loop {
            if let register_response::Kind::Acknowledgement(done) = self.next().await?
                && done.generation == self.report.generation
            {
                return Ok(());
            }
        }
    }

    /// Says that the node lives. The registry counts it as silent after five seconds without.
    pub async fn heartbeat(&mut self) -> Result<()> {
        let beat = register_request::Kind::Heartbeat(wire::Heartbeat { index: 0 });
        self.up.send(request(beat)).await.context("send a heartbeat")
    }

    /// Speaks as a sidecar does, for as long as it is polled: a heartbeat each second, and an answer to every probe, by real
    /// connections one after the other. Not polled it is silent, and its stream stays open.
    pub async fn speak(&mut self) -> Result<()> {
        let mut beat = tokio::time::interval(Duration::from_secs(1));
        loop {
            let told = tokio::select! {
                told = self.next() => told?,
                _ = beat.tick() => {
                    self.heartbeat().await?;
                    continue;
                }
            };
            if let register_response::Kind::Probe(probe) = told {
                let result = probe::result_out(&tried(probe::probe_in(probe)?).await);
                self.up.send(request(register_request::Kind::ProbeResult(result))).await.context("answer a probe")?;
            }
        }
    }

    async fn welcome(&mut self) -> Result<u64> {
        loop {
            match self.next().await? {
                register_response::Kind::Welcome(welcome) => return Ok(welcome.session),
                register_response::Kind::Refused(refused) => bail!("refused: {}", refused.reason),
                _ => {}
            }
        }
    }

    async fn next(&mut self) -> Result<register_response::Kind> {
        let message = tokio::time::timeout(Duration::from_secs(10), self.down.message())
            .await
            .context("the registry is silent")??;
        message.and_then(|message| message.kind).context("the registry ended the stream")
    }
}

fn request(kind: register_request::Kind) -> wire::RegisterRequest {
    wire::RegisterRequest { kind: Some(kind) }
}

async fn tried(probe: Probe) -> ProbeResult {
    let mut met = Vec::new();
    for target in &probe.targets {
        met.push(connect(*target).await);
    }
    let mut is_control_reached = false;
    for control in &probe.controls {
        is_control_reached |= connect(*control).await == Met::Connected;
    }
    ProbeResult { id: probe.id, met, is_control_reached }
}

async fn connect(place: SocketAddr) -> Met {
    match tokio::time::timeout(Duration::from_secs(1), TcpStream::connect(place)).await {
        Ok(Ok(_)) => Met::Connected,
        Ok(Err(_)) => Met::Refused,
        Err(_) => Met::TimedOut,
    }
}

/// A container of `service` with port 9200 on `host_port` of `address`, passing.
pub fn container(service: &str, id: u64, address: IpAddr, host_port: u16) -> Result<ContainerReport> {
    let label = Label::parse(service)?;
    let port = PortReport {
        container_port: 9200,
        protocol: Protocol::Tcp,
        host_port,
        addresses: vec![address],
        name: None,
        registrator_name: None,
        health: Health::Passing,
        is_dynamic: true,
    };
    Ok(ContainerReport {
        id: format!("{id:064x}"),
        run: Run(1),
        cluster: Label::fixed("local"),
        candidates: NameCandidates { label: Some(label.clone()), ..NameCandidates::default() },
        name: label,
        task_arn: None,
        task_id: None,
        phase: Phase::Running,
        ports: vec![port],
        link: LinkWish::default(),
        is_primary: false,
        tags: Vec::new(),
        meta: Vec::new(),
        weight: 1,
        refusals: Vec::new(),
        is_refused: false,
    })
}
