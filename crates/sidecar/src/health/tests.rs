use super::*;

fn checks() -> (Checks, mpsc::Receiver<Input>) {
    let (inputs, received) = mpsc::channel(16);
    (Checks::new(Jobs::new(), inputs), received)
}

fn key() -> PortKey {
    PortKey { id: "c".into(), run: Run(1), container_port: 80, protocol: Protocol::Tcp }
}

fn plan(method: Method) -> Vec<Plan> {
    vec![Plan { key: key(), method, interval: INTERVAL }]
}

async fn next(received: &mut mpsc::Receiver<Input>) -> Checked {
    match received.recv().await {
        Some(Input::Checked(checked)) => checked,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_needs_no_probe_is_known_at_once() {
    let (mut checks, _received) = checks();
    let mut check = |method: Method, expected: Health| {
        checks.keep(plan(method.clone()));
        assert_eq!(checks.health(&key()), expected, "{method:?}");
        assert!(checks.are_all_observed());
    };
    check(Method::Always, Health::Passing);
    check(Method::Docker(DockerHealth::Starting), Health::Starting);
    check(Method::Docker(DockerHealth::Healthy), Health::Passing);
    check(Method::Docker(DockerHealth::Unhealthy), Health::Failing);
}

/// Time is paused: the waits between checks pass by themselves as soon as nothing else happens.
#[tokio::test(start_paused = true)]
async fn a_port_starts_passes_fails_after_three_failures_and_recovers() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let (mut checks, mut received) = checks();
    checks.keep(plan(Method::Tcp(address)));
    assert!(!checks.are_all_observed());
    let first = next(&mut received).await;
    assert_eq!(first.health, Health::Starting);
    checks.take(first);
    assert!(checks.are_all_observed());
    for round in 0..2 {
        let listener = std::net::TcpListener::bind(address).unwrap();
        let passed = next(&mut received).await;
        assert_eq!(passed.health, Health::Passing, "round {round}");
        drop(listener);
        let began = tokio::time::Instant::now();
        assert_eq!(next(&mut received).await.health, Health::Failing, "round {round}");
        assert!(began.elapsed() >= INTERVAL * 2, "three failures take at least two intervals: {:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_check_of_a_container_that_ended_stops_and_what_it_still_said_is_void() {
    let (mut checks, mut received) = checks();
    checks.keep(plan(Method::Tcp("127.0.0.1:9".parse().unwrap())));
    let late = next(&mut received).await;
    checks.keep(Vec::new());
    checks.take(late);
    assert_eq!(checks.health(&key()), Health::Starting);
    assert!(checks.ports.is_empty());
    drop(checks);
    assert!(received.recv().await.is_none(), "the check has ended and gave its sender back");
}

#[tokio::test(start_paused = true)]
async fn a_port_that_stays_keeps_its_health() {
    let own = i32::try_from(std::process::id()).unwrap();
    let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let key = PortKey { container_port: listener.local_addr().unwrap().port(), ..key() };
    let plans = || vec![Plan { key: key.clone(), method: Method::Listening { pid: own }, interval: INTERVAL }];
    let (mut checks, mut received) = checks();
    checks.keep(plans());
    let checked = next(&mut received).await;
    checks.take(checked);
    drop(listener);
    checks.keep(plans());
    assert_eq!(checks.health(&key), Health::Passing, "it passes until its run ends");
    assert!(received.try_recv().is_err());
}
