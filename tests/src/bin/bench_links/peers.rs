//! The peers: HAProxy, nginx and Envoy as TCP proxies with one thread each, and DNAT by the kernel alone.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result};
use portolan_tests::namespace::Namespace;
use portolan_tests::programs::Program;

use crate::{PORTS, Way};

/// What the kernel translates; for documentation (RFC 5737), so nobody's.
const TRANSLATED: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// What a process may open here, less some.
const CONNECTIONS: usize = 9_900;

/// A proxy that runs.
pub(crate) struct Proxy {
    name: &'static str,
    offset: u16,
    program: Program,
}

impl Proxy {
    pub(crate) fn way(&self, node: &Namespace) -> Way {
        Way { name: self.name, address: node.addr(), offset: self.offset, process: Some(self.program.pid()) }
    }
}

/// Starts those that are installed.
pub(crate) fn start(node: &Arc<Namespace>, backend: &Namespace, folder: &Path) -> Result<Vec<Proxy>> {
    let envoy = std::env::var("ENVOY").unwrap_or_else(|_| "envoy".to_owned());
    let (haproxy, nginx) = ("haproxy".to_owned(), "nginx".to_owned());
    type Configured = fn(Ipv4Addr, Ipv4Addr, u16) -> String;
    let all: [(&str, String, u16, Configured, &[&str]); 3] = [
        ("haproxy", haproxy, 10_000, of_haproxy, &["-db", "-f"]),
        ("nginx", nginx, 20_000, of_nginx, &["-c"]),
        ("envoy", envoy, 30_000, of_envoy, &["--concurrency", "1", "--disable-hot-restart", "-l", "warn", "-c"]),
    ];
    let mut started = Vec::new();
    for (name, program, offset, configuration, args) in all {
        if Command::new(&program).arg(if name == "envoy" { "--version" } else { "-v" }).output().is_err() {
            println!("{name} is not installed: left out");
            continue;
        }
        let file = folder.join(format!("{name}.yaml"));
        std::fs::write(&file, configuration(node.address, backend.address, offset)).context("write a configuration")?;
        let file = file.to_string_lossy();
        let program = Program::start_file(node, &program, &[args, &[&file]].concat())?;
        started.push(Proxy { name, offset, program });
    }
    Ok(started)
}

/// Has the kernel lead an address to the backend; which one.
pub(crate) fn dnat(node: &Namespace, backend: &Namespace) -> Result<IpAddr> {
    let chain = "add chain ip bench output { type nat hook output priority -90 ; }";
    let rule = format!("add rule ip bench output ip daddr {TRANSLATED} dnat to {}", backend.address);
    for command in ["add table ip bench", chain, &rule] {
        node.run("nft", &[command])?;
    }
    Ok(TRANSLATED.into())
}

fn of_haproxy(node: Ipv4Addr, backend: Ipv4Addr, offset: u16) -> String {
    let mut text = format!(
        "global\n nbthread 1\n maxconn {CONNECTIONS}\ndefaults\n mode tcp\n maxconn {CONNECTIONS}\n timeout connect 5s\n \
         timeout client 1h\n timeout server 1h\n"
    );
    for port in PORTS {
        let _ = writeln!(text, "listen p{port}\n bind {node}:{}\n server b {backend}:{port}", port + offset);
    }
    text
}

fn of_nginx(node: Ipv4Addr, backend: Ipv4Addr, offset: u16) -> String {
    let mut text = format!(
        "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\ndaemon off;\nmaster_process off;\nerror_log stderr crit;\n\
         events {{ worker_connections {}; }}\nstream {{\n access_log off;\n",
        2 * CONNECTIONS
    );
    for port in PORTS {
        let place = port + offset;
        let _ = writeln!(text, " server {{ listen {node}:{place}; proxy_pass {backend}:{port}; proxy_timeout 1h; }}");
    }
    text + "}\n"
}

fn of_envoy(node: Ipv4Addr, backend: Ipv4Addr, offset: u16) -> String {
    let (mut listeners, mut clusters) = (String::new(), String::new());
    let place = |address: Ipv4Addr, port: u16| {
        format!("address: {{socket_address: {{address: {address}, port_value: {port}}}}}")
    };
    for port in PORTS {
        let _ = writeln!(
            listeners,
            "  - {}\n    filter_chains: [{{filters: [{{name: tcp, typed_config: {{\"@type\": \
             type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: p{port}, \
             idle_timeout: 3600s, cluster: c{port}}}}}]}}]",
            place(node, port + offset)
        );
        let _ = writeln!(
            clusters,
            "  - {{name: c{port}, type: STATIC, connect_timeout: 5s, circuit_breakers: {{thresholds: [{{max_connections: \
             100000, max_pending_requests: 100000}}]}}, load_assignment: {{cluster_name: c{port}, endpoints: [{{lb_endpoints: \
             [{{endpoint: {{{}}}}}]}}]}}}}",
            place(backend, port)
        );
    }
    format!("static_resources:\n  listeners:\n{listeners}  clusters:\n{clusters}")
}
