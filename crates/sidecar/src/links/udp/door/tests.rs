use std::net::SocketAddr;

use super::*;
use crate::links::choice::Nearness;
use crate::links::choice::tests::experience_at;

fn target(port: u16, rank: Rank) -> Target {
    let endpoint = experience_at(SocketAddr::from(([10, 0, 0, 1], port)));
    Target { rank, nearness: Nearness::Far, weight: 1, endpoint }
}

#[tokio::test]
async fn a_session_leaves_an_endpoint_that_is_gone_or_fails_beside_better_ones() {
    use Rank::{Draining, DrainingUnusable, Unusable, Unverified, Usable};
    let check = |own: Rank, other: Rank, expected: bool| {
        let targets = [target(1, own), target(2, other)];
        assert_eq!(may_stay(&targets[0].endpoint, &targets), expected, "{own:?} beside {other:?}");
    };
    for own in [Usable, Unverified, Draining] {
        for other in [Usable, Unverified, Draining, Unusable, DrainingUnusable] {
            check(own, other, true);
        }
    }
    for own in [Unusable, DrainingUnusable] {
        for (other, expected) in [(Usable, false), (Unverified, false), (Draining, false), (Unusable, true)] {
            check(own, other, expected);
        }
    }
    let gone = target(3, Usable);
    assert!(!may_stay(&gone.endpoint, &[target(1, Usable)]));
    assert!(!may_stay(&gone.endpoint, &[target(3, Usable)]), "another run at the same address");
}
