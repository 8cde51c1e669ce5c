//! How each input changes the state. Every function returns whether an inspection of that container is due.

use portolan_core::endpoint::Run;
use portolan_core::evidence::Ending;

use super::{Early, Ended, Event, EventKind, Live, Now, State, Tracked, asks_to_stop};
use crate::docker::facts::{Activity, Facts, Sight};

/// Whether the container should be inspected now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Inspect {
    /// Yes.
    Due,
    /// No.
    No,
}

impl State {
    /// Takes an event.
    pub fn apply_event(&mut self, event: &Event, now: Now) -> Inspect {
        let tracked = self.containers.entry(event.id.clone()).or_default();
        // An event of an earlier run, told late or again after a reconnect, says nothing of this one.
        let live_since = tracked.live.as_ref().map(|live| live.facts.run.0);
        let is_of_live = live_since.is_some_and(|started| event.at_ns >= started);
        match &event.kind {
            EventKind::Kill(number) => {
                match &mut tracked.live {
                    Some(live) if is_of_live && asks_to_stop(*number, live.facts.stop_signal) => {
                        live.stopping_since.get_or_insert(now.instant);
                    }
                    Some(_) => {}
                    None => {
                        tracked.early.killed = Some((event.at_ns, *number));
                        tracked.early.since = Some(now.instant);
                    }
                }
                if tracked.live.is_some() { Inspect::No } else { Inspect::Due }
            }
            EventKind::Die(exit_code) => {
                let at_ms = event.at_ns / 1_000_000;
                if is_of_live {
                    tracked.end(Ending { exit_code: *exit_code, is_out_of_memory: false, at_ms }, now);
                } else if tracked.live.is_none() {
                    tracked.early.died = Some((event.at_ns, *exit_code));
                    tracked.early.since = Some(now.instant);
                    tracked.tell_exit_code(event.at_ns, *exit_code);
                }
                Inspect::Due
            }
            EventKind::Destroy => {
                if is_of_live {
                    tracked.end(Ending { at_ms: event.at_ns / 1_000_000, ..Ending::default() }, now);
                }
                tracked.early = Early::default();
                Inspect::No
            }
            EventKind::Network if tracked.live.is_none() => Inspect::No,
            EventKind::Network | EventKind::Changed => Inspect::Due,
        }
    }

    /// Takes an inspection's facts.
    pub fn apply_facts(&mut self, mut facts: Facts, now: Now) {
        self.sees_processes |= facts.sight == Sight::Seen;
        // In another pid namespace than Docker's every process seems to be gone.
        if facts.sight == Sight::Gone && !self.sees_processes {
            facts.sight = Sight::Hidden;
        }
        let tracked = self.containers.entry(facts.id.clone()).or_default();
        if let Activity::Ended { exit_code, is_out_of_memory } = facts.activity {
            return tracked.apply_ended(facts, Ending { exit_code, is_out_of_memory, at_ms: now.unix_ms }, now);
        }
        if tracked.ended_run == Some(facts.run) {
            return;
        }
        if let Some(live) = tracked.live.as_mut().filter(|live| live.facts.run == facts.run) {
            live.facts = facts;
            return;
        }
        // Another run: the earlier one ended without our hearing of it.
        tracked.end(Ending { at_ms: now.unix_ms, ..Ending::default() }, now);
        let early = std::mem::take(&mut tracked.early);
        let killed =
            early.killed.filter(|(at_ns, number)| *at_ns >= facts.run.0 && asks_to_stop(*number, facts.stop_signal));
        let died = early.died_after(facts.run);
        tracked.live = Some(Live { facts, stopping_since: killed.map(|_| early.since.unwrap_or(now.instant)) });
        if let Some((at_ns, exit_code)) = died {
            tracked.end(Ending { exit_code, is_out_of_memory: false, at_ms: at_ns / 1_000_000 }, now);
        }
    }

    /// Takes Docker's word that there is no such container.
    pub fn apply_nothing(&mut self, id: &str, now: Now) {
        if let Some(tracked) = self.containers.get_mut(id) {
            tracked.end(Ending { at_ms: now.unix_ms, ..Ending::default() }, now);
            tracked.early = Early::default();
        }
    }

    /// Takes a pidfd's word that a run's first process ended.
    pub fn apply_exit(&mut self, id: &str, run: Run, now: Now) -> Inspect {
        let Some(tracked) = self.containers.get_mut(id) else { return Inspect::No };
        if tracked.live.as_ref().is_none_or(|live| live.facts.run != run) {
            return Inspect::No;
        }
        tracked.end(Ending { at_ms: now.unix_ms, ..Ending::default() }, now);
        // The exit code comes with `die`, some 24 ms later.
        Inspect::No
    }
}

impl Early {
    /// The death of `run`, if one was told.
    fn died_after(&self, run: Run) -> Option<(u64, Option<i64>)> {
        self.died.filter(|(at_ns, _)| *at_ns >= run.0)
    }
}

impl Tracked {
    /// Ends the run that lives, if one does.
    fn end(&mut self, ending: Ending, now: Now) {
        let Some(live) = self.live.take() else { return };
        self.ended_run = Some(live.facts.run);
        self.ended.push(Ended { facts: live.facts, ending, since: now.instant });
    }

    /// Docker says that the run of `facts` is over, or never began.
    fn apply_ended(&mut self, facts: Facts, ending: Ending, now: Now) {
        let (run, early) = (facts.run, std::mem::take(&mut self.early));
        if self.live.as_ref().is_some_and(|live| live.facts.run == run) {
            return self.end(ending, now);
        }
        // A newer run than the one that lives here, and over already: so is ours.
        if self.live.as_ref().is_some_and(|live| live.facts.run < run) {
            self.end(Ending { exit_code: None, ..ending.clone() }, now);
            self.ended_run = Some(run);
        }
        if let Some(ended) = self.ended.last_mut().filter(|ended| ended.facts.run == run) {
            ended.ending.exit_code = ending.exit_code.or(ended.ending.exit_code);
            ended.ending.is_out_of_memory |= ending.is_out_of_memory;
        } else if self.live.is_none()
            && self.ended_run != Some(run)
            && let Some((at_ns, _)) = early.died_after(run)
        {
            // It ended just now, before anybody could look at it: whoever waits for it has to be told.
            self.ended_run = Some(run);
            let ending = Ending { at_ms: at_ns / 1_000_000, ..ending };
            self.ended.push(Ended { facts, ending, since: now.instant });
        }
    }

    /// `die` after a pidfd told the same death: only the exit code is new.
    fn tell_exit_code(&mut self, at_ns: u64, exit_code: Option<i64>) {
        if let Some(ended) = self.ended.last_mut().filter(|ended| ended.facts.run.0 <= at_ns) {
            ended.ending.exit_code = ended.ending.exit_code.or(exit_code);
        }
    }
}
