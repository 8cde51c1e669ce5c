//! Services as people name them: alone when only one cluster has the name, else with the cluster.

use portolan_registry::http::api::ServiceList;

use super::{Asker, Failure};
use crate::client::Answer;
use crate::locate::Registry;
use crate::show::safe;

/// A service as the API names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    /// Its cluster.
    pub(crate) cluster: String,
    /// Its name.
    pub(crate) service: String,
}

impl Key {
    /// What SERVICE.CLUSTER names; what follows the cluster is the zone. `None`: one of the two is missing.
    pub(super) fn whole(name: &str) -> Option<Key> {
        let (service, rest) = name.trim_end_matches('.').split_once('.')?;
        let cluster = rest.split('.').next().unwrap_or(rest);
        let is_whole = !service.is_empty() && !cluster.is_empty();
        is_whole.then(|| Key { cluster: cluster.to_owned(), service: service.to_owned() })
    }
}

/// Whether a person who says `name` may mean that service.
pub(super) fn is_called(service: &str, cluster: &str, name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name == service
        || name.strip_prefix(service).is_some_and(|rest| {
            rest.strip_prefix('.').is_some_and(|rest| rest == cluster || rest.starts_with(&format!("{cluster}.")))
        })
}

impl Asker<'_> {
    /// The service that `name` means.
    ///
    /// # Errors
    /// When no service, or more than one, is called so.
    pub(super) async fn key(&self, registry: &Registry, name: &str, cluster: Option<&str>) -> Result<Key, Failure> {
        if let Some(cluster) = cluster {
            return Ok(Key { cluster: cluster.to_owned(), service: name.to_owned() });
        }
        if let Some(key) = Key::whole(name) {
            return Ok(key);
        }
        let answer: Answer<ServiceList> = self.get(registry, "/api/services").await?;
        let called = |s: &&portolan_registry::http::api::ServiceSummary| is_called(&s.service, &s.cluster, name);
        let found: Vec<_> = answer.value.services.iter().filter(called).collect();
        match found.as_slice() {
            [one] => Ok(Key { cluster: one.cluster.clone(), service: one.service.clone() }),
            [] => {
                let text = format!(
                    "the registry at {} knows no service `{}`; `portolan services` lists them",
                    registry.server,
                    safe(name)
                );
                Err(Failure::Answered { text })
            }
            several => {
                let names: Vec<String> =
                    several.iter().take(5).map(|s| safe(&format!("{}.{}", s.service, s.cluster))).collect();
                Err(Failure::Usage {
                    text: format!("`{}` is in several clusters; say which: {}", safe(name), names.join(", ")),
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_name_has_a_service_and_a_cluster() {
        let check = |name: &str, expected: Option<(&str, &str)>| {
            let key = Key::whole(name);
            let found = key.as_ref().map(|key| (key.service.as_str(), key.cluster.as_str()));
            assert_eq!(found, expected, "{name}");
        };
        check("es.prod", Some(("es", "prod")));
        check("es.prod.ecs.internal.", Some(("es", "prod")));
        for none in ["es", "es.", ".prod", "..", "../../api/external", "es..prod", ""] {
            check(none, None);
        }
    }

    #[test]
    fn knows_what_people_call_a_service() {
        let check = |name: &str, expected: bool| assert_eq!(is_called("es", "prod", name), expected, "{name}");
        check("es", true);
        check("ES.prod", true);
        check("es.prod.ecs.internal.", true);
        check("es.test", false);
        check("es2", false);
        check("es.production", false);
    }
}
