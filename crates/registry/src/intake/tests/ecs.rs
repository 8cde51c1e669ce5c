//! The jobs that act on what ECS says, all together.

use portolan_core::ecs::{EcsReport, InstanceStatus, Task};

use super::*;
use crate::intake::statement::Statement;
use crate::testing::ecs::{cluster, fargate, instance, of_task, task};
use crate::testing::label;

impl Registry {
    async fn state(&self, statement: Statement) {
        self.intake.state(vec![statement], self.clock.now().unix_ms).await.unwrap();
    }

    /// ECS is a witness, and says this.
    async fn ecs(&self, name: &str, report: Box<EcsReport>) {
        self.state(Statement::Cluster(label("prod"), Some(cluster()))).await;
        self.state(Statement::Ecs(node(name), Some(report))).await;
    }

    /// Keeps a session alive.
    fn keep_alive(&self, session: Session) {
        let (intake, clock) = (self.intake.clone(), self.clock);
        self.jobs.start("heartbeats", async move {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                assert_eq!(intake.heard(&session, clock.now()), Standing::Live);
            }
        });
    }

    fn since_ms(&self, started_ms: u64) -> u64 {
        self.clock.now().unix_ms - started_ms
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_that_ecs_does_not_tell_of_has_its_familys_name_after_five_seconds() {
    let mut registry = Registry::start(memory()).await;
    registry.ecs("i-9", instance("i-9", InstanceStatus::Active, vec![])).await;
    let session = registry.open("i-1", "boot").await.unwrap();
    registry.keep_alive(session.clone());
    let started_ms = registry.clock.now().unix_ms;
    registry.send(&session, 1, report("i-1", vec![of_task("a", "web", "01")])).await.unwrap();
    registry.eventually(&["usable"]).await;
    let waited_ms = registry.since_ms(started_ms);
    assert!((5_000..5_100).contains(&waited_ms), "{waited_ms} ms");
    // With what ECS knows it need not wait.
    registry.ecs("i-1", instance("i-1", InstanceStatus::Active, vec![task("02", "other", Some("web"))])).await;
    let started_ms = registry.clock.now().unix_ms;
    let both = vec![of_task("a", "web", "01"), of_task("b", "other", "02")];
    registry.send(&session, 2, report("i-1", both)).await.unwrap();
    registry.catalog.wait_for(|catalog| catalog.stated.names.len() == 2).await.unwrap();
    assert_eq!(registry.since_ms(started_ms), 0);
}

#[tokio::test(start_paused = true)]
async fn ecs_alone_counts_a_minute_after_an_instance_came_without_a_sidecar() {
    let mut registry = Registry::start(memory()).await;
    let started_ms = registry.clock.now().unix_ms;
    registry.ecs("i-1", instance("i-1", InstanceStatus::Active, vec![task("01", "web", Some("web"))])).await;
    registry.eventually(&["usable"]).await;
    let waited_ms = registry.since_ms(started_ms);
    assert!((60_000..62_000).contains(&waited_ms), "{waited_ms} ms");
    let session = registry.open("i-1", "boot").await.unwrap();
    registry.keep_alive(session.clone());
    registry.send(&session, 1, report("i-1", vec![])).await.unwrap();
    registry.eventually(&[]).await;
    registry.catalog.wait_for(|catalog| catalog.stated.alone.is_empty()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn missing_tasks_go_as_far_as_limits_allow_and_come_back() {
    let mut registry = Registry::start(memory()).await;
    let say = async |registry: &Registry, missing: usize| {
        let one = |i: usize| Task { is_missing: i < missing, ..task(&format!("{i:02}"), "web", Some("web")) };
        registry.ecs("part", fargate((0..14).map(one).collect())).await;
    };
    say(&registry, 0).await;
    registry.eventually(&["usable"; 14]).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    say(&registry, 3).await;
    registry.catalog.wait_for(|catalog| catalog.frozen().endpoints == 3).await.unwrap();
    let started_ms = registry.clock.now().unix_ms;
    let expected: Vec<&str> = ["unverified"].into_iter().chain(["usable"; 11]).collect();
    registry.eventually(&expected).await;
    assert!(registry.since_ms(started_ms) <= 2_000, "two of fourteen");
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(registry.catalog.load().frozen().endpoints, 1);
    registry.eventually(&["usable"; 11]).await;
    say(&registry, 0).await;
    registry.eventually(&["usable"; 14]).await;
    registry.stop().await;
}
