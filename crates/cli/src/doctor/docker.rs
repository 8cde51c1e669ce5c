//! Docker's socket, and a container that asks as containers do.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::time::timeout;

use super::Check;
use super::dns::ADDRESS;
use crate::show::safe;

/// What Docker says of itself is a few kilobytes.
const ANSWER_OCTETS_MAX: u64 = 1 << 20;
/// A busy daemon answers within a second.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Starting a container on a slow disk.
const PROBE_TIMEOUT: Duration = Duration::from_secs(60);
/// How much of a probe's words is shown.
const WORDS_MAX: usize = 200;

/// The part of `/version` that is shown.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Version {
    version: String,
    api_version: String,
    #[serde(rename = "MinAPIVersion", default)]
    min_api_version: String,
}

/// Whether Docker answers on its socket.
pub(super) async fn socket(path: &Path) -> Check {
    let place = path.display();
    let asked = timeout(ANSWER_TIMEOUT, version(path)).await;
    match asked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
        Ok(version) => {
            let Version { version, api_version, min_api_version } = version;
            Check::ok("docker", format!("{place}: version {version}, API {min_api_version} to {api_version}"))
        }
        Err(error) => {
            let fix = match error.kind() {
                io::ErrorKind::NotFound => {
                    "start Docker, or name its socket by `--docker-socket` (setting `docker.socket`)"
                }
                io::ErrorKind::PermissionDenied => "run as root, or as a member of group `docker`",
                io::ErrorKind::ConnectionRefused => "start Docker: its socket is there, and nobody listens",
                io::ErrorKind::TimedOut => "Docker hangs: see its log",
                _ => "see Docker's log",
            };
            Check::failed("docker", format!("{place}: {error}"), fix)
        }
    }
}

/// HTTP 1.0, so that the answer ends with the connection and comes in one piece.
const REQUEST: &[u8] = b"GET /version HTTP/1.0\r\nHost: docker\r\n\r\n";

async fn version(path: &Path) -> io::Result<Version> {
    let mut stream = UnixStream::connect(path).await?;
    stream.write_all(REQUEST).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_OCTETS_MAX).read_to_end(&mut answer).await?;
    let body = answer.windows(4).position(|window| window == b"\r\n\r\n").map(|end| &answer[end + 4..]);
    let is_good = answer.starts_with(b"HTTP/1.") && answer.get(8..12) == Some(b" 200");
    let body = body.filter(|_| is_good).ok_or_else(|| io::Error::other("what answers there is not Docker"))?;
    serde_json::from_slice(body).map_err(io::Error::other)
}

/// Asks for the zone from within a container of `image`.
pub(super) async fn probe(image: &str, zone: &str) -> Check {
    if image.starts_with('-') {
        let found = format!("`{}` is no image", safe(image));
        return Check::failed("container's dns", found, "name a local image, such as busybox");
    }
    let mut docker = Command::new("docker");
    docker.args(["run", "--rm", "--pull=never", "--dns", &ADDRESS.to_string(), "--", image]);
    docker.args(["nslookup", "-type=soa", zone]).stdin(Stdio::null()).kill_on_drop(true);
    let fix = "see that `docker run --dns 169.254.53.53` works from the bridge, and that a sidecar answers on the host";
    match timeout(PROBE_TIMEOUT, docker.output()).await {
        Ok(Ok(output)) if output.status.success() => {
            Check::ok("container's dns", format!("a container of {} resolves {zone}", safe(image)))
        }
        Ok(Ok(output)) => {
            let words = [output.stdout, output.stderr].concat();
            let words = String::from_utf8_lossy(&words);
            let last = words.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no word");
            let last = portolan_core::refusal::shown(last, WORDS_MAX);
            Check::failed(
                "container's dns",
                format!("nslookup in a container ended with {}: {last}", output.status),
                fix,
            )
        }
        Ok(Err(error)) => {
            Check::failed("container's dns", format!("run `docker`: {error}"), "install Docker's command")
        }
        Err(_) => Check::failed("container's dns", format!("no end within {} s", PROBE_TIMEOUT.as_secs()), fix),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;
    use crate::doctor::Outcome;

    async fn answered(answer: &'static [u8]) -> Check {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("docker.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            // Whole: a socket that is closed with something unread resets.
            stream.read_exact(&mut [0; REQUEST.len()]).await.unwrap();
            stream.write_all(answer).await.unwrap();
        };
        tokio::join!(socket(&path), serve).0
    }

    #[tokio::test]
    async fn says_what_docker_is_or_is_not() {
        let good = b"HTTP/1.0 200 OK\r\nA: b\r\n\r\n{\"Version\":\"20.10.24\",\"ApiVersion\":\"1.41\",\"MinAPIVersion\":\"1.12\"}";
        let check = answered(good).await;
        assert_eq!(check.outcome, Outcome::Ok);
        assert!(check.found.ends_with("version 20.10.24, API 1.12 to 1.41"), "{}", check.found);
        assert_eq!(answered(b"HTTP/1.0 500 no\r\n\r\n{}").await.outcome, Outcome::Failed);
        assert_eq!(answered(b"hello").await.outcome, Outcome::Failed);
        let missing = socket(Path::new("/nonexistent/docker.sock")).await;
        assert!(missing.fix.unwrap().starts_with("start Docker"));
    }

    #[tokio::test]
    async fn an_option_is_no_image() {
        assert_eq!(probe("--privileged", "ecs.internal.").await.outcome, Outcome::Failed);
    }
}
