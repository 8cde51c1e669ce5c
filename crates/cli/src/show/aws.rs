//! How the registry stands with AWS, a line for each thing that a person may have to mend.

use jiff::Timestamp;
use portolan_registry::http::api::{AwsCluster, AwsError, AwsStatus};

use super::{Cell, Tone, age};

/// How it stands with AWS: each cluster, the queue, and what is denied.
pub(super) fn lines(aws: &AwsStatus, now: Timestamp) -> Vec<Cell> {
    let mut lines = Vec::new();
    // What is denied has a line of its own.
    let with = |text: String, error: &AwsError| {
        let is_denied =
            aws.denied.iter().any(|denied| error.message.starts_with(&format!("{} is denied", denied.action)));
        Cell::toned(if is_denied { text } else { format!("{text}; {}", error.message) }, Tone::Doubtful)
    };
    for cluster in &aws.clusters {
        let AwsCluster { cluster: name, tasks, missing, .. } = cluster;
        let listed = match &cluster.listed {
            Some(at) => format!("listed in full {} ago", age(Some(at), now)),
            None => "not listed yet".to_owned(),
        };
        let text = format!("cluster {name}: {tasks} tasks, {missing} missing, {listed}");
        lines.push(match &cluster.error {
            Some(error) => with(text, error),
            None => text.into(),
        });
    }
    if let Some(queue) = &aws.queue {
        let text = format!("queue: {} messages applied, {} given up", queue.applied, queue.parked_total);
        lines.push(match &queue.error {
            Some(error) => with(text, error),
            None => text.into(),
        });
    }
    lines.push(format!("{} of {} calls in the last minute", aws.calls_last_minute, aws.calls_per_minute_max).into());
    let denied = aws.denied.iter().map(|denied| format!("{} is denied: {}", denied.action, denied.without));
    lines.extend(denied.map(|text| Cell::toned(text, Tone::Doubtful)));
    lines
}
