//! Who is asked for a service's endpoints: a question by UDP within the test's own process, which takes no time of its own,
//! where dig takes as long as it takes to start.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RData, RecordType};

use portolan_tests::namespace::Namespace;
use portolan_tests::surfaces::full_name;
use portolan_tests::wait::{PATIENCE, eventually, now};

/// How long one answer is waited for.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Longer than any answer.
const ANSWER_BYTES_MAX: usize = 4096;

/// One who is asked.
pub(crate) struct Asked<'a> {
    /// In words.
    pub(crate) who: &'static str,
    /// Where it is asked.
    pub(crate) node: &'a Namespace,
    /// Its address there.
    pub(crate) server: SocketAddr,
    name: Name,
    socket: UdpSocket,
    id: AtomicU16,
}

impl<'a> Asked<'a> {
    /// # Errors
    /// When no socket can be had.
    pub(crate) fn new(
        who: &'static str,
        (node, server): (&'a Namespace, SocketAddr),
        service: &str,
    ) -> anyhow::Result<Self> {
        let socket = node.inside(|| UdpSocket::bind("0.0.0.0:0").and_then(|s| s.connect(server).map(|()| s)))??;
        socket.set_read_timeout(Some(ANSWER_WITHIN))?;
        let name = Name::from_ascii(format!("{}.", full_name(service)))?;
        Ok(Asked { who, node, server, name, socket, id: AtomicU16::new(0) })
    }

    /// When the place first is in its answer, or first is not.
    ///
    /// # Errors
    /// When that does not come.
    pub(crate) fn moment(&self, place: &str, is_in: bool) -> anyhow::Result<(&'static str, Instant)> {
        let at = eventually(PATIENCE, || {
            let found = self.places()?;
            anyhow::ensure!(found.contains(place) == is_in, "{place} and {found:?}");
            Ok(now())
        });
        Ok((self.who, at.context(self.who)?))
    }

    /// The `address:port` pairs of its answer now.
    fn places(&self) -> anyhow::Result<BTreeSet<String>> {
        let id = self.id.fetch_add(1, Ordering::Relaxed);
        let mut question = Message::new(id, MessageType::Query, OpCode::Query);
        question.add_query(Query::query(self.name.clone(), RecordType::SRV));
        self.socket.send(&question.to_vec()?)?;
        let mut buffer = [0; ANSWER_BYTES_MAX];
        let answer = loop {
            let length = self.socket.recv(&mut buffer).context("no answer")?;
            let answer = Message::from_vec(&buffer[..length])?;
            // One that comes after its time is not of this question.
            if answer.metadata.id == id {
                break answer;
            }
        };
        let address = |target: &Name| {
            answer.additionals.iter().filter(|record| record.name == *target).find_map(|record| match &record.data {
                RData::A(address) => Some(IpAddr::V4(address.0)),
                _ => None,
            })
        };
        let places = answer.answers.iter().filter_map(|record| match &record.data {
            RData::SRV(srv) => Some(address(&srv.target).map(|address| format!("{address}:{}", srv.port))),
            _ => None,
        });
        places.collect::<Option<_>>().context("a target without an address")
    }
}
