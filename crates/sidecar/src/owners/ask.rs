//! Asks another node whether it still has some ports.

use std::net::SocketAddr;
use std::time::Duration;

use portolan_proto::ownership::{OwnedPort, answer_in, question_out};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a node may take. It has what it is asked for in memory.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Asks the node at `address`. `None`: no answer, or none that can be meant.
pub(super) async fn ask(address: SocketAddr, ports: &[OwnedPort]) -> Option<Vec<bool>> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        super::write(&mut stream, &question_out(ports)).await?;
        super::read(&mut stream).await
    };
    let answer = timeout(ANSWER_WITHIN, exchange).await.ok()?.ok()?;
    answer_in(&answer, ports.len())
}
