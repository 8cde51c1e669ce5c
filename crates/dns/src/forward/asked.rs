//! A question as it goes upstream: what makes two of them equal, how its letters are written, and what a packet is to it.
//!
//! The letters of a name are written in a random case each time, and an answer has to repeat them: what an off-path forger
//! has to guess grows by a bit per letter (draft-vixie-dnsext-dns0x20). Our own questions can be told by it, too.

use hickory_proto::op::ResponseCode;

use super::stored::Stored;
use crate::wire::{Question, Request, UDP_PAYLOAD, put_question};

pub(super) const HEADER_OCTETS: usize = 12;
const TYPE_OPT: u8 = 41;
/// Type and class, behind the name.
const TYPE_AND_CLASS_OCTETS: usize = 4;
/// With fewer letters another asker's mixed case equals ours too easily.
const LETTERS_MIN: usize = 6;

/// What is asked upstream. Two that are equal share a flight and an answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Asked {
    /// Name, type and class as in a message, lower case.
    question: Vec<u8>,
    wants_dnssec: bool,
    checking_disabled: bool,
}

/// The same question, its letters in a random case, for all attempts of one flight.
#[derive(Debug)]
pub(super) struct Spelling(Vec<u8>);

/// One message that asks it.
pub(super) struct Query<'a> {
    asked: &'a Asked,
    /// `None`: the upstream keeps no case, so it is asked in lower case and any is taken.
    spelling: Option<&'a Spelling>,
    id: u16,
}

/// What a packet from an upstream is.
pub(super) enum Read {
    /// The answer, positive or negative.
    Answer(Stored),
    /// The answer, cut: ask again over TCP.
    Cut,
    /// It would be one, but its letters are written otherwise: a forger's, or of an upstream that keeps no case.
    Respelled,
    /// It answers that it cannot.
    Failure,
    /// Not an answer to this question.
    NotOurs,
}

impl Asked {
    pub(super) fn new(question: &Question, request: &Request) -> Asked {
        let wants_dnssec = request.edns.is_some_and(|edns| edns.wants_dnssec);
        Asked { wants_dnssec, checking_disabled: request.checking_disabled, ..Asked::plain(question) }
    }

    /// A question of our own.
    pub(super) fn plain(question: &Question) -> Asked {
        let mut octets = Vec::new();
        put_question(question, &mut octets);
        // Type and class are no letters, but lowering them could change them.
        let name = octets.len() - TYPE_AND_CLASS_OCTETS;
        octets[..name].make_ascii_lowercase();
        Asked { question: octets, wants_dnssec: false, checking_disabled: false }
    }

    pub(super) fn octets(&self) -> usize {
        self.question.len()
    }

    /// As in a message, lower case.
    pub(super) fn name(&self) -> &[u8] {
        &self.question[..self.question.len() - TYPE_AND_CLASS_OCTETS]
    }

    pub(super) fn record_type(&self) -> u16 {
        let at = self.name().len();
        u16::from_be_bytes([self.question[at], self.question[at + 1]])
    }

    /// Its letters in a random case: at least one is a capital, since most askers write none.
    pub(super) fn spell(&self, mut is_capital: impl FnMut() -> bool) -> Spelling {
        let mut question = self.question.clone();
        let name = self.name().len();
        // Lengths of labels are at most 63, below every letter.
        let letters: Vec<&mut u8> = question[..name].iter_mut().filter(|octet| octet.is_ascii_lowercase()).collect();
        let mut has_capital = false;
        let last = letters.len().saturating_sub(1);
        for (index, letter) in letters.into_iter().enumerate() {
            if is_capital() || (index == last && !has_capital) {
                letter.make_ascii_uppercase();
                has_capital = true;
            }
        }
        Spelling(question)
    }
}

impl Spelling {
    /// Whether `question` is this one, letter by letter: it came back to us. Names with few letters are never said to be.
    pub(super) fn is(&self, question: &[u8]) -> bool {
        let name = &self.0[..self.0.len() - TYPE_AND_CLASS_OCTETS];
        self.0 == question && name.iter().filter(|octet| octet.is_ascii_alphabetic()).count() >= LETTERS_MIN
    }
}

impl<'a> Query<'a> {
    pub(super) fn new(asked: &'a Asked, spelling: Option<&'a Spelling>, id: u16) -> Self {
        Query { asked, spelling, id }
    }

    fn question(&self) -> &[u8] {
        self.spelling.map_or(&self.asked.question, |spelling| &spelling.0)
    }

    /// The message that asks.
    pub(super) fn message(&self) -> Vec<u8> {
        let [high, low] = self.id.to_be_bytes();
        let checking_disabled = u8::from(self.asked.checking_disabled) << 4;
        let mut query = vec![high, low, 1, checking_disabled, 0, 1, 0, 0, 0, 0, 0, 1];
        query.extend_from_slice(self.question());
        let [high, low] = UDP_PAYLOAD.to_be_bytes();
        let wants_dnssec = u8::from(self.asked.wants_dnssec) << 7;
        query.extend_from_slice(&[0, 0, TYPE_OPT, high, low, 0, 0, wants_dnssec, 0, 0, 0]);
        query
    }

    /// Reads what came.
    pub(super) fn read(&self, message: &[u8]) -> Read {
        let question = &self.asked.question;
        let end = HEADER_OCTETS + question.len();
        let name = self.asked.name().len();
        let is_answer = message.len() >= end
            && message[..2] == self.id.to_be_bytes()
            && message[2] & 0xf8 == 0x80
            && message[4..6] == [0, 1]
            && message[HEADER_OCTETS..][..name].eq_ignore_ascii_case(&question[..name])
            && message[HEADER_OCTETS + name..end] == question[name..];
        if !is_answer {
            return Read::NotOurs;
        }
        if self.spelling.is_some() && message[HEADER_OCTETS..end] != *self.question() {
            return Read::Respelled;
        }
        if message[2] & 2 != 0 {
            return Read::Cut;
        }
        let code = u16::from(message[3] & 0xf);
        let is_known = [ResponseCode::NoError, ResponseCode::NXDomain].map(u16::from).contains(&code);
        match Stored::read(message, self.asked).filter(|_| is_known) {
            Some(stored) => Read::Answer(stored),
            None => Read::Failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::{DNSClass, Name, RecordType};

    use super::*;

    fn asked(name: &str, record_type: RecordType) -> Asked {
        Asked::plain(&Question { name: Name::from_ascii(name).unwrap(), record_type, class: DNSClass::IN })
    }

    #[test]
    fn a_name_is_spelled_with_a_capital_at_the_least_and_nothing_else_is_changed() {
        // Type 65 and the length of a label may look like letters, and are none.
        let asked = asked(&format!("a1-_.{}.", "b".repeat(63)), RecordType::HTTPS);
        let check = |spelling: &Spelling, letters: &str| {
            let expected = [b"\x04A1-_\x3f".as_slice(), letters.as_bytes(), b"\x00\x00\x41\x00\x01"].concat();
            assert_eq!(spelling.0, expected);
        };
        check(&asked.spell(|| true), &"B".repeat(63));
        let Spelling(quiet) = asked.spell(|| false);
        assert_eq!(quiet.iter().filter(|octet| octet.is_ascii_uppercase()).count(), 2, "the last letter, and the type");
        let mut drawn = 0;
        asked.spell(|| {
            drawn += 1;
            drawn % 2 == 0
        });
        assert_eq!(drawn, 64, "a bit for each letter");
        assert_eq!(super::tests::asked(".", RecordType::A).spell(|| true).0, b"\x00\x00\x01\x00\x01");
    }

    #[test]
    fn tells_a_question_of_ours_letter_by_letter() {
        let spelling = asked("example.com.", RecordType::A).spell(|| true);
        assert!(spelling.is(b"\x07EXAMPLE\x03COM\x00\x00\x01\x00\x01"));
        assert!(!spelling.is(b"\x07EXAMPLE\x03COm\x00\x00\x01\x00\x01"));
        assert!(!spelling.is(b"\x07EXAMPLE\x03COM\x00\x00\x1c\x00\x01"));
        let short = asked("t.co.", RecordType::A).spell(|| true);
        assert!(!short.is(b"\x01T\x02CO\x00\x00\x01\x00\x01"), "anybody may write that");
    }

    #[test]
    fn an_answer_has_to_repeat_the_case_unless_the_upstream_keeps_none() {
        let asked = asked("example.com.", RecordType::A);
        let spelling = asked.spell(|| true);
        let query = Query::new(&asked, Some(&spelling), 7);
        let mut answer = query.message();
        answer[2] |= 0x80;
        assert!(matches!(query.read(&answer), Read::Answer(_)));
        answer[13].make_ascii_lowercase();
        assert!(matches!(query.read(&answer), Read::Respelled));
        assert!(matches!(Query::new(&asked, None, 7).read(&answer), Read::Answer(_)));
        assert!(matches!(Query::new(&asked, None, 8).read(&answer), Read::NotOurs));
    }
}
