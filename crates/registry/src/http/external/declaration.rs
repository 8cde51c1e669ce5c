//! A declaration as it may be kept: every name is one, every address may be announced, everything is bounded.

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::Ipv4Net;
use portolan_core::endpoint::Protocol;
use portolan_core::labels;
use portolan_core::lookup::Zone;
use portolan_core::name::Label;
use portolan_core::reach::may_be_reached;
use portolan_core::refusal::shown;
use portolan_runtime::http::Problem;
use portolan_runtime::settings::parse_duration;
use serde_json::Value;

use super::super::body::Fields;
use crate::intake::statement::{ExternalEndpoint, ExternalRecord};

/// How many endpoints a service may have.
const ENDPOINTS_MAX: usize = 100;
/// RFC 1035 section 2.3.4, as text without the last dot.
const HOST_OCTETS_MAX: usize = 253;
const LABEL_OCTETS_MAX: usize = 63;
/// AWS's names have at most 16.
const AZ_OCTETS_MAX: usize = 64;
/// More often than this a check is a load, more seldom it is no check.
const CHECK_EVERY_MIN: Duration = Duration::from_secs(1);
const CHECK_EVERY_MAX: Duration = Duration::from_secs(600);
const CHECK_EVERY_DEFAULT: Duration = Duration::from_secs(10);

/// What a declaration may not lead to.
pub(super) struct Bounds<'a> {
    /// Names of our own zone would lead in circles.
    pub(super) zone: &'a Zone,
    /// Nor may virtual addresses.
    pub(super) link_range: Ipv4Net,
}

/// Reads a body. `since_ms` is left at 0.
pub(super) fn read(body: &Value, bounds: &Bounds<'_>) -> Result<ExternalRecord, Problem> {
    let mut fields = Fields::of(body, "")?;
    let listed = fields.list("endpoints", ENDPOINTS_MAX)?;
    if listed.is_empty() {
        return Err(fields.bad("endpoints", "at least one is needed; DELETE takes a declaration back"));
    }
    let mut endpoints = Vec::with_capacity(listed.len());
    let mut seen = HashSet::new();
    for (at, one) in listed.iter().enumerate() {
        let path = format!("endpoints[{at}]");
        let endpoint = endpoint(one, &path, bounds)?;
        if !seen.insert((endpoint.host.clone(), endpoint.port, endpoint.protocol)) {
            return Err(Problem::bad_field(path, "the same host, port and protocol are there already"));
        }
        endpoints.push(endpoint);
    }
    let check_every_ms = check(&mut fields)?;
    if check_every_ms.is_some() && !endpoints.iter().any(|endpoint| endpoint.protocol == Protocol::Tcp) {
        return Err(fields.bad("check", "a TCP check needs an endpoint whose protocol is tcp"));
    }
    let tags = tags(&mut fields)?;
    let meta = meta(&mut fields)?;
    fields.finish()?;
    Ok(ExternalRecord { endpoints, check_every_ms, tags, meta, since_ms: 0 })
}

fn endpoint(value: &Value, path: &str, bounds: &Bounds<'_>) -> Result<ExternalEndpoint, Problem> {
    let mut fields = Fields::of(value, path)?;
    let text = fields.text("host")?.ok_or_else(|| fields.bad("host", "an IP address or a DNS name is needed"))?;
    let host = host(text, bounds).map_err(|reason| fields.bad("host", format!("`{}` {reason}", shown(text, 80))))?;
    let port = fields.number("port", 1)?.ok_or_else(|| fields.bad("port", "a port is needed"))?;
    let protocol = match fields.text("protocol")? {
        None | Some("tcp") => Protocol::Tcp,
        Some("udp") => Protocol::Udp,
        Some(_) => return Err(fields.bad("protocol", "`tcp` or `udp` is needed")),
    };
    let port_name = fields.text("port_name")?.map(|name| port_name(name).map_err(|r| fields.bad("port_name", r)));
    let port_name = port_name.transpose()?;
    let weight = fields.number("weight", 0)?.unwrap_or(1);
    let az = fields.text("az")?.map(|az| self::az(az).map_err(|reason| fields.bad("az", reason))).transpose()?;
    fields.finish()?;
    Ok(ExternalEndpoint { host, port, protocol, port_name, weight, az })
}

/// A host as it is kept: an address in its usual form, a name in lower case and without the last dot.
fn host(text: &str, bounds: &Bounds<'_>) -> Result<String, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        let address = address.to_canonical();
        return if may_be_reached(address, bounds.link_range) {
            Ok(address.to_string())
        } else {
            Err("is not announced: loopback, link-local, metadata, multicast and virtual addresses are not".to_owned())
        };
    }
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let is_name = (1..=HOST_OCTETS_MAX).contains(&name.len()) && name.split('.').all(is_host_label);
    // A name that ends in a number is an address that was written wrongly (WHATWG URL section 3.5).
    let last = name.rsplit('.').next().unwrap_or_default();
    let is_hexadecimal = last.strip_prefix("0x").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_hexdigit()));
    if !is_name || is_hexadecimal || last.bytes().all(|b| b.is_ascii_digit()) {
        return Err("is neither an IP address nor a DNS name".to_owned());
    }
    if last == "localhost" {
        return Err("is this machine, whichever that is".to_owned());
    }
    let zone = bounds.zone.to_string().trim_end_matches('.').to_ascii_lowercase();
    if name == zone || name.ends_with(&format!(".{zone}")) {
        return Err("is in Portolan's own zone; declare what is outside it".to_owned());
    }
    Ok(name)
}

fn is_host_label(label: &str) -> bool {
    (1..=LABEL_OCTETS_MAX).contains(&label.len())
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        && !label.starts_with('-')
        && !label.ends_with('-')
}

fn port_name(text: &str) -> Result<Label, String> {
    let label = Label::parse(text).map_err(|error| format!("`{}` {error}", shown(text, 80)))?;
    if label.as_str().bytes().all(|b| b.is_ascii_digit()) {
        return Err("a number names a container port already; use a word".to_owned());
    }
    Ok(label)
}

fn az(text: &str) -> Result<String, String> {
    let is_az = (1..=AZ_OCTETS_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    if is_az { Ok(text.to_owned()) } else { Err("letters, digits and hyphens are needed, as in eu-west-1a".to_owned()) }
}

fn check(fields: &mut Fields<'_>) -> Result<Option<u64>, Problem> {
    let Some(value) = fields.value("check") else { return Ok(None) };
    let mut fields = Fields::of(value, "check")?;
    if fields.value("tcp").and_then(Value::as_bool) != Some(true) {
        return Err(fields.bad("tcp", "`true` is needed: there is no other check"));
    }
    let refused = "1s to 10m are possible, such as 10s";
    let every = match fields.text("interval")? {
        None => CHECK_EVERY_DEFAULT,
        Some(text) => parse_duration(text).ok_or_else(|| fields.bad("interval", refused))?,
    };
    if !(CHECK_EVERY_MIN..=CHECK_EVERY_MAX).contains(&every) {
        return Err(fields.bad("interval", refused));
    }
    fields.finish()?;
    Ok(u64::try_from(every.as_millis()).ok())
}

fn tags(fields: &mut Fields<'_>) -> Result<Vec<String>, Problem> {
    let tag = |(at, value): (usize, &Value)| {
        let text = value.as_str().ok_or_else(|| "a text is needed".to_owned());
        text.and_then(labels::tag).map_err(|reason| Problem::bad_field(format!("tags[{at}]"), reason))
    };
    fields.list("tags", labels::TAGS_MAX)?.iter().enumerate().map(tag).collect()
}

fn meta(fields: &mut Fields<'_>) -> Result<Vec<(String, String)>, Problem> {
    let Some(value) = fields.value("meta") else { return Ok(Vec::new()) };
    let map = value.as_object().ok_or_else(|| fields.bad("meta", "an object of texts is needed: { ... }"))?;
    if map.len() > labels::META_MAX {
        let reason = format!("has {} entries; at most {} are taken", map.len(), labels::META_MAX);
        return Err(fields.bad("meta", reason));
    }
    let entry = |(key, value): (&String, &Value)| {
        let text = value.as_str().ok_or_else(|| "a text is needed".to_owned());
        let field = || format!("meta.{}", shown(key, 80));
        text.and_then(|text| labels::meta(key, text)).map_err(|reason| Problem::bad_field(field(), reason))
    };
    let mut meta = map.iter().map(entry).collect::<Result<Vec<_>, _>>()?;
    meta.sort();
    Ok(meta)
}

#[cfg(test)]
mod tests;
