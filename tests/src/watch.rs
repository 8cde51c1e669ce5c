//! A client of server-sent events (HTML standard, section 9.2) that keeps all it was told.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use serde_json::Value;

use crate::namespace::Namespace;

/// One event.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Event {
    /// Its id.
    pub id: String,
    /// Its kind.
    pub kind: String,
    /// Its data, as JSON.
    pub data: Value,
}

/// An open stream of events. Dropped: closed.
#[derive(Debug)]
pub struct Watch {
    stream: TcpStream,
    events: Arc<Mutex<Vec<Event>>>,
}

impl Watch {
    /// Opens one. `headers` are whole lines, such as `Last-Event-ID: 7`.
    ///
    /// # Errors
    /// When it is not answered with 200.
    pub fn open(node: &Namespace, addr: SocketAddr, path: &str, headers: &[&str]) -> anyhow::Result<Self> {
        let mut stream = node.inside(|| TcpStream::connect(addr))??;
        // HTTP/1.0 has no chunks, so that what comes is the events and nothing else.
        let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {addr}\r\nAccept: text/event-stream\r\n{headers}\r\n")?;
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let status = lines.next().context("no answer")??;
        anyhow::ensure!(status.contains(" 200 "), "{path}: {status}");
        let events = Arc::new(Mutex::new(Vec::new()));
        let kept = events.clone();
        std::thread::spawn(move || {
            let mut event = Event::default();
            for line in lines.map_while(Result::ok) {
                if line.is_empty() {
                    let whole = std::mem::take(&mut event);
                    if whole.data != Value::Null {
                        lock(&kept).push(whole);
                    }
                    continue;
                }
                match line.split_once(':').map(|(field, value)| (field, value.trim_start())) {
                    Some(("id", id)) => event.id = id.to_owned(),
                    Some(("event", kind)) => event.kind = kind.to_owned(),
                    Some(("data", data)) => event.data = serde_json::from_str(data).unwrap_or(Value::Null),
                    _ => {}
                }
            }
        });
        Ok(Watch { stream, events })
    }

    /// All events so far.
    pub fn events(&self) -> Vec<Event> {
        lock(&self.events).clone()
    }

    /// The `address:port` pairs that the changes so far leave usable, for a stream that was opened before the first.
    ///
    /// # Errors
    /// When changes are missing, or one does not begin where the last one of its endpoint ended.
    pub fn usable(&self) -> anyhow::Result<BTreeSet<String>> {
        let mut endpoints = BTreeMap::new();
        for event in lock(&self.events).iter().filter(|event| event.kind != "start") {
            anyhow::ensure!(event.kind == "change", "the stream lost something: {event:?}");
            let field = |name: &str| event.data[name].to_string();
            let key = ["container_id", "started_at", "container_port", "protocol"].map(field);
            let place = format!("{}:{}", event.data["address"].as_str().unwrap_or("?"), field("port"));
            let state = event.data["to"].as_str().context("a change without a state")?.to_owned();
            let before = endpoints.insert(key, (place, state)).map(|(_, state)| state);
            let from = event.data["from"].as_str().map(str::to_owned);
            anyhow::ensure!(before == from, "{before:?} came before {:#}", event.data);
        }
        Ok(endpoints.into_values().filter(|(_, state)| state == "usable").map(|(place, _)| place).collect())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stream.shutdown(Shutdown::Both).ok();
    }
}

fn lock(events: &Mutex<Vec<Event>>) -> std::sync::MutexGuard<'_, Vec<Event>> {
    events.lock().unwrap_or_else(PoisonError::into_inner)
}
