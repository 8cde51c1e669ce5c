//! Counts of questions, with labels that have few values whatever is asked.

use hickory_proto::op::ResponseCode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::wire::Transport;

/// The counters; clones count together.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    answers: Family<AnswerLabels, Counter>,
    dropped: Family<TransportLabels, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AnswerLabels {
    transport: Transport,
    code: Code,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TransportLabels {
    transport: Transport,
}

/// A response code as a label: its name, or `other`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Code(&'static str);

impl Metrics {
    /// Counters that `registry` shows as `dns_answers_total` and `dns_dropped_total` below its own prefix.
    pub fn new(registry: &mut Registry) -> Metrics {
        let metrics = Metrics::default();
        registry.register("dns_answers", "DNS answers, by transport and response code", metrics.answers.clone());
        let help = "DNS packets without an answer: replies, and what is too short to be a question";
        registry.register("dns_dropped", help, metrics.dropped.clone());
        metrics
    }

    pub(crate) fn answered(&self, transport: Transport, code: ResponseCode) {
        self.answers.get_or_create(&AnswerLabels { transport, code: Code::of(code) }).inc();
    }

    pub(crate) fn dropped(&self, transport: Transport) {
        self.dropped.get_or_create(&TransportLabels { transport }).inc();
    }
}

impl Code {
    fn of(code: ResponseCode) -> Code {
        Code(match code {
            ResponseCode::NoError => "noerror",
            ResponseCode::FormErr => "formerr",
            ResponseCode::ServFail => "servfail",
            ResponseCode::NXDomain => "nxdomain",
            ResponseCode::NotImp => "notimp",
            ResponseCode::Refused => "refused",
            ResponseCode::BADVERS => "badvers",
            _ => "other",
        })
    }
}

impl EncodeLabelValue for Code {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), std::fmt::Error> {
        self.0.encode(encoder)
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
