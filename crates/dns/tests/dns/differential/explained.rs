//! Where Portolan answers otherwise than others, and why. One line for each reason; the test wants every one to be seen.

use super::questions::Asked;
use super::seen::Seen;

/// A difference that is meant.
pub(super) struct Explained {
    pub(super) why: &'static str,
    /// Takes it out of what was seen, where this is the reason for it.
    mend: fn(&'static str, &Asked, &mut Seen, &mut Seen),
}

const NSD: &str = "nsd";
const BIND: &str = "bind";
const ANY_CLASS: u16 = 255;

/// All of them.
pub(super) const ALL: &[Explained] = &[
    Explained {
        why: "NSD names the zone's servers and their addresses beside every answer; nobody needs them",
        mend: |peer, asked, _, theirs| {
            if peer == NSD && !theirs.answers.is_empty() && asked.record_type != NS {
                theirs.authorities.retain(|record| !record.contains(" in ns "));
                theirs.additionals.retain(|record| !record.starts_with("ip-10-0-0-2."));
            }
        },
    },
    Explained {
        why: "of an answer that does not fit Portolan sends what does, for clients that do not ask again over TCP",
        mend: |_, _, ours, theirs| {
            if ours.is_cut() && theirs.is_cut() && ours.code == 0 {
                [ours, theirs].into_iter().for_each(|seen| {
                    seen.answers.clear();
                    seen.additionals.clear();
                });
            }
        },
    },
    Explained {
        why: "BIND gives a TTL of 0 to the SOA of a negative answer to a question for SOA",
        mend: |peer, asked, _, theirs| {
            if peer == BIND && asked.record_type == SOA && theirs.answers.is_empty() {
                let authorities = theirs.authorities.iter().map(|record| record.replace(" 0 in soa ", " 1 in soa "));
                theirs.authorities = authorities.collect();
            }
        },
    },
    Explained {
        why: "class ANY is refused: others answer it in part, or call it malformed",
        mend: |_, asked, ours, theirs| {
            if asked.class == ANY_CLASS && ours.code == REFUSED {
                theirs.clone_from(ours);
            }
        },
    },
    Explained {
        why: "BIND calls a class that has no number of its own not implemented; refused is what RFC 8906 names",
        mend: |peer, asked, ours, theirs| {
            if peer == BIND && asked.class > 4 && ours.code == REFUSED && theirs.code == NOT_IMPLEMENTED {
                theirs.clone_from(ours);
            }
        },
    },
    Explained {
        why: "BIND leaves addresses out: in 512 octets, although they fit, and beside more than 13 answers",
        mend: |peer, asked, ours, theirs| {
            let is_small = !asked.is_tcp && asked.edns.is_none_or(|edns| edns.payload <= 512);
            let is_expected = is_small || ours.answers.len() > 13;
            if peer == BIND && is_expected && theirs.additionals.is_subset(&ours.additionals) {
                theirs.additionals.clone_from(&ours.additionals);
            }
        },
    },
    Explained {
        why: "NSD does not repeat a question of a class that it does not know",
        mend: |peer, asked, ours, theirs| {
            if peer == NSD && asked.class != 1 && theirs.code == REFUSED {
                theirs.is_echo = ours.is_echo;
            }
        },
    },
    Explained {
        why: "Portolan knows the names of registered addresses; the others have no zone of them",
        mend: |_, asked, ours, theirs| {
            if asked.name.to_lowercase().ends_with("7.3.0.10.in-addr.arpa.") && ours.code == 0 && theirs.code == REFUSED
            {
                theirs.clone_from(ours);
            }
        },
    },
];

const NOT_IMPLEMENTED: u16 = 4;
const REFUSED: u16 = 5;
const NS: u16 = 2;
const SOA: u16 = 6;

/// The reasons that together make the two the same; `None` when something is left.
pub(super) fn why(peer: &'static str, asked: &Asked, ours: &Seen, theirs: &Seen) -> Option<Vec<&'static str>> {
    let (mut ours, mut theirs) = (ours.clone(), theirs.clone());
    let mut reasons = Vec::new();
    for explained in ALL {
        let before = (ours.clone(), theirs.clone());
        (explained.mend)(peer, asked, &mut ours, &mut theirs);
        if before != (ours.clone(), theirs.clone()) {
            reasons.push(explained.why);
        }
    }
    (ours == theirs).then_some(reasons)
}
