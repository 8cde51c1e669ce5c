//! Search lists, and names that appear after they were said to be missing.

use std::sync::Arc;

use hickory_proto::op::ResponseCode;
use portolan_core::view::View;

use crate::fixture;
use crate::served::{by_udp, query};
use crate::started::Started;
use crate::upstream::{missing, start};

#[tokio::test(start_paused = true)]
async fn a_search_list_behind_a_full_name_costs_nothing_upstream() {
    let (server, upstream) = start(|_, asked| Some(missing(asked))).await;
    let name = "elasticsearch.prod.ecs.internal";
    for suffix in ["prod.ecs.internal.", "ecs.internal.", "eu-west-1.compute.internal.", "example.com."] {
        for record_type in ["A", "AAAA"] {
            let reply = by_udp(&server, &query(&format!("{name}.{suffix}"), record_type)).await;
            assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain, "{suffix}");
        }
    }
    assert_eq!(upstream.asked(), 0);
    // Not ours: who knows.
    by_udp(&server, &query("nobody.prod.ecs.internal.example.com.", "A")).await;
    assert_eq!(upstream.asked(), 1);
}

fn appear(server: &Started, name: &str) {
    let mut view = View::clone(&server.view.load());
    fixture::insert(&mut view, name, Some(fixture::link(9)), Some(vec![]));
    server.view.publish(Arc::new(view));
}

#[tokio::test(start_paused = true)]
async fn a_name_that_appears_is_seen_at_once_however_often_it_was_missing() {
    let (server, upstream) = start(|_, asked| Some(missing(asked))).await;
    for (name, asked) in [("full", "full.prod.ecs.internal."), ("bare", "bare.")] {
        let asked = query(asked, "A");
        for _ in 0..20 {
            assert_eq!(by_udp(&server, &asked).await.metadata.response_code, ResponseCode::NXDomain);
        }
        appear(&server, name);
        assert_eq!(by_udp(&server, &asked).await.answers.len(), 1, "{name}");
    }
    assert_eq!(upstream.asked(), 1, "the bare one, which is kept as long as upstream says");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_gets_its_first_endpoint_is_seen_at_once() {
    let (server, _upstream) = start(|_, asked| Some(missing(asked))).await;
    let asked = query("empty.prod.ecs.internal.", "A");
    for _ in 0..20 {
        let reply = by_udp(&server, &asked).await;
        assert_eq!((reply.metadata.response_code, reply.answers.len()), (ResponseCode::NoError, 0));
    }
    let mut view = View::clone(&server.view.load());
    fixture::insert(&mut view, "empty", None, Some(vec![fixture::endpoint(1, "10.0.9.1", 8080, 8080)]));
    server.view.publish(Arc::new(view));
    assert_eq!(by_udp(&server, &asked).await.answers.len(), 1);
}
