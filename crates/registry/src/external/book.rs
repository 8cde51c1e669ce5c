//! Every declared service, and what is to be done when. Pure: time and chance are arguments.
//!
//! Bounded by what may be declared: a name and its places appear once per service, whatever they are asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use ipnet::Ipv4Net;
use portolan_core::name::ServiceKey;
use tokio::time::Instant;

use super::declared::Declared;
use super::host::News;
use super::outside::Answers;
use crate::intake::statement::{ExternalRecord, ResolvedRecord};

/// A question to the world outside.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Work {
    pub(super) service: ServiceKey,
    pub(super) what: What,
}

/// Which one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    /// Where a name leads.
    Resolve(Arc<str>),
    /// Whether a place takes connections.
    Check(SocketAddr),
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Landed {
    /// What resolvers say.
    Resolved(Answers),
    /// Whether a connection opened.
    Checked { passed: bool },
}

/// A declaration, and what is stated of it.
pub(super) type Recorded<'a> = (&'a Arc<ExternalRecord>, Option<&'a ResolvedRecord>);

/// When something became known, and a number from 0 to 1 by chance.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) now: Instant,
    pub(super) jitter: f64,
}

/// The book.
#[derive(Debug)]
pub(super) struct Book {
    range: Ipv4Net,
    services: BTreeMap<ServiceKey, Declared>,
    /// What is to be done, the next first; what is under way is not here.
    due: BTreeSet<(Instant, Work)>,
    /// Services of which something else may have to be stated than was.
    doubtful: BTreeSet<ServiceKey>,
}

impl Book {
    /// An empty one. `range` is that of the virtual addresses.
    pub(super) fn new(range: Ipv4Net) -> Book {
        Book { range, services: BTreeMap::new(), due: BTreeSet::new(), doubtful: BTreeSet::new() }
    }

    /// Takes a declaration in, with what the store holds of where its names led.
    pub(super) fn declare(&mut self, service: &ServiceKey, (record, former): Recorded<'_>, now: Instant) {
        self.doubtful.insert(service.clone());
        self.forget_due(service);
        match self.services.get_mut(service) {
            Some(declared) => {
                declared.record = record.clone();
                declared.follow(now);
            }
            None => {
                let declared = Declared::new(record.clone(), former.cloned().unwrap_or_default(), now);
                self.services.insert(service.clone(), declared);
            }
        }
        self.plan(service);
    }

    /// Takes a declaration back.
    pub(super) fn take_back(&mut self, service: &ServiceKey) {
        self.doubtful.insert(service.clone());
        self.forget_due(service);
        self.services.remove(service);
    }

    /// Something is stated of a service that is not declared any more.
    pub(super) fn doubt(&mut self, service: &ServiceKey) {
        self.doubtful.insert(service.clone());
    }

    /// Whether it is declared.
    pub(super) fn holds(&self, service: &ServiceKey) -> bool {
        self.services.contains_key(service)
    }

    /// When the next thing is to be done.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// The next thing that is due at `now`; it counts as under way from here on.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Work> {
        if self.next_due()? > now {
            return None;
        }
        let (_, work) = self.due.pop_first()?;
        let declared = self.services.get_mut(&work.service)?;
        match &work.what {
            What::Resolve(name) => declared.hosts.get_mut(name)?.due = None,
            What::Check(place) => declared.checks.get_mut(place)?.due = None,
        }
        Some(work)
    }

    /// Takes in what came of a piece of work. What that means for the name that was asked for.
    pub(super) fn land(&mut self, work: &Work, landed: &Landed, at: Moment) -> News {
        match (&work.what, landed) {
            (What::Resolve(name), Landed::Resolved(answers)) => self.resolved((&work.service, name), answers, at),
            (What::Check(place), Landed::Checked { passed }) => self.checked((&work.service, *place), *passed, at),
            (What::Resolve(_), Landed::Checked { .. }) | (What::Check(_), Landed::Resolved(_)) => None,
        }
        .unwrap_or(News::Nothing)
    }

    /// `None`: nobody wants to know any more.
    fn resolved(&mut self, (service, name): (&ServiceKey, &str), answers: &Answers, at: Moment) -> Option<News> {
        self.forget_due(service);
        let declared = self.services.get_mut(service)?;
        let news = declared.hosts.get_mut(name).map(|host| {
            let (news, wait) = host.what.take(answers, self.range, at.jitter);
            host.due = Some(at.now + wait);
            news
        });
        declared.check(at.now);
        self.doubtful.insert(service.clone());
        self.plan(service);
        news
    }

    /// `None`: nobody wants to know any more.
    fn checked(&mut self, (service, place): (&ServiceKey, SocketAddr), passed: bool, at: Moment) -> Option<News> {
        let declared = self.services.get_mut(service)?;
        let every = declared.check_every()?;
        let check = declared.checks.get_mut(&place)?;
        let before = check.what.state;
        check.what.observe(passed);
        if check.what.state != before {
            self.doubtful.insert(service.clone());
        }
        // A twentieth sooner or later, so that checks that began together do not stay together.
        let next = at.now + every.mul_f64(0.95 + at.jitter / 10.0);
        let work = || Work { service: service.clone(), what: What::Check(place) };
        if let Some(due) = check.due.replace(next) {
            self.due.remove(&(due, work()));
        }
        self.due.insert((next, work()));
        Some(News::Nothing)
    }

    /// What is to be stated now. To be confirmed by [`Book::stated`].
    pub(super) fn news(&mut self) -> Vec<(ServiceKey, Option<ResolvedRecord>)> {
        let services = &self.services;
        let news = |service: &ServiceKey| match services.get(service) {
            None => Some((service.clone(), None)),
            Some(declared) => {
                let resolved = declared.resolved();
                (resolved != declared.stated).then(|| (service.clone(), Some(resolved)))
            }
        };
        let news: Vec<_> = self.doubtful.iter().filter_map(news).collect();
        self.doubtful = news.iter().map(|(service, _)| service.clone()).collect();
        news
    }

    /// This was kept.
    pub(super) fn stated(&mut self, news: Vec<(ServiceKey, Option<ResolvedRecord>)>) {
        for (service, record) in news {
            self.doubtful.remove(&service);
            if let (Some(declared), Some(record)) = (self.services.get_mut(&service), record) {
                declared.stated = record;
            }
        }
    }

    fn forget_due(&mut self, service: &ServiceKey) {
        let Some(declared) = self.services.get(service) else { return };
        for (due, what) in planned(declared) {
            self.due.remove(&(due, Work { service: service.clone(), what }));
        }
    }

    fn plan(&mut self, service: &ServiceKey) {
        let Some(declared) = self.services.get(service) else { return };
        let planned = planned(declared);
        self.due.extend(planned.map(|(due, what)| (due, Work { service: service.clone(), what })));
    }
}

/// What is to be done for a service, and not under way.
fn planned(declared: &Declared) -> impl Iterator<Item = (Instant, What)> + '_ {
    let hosts = declared.hosts.iter().filter_map(|(name, host)| Some((host.due?, What::Resolve(name.clone()))));
    hosts.chain(declared.checks.iter().filter_map(|(place, check)| Some((check.due?, What::Check(*place)))))
}
