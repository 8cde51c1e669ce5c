//! The adapter against a server that answers as AWS does, and as it should not.

mod ec2;
mod ecs;
mod refusals;
mod server;
mod sqs;

use std::time::Duration;

use aws_sdk_ecs::config::{Credentials, SharedCredentialsProvider};
use portolan_runtime::jobs::Jobs;

use self::server::{Reply, Server};
use super::connect::Asked;
use super::*;

/// A server with these replies, and what asks it.
async fn setup(replies: Vec<Reply>) -> (Server, Sdk) {
    let credentials = SharedCredentialsProvider::new(Credentials::new("AKIATEST", "secret", None, None, "test"));
    let server = Server::start(&Jobs::new(), replies).await;
    let endpoint = Some(format!("http://{}", server.addr));
    let region = Some("eu-central-1".to_owned());
    let asked = Asked { region, endpoint, credentials: Some(credentials), ..Asked::default() };
    (server, Sdk::new(asked))
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}
