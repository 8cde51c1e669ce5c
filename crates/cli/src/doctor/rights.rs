//! What this process may do and see. A sidecar that is started like it may do and see the same.

use std::fs;
use std::path::Path;

use super::Check;

/// capability.h: bit numbers.
const CAP_NET_BIND_SERVICE: u32 = 10;
const CAP_NET_ADMIN: u32 = 12;
/// The inode of the first pid namespace, the same on every Linux (include/linux/proc_ns.h, PROC_PID_INIT_INO).
const FIRST_PID_NAMESPACE: &str = "pid:[4026531836]";

/// Every check of rights.
pub(super) fn all() -> Vec<Check> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let namespace = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    let mut checks = capabilities(&status);
    checks.push(host_processes(&namespace));
    checks.push(host_network());
    checks
}

fn capabilities(status: &str) -> Vec<Check> {
    let Some(effective) = effective(status) else {
        let fix = "mount /proc where the sidecar runs";
        return vec![Check::warning("rights", "/proc/self/status tells no capabilities", fix)];
    };
    let has = |bit: u32| effective & (1 << bit) != 0;
    let root = "run as root, or give the capability to the unit or task";
    let one = |check, bit, without: &str| {
        if has(bit) { Check::ok(check, "granted") } else { Check::warning(check, format!("missing: {without}"), root) }
    };
    vec![
        one("CAP_NET_ADMIN", CAP_NET_ADMIN, "no links, no address for DNS"),
        one("CAP_NET_BIND_SERVICE", CAP_NET_BIND_SERVICE, "no port 53, so no DNS for containers"),
    ]
}

/// The effective capabilities, from the text of `/proc/self/status`.
fn effective(status: &str) -> Option<u64> {
    let field = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(field.trim(), 16).ok()
}

fn host_processes(namespace: &Path) -> Check {
    if namespace == Path::new(FIRST_PID_NAMESPACE) {
        return Check::ok("host processes", "visible");
    }
    let found = "not visible: ports count as listening at their container's start, deaths are seen by Docker alone";
    Check::warning("host processes", found, "run with `pid: host` (ECS: pidMode host)")
}

fn host_network() -> Check {
    let (own, first) = (fs::read_link("/proc/self/ns/net"), fs::read_link("/proc/1/ns/net"));
    match (own, first) {
        (Ok(own), Ok(first)) if own == first => Check::ok("host network", "shared with the first process"),
        (Ok(_), Ok(_)) => {
            let fix = "run with `network_mode: host` (ECS: networkMode host)";
            Check::warning("host network", "this process has a network of its own: containers cannot reach it", fix)
        }
        _ => {
            Check::warning("host network", "cannot be told: /proc/1/ns cannot be read", "run `portolan doctor` as root")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Outcome;

    #[test]
    fn reads_capabilities() {
        let outcomes = |status: &str| -> Vec<Outcome> { capabilities(status).iter().map(|c| c.outcome).collect() };
        assert_eq!(outcomes("Name:\tx\nCapEff:\t000001ffffffffff\n"), [Outcome::Ok, Outcome::Ok]);
        assert_eq!(outcomes("CapEff:\t0000000000001000\n"), [Outcome::Ok, Outcome::Warning]);
        assert_eq!(outcomes("CapEff:\t0000000000000000\n"), [Outcome::Warning, Outcome::Warning]);
        assert_eq!(outcomes("CapEff:\tzz\n"), [Outcome::Warning]);
    }

    #[test]
    fn knows_a_container_by_its_pid_namespace() {
        assert_eq!(host_processes(Path::new("pid:[4026531836]")).outcome, Outcome::Ok);
        assert_eq!(host_processes(Path::new("pid:[4026532198]")).outcome, Outcome::Warning);
    }
}
