//! `portolan external`: declares services outside ECS and Docker.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;

use hyper::Method;
use portolan_registry::http::api::{External, ExternalCheck, ExternalDeclaration, ExternalEndpoint, ExternalList};

use super::{Asker, Failure, Key, Verdict};
use crate::arguments::{ExternalCommand, SetArguments};
use crate::client::{Answer, Question, escaped};
use crate::locate::Registry;
use crate::show::{self, Screen, safe};

/// What the registry takes: 1 MiB.
const FILE_OCTETS_MAX: u64 = 1 << 20;

impl Asker<'_> {
    /// Does what the subcommand says.
    pub(super) async fn external<W: Write>(
        &self,
        command: &ExternalCommand,
        screen: &mut Screen<W>,
    ) -> Result<Verdict, Failure> {
        let registry = self.registry().await?;
        match command {
            ExternalCommand::List { service: None } => {
                let answer: Answer<ExternalList> = self.get(&registry, "/api/external").await?;
                if self.is_json() { screen.json(&answer.raw)? } else { show::externals(screen, &answer.value)? }
            }
            ExternalCommand::List { service: Some(service) } => {
                let path = path(&self.declared(&registry, service).await?);
                let answer: Answer<External> = self.get(&registry, &path).await?;
                if self.is_json() { screen.json(&answer.raw)? } else { show::external(screen, &answer.value)? }
            }
            ExternalCommand::Set(set) => {
                let (path, body) = (path(&whole_key(&set.service)?), body(set)?);
                let answer: Answer<External> =
                    self.ask(&registry, Question::write(Method::PUT, &path, Some(body))).await?;
                if self.is_json() { screen.json(&answer.raw)? } else { show::external(screen, &answer.value)? }
            }
            ExternalCommand::Delete { service } => {
                let key = self.declared(&registry, service).await?;
                let question = path(&key);
                let answer: Answer<External> =
                    self.ask(&registry, Question::write(Method::DELETE, &question, None)).await?;
                if self.is_json() {
                    screen.json(&answer.raw)?
                } else {
                    screen.line(&format!("{}.{} is declared no more", key.service, key.cluster))?
                }
            }
        }
        Ok(Verdict::Done)
    }

    /// The declared service that `name` means: alone where only one cluster has it.
    async fn declared(&self, registry: &Registry, name: &str) -> Result<Key, Failure> {
        if let Ok(key) = whole_key(name) {
            return Ok(key);
        }
        let answer: Answer<ExternalList> = self.get(registry, "/api/external").await?;
        let called = answer.value.services.iter().filter(|declared| declared.service.eq_ignore_ascii_case(name));
        match called.collect::<Vec<_>>().as_slice() {
            [one] => Ok(Key { cluster: one.cluster.clone(), service: one.service.clone() }),
            [] => Err(Failure::Answered {
                text: format!("no service `{}` is declared; `portolan external list` lists them", safe(name)),
            }),
            several => {
                let names: Vec<String> =
                    several.iter().take(5).map(|s| safe(&format!("{}.{}", s.service, s.cluster))).collect();
                Err(Failure::Usage {
                    text: format!("`{}` is declared in several clusters; say which: {}", safe(name), names.join(", ")),
                })
            }
        }
    }
}

fn path(key: &Key) -> String {
    format!("/api/external/{}/{}", escaped(&key.cluster), escaped(&key.service))
}

/// SERVICE.CLUSTER; what follows the cluster is the zone.
fn whole_key(name: &str) -> Result<Key, Failure> {
    Key::whole(name)
        .ok_or_else(|| Failure::Usage { text: format!("`{}` is not SERVICE.CLUSTER, such as db.prod", safe(name)) })
}

/// What the command line declares, as the API takes it.
fn body(set: &SetArguments) -> Result<Vec<u8>, Failure> {
    if let Some(file) = &set.file {
        return read(file);
    }
    let endpoints = set.endpoints.iter().map(|text| endpoint(text, set)).collect::<Result<_, _>>()?;
    let meta = set.meta.iter().map(|text| entry(text)).collect::<Result<BTreeMap<_, _>, _>>()?;
    let check = set.check.clone().map(|interval| ExternalCheck { tcp: true, interval: Some(interval) });
    let declaration = ExternalDeclaration { endpoints, check, tags: set.tags.clone(), meta };
    serde_json::to_vec(&declaration).map_err(|error| Failure::Usage { text: error.to_string() })
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    let is_stdin = file.as_os_str() == "-";
    let mut take = |reader: &mut dyn Read| reader.take(FILE_OCTETS_MAX + 1).read_to_end(&mut body);
    let result = if is_stdin {
        take(&mut std::io::stdin().lock())
    } else {
        std::fs::File::open(file).and_then(|mut file| take(&mut file))
    };
    let name = safe(&file.display().to_string());
    match result {
        Err(error) => Err(Failure::Usage { text: format!("read `{name}`: {error}") }),
        Ok(octets) if octets as u64 > FILE_OCTETS_MAX => {
            Err(Failure::Usage { text: format!("`{name}` has more than {FILE_OCTETS_MAX} bytes") })
        }
        Ok(_) => Ok(body),
    }
}

/// HOST:PORT or HOST:PORT/udp; an IPv6 address stands in brackets, as in a URL. The registry says what is wrong with a host.
fn endpoint(text: &str, set: &SetArguments) -> Result<ExternalEndpoint, Failure> {
    let usage = || Failure::Usage {
        text: format!(
            "`{}` is not HOST:PORT or HOST:PORT/udp, such as 10.0.3.7:5432 or [2001:db8::7]:5432",
            safe(text)
        ),
    };
    let (place, protocol) = match text.split_once('/') {
        None => (text, None),
        Some((place, protocol @ ("tcp" | "udp"))) => (place, Some(protocol.to_owned())),
        Some(_) => return Err(usage()),
    };
    let (host, port) = place.rsplit_once(':').ok_or_else(usage)?;
    let in_brackets = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    if host.is_empty() || (in_brackets.is_none() && host.contains(':')) {
        return Err(usage());
    }
    Ok(ExternalEndpoint {
        host: in_brackets.unwrap_or(host).to_owned(),
        port: port.parse().map_err(|_| usage())?,
        protocol,
        port_name: set.port_name.clone(),
        weight: set.weight,
        az: None,
    })
}

fn entry(text: &str) -> Result<(String, String), Failure> {
    let (key, value) =
        text.split_once('=').ok_or_else(|| Failure::Usage { text: format!("`{}` is not KEY=VALUE", safe(text)) })?;
    Ok((key.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::arguments::{Arguments, Command};

    fn declared(line: &str) -> Result<serde_json::Value, String> {
        let line = format!("portolan external set {line}");
        let arguments = Arguments::try_parse_from(line.split_whitespace()).map_err(|error| error.to_string())?;
        let Command::External { command: ExternalCommand::Set(set) } = arguments.command else { panic!("another one") };
        whole_key(&set.service)
            .and_then(|_| body(&set))
            .map_err(|error| error.to_string())
            .map(|body| serde_json::from_slice(&body).unwrap())
    }

    #[test]
    fn reads_endpoints_as_people_write_them() {
        let check = |line: &str, expected: serde_json::Value| assert_eq!(declared(line), Ok(expected), "{line}");
        let plain = |host: &str, port: u16| serde_json::json!({ "host": host, "port": port });
        let all =
            |endpoints: Vec<serde_json::Value>| serde_json::json!({ "endpoints": endpoints, "tags": [], "meta": {} });
        check("db.prod 10.0.3.7:5432 db.example.com:1", all(vec![plain("10.0.3.7", 5432), plain("db.example.com", 1)]));
        check("db.prod [2001:db8::7]:5432", all(vec![plain("2001:db8::7", 5432)]));
        let udp = serde_json::json!({ "host": "10.0.3.7", "port": 514, "protocol": "udp", "weight": 3 });
        check("db.prod.ecs.internal. 10.0.3.7:514/udp --weight 3", all(vec![udp]));
        let whole = serde_json::json!({
            "endpoints": [{"host": "h", "port": 1, "port_name": "sql"}], "check": {"tcp": true, "interval": "30s"},
            "tags": ["a", "b"], "meta": {"k": "v=w"},
        });
        check("db.prod h:1 --port-name sql --check=30s --tag a --tag b --meta k=v=w", whole);
        let checked = declared("db.prod h:1 --check").unwrap();
        assert_eq!(checked["check"]["interval"], "10s");
        for bad in ["db h:1", "db.prod h", "db.prod h:x", "db.prod h:65536", "db.prod :1", "db.prod 2001:db8::7:1"] {
            assert!(declared(bad).is_err(), "{bad}");
        }
        for bad in
            ["db.prod h:1/sctp", "db.prod h:1 --meta k", "db.prod", "db.prod h:1 --file x", "db.prod --file /x/y"]
        {
            assert!(declared(bad).is_err(), "{bad}");
        }
    }
}
