//! Who may ask, who is answered only so often, and who has proved where he is.
//!
//! Private networks are answered without a limit. Askers from elsewhere are refused unless the operator lets them in, and
//! in both cases their networks get only so many datagrams a second: an address in a datagram is its sender's word, and
//! what is sent there may be meant to hurt whoever really has it. A connection proves the address, and so does a cookie.

mod access;
mod cookies;
mod rate;

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::SystemTime;

use ipnet::IpNet;
use portolan_runtime::settings::{Kind, Setting};
use serde::Deserialize;
use tokio::time::Instant;

use crate::wire::{Cookie, CookieReply};
use access::{Access, is_private};
use cookies::Cookies;
use rate::Limiter;

pub(crate) use rate::Verdict;

/// The settings of whoever answers DNS, for a program's list.
pub const SETTINGS: [Setting; 2] = [
    Setting {
        key: "dns.allow",
        kind: Kind::List("a network, such as 203.0.113.0/24"),
        default: "",
        help: "The only networks that may ask. By default loopback, private, shared (100.64.0.0/10) and link-local ones.",
    },
    Setting {
        key: "dns.answers_per_second",
        kind: Kind::Number,
        default: "200",
        help: "How many datagrams a second a /24 or /56 outside of those gets. 0 is no limit.",
    },
];

/// The settings as read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct GateSettings {
    /// `dns.allow`: the networks that may ask; `None` for the private ones.
    pub allow: Option<Vec<IpNet>>,
    /// `dns.answers_per_second`: what a /24 or /56 outside of the private ranges gets; 0 for no limit.
    pub answers_per_second: u32,
}

/// When a program began, by both clocks: cookies hold the time, and must not jump with it.
#[derive(Debug, Clone, Copy)]
pub struct Beginning {
    /// By the clock that never jumps.
    pub at: Instant,
    /// By the calendar.
    pub unix_seconds: u64,
}

impl Beginning {
    /// For a program that begins now.
    pub fn now() -> Beginning {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Beginning { at: Instant::now(), unix_seconds: since_1970.as_secs() }
    }
}

/// Stands before the answers.
#[derive(Debug)]
pub struct Gate {
    access: Access,
    limiter: Option<Limiter>,
    cookies: Cookies,
}

/// What the gate knows of an asker before it hears him.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asker {
    /// He may ask.
    pub(crate) is_allowed: bool,
    /// He is from a private network: no limit holds for him.
    pub(crate) is_near: bool,
}

impl Gate {
    /// A gate with a secret of its own, drawn for this process.
    pub fn new(settings: GateSettings, secret: [u8; 32], beginning: Beginning) -> Gate {
        let (for_cookies, for_limits) = secret.split_at(16);
        let key = |half: &[u8]| <[u8; 16]>::try_from(half).expect("half of 32 octets");
        let limiter = |rate| Limiter::new(rate, key(for_limits), beginning.at);
        Gate {
            access: settings.allow.map_or(Access::Private, Access::Networks),
            limiter: NonZeroU32::new(settings.answers_per_second).map(limiter),
            cookies: Cookies::new(key(for_cookies), beginning),
        }
    }

    /// Who asks.
    pub(crate) fn asker(&self, peer: IpAddr) -> Asker {
        let is_near = is_private(peer);
        Asker { is_allowed: self.access.allows(peer, is_near), is_near }
    }

    /// What the reply to an asker with that cookie carries: a cookie that is good for an hour.
    pub(crate) fn cookie_for(&self, sent: &Cookie, peer: IpAddr, now: Instant) -> CookieReply {
        self.cookies.reply(sent, peer, now)
    }

    /// Whether an asker from elsewhere, or one who may not ask, gets a datagram: with a good cookie, and from a private
    /// network, always.
    pub(crate) fn judge(&self, cookie: Option<&Cookie>, peer: IpAddr, now: Instant) -> Verdict {
        let is_proved = || cookie.is_some_and(|cookie| self.cookies.is_ours(cookie, peer, now));
        match &self.limiter {
            Some(limiter) if !is_private(peer) && !is_proved() => limiter.judge(peer, now),
            Some(_) | None => Verdict::Answer,
        }
    }
}
