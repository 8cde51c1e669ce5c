//! The switchboard: which sidecars can be asked, and the way to them and back.
//!
//! Each Register call of a sidecar that can try connections holds a [`Line`] for as long as it lasts. One question per line
//! at a time, so nothing queues up on either side. The lock is held for map operations only, never across a wait.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use portolan_core::name::NodeKey;
use portolan_proto::probe::{Probe, ProbeResult};
use tokio::sync::{mpsc, oneshot};

use crate::intake::Session;

/// Joins who asks with the streams of those who can be asked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Switchboard {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    lines: HashMap<NodeKey, End>,
    /// The id of the newest question.
    id: u64,
}

/// This side's end of a line.
#[derive(Debug)]
struct End {
    /// The session that holds the line.
    session: u64,
    questions: mpsc::Sender<Probe>,
    /// The question that waits for its answer.
    open: Option<(u64, oneshot::Sender<ProbeResult>)>,
}

impl End {
    fn is_idle(&self) -> bool {
        // Who gave up waiting has dropped the receiver.
        self.open.as_ref().is_none_or(|(_, answer)| answer.is_closed())
    }
}

/// A stream's end of a line. Dropped: the node can no longer be asked.
#[derive(Debug)]
pub(crate) struct Line {
    switchboard: Switchboard,
    session: Session,
    questions: mpsc::Receiver<Probe>,
}

/// A node that can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reachable {
    pub(super) node: NodeKey,
    /// Whether it owes no answer.
    pub(super) is_idle: bool,
}

impl Switchboard {
    /// A line to the node of `session`. A newer session of the node takes the place of an older one's.
    pub(crate) fn join(&self, session: Session) -> Line {
        let (sender, questions) = mpsc::channel(1);
        let mut shared = self.lock();
        let is_newest = shared.lines.get(&session.node).is_none_or(|end| end.session < session.number);
        if is_newest {
            let end = End { session: session.number, questions: sender, open: None };
            shared.lines.insert(session.node.clone(), end);
        }
        drop(shared);
        Line { switchboard: self.clone(), session, questions }
    }

    /// Who can be asked, in no order.
    pub(super) fn reachable(&self) -> Vec<Reachable> {
        let shared = self.lock();
        shared.lines.iter().map(|(node, end)| Reachable { node: node.clone(), is_idle: end.is_idle() }).collect()
    }

    /// Asks `node`. The answer comes, if one does, through what this returns; without a line, or while the node owes
    /// another answer, there is nothing to wait for.
    pub(super) fn ask(
        &self,
        node: &NodeKey,
        targets: Vec<SocketAddr>,
        controls: Vec<SocketAddr>,
    ) -> Option<oneshot::Receiver<ProbeResult>> {
        let mut shared = self.lock();
        let id = shared.id + 1;
        shared.id = id;
        let end = shared.lines.get_mut(node).filter(|end| end.is_idle())?;
        end.questions.try_send(Probe { id, targets, controls }).ok()?;
        let (answer, answered) = oneshot::channel();
        end.open = Some((id, answer));
        Some(answered)
    }

    fn answer(&self, session: &Session, result: ProbeResult) {
        let mut shared = self.lock();
        let end = shared.lines.get_mut(&session.node).filter(|end| end.session == session.number);
        let open = end.and_then(|end| end.open.take_if(|(id, _)| *id == result.id));
        if let Some((_, answer)) = open {
            // Who asked may have given up waiting.
            answer.send(result).ok();
        }
    }

    fn leave(&self, session: &Session) {
        let mut shared = self.lock();
        if shared.lines.get(&session.node).is_some_and(|end| end.session == session.number) {
            shared.lines.remove(&session.node);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    /// The next question. `None`: a newer session has the line. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<Probe> {
        self.questions.recv().await
    }

    /// Passes an answer on. One that nobody waits for is dropped.
    pub(crate) fn answer(&self, result: ProbeResult) {
        self.switchboard.answer(&self.session, result);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.switchboard.leave(&self.session);
    }
}

#[cfg(test)]
mod tests {
    use portolan_core::neighbours::Met;

    use super::*;
    use crate::testing::node;

    fn session(number: u64) -> Session {
        Session { node: node("i-1"), number }
    }

    fn result(id: u64) -> ProbeResult {
        ProbeResult { id, met: vec![Met::Connected], is_control_reached: true }
    }

    fn ask(switchboard: &Switchboard) -> Option<oneshot::Receiver<ProbeResult>> {
        switchboard.ask(&node("i-1"), vec!["10.0.0.1:80".parse().unwrap()], Vec::new())
    }

    #[tokio::test]
    async fn a_question_goes_out_and_its_answer_comes_back() {
        let switchboard = Switchboard::default();
        assert!(ask(&switchboard).is_none(), "nobody is there");
        let mut line = switchboard.join(session(1));
        let answered = ask(&switchboard).unwrap();
        let probe = line.next().await.unwrap();
        assert_eq!(probe.targets, ["10.0.0.1:80".parse().unwrap()]);
        line.answer(result(probe.id + 1));
        line.answer(result(probe.id));
        assert_eq!(answered.await.unwrap(), result(probe.id));
    }

    #[tokio::test]
    async fn a_node_is_asked_one_thing_at_a_time() {
        let switchboard = Switchboard::default();
        let mut line = switchboard.join(session(1));
        let answered = ask(&switchboard).unwrap();
        line.next().await.unwrap();
        assert!(ask(&switchboard).is_none());
        assert_eq!(switchboard.reachable(), [Reachable { node: node("i-1"), is_idle: false }]);
        drop(answered);
        assert_eq!(switchboard.reachable(), [Reachable { node: node("i-1"), is_idle: true }]);
        assert!(ask(&switchboard).is_some(), "nobody waits for the first answer any more");
    }

    #[tokio::test]
    async fn the_newest_session_has_the_line() {
        let switchboard = Switchboard::default();
        let mut old = switchboard.join(session(1));
        let answered = ask(&switchboard).unwrap();
        let probe = old.next().await.unwrap();
        let new = switchboard.join(session(2));
        assert_eq!(old.next().await, None);
        old.answer(result(probe.id));
        assert!(answered.await.is_err(), "what an old session says no longer counts");
        drop(old);
        assert_eq!(switchboard.reachable().len(), 1);
        let late = switchboard.join(session(1));
        drop(late);
        assert_eq!(switchboard.reachable().len(), 1);
        drop(new);
        assert_eq!(switchboard.reachable(), []);
    }
}
