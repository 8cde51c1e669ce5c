//! What a call brings: the world, with the faults in between. Both the server and the calls in process answer from here.

mod ecs;
mod lens;
mod machines;
mod messages;

use std::time::Duration;

use serde_json::Value;

pub use ecs::{Filter, MAX_DESCRIBED};
pub use lens::Asked;
pub use messages::Delete;

use super::State;
use super::calls::{Call, Outcome};
use super::misbehaviour::Fault;

/// Why a call brings nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The rate is used up.
    #[error("Rate exceeded")]
    Throttled,
    /// The right is missing.
    #[error("{0}")]
    Denied(String),
    /// The credentials have expired.
    #[error("The security token included in the request is expired")]
    Expired,
    /// What it is about is not there.
    #[error("{message}")]
    NotFound {
        /// As AWS names it.
        code: &'static str,
        /// As AWS says it.
        message: String,
    },
    /// It asks for what cannot be.
    #[error("{message}")]
    Invalid {
        /// As AWS names it.
        code: &'static str,
        /// As AWS says it.
        message: String,
    },
    /// The server fails.
    #[error("Service Unavailable. Please try again later.")]
    Broken,
    /// The connection is closed.
    #[error("connection closed before the answer")]
    Unreachable,
    /// No answer comes.
    #[error("no answer")]
    Silent,
}

/// How a call ends.
#[derive(Debug)]
pub struct Verdict<T> {
    /// The answer comes so much later.
    pub delay: Duration,
    /// Its body takes so long to come.
    pub spread: Duration,
    /// Its body ends early.
    pub is_cut: bool,
    /// The answer.
    pub result: Result<T, Refusal>,
}

impl State {
    /// One call: `work` is what it does when nothing hinders it.
    pub fn judge<T>(
        &mut self,
        action: &'static str,
        work: impl FnOnce(&mut State) -> Result<T, Refusal>,
    ) -> Verdict<T> {
        let now_ms = self.world.now_ms();
        let result = self.hindrance(action).map_or_else(|| work(self), Err);
        let outcome = match &result {
            Ok(_) => Outcome::Answered,
            Err(Refusal::Throttled) => Outcome::Throttled,
            Err(Refusal::Broken | Refusal::Unreachable | Refusal::Silent) => Outcome::Failed,
            Err(Refusal::Denied(_) | Refusal::Expired | Refusal::NotFound { .. } | Refusal::Invalid { .. }) => {
                Outcome::Refused
            }
        };
        self.calls.add(Call { at_ms: now_ms, action, outcome });
        let slow_max = self.misbehaviour.slow_max;
        let is_slow = self.misbehaviour.strikes(Fault::Slow, action, now_ms);
        let delay_ms = if is_slow { self.misbehaviour.up_to_ms(slow_max) } else { 0 };
        let is_spread = self.misbehaviour.strikes(Fault::Dribble, action, now_ms);
        let spread_ms = if is_spread { self.misbehaviour.up_to_ms(slow_max) } else { 0 };
        let is_cut = result.is_ok() && self.misbehaviour.strikes(Fault::Cut, action, now_ms);
        Verdict { delay: Duration::from_millis(delay_ms), spread: Duration::from_millis(spread_ms), is_cut, result }
    }

    /// As [`State::judge`], for an answer in JSON, which may have fields that nobody knows.
    pub fn judge_json(
        &mut self,
        action: &'static str,
        work: impl FnOnce(&mut State) -> Result<Value, Refusal>,
    ) -> Verdict<Value> {
        let mut verdict = self.judge(action, work);
        if self.strikes(Fault::UnknownFields, action)
            && let Ok(answer) = &mut verdict.result
        {
            messages::add_unknown_fields(answer);
        }
        verdict
    }

    fn hindrance(&mut self, action: &'static str) -> Option<Refusal> {
        let now_ms = self.world.now_ms();
        let mut strikes = |fault| self.misbehaviour.strikes(fault, action, now_ms);
        if strikes(Fault::Unreachable) {
            return Some(Refusal::Unreachable);
        }
        if strikes(Fault::Silent) {
            return Some(Refusal::Silent);
        }
        if strikes(Fault::Expired) {
            return Some(Refusal::Expired);
        }
        if strikes(Fault::Throttled) || !self.limits.take(action, now_ms) {
            return Some(Refusal::Throttled);
        }
        if self.misbehaviour.strikes(Fault::ServerError, action, now_ms) {
            return Some(Refusal::Broken);
        }
        self.misbehaviour.denied.contains(action).then(|| {
            let who = "arn:aws:sts::123456789012:assumed-role/portolan/test";
            Refusal::Denied(format!(
                "User: {who} is not authorized to perform: {action} on resource: * because no identity-based policy \
                 allows the {action} action"
            ))
        })
    }

    /// Whether a fault strikes in this call.
    fn strikes(&mut self, fault: Fault, action: &str) -> bool {
        let now_ms = self.world.now_ms();
        self.misbehaviour.strikes(fault, action, now_ms)
    }
}

/// AWS's words for a parameter that cannot be.
fn invalid(message: &str) -> Refusal {
    Refusal::Invalid { code: "InvalidParameterException", message: message.to_owned() }
}
