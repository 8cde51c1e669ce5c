//! Our own labels (DESIGN section 3).

use std::collections::BTreeMap;

use super::{Parser, link_options, value};

/// Every label without a part that varies, and every beginning of one with such a part (ends in a full stop).
const KNOWN: [&str; 15] = [
    "portolan.service",
    "portolan.ignore",
    "portolan.port.",
    "portolan.tags",
    "portolan.meta.",
    "portolan.weight",
    "portolan.check",
    "portolan.check.interval",
    "portolan.check.",
    "portolan.link",
    "portolan.link.port.",
    "portolan.link.plane",
    link_options::PROXY_PROTOCOL,
    link_options::MAX_AGE,
    "portolan.primary",
];
/// Ports of one virtual address that a container may ask for.
const LINK_PORTS_MAX: usize = 64;

pub(super) fn read(parser: &mut Parser, labels: &BTreeMap<&str, &str>) {
    for (key, text) in labels.range("portolan.".."portolan/") {
        let field = format!("label `{key}`");
        match value::bounded(text) {
            Ok(text) => read_label(parser, &field, (key, text)),
            Err(reason) => {
                parser.is_service_refused |= *key == "portolan.service";
                parser.refuse(&field, reason);
            }
        }
    }
}

fn read_label(parser: &mut Parser, field: &str, (key, text): (&str, &str)) {
    match key {
        "portolan.service" => match value::service(text) {
            Ok(name) => parser.declared.service = Some(name),
            Err(reason) => {
                parser.is_service_refused = true;
                parser.refuse(field, format!("{reason}; the container is not registered"));
            }
        },
        "portolan.ignore" => set(&mut parser.declared.is_ignored, value::truth(text)).refused(parser, field),
        "portolan.primary" => set(&mut parser.declared.is_primary, value::truth(text)).refused(parser, field),
        "portolan.weight" => set(&mut parser.declared.weight, value::weight(text)).refused(parser, field),
        "portolan.tags" => set(&mut parser.declared.tags, value::tags(text)).refused(parser, field),
        "portolan.link" => set(&mut parser.declared.link.mode, value::link_mode(text)).refused(parser, field),
        "portolan.link.plane" => {
            set(&mut parser.declared.link.plane, value::link_plane(text).map(Some)).refused(parser, field);
        }
        link_options::PROXY_PROTOCOL | link_options::MAX_AGE => link_options::read(parser, field, (key, text)),
        "portolan.check" => set(&mut parser.declared.check, value::check(text).map(Some)).refused(parser, field),
        "portolan.check.interval" => {
            set(&mut parser.declared.check_interval, value::interval(text).map(Some)).refused(parser, field);
        }
        _ => read_prefixed(parser, field, (key, text)),
    }
}

/// Labels whose key holds a port or a metadata key.
fn read_prefixed(parser: &mut Parser, field: &str, (key, text): (&str, &str)) {
    if let Some(rest) = key.strip_prefix("portolan.meta.") {
        parser.insert_meta(field, rest, text);
    } else if let Some(rest) = key.strip_prefix("portolan.port.") {
        read_port(parser, field, (rest, text));
    } else if let Some(rest) = key.strip_prefix("portolan.check.") {
        let parsed = value::port(rest).and_then(|port| Ok((port, value::check(text)?)));
        let Some((port, check)) = parser.take(field, parsed) else { return };
        if let Some(declared) = parser.port(field, port) {
            declared.check = Some(check);
        }
    } else if let Some(rest) = key.strip_prefix("portolan.link.port.") {
        let parsed = value::port(rest).and_then(|port| Ok((port, value::port(text.trim())?)));
        let Some(link_port) = parser.take(field, parsed) else { return };
        if parser.declared.link.ports.len() < LINK_PORTS_MAX {
            parser.declared.link.ports.push(link_port);
        } else {
            parser.refuse(field, format!("more than {LINK_PORTS_MAX} link ports"));
        }
    } else {
        parser.refuse(field, unknown(key));
    }
}

fn read_port(parser: &mut Parser, field: &str, (rest, text): (&str, &str)) {
    let Some(port) = parser.take(field, value::port(rest)) else { return };
    let is_ignored = text.trim() == "ignore";
    // A port whose name is refused keeps its number as its name: nothing else was asked for.
    let Some(name) = parser.take(field, value::port_name(text)) else { return };
    if let Some(declared) = parser.port(field, port) {
        declared.is_ignored |= is_ignored;
        declared.name = (!is_ignored).then_some(name);
    }
}

fn unknown(key: &str) -> String {
    // Long keys are no misspelling, and the distance costs the product of both lengths.
    let distance = |known: &str| strsim::damerau_levenshtein(key, known.trim_end_matches('.'));
    let nearest = KNOWN.iter().filter(|_| key.len() <= 64).min_by_key(|known| distance(known));
    match nearest.filter(|known| distance(known) <= 6) {
        Some(known) if known.ends_with('.') => format!("is not a label of Portolan; did you mean `{known}...`?"),
        Some(known) => format!("is not a label of Portolan; did you mean `{known}`?"),
        None => "is not a label of Portolan".to_owned(),
    }
}

/// Whether a value was set.
struct Outcome(Result<(), String>);

fn set<T>(place: &mut T, outcome: Result<T, String>) -> Outcome {
    Outcome(outcome.map(|value| *place = value))
}

impl Outcome {
    fn refused(self, parser: &mut Parser, field: &str) {
        parser.take(field, self.0);
    }
}
