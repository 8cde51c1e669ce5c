//! Registrator's conventions: `SERVICE_NAME`, `SERVICE_<port>_NAME` and their kin, from labels or environment.
//!
//! A key with a port beats one without, and a label beats a variable. Keys are matched in capitals as Registrator
//! does; what follows `SERVICE_` and is none of its words becomes metadata in lower case.

use std::collections::BTreeMap;

use super::{Check, META_MAX, Parser, value};
use crate::endpoint::Protocol;
use crate::name::Label;

/// Words that mark a variable as a secret: the environment, unlike labels, is where people keep them.
const SECRET_WORDS: [&str; 7] = ["password", "passwd", "secret", "token", "credential", "key", "auth"];

pub(super) fn read(parser: &mut Parser, labels: &BTreeMap<&str, &str>, variables: &BTreeMap<&str, &str>) {
    let mut merged: BTreeMap<&str, (&str, Origin)> = BTreeMap::new();
    merged.extend(variables.iter().map(|(key, text)| (*key, (*text, Origin::Variable))));
    merged.extend(labels.iter().map(|(key, text)| (*key, (*text, Origin::Label))));
    for (key, (text, origin)) in merged.range("SERVICE_".."SERVICE`") {
        let entry = Entry { key, text, origin: *origin };
        let rest = key["SERVICE_".len()..].to_ascii_lowercase();
        if *key != "SERVICE_" {
            read_entry(parser, &entry, &rest);
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Origin {
    Label,
    Variable,
}

struct Entry<'a> {
    key: &'a str,
    text: &'a str,
    origin: Origin,
}

impl Entry<'_> {
    fn field(&self) -> String {
        match self.origin {
            Origin::Label => format!("label `{}`", self.key),
            Origin::Variable => format!("variable `{}`", self.key),
        }
    }

    fn is_secret(&self, word: &str) -> bool {
        self.origin == Origin::Variable && SECRET_WORDS.iter().any(|secret| word.contains(secret))
    }
}

fn read_entry(parser: &mut Parser, entry: &Entry<'_>, rest: &str) {
    let field = entry.field();
    let (port_text, word) = match rest.split_once('_') {
        Some((digits, word)) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
            (Some(digits), word)
        }
        _ => (None, rest),
    };
    let port = match port_text.map(value::port) {
        None => None,
        Some(outcome) => match parser.take(&field, outcome) {
            Some(port) => Some(port),
            None => return,
        },
    };
    if entry.is_secret(word) {
        parser.refuse(&field, "looks like a secret and is not published; a label `portolan.meta.KEY` is");
        return;
    }
    let bounded = value::bounded(entry.text).map(|text| Entry { text, ..*entry });
    match (port, bounded) {
        (Some(port), bounded) => read_port(parser, &field, (port, word, bounded)),
        (None, Ok(entry)) => read_container(parser, &field, (word, entry.text)),
        (None, Err(reason)) => {
            parser.is_registrator_refused |= word == "name";
            parser.refuse(&field, reason);
        }
    }
}

fn read_container(parser: &mut Parser, field: &str, (word, text): (&str, &str)) {
    match word {
        "name" => match service_name(text) {
            Ok((name, _)) => parser.declared.registrator = Some(name),
            Err(reason) => {
                parser.is_registrator_refused = true;
                parser.refuse(field, reason);
            }
        },
        // Registrator takes any text for yes; so `SERVICE_IGNORE=false` ignores too.
        "ignore" => parser.declared.is_ignored |= !text.is_empty(),
        "tags" => {
            if let Some(tags) = parser.take(field, value::tags(text)) {
                parser.declared.tags = tags;
            }
        }
        // Registrator's own instance id: Portolan's endpoints have theirs.
        "id" => {}
        "check_interval" => {
            if let Some(interval) = parser.take(field, value::interval(text)) {
                parser.declared.check_interval = Some(interval);
            }
        }
        word if word.starts_with("check_") => {
            if let Some(Some(check)) = parser.take(field, check(word, text)) {
                let earlier = parser.declared.check.take();
                parser.declared.check = Some(stronger(earlier, check));
            }
        }
        word => parser.insert_meta(field, word, text),
    }
}

type PortEntry<'a> = (u16, &'a str, Result<Entry<'a>, String>);

fn read_port(parser: &mut Parser, field: &str, (port, word, entry): PortEntry<'_>) {
    let text = match entry {
        Ok(entry) => entry.text,
        Err(reason) => {
            parser.refuse(field, reason);
            // The port would get a name that its owner did not want: leave it out.
            if word == "name"
                && let Some(declared) = parser.port(field, port)
            {
                declared.is_ignored = true;
            }
            return;
        }
    };
    match word {
        "name" => match service_name(text) {
            Ok((name, protocol)) => {
                if let Some(declared) = parser.port(field, port) {
                    declared.registrator_name = Some(name);
                    declared.registrator_protocol = protocol;
                }
            }
            Err(reason) => {
                parser.refuse(field, format!("{reason}; the port is not registered"));
                if let Some(declared) = parser.port(field, port) {
                    declared.is_ignored = true;
                }
            }
        },
        "ignore" => {
            if let Some(declared) = parser.port(field, port) {
                declared.is_ignored |= !text.is_empty();
            }
        }
        "tags" => {
            let Some(tags) = parser.take(field, value::tags(text)) else { return };
            if let Some(declared) = parser.port(field, port) {
                declared.tags = tags;
            }
        }
        "id" => {}
        word if word.starts_with("check_") => {
            let Some(Some(check)) = parser.take(field, check(word, text)) else { return };
            if let Some(declared) = parser.port(field, port) {
                declared.check = Some(stronger(declared.check.take(), check));
            }
        }
        word => {
            let Some((key, text)) = parser.take(field, value::meta(word, text)) else { return };
            match parser.port(field, port).filter(|declared| declared.meta.len() < META_MAX) {
                Some(declared) => {
                    declared.meta.insert(key, text);
                }
                None => parser.refuse(field, format!("more than {META_MAX} metadata keys")),
            }
        }
    }
}

/// `name`, or the form of SRV names: `_calc._tcp` is the service `calc`, on TCP.
fn service_name(text: &str) -> Result<(Label, Option<Protocol>), String> {
    let Some((name, protocol)) = text.strip_prefix('_').and_then(|rest| rest.split_once("._")) else {
        return Ok((value::service(text)?, None));
    };
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        _ => return Err(format!("`{text}` names no protocol; `_name._tcp` and `_name._udp` do")),
    };
    Ok((value::service(name)?, Some(protocol)))
}

/// Registrator's checks as ours. `None`: a word that changes nothing here, because thresholds and time-outs are our own.
fn check(word: &str, text: &str) -> Result<Option<Check>, String> {
    match word {
        "check_http" => {
            let path = if text.starts_with('/') { text.to_owned() } else { format!("/{text}") };
            value::http_path(&path).map(|path| Some(Check::Http { path }))
        }
        "check_tcp" => Ok(value::truth(text)?.then_some(Check::Tcp)),
        "check_grpc" => Ok(value::truth(text)?.then_some(Check::Grpc)),
        "check_http_method" if text.eq_ignore_ascii_case("GET") => Ok(None),
        "check_http_method" => Err("checks use GET alone".to_owned()),
        "check_interval" => {
            Err("one interval serves all ports of a container; use `SERVICE_CHECK_INTERVAL`".to_owned())
        }
        "check_https" | "check_https_method" | "check_grpc_use_tls" | "check_tls_skip_verify" => {
            Err("checks over TLS are not supported; `tcp` and `http:/path` are".to_owned())
        }
        "check_cmd" | "check_script" => {
            Err("commands are not run in containers; use Docker's HEALTHCHECK, `tcp` or `http:/path`".to_owned())
        }
        "check_ttl" => {
            Err("checks that the service itself reports are not supported; use `tcp` or `http:/path`".to_owned())
        }
        _ => Ok(None),
    }
}

/// Registrator's own order when several are written: http before tcp before grpc.
fn stronger(earlier: Option<Check>, later: Check) -> Check {
    let rank = |check: &Check| match check {
        Check::Http { .. } => 0,
        Check::Tcp => 1,
        Check::Grpc => 2,
        Check::Docker => 3,
        Check::None => 4,
    };
    match earlier {
        Some(earlier) if rank(&earlier) <= rank(&later) => earlier,
        _ => later,
    }
}
