//! Upstream answers, bounded in entries and bytes.
//!
//! Two generations: what is used moves to the young one; when that is full it becomes the old one, and the old one is
//! dropped. So a flood of names that are asked once pushes out what nobody used, in constant time per question. Names that do
//! not exist, of which there is no end, are kept apart, so that a flood of them pushes out no name that does.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::asked::Asked;
use super::stored::Stored;

/// Of one generation; 16 MiB and 24,000 names in all four.
const POSITIVE_MAX: Bound = Bound { entries: 10_000, octets: 6 << 20 };
const NEGATIVE_MAX: Bound = Bound { entries: 2_000, octets: 2 << 20 };
/// What an entry takes besides its message and its name, roughly.
const ENTRY_OCTETS: usize = 256;
/// How long after its end a stale answer may still be given (RFC 8767 section 5: one to three days).
const STALE_MAX: Duration = Duration::from_secs(86_400);

pub(super) struct Cache {
    positive: Generations,
    negative: Generations,
}

pub(super) enum Found {
    Fresh(Arc<Stored>),
    Stale(Arc<Stored>),
    Nothing,
}

impl Default for Cache {
    fn default() -> Cache {
        Cache { positive: Generations::new(POSITIVE_MAX), negative: Generations::new(NEGATIVE_MAX) }
    }
}

impl Cache {
    pub(super) fn find(&mut self, asked: &Asked, now: Instant) -> Found {
        let Some(stored) = self.positive.find(asked).or_else(|| self.negative.find(asked)) else {
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

    /// Stores what may be stored: nothing without a TTL. What was known before is no longer so.
    pub(super) fn insert(&mut self, asked: Asked, stored: Arc<Stored>) {
        self.positive.remove(&asked);
        self.negative.remove(&asked);
        if stored.is_cacheable() {
            let of_its_kind = if stored.is_positive() { &mut self.positive } else { &mut self.negative };
            of_its_kind.insert(asked, stored);
        }
    }
}

/// The most that one generation holds.
#[derive(Clone, Copy)]
struct Bound {
    entries: usize,
    octets: usize,
}

struct Generations {
    bound: Bound,
    young: HashMap<Asked, Arc<Stored>>,
    old: HashMap<Asked, Arc<Stored>>,
    young_octets: usize,
}

impl Generations {
    fn new(bound: Bound) -> Generations {
        Generations { bound, young: HashMap::new(), old: HashMap::new(), young_octets: 0 }
    }

    fn find(&mut self, asked: &Asked) -> Option<Arc<Stored>> {
        if let Some(stored) = self.young.get(asked) {
            return Some(stored.clone());
        }
        let (asked, stored) = self.old.remove_entry(asked)?;
        self.insert(asked, stored.clone());
        Some(stored)
    }

    fn insert(&mut self, asked: Asked, stored: Arc<Stored>) {
        let octets = octets(&asked, &stored);
        if self.young.len() >= self.bound.entries || self.young_octets + octets > self.bound.octets {
            self.old = std::mem::take(&mut self.young);
            self.young_octets = 0;
        }
        self.young_octets += octets;
        self.young.insert(asked, stored);
    }

    fn remove(&mut self, asked: &Asked) {
        if let Some(stored) = self.young.remove(asked) {
            self.young_octets -= octets(asked, &stored);
        }
        self.old.remove(asked);
    }
}

fn octets(asked: &Asked, stored: &Stored) -> usize {
    stored.octets() + asked.octets() + ENTRY_OCTETS
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::{DNSClass, Name, RecordType};

    use super::super::asked::{Query, Read};
    use super::*;
    use crate::wire::Question;

    fn asked(name: &str) -> Asked {
        let name = Name::from_ascii(name).unwrap();
        Asked::plain(&Question { name, record_type: RecordType::TXT, class: DNSClass::IN })
    }

    /// An answer to `asked` with one record of a type that nobody knows, or an SOA record.
    fn stored(asked: &Asked, record_type: u16, data: &[u8]) -> Arc<Stored> {
        let query = Query::new(asked, None, 7);
        let mut message = query.message()[..12 + asked.octets()].to_vec();
        let is_answer = record_type == 16;
        (message[2], message[3], message[11]) = (0x81, if is_answer { 0x80 } else { 0x83 }, 0);
        message[if is_answer { 7 } else { 9 }] = 1;
        message.extend_from_slice(b"\xc0\x0c");
        message.extend_from_slice(&[record_type.to_be_bytes(), [0, 1], [0, 0], [0, 60]].concat());
        message.extend_from_slice(&(data.len() as u16).to_be_bytes());
        message.extend_from_slice(data);
        let Read::Answer(stored) = query.read(&message) else { panic!("an answer") };
        Arc::new(stored)
    }

    fn positive(asked: &Asked, octets: usize) -> Arc<Stored> {
        stored(asked, 16, &vec![0; octets])
    }

    fn negative(asked: &Asked) -> Arc<Stored> {
        stored(asked, 6, &[[0; 21].as_slice(), &[60]].concat())
    }

    fn octets_of(generations: &Generations) -> usize {
        let octets = |all: &HashMap<Asked, Arc<Stored>>| all.iter().map(|(a, s)| octets(a, s)).sum::<usize>();
        assert_eq!(octets(&generations.young), generations.young_octets);
        octets(&generations.young) + octets(&generations.old)
    }

    #[test]
    fn holds_no_more_than_sixteen_mebibytes_whatever_comes() {
        let mut cache = Cache::default();
        for number in 0..1_000 {
            let asked = asked(&format!("n{}.", number % 700));
            cache.insert(asked.clone(), positive(&asked, 60_000));
            cache.find(&self::asked(&format!("n{}.", number / 2)), Instant::now());
            assert!(octets_of(&cache.positive) <= 12 << 20);
        }
        for number in 0..25_000 {
            let asked = asked(&format!("n{number}."));
            cache.insert(asked.clone(), if number % 2 == 0 { positive(&asked, 10) } else { negative(&asked) });
        }
        assert!(octets_of(&cache.positive) + octets_of(&cache.negative) <= 16 << 20);
        assert!(cache.positive.young.len() + cache.positive.old.len() <= 20_000);
        assert!(cache.negative.young.len() + cache.negative.old.len() <= 4_000);
    }

    #[test]
    fn a_flood_of_names_that_do_not_exist_pushes_out_none_that_does() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        let known = asked("db.example.com.");
        cache.insert(known.clone(), positive(&known, 10));
        for number in 0..25_000 {
            let asked = asked(&format!("n{number}.example.com."));
            let stored = negative(&asked);
            cache.insert(asked, stored);
        }
        assert!(matches!(cache.find(&known, now), Found::Fresh(_)));
    }

    #[test]
    fn what_is_used_stays_and_what_is_replaced_goes() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        let known = asked("db.example.com.");
        cache.insert(known.clone(), positive(&known, 10));
        for number in 0..25_000 {
            let asked = asked(&format!("n{number}.example.com."));
            cache.insert(asked.clone(), positive(&asked, 10));
            if number % 4_000 == 0 {
                assert!(matches!(cache.find(&known, now), Found::Fresh(_)));
            }
        }
        cache.insert(known.clone(), negative(&known));
        let Found::Fresh(stored) = cache.find(&known, now) else { panic!("it is there") };
        assert!(!stored.is_positive());
        assert!(matches!(cache.find(&asked("n1.example.com."), now), Found::Nothing));
    }
}
