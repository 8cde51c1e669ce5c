//! Every form of question that ISC's genreport, RFC 8906 and the other tables of the field ask, and the reply that each
//! has to get: `compliance/cases.txt` is the matrix, asked over real sockets, twice, so that the second reply is a kept one.

mod case;
mod said;

use std::time::Duration;

use hickory_proto::op::Message;
use portolan_dns::forward::routes::Routes;
use portolan_dns::forward::{ForwardMetrics, Forwarder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use crate::started::{Started, node, registry};
use case::Case;
use said::said;

const CASES: &str = include_str!("compliance/cases.txt");
/// Genreport's group TYPE, and beside it types that have come since: none has records at the zone's name but these few.
const TYPES: &str = "A NS MD MF CNAME SOA MB MG MR NULL WKS PTR HINFO MINFO MX TXT RP AFSDB X25 ISDN RT NSAP NSAP-PTR SIG \
    KEY PX GPOS AAAA LOC NXT SRV NAPTR KX CERT A6 DNAME APL DS SSHFP IPSECKEY RRSIG NSEC DNSKEY DHCID NSEC3 NSEC3PARAM \
    TLSA SMIMEA HIP CDS CDNSKEY OPENPGPKEY SPF NID L32 L64 LP EUI48 EUI64 URI CAA AVC DOA DLV TYPE1000 \
    CSYNC ZONEMD SVCB HTTPS EID NIMLOC ATMA SINK TALINK TA UNSPEC UINFO UID GID RESINFO AMTRELAY DSYNC";

/// A server and the two ways to it.
struct Line {
    udp: UdpSocket,
    tcp: TcpStream,
    is_node: bool,
    _server: Started,
}

impl Line {
    async fn new(server: Started, is_node: bool) -> Line {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        udp.connect(server.address).await.unwrap();
        Line { udp, tcp: TcpStream::connect(server.address).await.unwrap(), is_node, _server: server }
    }

    async fn by_udp(&mut self, octets: &[u8]) -> Vec<u8> {
        self.udp.send(octets).await.unwrap();
        let mut reply = vec![0; 4096];
        let length = in_time(self.udp.recv(&mut reply)).await;
        reply.truncate(length);
        reply
    }

    async fn by_tcp(&mut self, octets: &[u8]) -> Vec<u8> {
        let mut framed = (octets.len() as u16).to_be_bytes().to_vec();
        framed.extend_from_slice(octets);
        self.tcp.write_all(&framed).await.unwrap();
        let length = in_time(self.tcp.read_u16()).await;
        let mut reply = vec![0; length.into()];
        in_time(self.tcp.read_exact(&mut reply)).await;
        reply
    }

    /// Asks a case in every way; what differs from what is expected is told.
    async fn check(&mut self, case: &Case, id: u16) -> Vec<String> {
        let mut wrong = Vec::new();
        let octets = case.packet(id);
        for transport in ["udp", "tcp"] {
            let mut records = Vec::new();
            for round in ["cold", "warm"] {
                let reply = if transport == "udp" { self.by_udp(&octets).await } else { self.by_tcp(&octets).await };
                let expected = self.expected(case, transport);
                let actual = said(&octets, &reply);
                if actual != expected {
                    let name = &case.name;
                    wrong.push(format!("{name} {transport} {round}:\n  expected {expected}\n  got      {actual}"));
                }
                records.push(sorted_records(&reply));
            }
            if !case.expected.contains(" tc") && records[0] != records[1] {
                wrong.push(format!("{} {transport}: the kept reply differs", case.name));
            }
        }
        wrong
    }

    fn expected(&self, case: &Case, transport: &str) -> String {
        let mut words: Vec<&str> = case.expected.split_whitespace().collect();
        words.retain(|word| transport == "udp" || *word != "tc");
        // A node forwards, and says so where the bit means something.
        if self.is_node && case.opcode == 0 {
            let place = words.iter().position(|word| !["aa", "tc", "rd"].contains(word) && *word != words[0]);
            words.insert(place.unwrap_or(words.len()), "ra");
        }
        words.join(" ")
    }
}

async fn in_time<T>(reply: impl Future<Output = std::io::Result<T>>) -> T {
    tokio::time::timeout(Duration::from_secs(10), reply).await.expect("never silence").unwrap()
}

fn sorted_records(reply: &[u8]) -> Vec<String> {
    let Ok(message) = Message::from_vec(reply) else { return Vec::new() };
    let all = [&message.answers, &message.authorities, &message.additionals];
    let mut records: Vec<String> = all.into_iter().flatten().map(ToString::to_string).collect();
    records.sort();
    records
}

async fn check_all(cases: &[Case], mut lines: Vec<Line>) {
    let mut wrong = Vec::new();
    for line in &mut lines {
        let is_node = line.is_node;
        let asked = cases.iter().filter(|case| !is_node || !case.is_outside());
        for (id, case) in asked.enumerate() {
            wrong.extend(line.check(case, id as u16 ^ 0x5aa5).await);
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

async fn lines() -> Vec<Line> {
    let upstream = Routes::from(&["127.0.0.1:9".parse().unwrap()][..]);
    let forwarding = node(|jobs| Some(Forwarder::new(jobs, &upstream, &[], ForwardMetrics::default()))).await;
    vec![Line::new(registry().await, false).await, Line::new(forwarding, true).await]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_form_of_question_gets_the_reply_it_has_to() {
    let cases: Vec<Case> =
        CASES.lines().filter(|line| line.contains('|') && !line.starts_with(';')).map(Case::read).collect();
    assert!(cases.len() > 130, "{} cases", cases.len());
    check_all(&cases, lines().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_type_is_an_answer_or_nodata() {
    let at_apex = |record_type: &str| match record_type {
        "SOA" | "NS" => format!("NOERROR aa an={record_type}"),
        _ => "NOERROR aa soa".to_owned(),
    };
    let at_service = |record_type: &str| match record_type {
        "A" => "NOERROR aa an=A".to_owned(),
        "AAAA" => "NOERROR aa an=AAAA,AAAA".to_owned(),
        "SRV" => "NOERROR aa an=SRV,SRV".to_owned(),
        _ => "NOERROR aa soa".to_owned(),
    };
    let mut cases = Vec::new();
    for record_type in TYPES.split_whitespace() {
        cases.push(Case::read(&format!("{record_type} | {record_type} | {}", at_apex(record_type))));
        let name = "web.prod.ecs.internal";
        cases.push(Case::read(&format!("{name} {record_type} | {name} {record_type} | {}", at_service(record_type))));
    }
    check_all(&cases, lines().await).await;
}

/// What is no question gets no reply, and the next question gets its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replies_and_fragments_are_met_with_silence() {
    let mut line = Line::new(registry().await, false).await;
    let question = Case::read("web | web.prod.ecs.internal A | NOERROR aa an=A").packet(7);
    let mut reply = question.clone();
    reply[2] |= 0x80;
    for silent in [&reply, &question[..11], &question[..1], &[]] {
        line.udp.send(silent).await.unwrap();
    }
    assert_eq!(said(&question, &line.by_udp(&question).await), "NOERROR aa an=A");
}
