//! Who may ask, who is answered only so often, and who has proved where he is.
//!
//! Private networks are answered without a limit. Askers from elsewhere are refused unless the operator lets them in, and
//! in both cases their networks get only so many datagrams a second: an address in a datagram is its sender's word, and
//! what is sent there may be meant to hurt whoever really has it. A connection proves the address, and so does a cookie.

mod access;
mod cookies;
mod rate;

use std::net::IpAddr;

use ipnet::IpNet;
use tokio::time::Instant;

use crate::wire::{Cookie, CookieReply};
use access::{Access, is_private};
use cookies::Cookies;
use rate::Limiter;

pub(crate) use rate::Verdict;

/// How many datagrams a second a network outside of the private ranges gets, unless the operator says otherwise.
pub const ANSWERS_PER_SECOND: u32 = 200;

/// The settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateSettings {
    /// The networks that may ask; `None` for the private ones.
    pub allow: Option<Vec<IpNet>>,
    /// How many datagrams a second a /24 or /56 outside of the private ranges gets; 0 for no limit.
    pub answers_per_second: u32,
}

impl Default for GateSettings {
    fn default() -> Self {
        GateSettings { allow: None, answers_per_second: ANSWERS_PER_SECOND }
    }
}

/// When a program began, by both clocks: cookies hold the time, and must not jump with it.
#[derive(Debug, Clone, Copy)]
pub struct Beginning {
    /// By the clock that never jumps.
    pub at: Instant,
    /// By the calendar.
    pub unix_seconds: u64,
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
            limiter: std::num::NonZeroU32::new(settings.answers_per_second).map(limiter),
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

    /// Whether an asker from elsewhere gets a datagram: with a good cookie, always.
    pub(crate) fn judge(&self, cookie: Option<&Cookie>, peer: IpAddr, now: Instant) -> Verdict {
        let is_proved = || cookie.is_some_and(|cookie| self.cookies.is_ours(cookie, peer, now));
        match &self.limiter {
            Some(limiter) if !is_proved() => limiter.judge(peer, now),
            Some(_) | None => Verdict::Answer,
        }
    }
}
