//! The view on disk: the normal way to start. Two generations, each whole and checksummed.
//!
//! A file is written beside the newest, made durable, and only then takes its place; the one before stays. What is torn,
//! flipped or foreign is told and passed over for the older generation; with neither, the node starts knowing nothing.
//! The job here never makes the view wait: it writes the newest view at most once a second, and at least once a minute.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use portolan_core::view::{EndpointSet, Readiness, Service, View};
use portolan_proto::{exchange, wire};
use portolan_runtime::published::Reader;
use prost::Message;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::subscription::Provenance;

/// Says what the file is, and which form it has.
const MAGIC: &[u8; 8] = b"PTLNVW01";
/// The newest generation and the one before.
const GENERATIONS: [&str; 2] = ["view.snapshot", "view.snapshot.1"];
/// Where the next generation is written.
const NEXT: &str = "view.snapshot.next";
/// A larger file is not one of ours: 200,000 endpoints with long labels take less.
const FILE_BYTES_MAX: u64 = 512 << 20;
/// The newest view is written at most this often.
const WRITE_EVERY: Duration = Duration::from_secs(1);
/// A view that stays the same is written at least this often, so that a start knows until when it was current.
const REWRITE_EVERY: Duration = Duration::from_secs(60);

/// Why a file is not a snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// It cannot be read.
    #[error("read the file")]
    Read(#[source] io::Error),
    /// It is shorter than it says, longer, or not of this form.
    #[error("the file is not a whole snapshot")]
    Shape,
    /// Its checksum differs.
    #[error("the checksum differs")]
    Checksum,
    /// Its content cannot be read.
    #[error("decode the content")]
    Content(#[source] prost::DecodeError),
}

/// The bytes of a snapshot of `view`.
pub fn encode(view: &View, provenance: &Provenance) -> Vec<u8> {
    let directory = wire::Directory {
        is_complete: true,
        index: view.index,
        services: view.services.values().map(|s| exchange::directory_service_out(&s.key, s.link.as_ref())).collect(),
        nodes: view.nodes.values().map(|node| exchange::node_out(node)).collect(),
        epoch: provenance.epoch.clone(),
        ..wire::Directory::default()
    };
    let known = view.services.values().filter(|s| s.known_endpoints().is_some());
    let sets = known.map(|s| exchange::service_set_out(s)).collect();
    let current_at_ms = provenance.current_at_ms;
    let content = wire::Snapshot { directory: Some(directory), sets, current_at_ms }.encode_to_vec();
    let mut bytes = Vec::with_capacity(content.len() + 20);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&(content.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&crc32fast::hash(&content).to_le_bytes());
    bytes.extend_from_slice(&content);
    bytes
}

/// Reads a snapshot: the view, as stale, and where it comes from.
///
/// # Errors
/// What is wrong with the bytes. An entry that cannot be meant is only left out.
pub fn decode(bytes: &[u8]) -> Result<(View, Provenance), SnapshotError> {
    let rest = bytes.strip_prefix(MAGIC).ok_or(SnapshotError::Shape)?;
    let (length, rest) = rest.split_first_chunk::<8>().ok_or(SnapshotError::Shape)?;
    let (checksum, content) = rest.split_first_chunk::<4>().ok_or(SnapshotError::Shape)?;
    if u64::from_le_bytes(*length) != content.len() as u64 {
        return Err(SnapshotError::Shape);
    }
    if u32::from_le_bytes(*checksum) != crc32fast::hash(content) {
        return Err(SnapshotError::Checksum);
    }
    let snapshot = wire::Snapshot::decode(content).map_err(SnapshotError::Content)?;
    let epoch = snapshot.directory.as_ref().map(|directory| directory.epoch.clone()).unwrap_or_default();
    let provenance = Provenance { epoch, current_at_ms: snapshot.current_at_ms };
    Ok((view_of(snapshot), provenance))
}

fn view_of(snapshot: wire::Snapshot) -> View {
    let directory = snapshot.directory.unwrap_or_default();
    let mut view = View { readiness: Readiness::Stale, index: directory.index, ..View::default() };
    for listed in &directory.services {
        if let Ok(service) = exchange::directory_service_in(listed, directory.index) {
            view.insert_service(Arc::new(service));
        }
    }
    for node in directory.nodes.into_iter().filter_map(|node| exchange::node_in(node).ok()) {
        view.insert_node(Arc::new(node));
    }
    for (key, index, endpoints) in snapshot.sets.iter().filter_map(|set| exchange::service_set_in(set).ok()) {
        if let Some(service) = view.service(&key) {
            let link = service.link.clone();
            view.insert_service(Arc::new(Service { key, index, link, endpoints: EndpointSet::Known(endpoints) }));
        }
    }
    view
}

/// Loads the newest whole generation from `directory`, and says how old it is.
pub fn load(directory: &Path) -> Option<(View, Provenance)> {
    for name in GENERATIONS {
        let path = directory.join(name);
        match read(&path).and_then(|bytes| decode(&bytes)) {
            Ok((view, provenance)) => {
                let age_s = unix_ms().saturating_sub(provenance.current_at_ms) / 1000;
                info!(path = %path.display(), age_s, "starting from the snapshot `{}`, {age_s} s old", path.display());
                return Some((view, provenance));
            }
            Err(SnapshotError::Read(error)) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => warn!("passing over the snapshot `{}`: {:#}", path.display(), anyhow::Error::from(error)),
        }
    }
    None
}

fn read(path: &Path) -> Result<Vec<u8>, SnapshotError> {
    if fs::metadata(path).map_err(SnapshotError::Read)?.len() > FILE_BYTES_MAX {
        return Err(SnapshotError::Shape);
    }
    fs::read(path).map_err(SnapshotError::Read)
}

/// Makes `view` the newest generation in `directory`.
///
/// # Errors
/// What the file system says; the generations that were there stay.
pub fn save(directory: &Path, view: &View, provenance: &Provenance) -> io::Result<()> {
    let [newest, older] = GENERATIONS.map(|name| directory.join(name));
    let next = directory.join(NEXT);
    let mut file = File::create(&next)?;
    file.write_all(&encode(view, provenance))?;
    file.sync_data()?;
    match fs::rename(&newest, &older) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    fs::rename(&next, &newest)?;
    File::open(directory)?.sync_all()
}

/// Keeps the newest view on disk, for ever. A disk that is full or gone is told once, until it works again.
pub(crate) async fn keep(directory: PathBuf, mut view: Reader<View>, provenance: watch::Receiver<Provenance>) {
    let (mut fails, mut saved) = (false, Provenance::default());
    loop {
        let has_changed = timeout(REWRITE_EVERY, view.changed()).await;
        if has_changed == Ok(false) {
            return;
        }
        let (directory, newest, provenance) = (directory.clone(), view.load(), provenance.borrow().clone());
        if has_changed.is_err() && provenance == saved {
            continue;
        }
        saved.clone_from(&provenance);
        if newest.readiness != Readiness::Loading {
            let shown = directory.display().to_string();
            let saved = tokio::task::spawn_blocking(move || save(&directory, &newest, &provenance)).await;
            match saved.unwrap_or_else(|_| Err(io::Error::other("the writer panicked"))) {
                Ok(()) => fails = false,
                Err(error) if fails => tracing::debug!("save the snapshot in `{shown}`: {error}"),
                Err(error) => {
                    fails = true;
                    warn!("save the snapshot in `{shown}`: {error}; a restart begins from an older one");
                }
            }
        }
        tokio::time::sleep(WRITE_EVERY).await;
    }
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_millis() as u64)
}

#[cfg(test)]
mod tests;
