//! The values of single labels: each function takes hostile text and says what it would have accepted.

use std::time::Duration;

use super::{Check, TAGS_MAX, VALUE_OCTETS_MAX};
use crate::evidence::LinkPlane;
use crate::name::{self, Label};
use crate::refusal::is_invisible;
use crate::view::LinkMode;

/// Consul's limits, so that metadata survives the way to its clients.
const META_KEY_OCTETS_MAX: usize = 128;
const META_VALUE_OCTETS_MAX: usize = 512;
const TAG_OCTETS_MAX: usize = 255;
/// Long enough for any health path.
const PATH_OCTETS_MAX: usize = 1024;
/// More often than this a check is a load, more seldom it is no check.
const INTERVAL_MIN: Duration = Duration::from_millis(250);
const INTERVAL_MAX: Duration = Duration::from_secs(600);

/// The value within the length that any label may have.
pub(super) fn bounded(text: &str) -> Result<&str, String> {
    if text.len() <= VALUE_OCTETS_MAX {
        Ok(text)
    } else {
        Err(format!("is {} octets long; at most {VALUE_OCTETS_MAX} are read", text.len()))
    }
}

pub(super) fn service(text: &str) -> Result<Label, String> {
    name::service_label(text).map_err(|error| error.to_string())
}

pub(super) fn port_name(text: &str) -> Result<Label, String> {
    Label::sanitise(text).map_err(|error| error.to_string())
}

pub(super) fn truth(text: &str) -> Result<bool, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" => Ok(true),
        "false" | "0" | "no" | "" => Ok(false),
        _ => Err(format!("`{text}` is neither `true` nor `false`")),
    }
}

pub(super) fn port(text: &str) -> Result<u16, String> {
    // `parse` alone would accept a leading plus.
    let is_digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = is_digits.then(|| text.parse().ok()).flatten().filter(|port| *port != 0);
    number.ok_or_else(|| format!("`{text}` is not a port; 1 to 65535 are"))
}

pub(super) fn weight(text: &str) -> Result<u16, String> {
    text.trim().parse().map_err(|_| format!("`{text}` is not a weight; 0 to 65535 are"))
}

/// A comma-separated list; `\,` stands for a comma inside a tag.
pub(super) fn tags(text: &str) -> Result<Vec<String>, String> {
    let mut tags = vec![String::new()];
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '\\' if characters.peek() == Some(&',') => {
                characters.next();
                tags.last_mut().expect("one tag is always open").push(',');
            }
            ',' => tags.push(String::new()),
            c => tags.last_mut().expect("one tag is always open").push(c),
        }
    }
    let tags: Vec<String> = tags.iter().map(|t| t.trim().to_owned()).filter(|t| !t.is_empty()).collect();
    if tags.len() > TAGS_MAX {
        return Err(format!("holds {} tags; at most {TAGS_MAX} are read", tags.len()));
    }
    match tags.iter().find_map(|text| tag(text).err()) {
        Some(reason) => Err(format!("a tag {reason}")),
        None => Ok(tags),
    }
}

/// One tag.
///
/// # Errors
/// What is wrong with it.
pub fn tag(text: &str) -> Result<String, String> {
    printable(text, TAG_OCTETS_MAX).map(|()| text.to_owned())
}

/// One entry of metadata.
///
/// # Errors
/// What is wrong with it.
pub fn meta(key: &str, text: &str) -> Result<(String, String), String> {
    let is_key = (1..=META_KEY_OCTETS_MAX).contains(&key.len())
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if !is_key {
        return Err(format!(
            "its key is not 1 to {META_KEY_OCTETS_MAX} letters, digits, hyphens, underscores and full stops"
        ));
    }
    printable(text, META_VALUE_OCTETS_MAX)?;
    Ok((key.to_owned(), text.to_owned()))
}

fn printable(text: &str, octets_max: usize) -> Result<(), String> {
    if text.len() > octets_max {
        return Err(format!("is {} octets long; at most {octets_max} are read", text.len()));
    }
    // U+FFFD is what decoders make of broken UTF-8.
    match text.chars().find(|c| c.is_control() || is_invisible(*c) || *c == '\u{fffd}') {
        Some(c) => Err(format!("holds the character {}; printable text is read", c.escape_unicode())),
        None => Ok(()),
    }
}

pub(super) fn check(text: &str) -> Result<Check, String> {
    match text.trim() {
        "docker" => Ok(Check::Docker),
        "tcp" => Ok(Check::Tcp),
        "grpc" => Ok(Check::Grpc),
        "none" => Ok(Check::None),
        "http" => Ok(Check::Http { path: "/".to_owned() }),
        other => match other.strip_prefix("http:") {
            Some(path) => http_path(path).map(|path| Check::Http { path }),
            None => Err(format!("`{text}` is no check; `tcp`, `http:/path`, `grpc`, `docker` and `none` are")),
        },
    }
}

pub(super) fn http_path(text: &str) -> Result<String, String> {
    // Whitespace and control characters would end the request line early.
    // Two slashes at the start are the authority of another host, written by mistake or malice.
    let is_path = text.starts_with('/')
        && !text.starts_with("//")
        && text.len() <= PATH_OCTETS_MAX
        && text.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
    if is_path {
        Ok(text.to_owned())
    } else {
        Err(format!("`{text}` is not a path: a slash and at most {PATH_OCTETS_MAX} printable ASCII characters"))
    }
}

/// A duration as people and Go write it: `2s`, `500ms`, `1m30s`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text.trim();
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u32 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        // `ms` before `m`, which it begins with.
        let units = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];
        let (unit, unit_ms) = units.into_iter().find(|(unit, _)| rest.starts_with(unit))?;
        rest = &rest[unit.len()..];
        total = total.saturating_add(Duration::from_millis(u64::from(number) * unit_ms));
    }
    Some(total)
}

pub(super) fn interval(text: &str) -> Result<Duration, String> {
    let found = duration(text).filter(|found| (INTERVAL_MIN..=INTERVAL_MAX).contains(found));
    found.ok_or_else(|| format!("`{text}` is not an interval; `250ms` to `10m` are, such as `2s`"))
}

/// `None` is `auto`.
pub(super) fn link_mode(text: &str) -> Result<Option<LinkMode>, String> {
    match text.trim() {
        "auto" => Ok(None),
        "vip" => Ok(Some(LinkMode::Vip)),
        "direct" => Ok(Some(LinkMode::Direct)),
        _ => Err(format!("`{text}` is no link mode; `auto`, `vip` and `direct` are")),
    }
}

pub(super) fn link_plane(text: &str) -> Result<LinkPlane, String> {
    match text.trim() {
        "proxy" => Ok(LinkPlane::Proxy),
        "ebpf" => Ok(LinkPlane::Ebpf),
        _ => Err(format!("`{text}` is no plane; `proxy` and `ebpf` are")),
    }
}
