//! The registry about itself. Answers also before anything is loaded.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use portolan_core::name::Label;
use portolan_dns::resolution::readiness_word;

use super::{Shared, api, convert, read};
use crate::catalog::Catalog;
use crate::ecs::status::{ClusterStatus, QueueStatus, Status};

/// The registry about itself.
#[utoipa::path(get, path = "/api/status", tag = "status", responses((status = 200, body = api::Status)))]
pub(super) async fn status(State(surface): Shared) -> Response {
    let catalog = surface.shown.catalog.load();
    let status = api::Status {
        program: "registry".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        epoch: catalog.epoch.to_string(),
        zone: surface.shown.authority.zone.to_string(),
        started: convert::time(surface.started_ms),
        readiness: readiness_word(catalog.view.readiness).to_owned(),
        index: catalog.view.index,
        clusters: count(catalog.view.clusters.len()),
        services: count(catalog.view.services.len()),
        nodes: count(catalog.nodes.len()),
        silent_nodes: count(catalog.nodes.values().filter(|node| node.silence.is_some()).count()),
        endpoints: convert::counts(catalog.view.services.values().flat_map(|service| convert::endpoints(service))),
        held: held(&catalog),
        aws: surface.shown.ecs.as_ref().map(|ecs| aws(&ecs.load())),
    };
    read::with_epoch(Json(status).into_response(), &catalog)
}

/// How much limits hold back.
fn held(catalog: &Catalog) -> api::HeldCounts {
    let frozen = catalog.frozen();
    api::HeldCounts { endpoints: count(frozen.endpoints), nodes: count(frozen.nodes), services: count(frozen.services) }
}

fn aws(status: &Status) -> api::AwsStatus {
    let denied = status.denied.iter().map(|(action, denied)| api::AwsDenied {
        action: (*action).to_owned(),
        since: convert::time(denied.since_ms),
        without: denied.without.to_owned(),
        message: denied.message.clone(),
    });
    api::AwsStatus {
        clusters: status.clusters.iter().map(|(label, cluster)| aws_cluster(label, cluster)).collect(),
        denied: denied.collect(),
        calls_last_minute: status.calls_last_minute,
        calls_per_minute_max: status.calls_per_minute_max,
        queue: status.queue.as_ref().map(aws_queue),
    }
}

fn aws_cluster(label: &Label, cluster: &ClusterStatus) -> api::AwsCluster {
    api::AwsCluster {
        cluster: label.to_string(),
        arn: cluster.arn.clone(),
        listed: cluster.listed_ms.map(convert::time),
        calls: cluster.calls,
        tasks: count(cluster.tasks),
        missing: count(cluster.missing),
        instances: count(cluster.instances),
        error: cluster.error.as_ref().map(aws_error),
    }
}

fn aws_queue(queue: &QueueStatus) -> api::AwsQueue {
    let parked = queue.parked.iter().map(|message| api::ParkedMessage {
        message_id: message.message_id.clone(),
        at: convert::time(message.at_ms),
        reason: message.reason.clone(),
        beginning: message.beginning.clone(),
    });
    api::AwsQueue {
        answered: queue.answered_ms.map(convert::time),
        applied: queue.applied,
        error: queue.error.as_ref().map(aws_error),
        parked_total: queue.parked_total,
        parked: parked.collect(),
    }
}

fn aws_error((at_ms, message): &(u64, String)) -> api::AwsError {
    api::AwsError { at: convert::time(*at_ms), message: message.clone() }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::ecs::status::{Denied, Parked};

    #[test]
    fn shows_how_it_stands_with_aws() {
        let cluster = ClusterStatus {
            listed_ms: Some(1_767_323_045_000),
            calls: 8,
            tasks: 12,
            missing: 1,
            instances: 2,
            error: Some((1_767_323_046_000, "ecs:ListServices is throttled".to_owned())),
            ..ClusterStatus::default()
        };
        let denied = Denied { since_ms: 1_767_323_045_000, message: "no".to_owned(), without: "less is known" };
        let parked = Parked {
            message_id: "a".to_owned(),
            at_ms: 1_767_323_045_000,
            reason: "it is no event".to_owned(),
            beginning: "{".to_owned(),
        };
        let status = Status {
            clusters: [(Label::fixed("prod"), cluster)].into(),
            denied: [("ecs:ListTasks", denied)].into(),
            calls_last_minute: 3,
            calls_per_minute_max: 120,
            queue: Some(QueueStatus { applied: 5, parked_total: 1, parked: vec![parked], ..QueueStatus::default() }),
        };
        let then = "2026-01-02T03:04:05.000Z";
        let expected = json!({
            "clusters": [{"cluster": "prod", "arn": null, "listed": then, "calls": 8, "tasks": 12, "missing": 1,
                "instances": 2,
                "error": {"at": "2026-01-02T03:04:06.000Z", "message": "ecs:ListServices is throttled"}}],
            "denied": [{"action": "ecs:ListTasks", "since": then, "without": "less is known", "message": "no"}],
            "calls_last_minute": 3, "calls_per_minute_max": 120,
            "queue": {"answered": null, "applied": 5, "error": null, "parked_total": 1, "parked":
                [{"message_id": "a", "at": then, "reason": "it is no event", "beginning": "{"}]},
        });
        assert_eq!(serde_json::to_value(aws(&status)).unwrap(), expected);
    }
}
