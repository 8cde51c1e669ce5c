//! Peers of another version: what one does not know of the other it passes over, and what it is not told it does without.

use portolan_proto::wire::{RegisterResponse, Welcome, register_response::Kind};
use prost::Message;

/// The first message of a registry that does not tell where its HTTP is.
#[derive(Clone, PartialEq, Message)]
struct OlderWelcome {
    #[prost(uint64, tag = "1")]
    session: u64,
    #[prost(string, tag = "2")]
    epoch: String,
    #[prost(string, tag = "3")]
    version: String,
    #[prost(string, repeated, tag = "4")]
    features: Vec<String>,
}

fn welcome(http_port: Option<u32>) -> Welcome {
    Welcome { session: 7, epoch: "e".into(), version: "1".into(), features: vec!["probe".into()], http_port }
}

fn older() -> OlderWelcome {
    OlderWelcome { session: 7, epoch: "e".into(), version: "1".into(), features: vec!["probe".into()] }
}

#[test]
fn an_older_sidecar_reads_a_welcome_that_says_more() {
    assert_eq!(OlderWelcome::decode(&welcome(Some(9500)).encode_to_vec()[..]), Ok(older()));
}

#[test]
fn a_welcome_that_says_less_tells_no_port() {
    assert_eq!(Welcome::decode(&older().encode_to_vec()[..]), Ok(welcome(None)));
    // Told to be 0 is something else than not told.
    assert_eq!(Welcome::decode(&welcome(Some(0)).encode_to_vec()[..]), Ok(welcome(Some(0))));
}

#[test]
fn what_a_newer_registry_says_beyond_that_is_passed_over() {
    // Field 99 with a text of one byte; a message of kind 99 with nothing in it.
    let (field, kind) = ([0x9a, 0x06, 0x01, b'x'], [0x9a, 0x06, 0x00]);
    let mut newer = welcome(Some(9500)).encode_to_vec();
    newer.extend(field);
    assert_eq!(Welcome::decode(&newer[..]), Ok(welcome(Some(9500))));
    assert_eq!(RegisterResponse::decode(&kind[..]), Ok(RegisterResponse { kind: None }));
    let both = [RegisterResponse { kind: Some(Kind::Welcome(welcome(None))) }.encode_to_vec(), kind.to_vec()].concat();
    assert_eq!(RegisterResponse::decode(&both[..]).map(|read| read.kind), Ok(Some(Kind::Welcome(welcome(None)))));
}
