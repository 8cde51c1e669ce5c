//! The address that containers ask, and whether it answers.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::Check;

/// Where containers ask (DESIGN section 6).
pub(super) const ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 53, 53);
/// The largest datagram.
const DATAGRAM_OCTETS_MAX: usize = 4_096;
/// On the same machine an answer takes less than a thousandth of it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Whether the address is one of this machine: only then can a socket have it.
pub(super) fn address() -> Check {
    match std::net::UdpSocket::bind((ADDRESS, 0)) {
        Ok(_) => Check::ok("address", format!("{ADDRESS} is this machine's")),
        Err(error) => {
            let found = format!("{ADDRESS} is not this machine's ({error}): containers have nobody to ask");
            let fix = "a sidecar with CAP_NET_ADMIN adds it; see what its log says of the route";
            Check::warning("address", found, fix)
        }
    }
}

/// Asks for the zone from this machine, which has the address.
pub(super) async fn from_here(zone: &str) -> Check {
    let server = SocketAddr::from((ADDRESS, 53));
    match ask(server, zone).await {
        Ok(ResponseCode::NoError) => Check::ok("dns", format!("{server} answers for {zone}")),
        Ok(code) => {
            let fix = "see whether another resolver has the address, or whether the sidecar's zone is another one";
            Check::failed("dns", format!("{server} answers {} for {zone}", code.to_str()), fix)
        }
        Err(reason) => {
            let found = format!("{server} does not answer: {reason}");
            Check::failed("dns", found, "start the sidecar, and see that nothing drops UDP to it")
        }
    }
}

async fn ask(server: SocketAddr, zone: &str) -> Result<ResponseCode, String> {
    let name = Name::from_ascii(zone).map_err(|_| format!("`{zone}` is no DNS name"))?;
    let id: u16 = rand::random();
    let mut question = Message::new(id, MessageType::Query, OpCode::Query);
    question.add_query(Query::query(name, RecordType::SOA));
    let bytes = question.to_vec().map_err(|error| error.to_string())?;
    let exchange = async {
        let socket = UdpSocket::bind("0.0.0.0:0").await?;
        socket.connect(server).await?;
        socket.send(&bytes).await?;
        let mut answer = vec![0; DATAGRAM_OCTETS_MAX];
        let length = socket.recv(&mut answer).await?;
        answer.truncate(length);
        Ok::<_, std::io::Error>(answer)
    };
    let answer = match timeout(ANSWER_TIMEOUT, exchange).await {
        Ok(answer) => answer.map_err(|error| error.to_string())?,
        Err(_) => return Err(format!("nothing within {} s", ANSWER_TIMEOUT.as_secs())),
    };
    let message = Message::from_vec(&answer).map_err(|_| "what came is no DNS message".to_owned())?;
    if message.metadata.id != id {
        return Err("what came answers another question".to_owned());
    }
    Ok(message.metadata.response_code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn takes_only_the_answer_to_its_question() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let addr = server.local_addr().unwrap();
        let reply = async {
            let mut bytes = [0; 512];
            let (length, from) = server.recv_from(&mut bytes).await.unwrap();
            let question = Message::from_vec(&bytes[..length]).unwrap();
            let mut answer = Message::new(question.metadata.id, MessageType::Response, OpCode::Query);
            answer.metadata.response_code = ResponseCode::Refused;
            server.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
        };
        let (code, ()) = tokio::join!(ask(addr, "ecs.internal."), reply);
        assert_eq!(code, Ok(ResponseCode::Refused));
        let garbage = async {
            let (_, from) = server.recv_from(&mut [0; 512]).await.unwrap();
            server.send_to(b"no", from).await.unwrap();
        };
        let (code, ()) = tokio::join!(ask(addr, "ecs.internal."), garbage);
        assert_eq!(code, Err("what came is no DNS message".to_owned()));
    }
}
