//! The resolvers of the setting `upstreams`, and the host's, as `/etc/resolv.conf` has them now: those change with the
//! network, and at boot they come late.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use portolan_core::lookup::Zone;
use tokio::time::sleep;
use tracing::info;

use crate::forward::resolv_conf;
use crate::forward::routes::{Routes, RoutesError, Upstream};

/// Where every program of the host looks.
pub const RESOLV_CONF: &str = "/etc/resolv.conf";
/// How often it is read. It is replaced by renaming as often as by writing, and it is small.
const READ_EVERY: Duration = Duration::from_secs(5);

/// Who is asked, as the setting says.
#[derive(Debug, Clone)]
pub struct Upstreams {
    routes: Routes,
    has_hosts: bool,
}

impl Upstreams {
    /// The resolvers of `entries`. The host's are for all names that none of them is for; an empty list is meant, and
    /// then nobody is asked.
    ///
    /// # Errors
    /// When a suffix is inside `zone`, or there are more than are ever asked.
    pub fn new(entries: Option<&[Upstream]>, zone: &Zone) -> Result<Upstreams, RoutesError> {
        let routes = Routes::new(entries.unwrap_or_default(), zone)?;
        let has_hosts = !routes.has_default() && entries.is_none_or(|entries| !entries.is_empty());
        Ok(Upstreams { routes, has_hosts })
    }

    /// Who is asked now; with the host's resolvers, if they are part of it, for [`follow`].
    pub fn now(&self, path: &Path, own: &[IpAddr]) -> (Routes, Option<Vec<SocketAddr>>) {
        if !self.has_hosts {
            return (self.routes.clone(), None);
        }
        let hosts = read(path, own);
        (self.routes.with_default(&hosts), Some(hosts))
    }
}

/// The resolvers of `path`, without `own`; none where it cannot be read.
pub fn read(path: &Path, own: &[IpAddr]) -> Vec<SocketAddr> {
    resolv_conf::parse(&std::fs::read_to_string(path).unwrap_or_default(), own)
}

/// Tells `set` when the resolvers of `path` are others than `known`, for ever. A file that is away or empty says nothing:
/// those who write it anew often do so in two steps.
pub async fn follow(path: &Path, own: &[IpAddr], mut known: Vec<SocketAddr>, set: impl Fn(&[SocketAddr])) {
    loop {
        sleep(READ_EVERY).await;
        let now = read(path, own);
        if !now.is_empty() && now != known {
            info!("names outside the zone go to {now:?} now, as `{}` says", path.display());
            set(&now);
            known = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc;

    #[test]
    fn the_hosts_resolvers_are_for_what_no_entry_is_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("resolv.conf");
        std::fs::write(&path, "nameserver 10.0.0.2\n").unwrap();
        let zone = Zone::parse("ecs.internal").unwrap();
        let check = |entries: Option<&[&str]>, has_default: bool, hosts: Option<usize>| {
            let read = |entries: &[&str]| entries.iter().map(|entry| entry.parse().unwrap()).collect::<Vec<Upstream>>();
            let upstreams = Upstreams::new(entries.map(read).as_deref(), &zone).unwrap();
            let (routes, known) = upstreams.now(&path, &[]);
            assert_eq!((routes.has_default(), known.map(|known| known.len())), (has_default, hosts), "{entries:?}");
        };
        check(None, true, Some(1));
        check(Some(&["consul=10.0.0.5:8600"]), true, Some(1));
        check(Some(&["consul=10.0.0.5:8600", "10.0.0.3"]), true, None);
        check(Some(&[]), false, None);
    }

    #[tokio::test(start_paused = true)]
    async fn follows_the_hosts_resolvers_and_keeps_them_while_the_file_is_away() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("resolv.conf");
        let own: [IpAddr; 1] = ["169.254.53.53".parse().unwrap()];
        assert_eq!(read(&path, &own), []);
        let (told, mut heard) = mpsc::channel(1);
        let following = follow(&path, &own, Vec::new(), |now| told.try_send(now.to_vec()).unwrap());
        let steps = async {
            for (text, expected) in [
                (Some("nameserver 169.254.53.53\nnameserver 10.0.0.2\n"), "10.0.0.2:53"),
                (None, ""),
                (Some("nameserver 10.0.0.2\n"), ""),
                (Some("nameserver 10.0.0.3\n"), "10.0.0.3:53"),
            ] {
                match text {
                    Some(text) => std::fs::write(&path, text).unwrap(),
                    None => std::fs::remove_file(&path).unwrap(),
                }
                let news = tokio::time::timeout(3 * READ_EVERY, heard.recv()).await;
                let news = news.ok().flatten().map(|now| now[0].to_string()).unwrap_or_default();
                assert_eq!(news, expected, "{text:?}");
            }
        };
        tokio::select! {
            () = following => unreachable!("it never ends"),
            () = steps => {}
        }
    }
}
