//! Upstream answers, bounded in entries and bytes.
//!
//! Two generations: what is used moves to the young one; when that is full it becomes the old one, and the old one is
//! dropped. So a flood of names that are asked once pushes out what nobody used, in constant time per question.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::packet::{Asked, Stored};

/// Of one generation; 16 MiB and 20,000 names in both.
const ENTRIES_MAX: usize = 10_000;
const OCTETS_MAX: usize = 8 << 20;
/// What an entry takes besides its message and its name, roughly.
const ENTRY_OCTETS: usize = 256;
/// How long after its end a stale answer may still be given (RFC 8767 section 5: one to three days).
const STALE_MAX: Duration = Duration::from_secs(86_400);

#[derive(Default)]
pub(super) struct Cache {
    young: HashMap<Asked, Arc<Stored>>,
    old: HashMap<Asked, Arc<Stored>>,
    young_octets: usize,
}

pub(super) enum Found {
    Fresh(Arc<Stored>),
    Stale(Arc<Stored>),
    Nothing,
}

impl Cache {
    pub(super) fn find(&mut self, asked: &Asked, now: Instant) -> Found {
        let young = self.young.get(asked).cloned();
        let Some(stored) = young.or_else(|| self.old.remove(asked).inspect(|s| self.insert(asked.clone(), s.clone())))
        else {
            return Found::Nothing;
        };
        let ends_at = stored.ends_at();
        if now < ends_at {
            Found::Fresh(stored)
        } else if now < ends_at + STALE_MAX {
            Found::Stale(stored)
        } else {
            Found::Nothing
        }
    }

    /// Stores what may be stored: nothing without a TTL.
    pub(super) fn insert(&mut self, asked: Asked, stored: Arc<Stored>) {
        if !stored.is_cacheable() {
            return;
        }
        let octets = stored.octets() + asked.octets() + ENTRY_OCTETS;
        if self.young.len() >= ENTRIES_MAX || self.young_octets + octets > OCTETS_MAX {
            self.old = std::mem::take(&mut self.young);
            self.young_octets = 0;
        }
        self.young_octets += octets;
        if let Some(replaced) = self.young.insert(asked.clone(), stored) {
            self.young_octets -= replaced.octets() + asked.octets() + ENTRY_OCTETS;
        }
    }
}
