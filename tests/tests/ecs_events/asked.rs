//! Who is asked for a service's endpoints: a question by UDP within the test's own process, which takes no time of its own,
//! where dig takes as long as it takes to start. They are asked all the time, so that nothing the test does meanwhile counts.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RData, RecordType};

use portolan_tests::namespace::Namespace;
use portolan_tests::surfaces::full_name;
use portolan_tests::wait::{PATIENCE, eventually, now, pause};

/// How long one answer is waited for.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Between two questions.
const ASK_EVERY: Duration = Duration::from_millis(5);
/// Longer than any answer.
const ANSWER_BYTES_MAX: usize = 4096;

/// The `address:port` pairs of an answer.
type Places = BTreeSet<String>;

/// One who is asked, by a thread of its own until this is dropped.
pub(crate) struct Asked<'a> {
    /// In words.
    pub(crate) who: &'static str,
    /// Where it is asked.
    pub(crate) node: &'a Namespace,
    /// Its address there.
    pub(crate) server: SocketAddr,
    seen: Arc<Seen>,
    thread: Option<JoinHandle<()>>,
}

/// What was answered, shared with the thread that asks.
#[derive(Default)]
struct Seen {
    /// Each answer that differed from the one before, and when it came.
    changes: Mutex<Vec<(Instant, Places)>>,
    is_over: AtomicBool,
}

impl<'a> Asked<'a> {
    /// Begins to ask.
    ///
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
        let seen = Arc::new(Seen::default());
        let thread = std::thread::spawn({
            let seen = Arc::clone(&seen);
            move || seen.ask(&socket, &name)
        });
        Ok(Asked { who, node, server, seen, thread: Some(thread) })
    }

    /// When, since then, the place first was in its answer, or first was not.
    ///
    /// # Errors
    /// When that does not come.
    pub(crate) fn moment(&self, since: Instant, place: &str, is_in: bool) -> anyhow::Result<(&'static str, Instant)> {
        let at = eventually(PATIENCE, || self.seen.first(since, |places| places.contains(place) == is_in));
        Ok((self.who, at.with_context(|| format!("{}: {place} in its answer: {is_in}", self.who))?))
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.seen.is_over.store(true, Ordering::Relaxed);
        // A panic there was printed, and its answers are missed here.
        self.thread.take().map(JoinHandle::join);
    }
}

impl Seen {
    fn ask(&self, socket: &UdpSocket, name: &Name) {
        for id in (0..=u16::MAX).cycle() {
            if self.is_over.load(Ordering::Relaxed) {
                return;
            }
            // What cannot be had is asked again: a moment that never comes is what fails.
            if let Ok(found) = places(socket, name, id) {
                let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
                if changes.last().is_none_or(|(_, last)| *last != found) {
                    changes.push((now(), found));
                }
            }
            pause(ASK_EVERY);
        }
    }

    /// The first moment not before `since` at which the answer was such.
    fn first(&self, since: Instant, is_such: impl Fn(&Places) -> bool) -> Result<Instant, Option<Places>> {
        let changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        // The answer in force at `since` came before.
        let begin = changes.partition_point(|(at, _)| *at <= since).saturating_sub(1);
        let found = changes[begin..].iter().find(|(_, places)| is_such(places));
        found.map(|(at, _)| (*at).max(since)).ok_or_else(|| changes.last().map(|(_, last)| last.clone()))
    }
}

/// The places of the answer now.
fn places(socket: &UdpSocket, name: &Name, id: u16) -> anyhow::Result<Places> {
    let mut question = Message::new(id, MessageType::Query, OpCode::Query);
    question.add_query(Query::query(name.clone(), RecordType::SRV));
    socket.send(&question.to_vec()?)?;
    let mut buffer = [0; ANSWER_BYTES_MAX];
    let answer = loop {
        let length = socket.recv(&mut buffer).context("no answer")?;
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
