//! Services as the registry tells them, look by look, and what is thought of them.

use serde_json::{Value, json};

use super::*;

/// A port of a task: task, port, state.
fn candidate(task: &str, port: u16, state: &str) -> Value {
    json!({"node": "n1", "node_cluster": "prod", "container": "app", "container_id": format!("c-{task}"),
        "started_at": "2026-01-02T03:00:00Z", "task_id": task, "container_port": port, "protocol": "tcp",
        "address": "10.0.0.5", "port": port, "state": state, "is_answered": true, "rule": "", "rule_text": "",
        "named_by": "", "witnesses": [], "ended": null, "is_refused": false, "refused": []})
}

fn ended(task: Value, exit_code: i64, at: &str) -> Value {
    let mut run = candidate("-", 1, "gone");
    run["task_id"] = task;
    run["container_id"] = json!(format!("c-{at}"));
    run["ended"] = json!({"at": at, "exit_code": exit_code, "is_out_of_memory": exit_code == 137});
    run
}

fn stopped(task: &str, at: &str) -> Value {
    json!({"task_id": task, "family": "web", "at": at, "code": "EssentialContainerExited", "reason": "it ended",
        "containers": [{"name": "app", "exit_code": 1, "reason": null}]})
}

fn deployment(id: &str, rollout_state: &str) -> Value {
    json!({"id": id, "status": "PRIMARY", "rollout_state": rollout_state, "reason": "r", "task_definition": "web:7",
        "desired": 2, "running": 0, "failed": 3})
}

fn explanation(more: Value) -> Explanation {
    let mut all = json!({"name": "web.prod.ecs.internal.", "cluster": "prod", "service": "web", "index": 7,
        "readiness": "current", "link": null, "candidates": [], "refused": [], "stopped": []});
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(all).unwrap()
}

fn ecs(desired: u32, deployments: Vec<Value>) -> Value {
    json!({"name": "web", "desired": desired, "running": 0, "pending": 0, "deployments": deployments})
}

fn judge(said: Option<u32>) -> Judge {
    Judge::new(&Key { cluster: "prod".into(), service: "web".into() }, said)
}

const NOW: Duration = Duration::ZERO;

#[test]
fn a_task_is_usable_with_every_port() {
    let candidates = json!([
        candidate("t1", 80, "usable"),
        candidate("t1", 81, "starting"),
        candidate("t2", 80, "usable"),
        candidate("t2", 81, "usable"),
        candidate("t3", 80, "draining"),
        candidate("t4", 80, "gone"),
        ended(json!("t5"), 0, "x"),
    ]);
    let service = explanation(json!({ "candidates": candidates }));
    let mut one = judge(Some(1));
    assert_eq!(one.look(&service, NOW), Some(Waited::Usable));
    assert_eq!(one.progress(Duration::from_secs(90)), "web.prod: 1 of 1 usable, 1 draining, 1 starting; 1m30s left");
    let mut two = judge(Some(2));
    assert_eq!(two.look(&service, NOW), None);
    let mut refused = candidate("t9", 80, "usable");
    refused["is_refused"] = json!(true);
    assert_eq!(judge(Some(1)).look(&explanation(json!({ "candidates": [refused] })), NOW), None);
}

#[test]
fn without_a_number_ecs_says_how_many() {
    let one = json!([candidate("t1", 80, "usable")]);
    let row = |has_ecs: bool, ecs: Value| explanation(json!({ "candidates": one, "has_ecs": has_ecs, "ecs": ecs }));
    assert_eq!(judge(None).look(&row(false, Value::Null), NOW), Some(Waited::Usable), "one, where there is no ECS");
    let mut untold = judge(None);
    assert_eq!(untold.look(&row(true, Value::Null), NOW), None, "ECS has not told yet");
    assert!(untold.progress(NOW).contains("ECS has not told"));
    assert_eq!(judge(None).look(&row(true, ecs(2, vec![])), NOW), None);
    assert_eq!(judge(None).look(&row(true, ecs(1, vec![])), NOW), Some(Waited::Usable));
    assert_eq!(judge(None).look(&explanation(json!({ "ecs": ecs(0, vec![]) })), NOW), Some(Waited::Usable));
    assert_eq!(judge(None).look_at_nothing(), None);
    assert_eq!(judge(Some(0)).look_at_nothing(), Some(Waited::Usable));
}

#[test]
fn a_failure_tells_what_stopped_meanwhile() {
    let mut judge = judge(None);
    let first = json!({ "has_ecs": true, "ecs": ecs(2, vec![deployment("d1", "IN_PROGRESS")]),
        "stopped": [stopped("old", "2026-01-01T00:00:00Z")], "candidates": [ended(json!("old"), 2, "2026-01-01T00:00:00Z")] });
    assert_eq!(judge.look(&explanation(first), NOW), None);
    let second = json!({ "has_ecs": true, "ecs": ecs(2, vec![deployment("d1", "IN_PROGRESS")]),
        "candidates": [ended(json!("t1"), 1, "2026-01-02T00:00:01Z"), ended(Value::Null, 137, "2026-01-02T00:00:02Z")] });
    assert_eq!(judge.look(&explanation(second), NOW), None);
    // What ended is forgotten by then, and the task of one run is told by ECS.
    let third = json!({ "has_ecs": true, "ecs": ecs(2, vec![deployment("d1", "FAILED")]),
        "stopped": [stopped("t1", "2026-01-02T00:00:03Z"), stopped("old", "2026-01-01T00:00:00Z")] });
    assert_eq!(judge.look(&explanation(third), NOW), Some(Waited::Failed));
    let outcome = judge.outcome(Waited::Failed, Duration::from_secs(9));
    assert_eq!(outcome.stopped.iter().map(|task| task.task_id.as_str()).collect::<Vec<_>>(), ["t1"]);
    assert_eq!(outcome.ended.iter().map(|run| run.exit_code).collect::<Vec<_>>(), [Some(137)]);
    assert_eq!(outcome.deployment.map(|deployment| deployment.id), Some("d1".to_owned()));
}

#[test]
fn a_deployment_that_is_rolled_back_has_failed() {
    let mut judge = judge(Some(1));
    let row = |deployments: Vec<Value>| explanation(json!({ "ecs": ecs(1, deployments) }));
    let older = deployment("d0", "FAILED");
    assert_eq!(
        judge.look(&row(vec![deployment("d1", "IN_PROGRESS"), older.clone()]), NOW),
        None,
        "that one is history"
    );
    let rolled_back = vec![deployment("d2", "IN_PROGRESS"), deployment("d1", "FAILED"), older];
    assert_eq!(judge.look(&row(rolled_back), NOW), Some(Waited::Failed));
}

#[test]
fn a_deployment_that_had_failed_may_be_replaced() {
    let row = |deployments: Vec<Value>| {
        let all = json!({ "ecs": ecs(1, deployments), "stopped": [stopped("old", "2026-01-01T00:00:00Z")],
            "candidates": [candidate("t1", 80, "usable")] });
        explanation(all)
    };
    let mut replaced = judge(None);
    assert_eq!(replaced.look(&row(vec![deployment("d1", "FAILED")]), NOW), None, "what is usable is of another one");
    let anew = row(vec![deployment("d2", "IN_PROGRESS"), deployment("d1", "FAILED")]);
    assert_eq!(replaced.look(&anew, NOW), Some(Waited::Usable));

    let mut stays = judge(None);
    assert_eq!(stays.look(&row(vec![deployment("d1", "FAILED")]), NOW), None);
    assert_eq!(stays.look(&row(vec![deployment("d1", "FAILED")]), REPLACED_WITHIN), Some(Waited::Failed));
    assert_eq!(stays.outcome(Waited::Failed, NOW).stopped.len(), 1, "what stopped before is why");

    let mut hurried = judge(None);
    assert_eq!(hurried.look(&row(vec![deployment("d1", "FAILED")]), NOW), None);
    assert_eq!(hurried.outcome(Waited::Timeout, NOW).outcome, Waited::Failed);
}

#[test]
fn who_comes_too_late_is_told_what_ended_before() {
    let died = ended(Value::Null, 78, "2026-01-02T00:00:01Z");
    let row = |more: Vec<Value>| {
        let candidates = [vec![died.clone()], more].concat();
        explanation(json!({ "candidates": candidates }))
    };
    let codes = |outcome: Outcome| outcome.ended.iter().map(|run| run.exit_code).collect::<Vec<_>>();
    let late = || {
        let mut judge = judge(Some(1));
        assert_eq!(judge.look(&row(vec![]), NOW), None);
        judge
    };
    assert_eq!(codes(late().outcome(Waited::Timeout, NOW)), [Some(78)]);
    let mut newer = late();
    assert_eq!(newer.look(&row(vec![ended(Value::Null, 3, "2026-01-02T00:00:02Z")]), NOW), None);
    assert_eq!(codes(newer.outcome(Waited::Timeout, NOW)), [Some(3)], "what ended meanwhile says more");
    let mut usable = late();
    assert_eq!(usable.look(&row(vec![candidate("t1", 80, "usable")]), NOW), Some(Waited::Usable));
    assert_eq!(codes(usable.outcome(Waited::Usable, NOW)), []);
}
