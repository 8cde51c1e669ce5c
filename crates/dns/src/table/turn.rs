//! One ready reply as any of several: another answer first, and those before it behind the last that is as good.
//!
//! Only replies of [`encode`](crate::wire::encode) are turned, and of them only what it leaves to chance. Owners of answers
//! point to the question; owners of additional records may point into answers, and are set right.

/// Where the counts of answers, and of authority and additional records are (RFC 1035 section 4.1.1).
const AUTHORITY_COUNT: usize = 8;
const ADDITIONAL_COUNT: usize = 10;
/// An owner that is a pointer, type, class and TTL.
const BEFORE_LENGTH_OCTETS: usize = 10;
/// Those and the length of the data.
const HEAD_OCTETS: usize = 12;
/// The two bits that tell a pointer.
const POINTER: u16 = 0xc000;

/// Copies `reply`, whose first answer stands at `start`, into `out`. Of its first `alike` answers that of number `turn` comes first.
pub(super) fn copy(reply: &[u8], (start, alike, turn): (usize, usize, usize), out: &mut Vec<u8>) {
    out.clear();
    let turned = if turn == 0 { None } else { turned(reply, start, alike, turn) };
    let Some((middle, end)) = turned else { return out.extend_from_slice(reply) };
    for part in [&reply[..start], &reply[middle..end], &reply[start..middle], &reply[end..]] {
        out.extend_from_slice(part);
    }
    let moved = |place: usize| match place {
        _ if (start..middle).contains(&place) => place + end - middle,
        _ if (middle..end).contains(&place) => place - (middle - start),
        _ => place,
    };
    let Some(mut at) = answers_end(reply, (end, alike)) else { return };
    for _ in 0..number(reply, ADDITIONAL_COUNT).unwrap_or_default() {
        // What is no pointer is the OPT record, which is the last.
        let Some(owner) = number(reply, at).filter(|owner| *owner & POINTER == POINTER) else { return };
        let owner = moved(usize::from(owner & !POINTER)) as u16 | POINTER;
        out[at..at + 2].copy_from_slice(&owner.to_be_bytes());
        let Some(next) = after(reply, at) else { return };
        at = next;
    }
}

/// Where the answer of number `turn` begins, and where the first `alike` end.
fn turned(reply: &[u8], start: usize, alike: usize, turn: usize) -> Option<(usize, usize)> {
    let skip = |from, count| (0..count).try_fold(from, |at, _| after(reply, at));
    let middle = skip(start, turn)?;
    Some((middle, skip(middle, alike.checked_sub(turn)?)?))
}

/// Where the additional section begins, when the first `alike` answers end there. `None`: it has no pointers.
fn answers_end(reply: &[u8], (end, alike): (usize, usize)) -> Option<usize> {
    let others = usize::from(number(reply, AUTHORITY_COUNT - 2)?).checked_sub(alike)?;
    let has_authority = number(reply, AUTHORITY_COUNT)? > 0;
    if has_authority { None } else { (0..others).try_fold(end, |at, _| after(reply, at)) }
}

/// Where the record behind the one at `at` begins.
fn after(reply: &[u8], at: usize) -> Option<usize> {
    let length = number(reply, at + BEFORE_LENGTH_OCTETS)?;
    let next = at + HEAD_OCTETS + usize::from(length);
    (next <= reply.len()).then_some(next)
}

fn number(octets: &[u8], at: usize) -> Option<u16> {
    octets.get(at..at + 2).map(|two| u16::from_be_bytes([two[0], two[1]]))
}
