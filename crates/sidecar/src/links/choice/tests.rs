use super::*;

fn target(port: u16, rank: Rank, nearness: Nearness) -> Target {
    Target { rank, nearness, address: SocketAddr::from(([10, 0, 0, 1], port)) }
}

fn ports(targets: &[Target], failures: &Failures) -> Vec<u16> {
    order(targets, failures, Instant::now()).iter().map(SocketAddr::port).collect()
}

#[tokio::test(start_paused = true)]
async fn better_ranks_come_first_then_nearer_ones_and_failed_ones_last_of_all() {
    let targets = [
        target(1, Rank::Usable, Nearness::Near),
        target(2, Rank::Usable, Nearness::Far),
        target(3, Rank::Unverified, Nearness::Near),
        target(4, Rank::Draining, Nearness::Near),
        target(5, Rank::Unusable, Nearness::Near),
    ];
    let failures = Failures::default();
    assert_eq!(ports(&targets, &failures), [1, 2, 3, 4, 5]);
    failures.note(targets[0].address, Instant::now());
    assert_eq!(ports(&targets, &failures), [2, 3, 4, 5, 1]);
    tokio::time::advance(FAILURE_MEMORY).await;
    assert_eq!(ports(&targets, &failures), [1, 2, 3, 4, 5]);
    failures.note(targets[0].address, Instant::now());
    failures.forget(targets[0].address);
    assert_eq!(ports(&targets, &failures), [1, 2, 3, 4, 5]);
}

#[test]
fn equals_take_turns() {
    let targets: Vec<Target> = (1..=4).map(|port| target(port, Rank::Usable, Nearness::Near)).collect();
    let mut firsts = [0; 5];
    for _ in 0..400 {
        firsts[usize::from(ports(&targets, &Failures::default())[0])] += 1;
    }
    // 100 each on average; below 50 has a chance of less than one in a hundred million.
    assert!(firsts[1..].iter().all(|count| *count > 50), "{firsts:?}");
}

#[tokio::test(start_paused = true)]
async fn failures_are_bounded_and_old_ones_make_room() {
    let failures = Failures::default();
    let address = |index: usize| SocketAddr::from(([10, 1, (index / 256) as u8, (index % 256) as u8], 80));
    for index in 0..2 * FAILURES_MAX {
        failures.note(address(index), Instant::now());
    }
    assert_eq!(failures.lock().len(), FAILURES_MAX);
    tokio::time::advance(FAILURE_MEMORY).await;
    failures.note(address(2 * FAILURES_MAX), Instant::now());
    assert_eq!(failures.lock().len(), 1);
}
