//! The programs and maps of the kernel path: loaded, attached and pinned so that they outlive this process, taken over by the
//! next one, and removed.
//!
//! ```text
//! PINS/v1/links, peers, failed, failing, figures     maps; a later version has other maps, in a folder of its own
//! PINS/v1/portolan_connect4, ...                     attached programs
//! ```

use std::error::Error;
use std::fs::{self, File};
use std::io;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};

use aya::maps::{HashMap, Map, MapData, MapError};
use aya::programs::links::FdLink;
use aya::programs::{CgroupAttachMode, CgroupSockAddr, SockOps};
use aya::{Ebpf, EbpfLoader};

use super::encoding::{FiguresValue, Leased, LinkValue, Pair, figures_in, link_value, link_value_in, place, place_in};
use super::{KernelSettings, PlaneError, place as places};
use crate::netlink::table::LinkAddress;

/// The programs as clang made them; empty where it was missing.
const OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/links.bpf.o"));
/// Of the maps' layout. Another layout, another number.
const VERSION: &str = "v1";
const SOCK_OPS: &str = "portolan_sockops";
/// In the order of attaching: who sees connections first, and only then who leads them.
const PROGRAMS: [&str; 5] =
    [SOCK_OPS, "portolan_getpeername4", "portolan_getpeername6", "portolan_connect4", "portolan_connect6"];

/// The maps that this process reads and writes.
#[derive(Debug)]
pub(super) struct Maps {
    links: HashMap<MapData, [u8; 8], LinkValue>,
    figures: HashMap<MapData, Pair, FiguresValue>,
}

/// Whether an earlier run left its pins.
pub(super) fn has_pins(settings: &KernelSettings) -> bool {
    settings.pins.join(VERSION).exists()
}

/// Attaches the programs, with the maps of an earlier run where there are any, and detaches that run's programs.
pub(super) fn open(settings: &KernelSettings) -> Result<Maps, PlaneError> {
    if OBJECT.is_empty() {
        return Err(PlaneError::Unbuilt);
    }
    let cgroup = places::cgroup(settings.cgroup.as_deref())?;
    let cgroup = File::open(&cgroup).map_err(|source| PlaneError::Read { path: cgroup, source })?;
    places::bpf_file_system(&settings.pins)?;
    let folder = settings.pins.join(VERSION);
    fs::create_dir_all(&folder).map_err(|source| PlaneError::Pin { path: folder.clone(), source })?;
    // Nothing of ours is resolved by the kernel's types, which take long to read.
    let loaded = EbpfLoader::new().btf(None).default_map_pin_directory(&folder).load(OBJECT);
    let mut ebpf = loaded.map_err(|source| PlaneError::Load { source: Box::new(source) })?;
    for name in PROGRAMS {
        let link = attach(&mut ebpf, name, &cgroup).map_err(|source| PlaneError::Attach { name, source })?;
        pin(link, &folder, name)?;
    }
    let maps = maps(&mut ebpf).map_err(|source| PlaneError::Map { action: "open", source })?;
    remove_other_versions(&settings.pins)?;
    Ok(maps)
}

fn attach(ebpf: &mut Ebpf, name: &str, cgroup: &File) -> Result<FdLink, Box<dyn Error + Send + Sync>> {
    let program = ebpf.program_mut(name).ok_or("the object has no such program")?;
    // Links take no flags: others may always attach theirs beside them.
    let mode = CgroupAttachMode::Single;
    if name == SOCK_OPS {
        let program: &mut SockOps = program.try_into()?;
        program.load()?;
        let id = program.attach(cgroup, mode)?;
        return Ok(program.take_link(id)?.try_into()?);
    }
    let program: &mut CgroupSockAddr = program.try_into()?;
    program.load()?;
    let id = program.attach(cgroup, mode)?;
    Ok(program.take_link(id)?.try_into()?)
}

/// Puts the link in the place of an earlier run's, which is detached by it: at no time is there none.
fn pin(link: FdLink, folder: &Path, name: &str) -> Result<(), PlaneError> {
    let (path, new) = (folder.join(name), folder.join(format!("{name}_new")));
    let refused = |source| PlaneError::Pin { path: new.clone(), source };
    remove_if_there(&new).map_err(refused)?;
    link.pin(&new).map_err(|source| refused(io::Error::other(source)))?;
    fs::rename(&new, &path).map_err(|source| PlaneError::Pin { path, source })
}

fn maps(ebpf: &mut Ebpf) -> Result<Maps, MapError> {
    let mut take = |name: &str| ebpf.take_map(name).ok_or(MapError::InvalidName { name: name.to_owned() });
    let (links, figures): (Map, Map) = (take("links")?, take("figures")?);
    Ok(Maps { links: HashMap::try_from(links)?, figures: HashMap::try_from(figures)? })
}

/// What another version left: its programs would lead by maps that nobody writes any more.
fn remove_other_versions(pins: &Path) -> Result<(), PlaneError> {
    let refused = |path: PathBuf| move |source| PlaneError::Pin { path, source };
    for entry in fs::read_dir(pins).map_err(refused(pins.to_owned()))? {
        let path = entry.map_err(refused(pins.to_owned()))?.path();
        if path.file_name().is_some_and(|name| name != VERSION) {
            fs::remove_dir_all(&path).map_err(refused(path.clone()))?;
        }
    }
    Ok(())
}

/// Removes every pin, and with the last of them the programs and maps themselves. What is not there is no error.
pub(super) fn remove(pins: &Path) -> io::Result<()> {
    match fs::remove_dir_all(pins) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

impl Maps {
    /// Every link that the kernel leads, as an earlier run or this one wrote it.
    pub(super) fn held(&self) -> Vec<(LinkAddress, Vec<Leased>)> {
        let address = |key| {
            let at = place_in(key);
            (*at.ip(), at.port())
        };
        let links = self.links.iter().filter_map(Result::ok);
        links.map(|(key, value)| (address(key), link_value_in(key, &value))).collect()
    }

    /// Leads the connections of a link by these shares from now on, replaced whole.
    pub(super) fn write(&mut self, (address, port): LinkAddress, shares: &[Leased]) -> Result<(), PlaneError> {
        let key = place(address, port);
        let written = self.links.insert(key, link_value(key, shares), 0);
        written.map_err(|source| PlaneError::Map { action: "write a link to", source })
    }

    /// Leaves the connections of a link to the relay from now on.
    pub(super) fn remove(&mut self, (address, port): LinkAddress) -> Result<(), PlaneError> {
        match self.links.remove(&place(address, port)) {
            Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
            Err(source) if is_absent(&source) => Ok(()),
            Err(source) => Err(PlaneError::Map { action: "remove a link from", source }),
        }
    }

    /// Connections and failures of each link and endpoint, since the pins were made.
    pub(super) fn figures(&self) -> impl Iterator<Item = (SocketAddrV4, [u64; 2])> {
        self.figures.iter().filter_map(Result::ok).map(|(pair, value)| figures_in(&pair, &value))
    }
}

fn is_absent(error: &MapError) -> bool {
    matches!(error, MapError::SyscallError(error) if error.io_error.kind() == io::ErrorKind::NotFound)
}
