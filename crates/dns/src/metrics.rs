//! Counts of questions, with labels that have few values whatever is asked.

use hickory_proto::op::ResponseCode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::wire::Transport;

/// The counters; clones count together. They are made beforehand: counting an answer takes no lock.
#[derive(Debug, Clone)]
pub struct Metrics {
    udp: Counters,
    tcp: Counters,
}

/// Those of one transport.
#[derive(Debug, Clone)]
struct Counters {
    /// In the order of [`CODES`].
    answers: [Counter; CODES.len()],
    dropped: Counter,
    limited: Counter,
}

/// Every code that this server gives, and its label.
const CODES: [(ResponseCode, &str); 8] = [
    (ResponseCode::NoError, "noerror"),
    (ResponseCode::NXDomain, "nxdomain"),
    (ResponseCode::ServFail, "servfail"),
    (ResponseCode::Refused, "refused"),
    (ResponseCode::FormErr, "formerr"),
    (ResponseCode::NotImp, "notimp"),
    (ResponseCode::NotAuth, "notauth"),
    (ResponseCode::BADVERS, "badvers"),
];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AnswerLabels {
    transport: Transport,
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TransportLabels {
    transport: Transport,
}

impl Metrics {
    /// Counters that `registry` shows as `dns_answers_total`, `dns_dropped_total` and `dns_limited_total` below its own prefix.
    pub fn new(registry: &mut Registry) -> Metrics {
        let answers: Family<AnswerLabels, Counter> = Family::default();
        let dropped: Family<TransportLabels, Counter> = Family::default();
        registry.register("dns_answers", "DNS answers, by transport and response code", answers.clone());
        let help = "DNS packets without an answer: replies, and what is too short to be a question";
        registry.register("dns_dropped", help, dropped.clone());
        let limited: Family<TransportLabels, Counter> = Family::default();
        let help = "DNS questions that got no answer, or none but TC, because their network asked too much";
        registry.register("dns_limited", help, limited.clone());
        let counters = |transport| Counters {
            answers: CODES.map(|(_, code)| answers.get_or_create_owned(&AnswerLabels { transport, code })),
            dropped: dropped.get_or_create_owned(&TransportLabels { transport }),
            limited: limited.get_or_create_owned(&TransportLabels { transport }),
        };
        Metrics { udp: counters(Transport::Udp), tcp: counters(Transport::Tcp) }
    }

    pub(crate) fn answered(&self, transport: Transport, code: ResponseCode) {
        let place = CODES.iter().position(|(known, _)| *known == code);
        if let Some(counter) = place.and_then(|place| self.of(transport).answers.get(place)) {
            counter.inc();
        }
    }

    pub(crate) fn dropped(&self, transport: Transport) {
        self.of(transport).dropped.inc();
    }

    pub(crate) fn limited(&self, transport: Transport) {
        self.of(transport).limited.inc();
    }

    fn of(&self, transport: Transport) -> &Counters {
        match transport {
            Transport::Udp => &self.udp,
            Transport::Tcp => &self.tcp,
        }
    }
}

impl EncodeLabelValue for Transport {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), std::fmt::Error> {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
        }
        .encode(encoder)
    }
}
