//! What EC2 and its events say of a machine that is a container instance.
//!
//! Pure. EC2's words have no version: they are ordered by their times, and of two at one time the more final one counts, so
//! that duplicates and reorderings end in the same state. A machine that is shutting down never comes back.

use std::net::IpAddr;

use portolan_core::ecs::InstanceStatus;

use super::facts::Registration;

/// How long a warning counts (a spot interruption comes within two minutes, a lifecycle hook may hold on for longer),
/// milliseconds.
const WARNED_FOR_MS: u64 = 900_000;
/// How long an instance that was draining when this program started is taken for draining, unless ECS says more: as long as
/// a spot interruption is announced before, milliseconds.
const DRAINING_AFTER_START_MS: u64 = 120_000;
/// When EC2 is asked again: when all was well, and else, milliseconds.
const WELL_FOR_MS: u64 = 3_600_000;
const UNWELL_FOR_MS: u64 = 300_000;
const UNKNOWN_FOR_MS: u64 = 60_000;

/// How long EC2 has to answer that it does not know a machine before that means anything: it learns of new ones late, and
/// one replica of it later than another, milliseconds.
const UNHEARD_MIN_MS: u64 = 600_000;

/// How old an event may be that says more than that EC2 should be asked, milliseconds.
const EVENT_AGE_MAX_MS: u64 = 600_000;

/// What EC2 says of a machine, the more final the later.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Power {
    /// Nothing yet.
    #[default]
    NotKnown,
    /// It does not know the machine: it is new, or ended more than an hour ago.
    Unheard,
    /// pending, running.
    Running,
    /// stopping.
    Stopping,
    /// stopped.
    Stopped,
    /// shutting-down, terminated.
    Ended,
}

impl Power {
    /// `instanceState.name`; `None`: a state that this version does not know.
    pub(super) fn read(state: &str) -> Option<Power> {
        match state {
            "pending" | "running" => Some(Power::Running),
            "stopping" => Some(Power::Stopping),
            "stopped" => Some(Power::Stopped),
            "shutting-down" | "terminated" => Some(Power::Ended),
            _ => None,
        }
    }
}

/// One machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Machine {
    pub(super) addresses: Vec<IpAddr>,
    pub(super) az: Option<String>,
    pub(super) first_seen_ms: u64,
    power: Power,
    power_at_ms: u64,
    /// When it last began to say so, Unix milliseconds.
    power_since_ms: u64,
    warned_at_ms: Option<u64>,
    /// When EC2 is to be asked, Unix milliseconds.
    due_ms: u64,
    /// Whether EC2 may not be asked.
    is_refused: bool,
    /// Until when it is taken for draining because it was before this program started.
    drained_until_ms: u64,
}

impl Machine {
    /// One that was not known before.
    pub(super) fn new(now_ms: u64) -> Machine {
        Machine { first_seen_ms: now_ms, ..Machine::default() }
    }

    /// One that was stated before this program started.
    pub(super) fn held(instance: &portolan_core::ecs::Instance, now_ms: u64) -> Machine {
        let is = |status| instance.status == status;
        Machine {
            addresses: instance.addresses.clone(),
            first_seen_ms: instance.first_seen_ms,
            // As ended as can be while anything that EC2 says from now on counts.
            power: if is(InstanceStatus::Terminated) { Power::Stopped } else { Power::NotKnown },
            drained_until_ms: if is(InstanceStatus::Draining) { now_ms + DRAINING_AFTER_START_MS } else { 0 },
            ..Machine::default()
        }
    }

    /// EC2 said this at that time.
    pub(super) fn hear(&mut self, power: Power, at_ms: u64) {
        // A machine that EC2 knows no longer did not come back from where it was.
        let is_known_better = power == Power::Unheard && self.power > Power::Running;
        if self.power != Power::Ended && !is_known_better && (at_ms, power) > (self.power_at_ms, self.power) {
            if self.power != power {
                self.power_since_ms = at_ms;
            }
            (self.power_at_ms, self.power) = (at_ms, power);
        }
    }

    /// An event said so. One of the past may have been overtaken by one that was lost, unless it is of an end.
    pub(super) fn hear_event(&mut self, power: Power, at_ms: u64, now_ms: u64) {
        if power == Power::Ended || now_ms.saturating_sub(at_ms) <= EVENT_AGE_MAX_MS {
            self.hear(power, at_ms);
        }
        if power != Power::Ended {
            self.ask_soon();
        }
    }

    /// It was announced that it will end.
    pub(super) fn warn(&mut self, at_ms: u64) {
        self.warned_at_ms = self.warned_at_ms.max(Some(at_ms));
    }

    /// Whether it takes tasks, by EC2's word and by what ECS says of its registration. `is_missing`: two listings lack it.
    pub(super) fn status(&self, registration: Registration, is_missing: bool, now_ms: u64) -> InstanceStatus {
        let is_warned = self.warned_at_ms.is_some_and(|at_ms| now_ms < at_ms.saturating_add(WARNED_FOR_MS));
        match (self.settled_power(), registration) {
            (Power::Ended | Power::Stopped, _) => InstanceStatus::Terminated,
            // Gone from ECS and unknown to EC2: it ended long ago.
            (Power::Unheard, Registration::Inactive) => InstanceStatus::Terminated,
            (Power::Unheard, _) if is_missing => InstanceStatus::Terminated,
            (Power::NotKnown, Registration::Inactive) if self.is_refused => InstanceStatus::Terminated,
            // Given up by ECS, by force perhaps: what runs there runs on, but ECS runs it elsewhere too.
            (_, Registration::Inactive | Registration::Draining) | (Power::Stopping, _) => InstanceStatus::Draining,
            _ if is_warned || now_ms < self.drained_until_ms => InstanceStatus::Draining,
            (Power::NotKnown | Power::Unheard | Power::Running, Registration::Active) => InstanceStatus::Active,
        }
    }

    /// What EC2 says, once that means anything.
    fn settled_power(&self) -> Power {
        let has_lasted = self.power_at_ms.saturating_sub(self.power_since_ms) >= UNHEARD_MIN_MS;
        if self.power == Power::Unheard && !has_lasted { Power::NotKnown } else { self.power }
    }

    /// ECS said something new of its registration.
    pub(super) fn registered(&mut self, registration: Registration, is_connected: bool) {
        // That an agent is not connected decides nothing, but is worth a question.
        let is_doubtful = if is_connected { self.power > Power::Running } else { self.power <= Power::Running };
        if registration == Registration::Inactive || is_doubtful {
            self.ask_soon();
        }
    }

    /// Has EC2 asked as soon as there is room, if it may be asked.
    pub(super) fn ask_soon(&mut self) {
        if !self.is_refused {
            self.due_ms = 0;
        }
    }

    /// EC2 is never asked about it: it is none of EC2's.
    pub(super) fn never_ask(&mut self) {
        (self.due_ms, self.is_refused) = (u64::MAX, true);
    }

    pub(super) fn is_due(&self, now_ms: u64) -> bool {
        now_ms >= self.due_ms && self.power != Power::Ended
    }

    /// EC2 is being asked.
    pub(super) fn asked(&mut self, now_ms: u64) {
        self.due_ms = now_ms + UNKNOWN_FOR_MS;
    }

    /// What it answered: power, addresses, zone. `None`: it does not know the machine.
    pub(super) fn answered(&mut self, answer: Option<(Power, Vec<IpAddr>, Option<String>)>, asked_ms: u64) {
        self.is_refused = false;
        let Some((power, addresses, az)) = answer else {
            self.hear(Power::Unheard, asked_ms);
            self.due_ms = asked_ms + UNKNOWN_FOR_MS;
            return;
        };
        self.hear(power, asked_ms);
        // A terminated machine has none any more: those that it had say which of its endpoints end.
        if !addresses.is_empty() {
            self.addresses = addresses;
        }
        self.az = az.or(self.az.take());
        let wait_ms = match power {
            // Nothing on it can be reached before it has one.
            Power::Running if self.addresses.is_empty() => UNKNOWN_FOR_MS,
            Power::Running => WELL_FOR_MS,
            Power::NotKnown | Power::Unheard | Power::Stopping | Power::Stopped | Power::Ended => UNWELL_FOR_MS,
        };
        self.due_ms = asked_ms + wait_ms;
    }

    /// EC2 may not be asked.
    pub(super) fn refused(&mut self) {
        self.is_refused = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: u64 = 3_600_000;

    #[test]
    fn what_ec2_and_ecs_say_together() {
        use InstanceStatus::{Active, Draining, Terminated};
        let rows = [
            (Power::NotKnown, Registration::Active, false, Active),
            (Power::Running, Registration::Active, true, Active),
            (Power::Unheard, Registration::Active, false, Active),
            (Power::Unheard, Registration::Active, true, Terminated),
            (Power::Running, Registration::Draining, false, Draining),
            (Power::Running, Registration::Inactive, false, Draining),
            (Power::NotKnown, Registration::Inactive, false, Draining),
            (Power::Unheard, Registration::Inactive, false, Terminated),
            (Power::Stopping, Registration::Active, false, Draining),
            (Power::Stopped, Registration::Active, false, Terminated),
            (Power::Ended, Registration::Active, false, Terminated),
        ];
        for (power, registration, is_missing, expected) in rows {
            let mut machine = Machine::new(0);
            machine.hear(power, 1);
            machine.hear(power, 1 + UNHEARD_MIN_MS);
            assert_eq!(
                machine.status(registration, is_missing, 2),
                expected,
                "{power:?} {registration:?} {is_missing}"
            );
        }
        let mut refused = Machine::new(0);
        refused.refused();
        assert_eq!(refused.status(Registration::Inactive, false, 2), Terminated);
    }

    #[test]
    fn times_order_what_ec2_says_and_an_end_is_an_end() {
        let mut machine = Machine::new(0);
        machine.hear(Power::Stopped, 5);
        machine.hear(Power::Running, 4);
        assert_eq!(machine.power, Power::Stopped);
        machine.hear(Power::Running, 6);
        assert_eq!(machine.power, Power::Running);
        machine.hear(Power::Ended, 7);
        machine.hear(Power::Running, 8);
        assert_eq!((machine.power, machine.is_due(u64::MAX)), (Power::Ended, false));
    }

    #[test]
    fn that_ec2_does_not_know_a_machine_means_something_only_after_ten_minutes() {
        let mut machine = Machine::new(0);
        let mut check = |at_ms, power, expected| {
            machine.hear(power, at_ms);
            assert_eq!(machine.status(Registration::Active, true, at_ms), expected, "{at_ms}");
        };
        check(1, Power::Unheard, InstanceStatus::Active);
        check(600_000, Power::Unheard, InstanceStatus::Active);
        check(600_001, Power::Unheard, InstanceStatus::Terminated);
        check(600_002, Power::Running, InstanceStatus::Active);
        check(600_003, Power::Unheard, InstanceStatus::Active);
    }

    #[test]
    fn an_old_event_of_a_stop_only_has_ec2_asked() {
        for (age_ms, expected) in [(EVENT_AGE_MAX_MS, Power::Stopped), (EVENT_AGE_MAX_MS + 1, Power::Running)] {
            let mut machine = Machine::new(0);
            machine.answered(Some((Power::Running, Vec::new(), None)), 1);
            machine.hear_event(Power::Stopped, HOUR_MS, HOUR_MS + age_ms);
            assert_eq!((machine.power, machine.is_due(HOUR_MS)), (expected, true));
        }
        let mut machine = Machine::new(0);
        machine.hear_event(Power::Ended, 5, HOUR_MS);
        assert_eq!(machine.power, Power::Ended);
    }

    #[test]
    fn a_warning_counts_for_a_quarter_of_an_hour() {
        let mut machine = Machine::new(0);
        machine.warn(HOUR_MS);
        machine.warn(HOUR_MS - 5);
        let status = |now_ms| machine.status(Registration::Active, false, now_ms);
        assert_eq!(status(HOUR_MS + 899_999), InstanceStatus::Draining);
        assert_eq!(status(HOUR_MS + 900_000), InstanceStatus::Active);
    }

    #[test]
    fn ec2_is_asked_when_new_and_after_long() {
        let mut machine = Machine::new(0);
        assert!(machine.is_due(0));
        machine.asked(0);
        assert!(!machine.is_due(1));
        machine.answered(Some((Power::Running, Vec::new(), None)), 0);
        assert_eq!((machine.is_due(59_999), machine.is_due(60_000)), (false, true), "it has no address yet");
        let address = vec!["10.0.0.1".parse().unwrap()];
        machine.answered(Some((Power::Running, address.clone(), None)), 1);
        assert_eq!((machine.is_due(HOUR_MS), machine.is_due(HOUR_MS + 1)), (false, true));
        machine.answered(Some((Power::Ended, Vec::new(), None)), HOUR_MS);
        assert_eq!(machine.addresses, address);
    }
}
