//! Stale answers (RFC 8767) and failures that are remembered (RFC 9520). Time is virtual.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use portolan_runtime::jobs::Jobs;

use crate::served::{by_udp, query};
use crate::started::Started;
use crate::upstream::{Upstream, answered, behind, extended, failed, missing, ttl, with_edns};

/// What an upstream does at the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Answers,
    AnswersForNow,
    Misses,
    Fails,
    IsSilent,
}

/// A server and its upstream, whose mood may change.
struct Site {
    server: Started,
    upstream: Upstream,
    mood: Arc<AtomicUsize>,
}

const MOODS: [Mood; 5] = [Mood::Answers, Mood::AnswersForNow, Mood::Misses, Mood::Fails, Mood::IsSilent];

impl Site {
    async fn start() -> Site {
        let mood = Arc::<AtomicUsize>::default();
        let at = mood.clone();
        let upstream = Upstream::start(&Jobs::new(), move |_, asked| match MOODS[at.load(Ordering::SeqCst)] {
            Mood::Answers => Some(answered(asked, 60)),
            Mood::AnswersForNow => Some(answered(asked, 0)),
            Mood::Misses => Some(missing(asked)),
            Mood::Fails => Some(failed(asked, ResponseCode::ServFail)),
            Mood::IsSilent => None,
        })
        .await;
        Site { server: behind(&[upstream.address]).await, upstream, mood }
    }

    fn set(&self, mood: Mood) {
        let at = MOODS.iter().position(|other| *other == mood).unwrap();
        self.mood.store(at, Ordering::SeqCst);
    }

    /// The reply, and after how many milliseconds.
    async fn ask(&self, name: &str) -> (Message, u128) {
        let started = tokio::time::Instant::now();
        let reply = by_udp(&self.server, &with_edns(query(name, "A"))).await;
        (reply, started.elapsed().as_millis())
    }
}

const NAME: &str = "db.example.com.";
const OTHER: &str = "other.example.com.";

async fn pass(seconds: u64) {
    // Not `advance`: what is due on the way has to happen on the way.
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn a_stale_answer_waits_for_the_upstream_once_and_is_checked_again_after_half_a_minute() {
    let site = Site::start().await;
    site.ask(NAME).await;
    pass(61).await;
    site.set(Mood::IsSilent);
    let (reply, waited) = site.ask(NAME).await;
    assert_eq!((ttl(&reply), extended(&reply)), (30, Some(3)));
    assert!((1_700..2_000).contains(&waited), "{waited}");
    // The flight goes on; who comes now does not wait for it from the start.
    let (reply, waited) = site.ask(NAME).await;
    assert!(ttl(&reply) == 30 && waited < 100, "{waited}");
    pass(5).await;
    let asked = site.upstream.asked();
    site.ask(NAME).await;
    pass(24).await;
    let (reply, waited) = site.ask(NAME).await;
    assert!(ttl(&reply) == 30 && waited < 100, "{waited}");
    assert_eq!(site.upstream.asked(), asked, "RFC 8767 section 5: not before half a minute");
    site.set(Mood::Answers);
    pass(10).await;
    // Nobody waits for one that was silent; but it is asked, and the next one sees what it said.
    assert_eq!(ttl(&site.ask(NAME).await.0), 30);
    pass(1).await;
    assert_eq!(ttl(&site.ask(NAME).await.0), 59);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_upstreams_that_are_known_to_be_silent() {
    let site = Site::start().await;
    for name in [NAME, OTHER] {
        site.ask(name).await;
    }
    pass(61).await;
    site.set(Mood::IsSilent);
    site.ask(NAME).await;
    pass(5).await;
    let (reply, waited) = site.ask(OTHER).await;
    assert!(ttl(&reply) == 30 && waited < 100, "{waited}");
    // And it is asked all the same: that is how its return is noticed, for all names.
    pass(5).await;
    site.set(Mood::Answers);
    assert_eq!(site.ask("third.example.com.").await.0.answers.len(), 1);
    pass(1).await;
    assert_eq!(ttl(&site.ask(OTHER).await.0), 60, "half a minute is not waited for then");
}

#[tokio::test(start_paused = true)]
async fn a_stale_answer_comes_at_once_when_the_upstream_says_that_it_fails() {
    let site = Site::start().await;
    site.ask(NAME).await;
    pass(61).await;
    site.set(Mood::Fails);
    let (reply, waited) = site.ask(NAME).await;
    assert_eq!((reply.metadata.response_code, ttl(&reply), extended(&reply)), (ResponseCode::NoError, 30, Some(3)));
    assert!(waited < 100, "{waited}");
}

#[tokio::test(start_paused = true)]
async fn a_stale_absence_says_that_it_is_one() {
    let site = Site::start().await;
    site.set(Mood::Misses);
    site.ask(NAME).await;
    pass(8).await;
    site.set(Mood::Fails);
    let (reply, _) = site.ask(NAME).await;
    assert_eq!((reply.metadata.response_code, extended(&reply)), (ResponseCode::NXDomain, Some(19)));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_may_not_be_kept_ends_the_one_before() {
    let site = Site::start().await;
    site.ask(NAME).await;
    pass(61).await;
    site.set(Mood::AnswersForNow);
    assert_eq!(ttl(&site.ask(NAME).await.0), 0);
    site.set(Mood::Fails);
    let (reply, _) = site.ask(NAME).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail, "what was true before is not true now");
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_asked_again_after_one_second_then_two_then_four() {
    let site = Site::start().await;
    site.set(Mood::Fails);
    for hold in [1, 2, 4, 8, 16, 30] {
        let before = site.upstream.asked();
        assert_eq!(extended(&site.ask(NAME).await.0), Some(22));
        tokio::time::advance(Duration::from_millis(1000 * hold - 100)).await;
        let (reply, waited) = site.ask(NAME).await;
        assert_eq!((reply.metadata.response_code, extended(&reply)), (ResponseCode::ServFail, Some(13)));
        assert!(waited < 100 && site.upstream.asked() == before + 1, "{waited}");
        tokio::time::advance(Duration::from_millis(200)).await;
    }
    site.set(Mood::Answers);
    assert_eq!(site.ask(NAME).await.0.answers.len(), 1);
}
