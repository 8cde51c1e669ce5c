//! `portolan wait`: follows a service until as many of its tasks are usable, or it is plain that they will not be.

mod judge;

use std::io::Write;
use std::time::Duration;

use portolan_registry::http::api::Explanation;
use tokio::time::{Instant, sleep, timeout_at};

pub(crate) use judge::{EndedRun, Outcome, Waited, others};

use super::{Asker, Failure, Key, Verdict, failed};
use crate::arguments::WaitArguments;
use crate::client::{Answer, ClientError, Question, escaped};
use crate::locate::Registry;
use crate::show::{self, Progress, Screen, safe};
use judge::Judge;

/// How long one question waits at the registry for news.
const QUESTION_WAIT: Duration = Duration::from_secs(30);
/// How long its answer may take beyond that.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// The pause after a registry that could not be reached, and between answers without an index.
const PAUSE: Duration = Duration::from_secs(1);

/// What one question brought.
enum News {
    /// The service is known, and stands like this.
    Known(Box<Explanation>),
    /// There is no such service yet.
    Unknown,
}

/// How long the person waits.
#[derive(Debug, Clone, Copy)]
struct Patience {
    began: Instant,
    timeout: Duration,
}

impl Patience {
    fn until(self) -> Instant {
        self.began + self.timeout
    }

    fn left(self) -> Duration {
        self.until().saturating_duration_since(Instant::now())
    }
}

impl Asker<'_> {
    /// Waits as long as the person has patience.
    pub(super) async fn wait<W: Write>(
        &self,
        wanted: &WaitArguments,
        screen: &mut Screen<W>,
    ) -> Result<Verdict, Failure> {
        let patience = Patience { began: Instant::now(), timeout: wanted.timeout };
        let registry = self.registry().await?;
        let key = self.awaited(&registry, &wanted.service).await?;
        let mut judge = Judge::new(&key, wanted.usable);
        let mut progress = Progress::new();
        let watched = self.follow((&registry, &key), &mut judge, (patience, &mut progress)).await;
        progress.end();
        let outcome = judge.outcome(watched?, patience.began.elapsed());
        if self.is_json() {
            screen.json(&serde_json::to_vec(&outcome).map_err(std::io::Error::other)?)?
        } else {
            show::waited(screen, &outcome)?
        }
        Ok(if outcome.outcome == Waited::Usable { Verdict::Done } else { Verdict::NotSo })
    }

    /// The service to wait for. With its cluster it need not be there yet.
    async fn awaited(&self, registry: &Registry, name: &str) -> Result<Key, Failure> {
        self.key(registry, name, None).await.map_err(|failure| match failure {
            Failure::Answered { text } => {
                Failure::Answered { text: format!("{text}; to wait for one that is not there yet, name its cluster") }
            }
            other => other,
        })
    }

    async fn follow(
        &self,
        (registry, key): (&Registry, &Key),
        judge: &mut Judge,
        (patience, progress): (Patience, &mut Progress),
    ) -> Result<Waited, Failure> {
        let mut index = None;
        loop {
            // The first look is taken however short the patience is.
            let until = if judge.has_looked() { patience.until() } else { Instant::now() + ANSWER_WITHIN };
            match timeout_at(until, self.news((registry, key), index, patience.left())).await {
                Err(_) => return Ok(Waited::Timeout),
                Ok(Ok((news, next))) => {
                    let settled = match news {
                        News::Known(explanation) => judge.look(&explanation, patience.began.elapsed()),
                        News::Unknown => judge.look_at_nothing(),
                    };
                    if let Some(settled) = settled {
                        return Ok(settled);
                    }
                    if next.is_none() {
                        sleep(PAUSE).await;
                    }
                    index = next;
                }
                // Only once it was reached: an address that is wrong will not become right by waiting.
                Ok(Err(error)) if judge.has_looked() && is_passing(&error) => {
                    progress.show(&show::chain(&error));
                    index = None;
                    sleep(PAUSE).await;
                    continue;
                }
                Ok(Err(error)) => return Err(failed(registry, error)),
            }
            progress.show(&judge.progress(patience.left()));
        }
    }

    /// How the service stands, once that is past `index`; and the index of that.
    async fn news(
        &self,
        (registry, key): (&Registry, &Key),
        index: Option<u64>,
        left: Duration,
    ) -> Result<(News, Option<u64>), ClientError> {
        let name = format!("{}.{}", key.service, key.cluster);
        let wait_ms = left.min(QUESTION_WAIT).as_millis();
        let path = match index {
            Some(index) => format!("/api/explain/{}?index={index}&wait={wait_ms}ms", escaped(&name)),
            None => format!("/api/explain/{}", escaped(&name)),
        };
        let question = Question::get(&path).within(QUESTION_WAIT + ANSWER_WITHIN);
        match self.client.ask(&registry.server, question).await {
            Ok(Answer { value, index, .. }) => Ok((News::Known(value), index)),
            Err(ClientError::Refused { status, index, .. }) if status.as_u16() == 404 => Ok((News::Unknown, index)),
            Err(error) => Err(error),
        }
    }
}

/// Whether it may be over in a moment: the registry is being restarted, or is loading.
fn is_passing(error: &ClientError) -> bool {
    match error {
        ClientError::Connect { .. } | ClientError::Timeout { .. } | ClientError::Body { .. } => true,
        ClientError::Refused { status, .. } => status.is_server_error(),
        ClientError::NotHttp { .. } | ClientError::Shape { .. } | ClientError::Path { .. } => false,
    }
}

/// A service as people read it.
fn name(key: &Key) -> String {
    safe(&format!("{}.{}", key.service, key.cluster))
}
