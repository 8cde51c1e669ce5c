//! The addresses of one name, by the host's resolvers: for those who follow a name, where the forwarder passes questions on.
//!
//! Nothing is kept here: whoever follows a name knows when to ask again. The rate is bounded as the forwarder's is.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hickory_proto::op::Message;
use hickory_proto::rr::{DNSClass, Name, RData, RecordType};

use super::asked::Asked;
use super::exchange::{Exchange, Unanswered};
use super::routes::Routes;
use super::stored::Stored;
use crate::wire::Question;

/// Aliases of aliases: more are a circle or a mistake.
const ALIASES_MAX: usize = 16;

/// Addresses of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// IPv4: A.
    V4,
    /// IPv6: AAAA.
    V6,
}

/// What the resolvers said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    /// In their order; none: there is no such name, or it has no address of this kind.
    pub addresses: Vec<IpAddr>,
    /// How long that holds.
    pub ttl: Duration,
}

/// Why nothing is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressesError {
    /// The text is no name.
    #[error("it is not a DNS name")]
    NotAName,
    /// None is set.
    #[error("no resolver is set")]
    NoResolver,
    /// None answered in time, or all failed.
    #[error("no resolver answered")]
    Unanswered,
    /// Too much was asked in this second.
    #[error("too many names are asked for at once")]
    OverBudget,
}

/// Asks resolvers.
#[derive(Default)]
pub struct Asker {
    routes: Mutex<Routes>,
    exchange: Exchange,
}

impl Asker {
    /// Asks as `routes` say.
    pub fn new(routes: &Routes) -> Asker {
        Asker { routes: Mutex::new(routes.clone()), exchange: Exchange::default() }
    }

    /// Asks these from now on for names without a suffix of their own.
    pub fn set_default(&self, resolvers: &[SocketAddr]) {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        *routes = routes.with_default(resolvers);
        self.exchange.standings().keep(|resolver| routes.has(resolver));
    }

    /// The addresses of `name`. Takes at most five seconds.
    ///
    /// # Errors
    /// When nobody knows: that says nothing of the name.
    pub async fn ask(&self, name: &str, kind: Kind) -> Result<Addresses, AddressesError> {
        let mut name = Name::from_ascii(name).map_err(|_| AddressesError::NotAName)?;
        name.set_fqdn(true);
        let record_type = match kind {
            Kind::V4 => RecordType::A,
            Kind::V6 => RecordType::AAAA,
        };
        let asked = Asked::plain(&Question { name: name.clone(), record_type, class: DNSClass::IN });
        let resolvers = self.routes.lock().unwrap_or_else(PoisonError::into_inner).of(asked.name());
        if resolvers.is_empty() {
            return Err(AddressesError::NoResolver);
        }
        let spelling = asked.spell(rand::random);
        let answer = self.exchange.ask(&resolvers, &asked, &spelling).await.map_err(|unanswered| match unanswered {
            Unanswered::Failed(_) => AddressesError::Unanswered,
            Unanswered::OverBudget => AddressesError::OverBudget,
        })?;
        read(&answer, name, record_type).ok_or(AddressesError::Unanswered)
    }
}

/// The addresses at the end of the aliases that `name` begins.
fn read(answer: &Stored, mut name: Name, record_type: RecordType) -> Option<Addresses> {
    let message = Message::from_vec(answer.message()).ok()?;
    let mut addresses = Vec::new();
    for _ in 0..=ALIASES_MAX {
        let of_name = || message.answers.iter().filter(|record| record.name == name);
        addresses.extend(of_name().filter(|record| record.record_type() == record_type).filter_map(|record| {
            match &record.data {
                RData::A(address) => Some(IpAddr::V4(address.0)),
                RData::AAAA(address) => Some(IpAddr::V6(address.0)),
                _ => None,
            }
        }));
        let alias = of_name().find_map(|record| match &record.data {
            RData::CNAME(target) => Some(target.0.clone()),
            _ => None,
        });
        match alias {
            Some(target) if addresses.is_empty() => name = target,
            _ => break,
        }
    }
    Some(Addresses { addresses, ttl: answer.ttl() })
}
