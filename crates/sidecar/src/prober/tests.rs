use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use super::*;

fn limits() -> Limits {
    Limits { range: "198.18.0.0/16".parse().unwrap(), own: vec!["10.0.0.1".parse().unwrap()] }
}

fn probe(targets: &[&str]) -> Probe {
    let targets = targets.iter().map(|place| place.parse().unwrap()).collect();
    Probe { id: 7, targets, controls: vec!["127.0.0.1:1".parse().unwrap()] }
}

#[tokio::test]
async fn a_connection_is_closed_at_once_and_no_byte_is_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = listener.local_addr().unwrap();
    assert_eq!(connect(place).await, Met::Connected);
    let (mut stream, _) = listener.accept().await.unwrap();
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
    drop((stream, listener));
    assert_eq!(connect(place).await, Met::Refused);
}

#[test]
fn only_places_of_others_are_tried() {
    let places = [
        ("10.0.0.2:80", true),
        ("[2001:db8::1]:80", true),
        ("10.0.0.2:0", false),
        ("10.0.0.1:80", false),
        ("[::ffff:10.0.0.1]:80", false),
        ("127.0.0.1:80", false),
        ("169.254.169.254:80", false),
        ("224.0.0.1:80", false),
        ("198.18.0.1:80", false),
    ];
    for (place, expected) in places {
        assert_eq!(may_try(place.parse().unwrap(), &limits()), expected, "{place}");
    }
}

#[test]
fn a_fault_of_this_node_says_nothing_of_others() {
    let rows = [
        (ErrorKind::ConnectionRefused, Met::Refused),
        (ErrorKind::ConnectionReset, Met::Refused),
        (ErrorKind::TimedOut, Met::TimedOut),
        (ErrorKind::HostUnreachable, Met::Unreachable),
        (ErrorKind::NetworkUnreachable, Met::Unreachable),
        (ErrorKind::AddrNotAvailable, Met::Nothing),
        (ErrorKind::PermissionDenied, Met::Nothing),
        (ErrorKind::Other, Met::Nothing),
    ];
    for (kind, expected) in rows {
        assert_eq!(of_error(&kind.into()), expected, "{kind}");
    }
}

#[tokio::test]
async fn answers_in_the_order_of_the_targets() {
    let jobs = Jobs::new();
    let prober = start(&jobs, limits());
    let (answer, mut answers) = mpsc::channel(1);
    assert_eq!(prober.ask(probe(&["127.0.0.1:80", "198.18.0.1:80"]), answer), None);
    let expected = ProbeResult { id: 7, met: vec![Met::Nothing; 2], is_control_reached: false };
    assert_eq!(answers.recv().await, Some(expected));
    jobs.shut_down();
    jobs.finished().await.unwrap();
}

#[tokio::test]
async fn what_finds_the_queue_full_is_answered_with_nothing() {
    let (asks, _never_read) = mpsc::channel(1);
    let prober = Prober { asks };
    let (answer, _answers) = mpsc::channel(1);
    assert_eq!(prober.ask(probe(&["10.0.0.2:80"]), answer.clone()), None);
    let expected = ProbeResult { id: 7, met: Vec::new(), is_control_reached: false };
    assert_eq!(prober.ask(probe(&["10.0.0.2:80"]), answer), Some(expected));
}
