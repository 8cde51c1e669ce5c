//! Our forwarder.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Result, bail};
use portolan_core::lookup::Zone;
use portolan_dns::forward::routes::Routes;
use portolan_dns::forward::{ForwardMetrics, Forwarder};
use portolan_dns::wire::{Decoded, Transport, decode};
use portolan_runtime::jobs::Jobs;

pub(crate) struct Ours {
    forwarder: Arc<Forwarder>,
}

impl Ours {
    pub(crate) fn new(upstream: SocketAddr) -> Self {
        let zone = Zone::parse("ecs.internal").expect("a valid zone");
        let routes = Routes::new(&[], &zone).expect("no entry is a valid list").with_default(&[upstream]);
        Ours { forwarder: Forwarder::new(Jobs::new(), &routes, &[], ForwardMetrics::default()) }
    }

    pub(crate) async fn reply(&self, packet: &[u8]) -> Result<Vec<u8>> {
        let Decoded::Ask(request) = decode(packet, Transport::Udp) else { bail!("not a question") };
        let mut out = Vec::new();
        self.forwarder.forward(&request, &mut out).await;
        Ok(out)
    }
}
