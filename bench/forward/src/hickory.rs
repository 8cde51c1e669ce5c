//! hickory-resolver with what a forwarder needs of it: decode, look up, build the reply and encode it. Set as near to ours as
//! its options allow: one question upstream at a time, random case, a random port each, as large a cache.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use hickory_proto::op::{Edns, Message};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;

pub(crate) struct Hickory {
    resolver: TokioResolver,
}

impl Hickory {
    pub(crate) fn new(upstream: SocketAddr) -> Result<Self> {
        let mut server = NameServerConfig::udp_and_tcp(upstream.ip());
        server.connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
        server.connections.iter_mut().for_each(|connection| connection.port = upstream.port());
        let config = ResolverConfig::from_name_servers(vec![server]);
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let options = builder.options_mut();
        options.cache_size = 10_000;
        options.case_randomization = true;
        options.edns0 = true;
        options.num_concurrent_reqs = 1;
        options.max_active_requests = 256;
        options.preserve_intermediates = true;
        Ok(Hickory { resolver: builder.build()? })
    }

    pub(crate) async fn reply(&self, packet: &[u8]) -> Result<Vec<u8>> {
        let request = Message::from_vec(packet)?;
        let query = request.queries.first().context("a question")?.clone();
        let found = self.resolver.lookup(query.name().clone(), query.query_type()).await?;
        let mut reply = Message::response(request.metadata.id, request.metadata.op_code);
        reply.metadata.recursion_desired = request.metadata.recursion_desired;
        reply.metadata.recursion_available = true;
        reply.add_query(query);
        reply.add_answers(found.answers().iter().cloned());
        let mut edns = Edns::new();
        edns.set_max_payload(1232);
        reply.edns = Some(edns);
        Ok(reply.to_vec()?)
    }
}
