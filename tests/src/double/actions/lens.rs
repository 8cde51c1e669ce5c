//! How one call sees the world: pages and their tokens, older states, omissions.
//!
//! A token says after which ARN the next page begins, so a listing goes on sensibly while things come and go.

use std::sync::Arc;

use portolan_registry::ecs::api::{Described, Page};

use super::{Refusal, invalid};
use crate::double::State;
use crate::double::misbehaviour::{Fault, Misbehaviour};
use crate::double::world::World;
use crate::double::world::recorded::Objects;

/// A page that is asked for.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// `nextToken`.
    pub token: Option<String>,
    /// `maxResults`.
    pub results_max: Option<usize>,
}

/// What stands between one call and the world.
pub(super) struct Lens<'a> {
    misbehaviour: &'a mut Misbehaviour,
    action: &'static str,
    now_ms: u64,
}

impl State {
    /// The world, and how a call of this action sees it.
    pub(super) fn lens(&mut self, action: &'static str) -> (Lens<'_>, &World) {
        let now_ms = self.world.now_ms();
        (Lens { misbehaviour: &mut self.misbehaviour, action, now_ms }, &self.world)
    }
}

impl Lens<'_> {
    fn strikes(&mut self, fault: Fault) -> bool {
        self.misbehaviour.strikes(fault, self.action, self.now_ms)
    }

    /// One object, as this call sees it.
    pub(super) fn look<'o, T>(&mut self, objects: &'o Objects<T>, arn: &str) -> Option<&'o Arc<T>> {
        if !self.strikes(Fault::Lag) {
            return objects.get(arn);
        }
        let lag_max = self.misbehaviour.lag_max;
        objects.get_at(arn, self.now_ms.saturating_sub(self.misbehaviour.up_to_ms(lag_max)))
    }

    /// Those that are there, and the ARNs of those that seem not to be.
    pub(super) fn describe<T>(&mut self, objects: &Objects<T>, arns: &[String]) -> Described<Arc<T>> {
        let mut described = Described { items: Vec::new(), failures: Vec::new() };
        for arn in arns {
            if self.strikes(Fault::DescribeOmits) {
                continue;
            }
            let fails = self.strikes(Fault::DescribeFails);
            match self.look(objects, arn).filter(|_| !fails) {
                Some(object) => described.items.push(object.clone()),
                None => described.failures.push((arn.clone(), "MISSING".to_owned())),
            }
        }
        described
    }

    /// One page of those that are to be listed.
    pub(super) fn list<T>(
        &mut self,
        objects: &Objects<T>,
        asked: &Asked,
        is_listed: impl Fn(&T) -> bool,
    ) -> Result<Page, Refusal> {
        self.page(asked, |lens, after, count| {
            let is_shown = |arn: &&String| {
                let is_there = lens.look(objects, arn).is_some_and(|object| is_listed(object));
                is_there && !lens.strikes(Fault::ListingOmits)
            };
            objects.arns_after(after).filter(is_shown).take(count).cloned().collect()
        })
    }

    /// One page; `following` gives so many ARNs at most that come after one.
    pub(super) fn page(
        &mut self,
        asked: &Asked,
        following: impl FnOnce(&mut Self, Option<&str>, usize) -> Vec<String>,
    ) -> Result<Page, Refusal> {
        let place = asked.token.as_deref().map_or_else(|| Ok(Place::default()), Place::parse)?;
        if asked.results_max.is_some_and(|max| !(1..=100).contains(&max)) {
            return Err(invalid("maxResults must be between 1 and 100."));
        }
        if asked.token.is_some() && self.strikes(Fault::PageFails) {
            return Err(Refusal::Broken);
        }
        let loops = place.is_loop || self.strikes(Fault::PageLoops);
        if !loops && self.strikes(Fault::PageEmpty) {
            return Ok(Page { arns: Vec::new(), next: Some(place.token(self.misbehaviour)) });
        }
        let size = self.misbehaviour.page_size().min(asked.results_max.unwrap_or(100));
        // One more tells whether there is another page.
        let mut arns = following(self, place.after.as_deref(), size + 1);
        let is_last = arns.len() <= size;
        arns.truncate(size);
        let next = if loops {
            Some(Place { is_loop: true, ..place })
        } else if self.strikes(Fault::PageRepeats) {
            Some(place)
        } else {
            (!is_last).then(|| Place { after: arns.last().cloned(), is_loop: false })
        };
        Ok(Page { next: next.map(|place| place.token(self.misbehaviour)), arns })
    }
}

/// Where a listing is.
#[derive(Debug, Clone, Default)]
struct Place {
    after: Option<String>,
    is_loop: bool,
}

impl Place {
    fn parse(token: &str) -> Result<Self, Refusal> {
        let error = || invalid("Invalid token.");
        let digits = token.as_bytes().chunks(2);
        let bytes = digits.map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok());
        let text = String::from_utf8(bytes.collect::<Option<_>>().ok_or_else(error)?).map_err(|_| error())?;
        let mut parts = text.splitn(3, '|');
        let (Some(kind), Some(_), Some(after)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(error());
        };
        let after = (!after.is_empty()).then(|| after.to_owned());
        Ok(Place { after, is_loop: kind == "loop" })
    }

    /// Tokens of one place differ, as AWS's do, unless the place is a loop.
    fn token(&self, misbehaviour: &mut Misbehaviour) -> String {
        let kind = if self.is_loop { "loop" } else { "page" };
        let nonce = if self.is_loop { 0 } else { misbehaviour.nonce() };
        let text = format!("{kind}|{nonce:x}|{}", self.after.as_deref().unwrap_or_default());
        text.bytes().map(|byte| format!("{byte:02x}")).collect()
    }
}
