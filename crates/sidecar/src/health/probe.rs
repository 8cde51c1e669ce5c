//! Probes over the network: one connection, at most one request, one second.
//!
//! Of an HTTP answer only the status line is read: no redirect is followed, no body taken, so a container can neither
//! send us elsewhere nor make us hold its bytes.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::machine::Outcome;

/// A check that takes longer has failed.
pub(super) const PROBE_MAX: Duration = Duration::from_secs(1);
/// `HTTP/1.1 200` (RFC 9112 section 4).
const STATUS_OCTETS: usize = 12;

pub(super) async fn tcp(address: SocketAddr) -> Outcome {
    match timeout(PROBE_MAX, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Outcome::Passed,
        Ok(Err(_)) | Err(_) => Outcome::Failed,
    }
}

pub(super) async fn http(address: SocketAddr, path: &str) -> Outcome {
    match timeout(PROBE_MAX, status(address, path)).await {
        Ok(Ok(Some(200..=399))) => Outcome::Passed,
        Ok(Ok(_)) | Ok(Err(_)) | Err(_) => Outcome::Failed,
    }
}

/// The status of `GET path`, if the answer is HTTP.
async fn status(address: SocketAddr, path: &str) -> std::io::Result<Option<u16>> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: portolan-check\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut line = [0; STATUS_OCTETS];
    stream.read_exact(&mut line).await?;
    let line = String::from_utf8_lossy(&line);
    let code = line.strip_prefix("HTTP/1.").and_then(|rest| rest.split_once(' ')).map(|(_, code)| code.to_owned());
    Ok(code.and_then(|code| code.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn passes_by_status_alone() {
        let check = async |answer: &'static str, expected: Outcome| {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let serve = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 1024];
                let read = stream.read(&mut request).await.unwrap();
                assert!(request[..read].starts_with(b"GET /health?x=1 HTTP/1.1\r\nHost: 127.0.0.1:"));
                stream.write_all(answer.as_bytes()).await.unwrap();
            };
            let (outcome, ()) = tokio::join!(http(address, "/health?x=1"), serve);
            assert_eq!(outcome, expected, "{answer}");
        };
        check("HTTP/1.1 200 OK\r\n\r\n", Outcome::Passed).await;
        check("HTTP/1.0 302 Found\r\nLocation: http://169.254.169.254/\r\n\r\n", Outcome::Passed).await;
        check("HTTP/1.1 503 Unavailable\r\n\r\n", Outcome::Failed).await;
        check("HTTP/1.1 404 Not Found\r\n\r\n", Outcome::Failed).await;
        check("SSH-2.0-OpenSSH_9.6\r\n", Outcome::Failed).await;
        check("", Outcome::Failed).await;
    }

    #[tokio::test]
    async fn a_tcp_check_needs_a_listener() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(tcp(address).await, Outcome::Passed);
        drop(listener);
        assert_eq!(tcp(address).await, Outcome::Failed);
    }
}
