//! Which records of an answer belong to its question. What does not is never passed on, let alone kept: not every stub
//! looks at the owner of a record before it believes it.

use hickory_proto::op::Message;

use super::records::{Record, Section, types};

/// Aliases of aliases: more are a circle or a mistake.
const ALIASES_MAX: usize = 16;
const CLASS_IN: u16 = 1;

/// Says of each record whether it belongs to a question for `name`.
pub(super) fn belongs(records: &[Record], name: &[u8]) -> Vec<bool> {
    let chain = chain(records, name);
    let is_above = |owner: &[u8]| chain.iter().any(|name| is_at_or_below(name, owner));
    let mut belongs: Vec<bool> = records
        .iter()
        .map(|record| {
            let in_chain = chain.contains(&record.owner);
            let is_dname = matches!(record.record_type, types::DNAME | types::RRSIG) && is_above(&record.owner);
            // Proofs of absence are owned by the names beside a gap.
            let is_proof = matches!(record.record_type, types::NSEC | types::NSEC3 | types::RRSIG);
            record.class == CLASS_IN
                && match record.section {
                    Section::Answer => in_chain || is_dname,
                    Section::Authority => is_proof || is_above(&record.owner),
                    Section::Additional => false,
                }
        })
        .collect();
    // The additional section is for the names that the others lead to.
    let kept = records.iter().zip(&belongs).filter(|(_, belongs)| **belongs);
    let named: Vec<&[u8]> = kept.flat_map(|(record, _)| &record.names).map(Vec::as_slice).collect();
    let named: std::collections::HashSet<&[u8]> = named.into_iter().collect();
    for (record, belongs) in records.iter().zip(&mut belongs) {
        let is_additional = record.section == Section::Additional && record.class == CLASS_IN;
        *belongs |= is_additional && (named.contains(record.owner.as_slice()) || chain.contains(&record.owner));
    }
    belongs
}

/// `message` without the records that do not belong; its additional section goes as well.
pub(super) fn without_strangers(message: &[u8], records: &[Record], belongs: &[bool]) -> Option<Vec<u8>> {
    let mut read = Message::from_vec(message).ok()?;
    let of = |section: Section| {
        let all = records.iter().zip(belongs).filter(move |(record, _)| record.section == section);
        all.map(|(_, belongs)| *belongs).collect::<Vec<_>>()
    };
    for (section, kept) in [(Section::Answer, &mut read.answers), (Section::Authority, &mut read.authorities)] {
        let mut belongs = of(section).into_iter();
        kept.retain(|_| belongs.next().unwrap_or(false));
    }
    read.additionals.clear();
    read.edns = None;
    read.to_vec().ok()
}

/// `name` and the names that it is an alias of.
fn chain(records: &[Record], name: &[u8]) -> Vec<Vec<u8>> {
    let mut chain = vec![name.to_vec()];
    let mut at = 0;
    while let Some(owner) = chain.get(at).cloned() {
        let aliases = records.iter().filter(|record| record.section == Section::Answer);
        for alias in aliases.filter(|record| record.record_type == types::CNAME && record.owner == owner) {
            let is_new = alias.names.iter().find(|target| !chain.contains(target));
            if let Some(target) = is_new.filter(|_| chain.len() <= ALIASES_MAX) {
                chain.push(target.clone());
            }
        }
        at += 1;
    }
    chain
}

fn is_at_or_below(name: &[u8], above: &[u8]) -> bool {
    let mut rest = name;
    loop {
        if rest == above {
            return true;
        }
        match rest.split_first() {
            Some((length @ 1.., _)) => rest = &rest[usize::from(*length) + 1..],
            _ => return false,
        }
    }
}
