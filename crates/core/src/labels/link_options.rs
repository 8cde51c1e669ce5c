//! What a container wishes of connections through its service's link. It travels as metadata of the endpoint, because it is the
//! endpoint's own affair: while a deployment rolls, old and new ones differ.

use std::time::Duration;

use super::{Parser, value};

/// Label and key of metadata: `v2` asks for a PROXY protocol header before the client's bytes.
pub(super) const PROXY_PROTOCOL: &str = "portolan.link.proxy-protocol";
/// Label and key of metadata: how old a connection may become.
pub(super) const MAX_AGE: &str = "portolan.link.max-age";
/// Less would only cost; more is no limit.
const AGE_MIN: Duration = Duration::from_secs(10);
const AGE_MAX: Duration = Duration::from_secs(24 * 3600);

/// Wishes of one endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkOptions {
    /// Whether it reads a header of the PROXY protocol, version 2.
    pub reads_proxy_header: bool,
    /// When a connection to it is to end at its next pause.
    pub age_max: Option<Duration>,
}

impl LinkOptions {
    /// What an endpoint's metadata says; what is no wish is none.
    pub fn of(meta: &[(String, String)]) -> LinkOptions {
        let said = |key: &str| meta.iter().find(|(name, _)| name == key).map(|(_, text)| text.as_str());
        LinkOptions {
            reads_proxy_header: said(PROXY_PROTOCOL).is_some_and(|text| proxy_protocol(text).is_ok()),
            age_max: said(MAX_AGE).and_then(|text| age(text).ok()),
        }
    }
}

/// Takes the label's value over into the metadata, if it is a wish.
pub(super) fn read(parser: &mut Parser, field: &str, (key, text): (&str, &str)) {
    let checked = if key == MAX_AGE { age(text).map(drop) } else { proxy_protocol(text) };
    if parser.take(field, checked).is_some() {
        parser.insert_meta(field, key, text.trim());
    }
}

fn proxy_protocol(text: &str) -> Result<(), String> {
    match text.trim() {
        "v2" => Ok(()),
        _ => Err(format!("`{text}` is no version of the PROXY protocol that links speak; `v2` is")),
    }
}

fn age(text: &str) -> Result<Duration, String> {
    let found = value::duration(text).filter(|found| (AGE_MIN..=AGE_MAX).contains(found));
    found.ok_or_else(|| format!("`{text}` is no age of a connection; `10s` to `24h` are, such as `5m`"))
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    fn options(labels: &[(&str, &str)]) -> (LinkOptions, Vec<String>) {
        let read = parse(labels.iter().copied(), []);
        let meta: Vec<(String, String)> = read.meta.into_iter().collect();
        (LinkOptions::of(&meta), read.refusals.iter().map(|refusal| refusal.field.clone()).collect())
    }

    #[test]
    fn wishes_travel_as_metadata_and_nonsense_is_refused() {
        let (read, refused) = options(&[(PROXY_PROTOCOL, "v2"), (MAX_AGE, " 5m ")]);
        assert_eq!(read, LinkOptions { reads_proxy_header: true, age_max: Some(Duration::from_secs(300)) });
        assert!(refused.is_empty());
        for (label, text) in
            [(PROXY_PROTOCOL, "v1"), (PROXY_PROTOCOL, "true"), (MAX_AGE, "9s"), (MAX_AGE, "25h"), (MAX_AGE, "x")]
        {
            let (read, refused) = options(&[(label, text)]);
            assert_eq!((read, refused), (LinkOptions::default(), vec![format!("label `{label}`")]), "{text}");
        }
    }

    #[test]
    fn what_others_wrote_into_the_metadata_is_read_as_carefully() {
        let of = |key: &str, text: &str| LinkOptions::of(&[(key.to_owned(), text.to_owned())]);
        assert_eq!(of(MAX_AGE, "never"), LinkOptions::default());
        assert_eq!(of(PROXY_PROTOCOL, "v3"), LinkOptions::default());
    }
}
