//! A lab: a network, nodes on it, and a Docker engine on the nodes that need one. At most two at once per test process,
//! so that a machine with two cores is not asked for ten engines.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::dockerd::Engine;
use crate::namespace::{Namespace, Network};

/// How many labs there are at once in one test process.
const LABS_MAX: usize = 2;

static OPEN: Mutex<usize> = Mutex::new(0);
static CLOSED: Condvar = Condvar::new();

/// A network with a first node, `a`, that has a Docker engine.
#[derive(Debug)]
pub struct Lab {
    /// The engine of the first node. Declared, and so dropped, before the networks it lives in.
    pub engine: Arc<Engine>,
    /// The first node.
    pub node: Arc<Namespace>,
    /// The bridge that joins the nodes.
    pub network: Network,
    _turn: Turn,
}

impl Lab {
    /// Waits for its turn, then makes everything.
    ///
    /// # Errors
    /// When a part refuses.
    pub fn start() -> anyhow::Result<Self> {
        Self::start_with(&[])
    }

    /// As [`Lab::start`], with more arguments for dockerd.
    ///
    /// # Errors
    /// When a part refuses.
    pub fn start_with(dockerd_args: &[&str]) -> anyhow::Result<Self> {
        let turn = Turn::take();
        let network = Network::new()?;
        let node = network.node("a")?;
        let engine = Engine::start_with(&node, dockerd_args)?;
        Ok(Lab { engine, node, network, _turn: turn })
    }

    /// Another node, without an engine: for a sidecar that only follows.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn another_node(&self) -> anyhow::Result<Arc<Namespace>> {
        self.network.node("b")
    }
}

#[derive(Debug)]
struct Turn;

impl Turn {
    fn take() -> Self {
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        while *open >= LABS_MAX {
            open = CLOSED.wait(open).unwrap_or_else(PoisonError::into_inner);
        }
        *open += 1;
        Turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *OPEN.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        CLOSED.notify_one();
    }
}
